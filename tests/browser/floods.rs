//! A hundred thousand lines on one page.

use manman_e2e::{Browser, Home, Result, Size, ensure, story};

#[test]
fn a_hundred_thousand_lines_are_followed_scrolled_and_searched() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        home.printer("flood", &["printer"]).await?;
        home.manman(&["server", "start", "flood", "--wait=60s"]).await?.success()?;
        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        browser.page.goto(&home.server_page("flood").await?).await?;
        browser.log_line(&["printer: ready"]).await?;
        browser.fill("Console line", "print 10000 100000\n").await?;
        browser.log_line(&["printed 100000 lines"]).await?;

        let rows = browser.eval("document.querySelectorAll('[role=log] .log-row').length").await?;
        ensure!(rows.as_u64().is_some_and(|rows| rows > 5 && rows < 500), "{rows} rows are elements");

        // Up to the first line, of which the page has long let go, and back to the end.
        browser.page.execute("document.querySelector('[role=log]').focus()", vec![]).await?;
        browser.press("Home", 36).await?;
        browser.log_line(&["printer: ready"]).await?;
        browser.press("End", 35).await?;
        browser.log_line(&["printed 100000 lines"]).await?;

        browser.fill("Search the log", "line 000012345").await?;
        browser.log_line(&["line 000012345"]).await?;
        Ok(())
    })
}
