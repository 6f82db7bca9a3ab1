//! Who gets in, and how one gets out.

use manman_e2e::{Browser, Context as _, Home, Result, Size, ensure, story};
use reqwest::Method;
use serde_json::{Value, json};

#[test]
fn a_stranger_is_shown_the_way_in_and_nothing_else() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--docker", "off"]).await?;
        let browser = Browser::open(Size::DESKTOP).await?;
        browser.page.goto(&home.context("url")?).await?;
        browser.see_text("manman login").await?;
        browser.fill("Name", "nobody").await?;
        browser.fill("Password", "wrong horse\n").await?;
        browser.see("the refusal", "//*[@role='alert']").await?;
        ensure!(!browser.text().await?.contains("Fleet"), "a stranger sees the fleet");
        Ok(())
    })
}

#[test]
fn a_link_a_password_and_a_token_lead_in_and_signing_out_ends_every_socket() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--docker", "off"]).await?;
        let ada = json!({"name": "ada", "role": "viewer", "password": "a long enough password"});
        home.client()?.call::<Value>(Method::POST, "/account", Some(&ada)).await?;

        let link = home.login_link().await?;
        let browser = Browser::open(Size::DESKTOP).await?;
        browser.page.goto(&link).await?;
        browser.see("the fleet", "//h1[normalize-space()='Fleet']").await?;
        let other = Browser::open(Size::DESKTOP).await?;
        other.page.goto(&link).await?;
        other.see_text("This link has been used").await?;

        other.page.goto(&home.context("url")?).await?;
        other.fill("Name", "ada").await?;
        other.fill("Password", "a long enough password\n").await?;
        other.see("the fleet", "//h1[normalize-space()='Fleet']").await?;
        ensure!(!other.text().await?.contains("New server"), "a viewer is offered what she may not do");

        let third = Browser::open(Size::PHONE).await?;
        third.page.goto(&home.context("url")?).await?;
        third.click("Token").await?;
        third.fill("Token", &format!("{}\n", home.context("token")?)).await?;
        third.see("the fleet", "//h1[normalize-space()='Fleet']").await?;

        // Ended from elsewhere: the open page learns of it by its socket, at once.
        let sessions = home.json(&["session", "list", "--all"]).await?;
        let hers = sessions.as_array().context("a list")?.iter().find(|session| session["name"] == "ada").context("her session")?;
        home.manman(&["session", "revoke", hers["id"].as_str().context("an id")?]).await?.success()?;
        other.see_text("manman login").await?;

        browser.click("Settings").await?;
        browser.click("Sign out").await?;
        browser.see_text("manman login").await?;
        browser.page.back().await?;
        browser.see_text("manman login").await?;
        Ok(())
    })
}

#[test]
fn another_site_can_not_use_somebodys_cookie() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--docker", "off"]).await?;
        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        let url = home.context("url")?;
        let feed = url.replace("http", "ws");
        // A page of another origin, in the same browser, with the cookie in its jar.
        browser.page.goto("data:text/html,<title>elsewhere</title>").await?;
        let socket = format!(
            "const done = arguments[0]; const s = new WebSocket('{feed}/feed'); s.onopen = () => done('open'); s.onerror = () => done('refused');"
        );
        let answer = browser.page.execute_async(&socket, vec![]).await?;
        ensure!(answer == "refused", "a foreign page opened the feed: {answer}");
        let form = format!(
            "const f = document.createElement('form'); f.method = 'post'; f.action = '{url}/logout'; document.body.append(f); f.submit(); return 1"
        );
        browser.page.execute(&form, vec![]).await?;
        browser.page.goto(&url).await?;
        browser.see("the fleet, still signed in", "//h1[normalize-space()='Fleet']").await?;
        Ok(())
    })
}
