//! What a game prints is shown, never run.

use manman_e2e::{Browser, Home, Result, Size, ensure, story};
use serde_json::json;

#[test]
fn hostile_lines_are_shown_and_never_run() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        home.printer("loud", &["printer"]).await?;
        home.manman(&["server", "start", "loud", "--wait=60s"]).await?.success()?;
        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        browser.page.goto(&home.server_page("loud").await?).await?;
        browser.fill("Console line", "hostile\n").await?;
        browser.log_line(&["the end of the hostile lines"]).await?;
        let text = browser.text().await?;
        for shown in ["<script>window.hacked=1</script> markup", "escapes", "broken", "turned"] {
            ensure!(text.contains(shown), "`{shown}` is not shown:\n{text}");
        }
        ensure!(browser.eval("document.title").await?.as_str().is_some_and(|title| !title.contains("owned")), "a line set the title");
        ensure!(browser.eval("window.hacked === undefined").await? == true, "a line was run");
        ensure!(browser.eval("document.querySelectorAll('[role=log] :is(img, script, a)').length").await? == 0, "a line became markup");
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "the page complained: {complaints:#?}");
        Ok(())
    })
}

#[test]
fn what_is_injected_into_the_page_does_not_run() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--docker", "off"]).await?;
        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        let inject = r#"
            document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.hacked = 1"><b id="styled" style="color: red">b</b>');
            const inline = document.createElement('script'); inline.textContent = 'window.hacked = 2'; document.body.append(inline);
            const foreign = document.createElement('script'); foreign.src = 'https://evil.invalid/x.js'; document.body.append(foreign);
            const style = document.createElement('style'); style.textContent = 'body { display: none }'; document.head.append(style);
            return 1"#;
        browser.page.execute(inject, vec![]).await?;
        let settled = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(() => done(1), 200))";
        browser.page.execute_async(settled, vec![]).await?;
        ensure!(browser.eval("window.hacked === undefined").await? == true, "an injected script ran");
        ensure!(browser.eval("getComputedStyle(document.body).display").await? != json!("none"), "an injected sheet applies");
        ensure!(
            browser.eval("getComputedStyle(document.getElementById('styled')).color").await? != json!("rgb(255, 0, 0)"),
            "an injected style applies"
        );
        let complaints = browser.complaints().await?;
        let refused = complaints.iter().filter(|complaint| complaint.contains("Content Security Policy")).count();
        ensure!(refused >= 4, "the policy refused {refused} of them: {complaints:#?}");
        Ok(())
    })
}
