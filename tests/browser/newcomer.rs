//! Login link, New server, Ready, a line typed and answered, stop.

use manman_e2e::{Browser, Home, Result, Size, ensure, eventually, free_port, story};

/// Takes a newcomer from the link to a game that has answered and is stopped again.
async fn first_game(home: &Home, browser: &Browser, name: &str) -> Result<()> {
    let port = free_port()?;
    browser.click("New server").await?;
    browser.fill("Search games", "openarena").await?;
    let card = browser.see("OpenArena's card", "//a[.//strong[normalize-space()='OpenArena']]").await?;
    browser.tap(&card).await?;
    browser.fill("Name", name).await?;
    browser.click("Ports, limits and restarts").await?;
    browser.fill("game", &port.to_string()).await?;
    browser.click("Create server").await?;
    browser.see("the server's page", &format!("//h1[contains(., '{name}')]")).await?;
    browser.state("Ready").await?;

    browser.log_line(&["items registered"]).await?;
    browser.fill("Console line", "status\n").await?;
    browser.log_line(&["map:"]).await?;

    browser.click("Stop").await?;
    browser.state("Stopped").await?;
    eventually("the host says so, too", async || {
        let shown = home.json(&["server", "show", name]).await.map_err(|error| format!("{error:#}"))?;
        if shown["phase"] == "Stopped" && shown["exit"]["code"] == 0 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "the page complained: {complaints:#?}");
    Ok(())
}

#[test]
fn a_newcomer_runs_a_game_from_the_desktop() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        first_game(&home, &browser, "arena").await
    })
}

#[test]
fn a_newcomer_runs_a_game_from_a_phone() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let browser = Browser::signed_in(&home, Size::PHONE).await?;
        first_game(&home, &browser, "pocket").await?;
        let wide = browser.eval("document.documentElement.scrollWidth").await?;
        ensure!(wide.as_u64() <= Some(390), "the page is {wide} px wide on a phone");
        Ok(())
    })
}
