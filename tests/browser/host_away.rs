//! The host dies under an open page and comes back.

use manman_e2e::{Browser, Home, Result, Size, ensure, free_port, story};
use serde_json::Value;

#[test]
fn an_open_page_says_that_the_host_is_away_and_recovers_by_itself() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let public = format!("127.0.0.1:{}", free_port()?);
        let mut host = home.host_at(&public, &[]).await?;
        let token = home.join_token().await?;
        let _worker = home.worker("attic", &host.url, &["--join-token", &token]).await?;
        manman_e2e::eventually("the worker is there", async || home.worker_id("attic").await.map_err(|error| format!("{error:#}"))).await?;
        home.printer("clock", &["printer"]).await?;
        home.manman(&["server", "start", "clock", "--wait=60s"]).await?.success()?;

        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        browser.page.goto(&home.server_page("clock").await?).await?;
        browser.state("Ready").await?;
        browser.fill("Console line", "before\n").await?;
        browser.log_line(&["echo", "before"]).await?;

        host.program.kill().await?;
        browser.see("the banner", "//*[@data-link='lost']").await?;
        browser.see("Stop, which can not be done now", "//button[@data-verb='stop' and @aria-disabled='true']").await?;

        let _host = home.host_at(&public, &[]).await?;
        browser.gone("the banner", "//*[@data-link='lost']").await?;
        // The host is back before its worker is.
        browser.see("an input that takes lines", "//input[@aria-label='Console line' and @placeholder='Type a command']").await?;
        browser.fill("Console line", "after\n").await?;
        browser.log_line(&["echo", "after"]).await?;
        let rows = browser
            .eval("[...document.querySelectorAll('[role=log] .log-row')].map((row) => `${row.dataset.seq} ${row.textContent}`)")
            .await?;
        let rows: Vec<&str> = rows.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let echoes = rows.iter().filter(|row| row.contains("echo") && row.contains("before")).count();
        ensure!(echoes == 1, "the echo of before is there {echoes} times: {rows:#?}");
        Ok(())
    })
}
