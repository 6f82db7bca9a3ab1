use manman_e2e::{Browser, Home, Result, Size, ensure, story};

#[test]
fn the_console_greets_a_stranger_with_the_way_in() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--docker", "off"]).await?;
        let browser = Browser::open(Size::DESKTOP).await?;
        browser.page.goto(&home.context("url")?).await?;
        browser.see_text("manman login").await?;
        browser.accessible("the login").await?;
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    })
}
