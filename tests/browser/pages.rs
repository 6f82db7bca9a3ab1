//! Every page in light and dark, on a desk and on a phone: looked at by axe-core, kept as a picture.

use manman_e2e::{Browser, Home, Result, Size, ensure, free_port, story};

/// Looks at the page of this heading, loaded anew in each shade.
async fn look(browser: &Browser, name: &str, heading: &str) -> Result<()> {
    for (dark, shade) in [(false, "light"), (true, "dark")] {
        browser.dark(dark).await?;
        browser.page.refresh().await?;
        browser.see(heading, &format!("//h1[contains(., '{heading}')]")).await?;
        browser.gone("what is loading", "//*[@aria-busy='true']").await?;
        browser.screenshot(&format!("{name}-{shade}")).await?;
        browser.accessible(&format!("{name}, {shade}")).await?;
    }
    browser.dark(false).await
}

#[test]
fn every_page_is_fit_to_be_seen_and_heard() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let port = format!("game={}", free_port()?);
        home.manman(&["server", "create", "openarena", "--name", "arena", "--port", &port, "--wait=5m"]).await?.success()?;
        home.printer("hub", &["printer", "5", "200"]).await?;
        home.manman(&["server", "start", "hub", "--wait=60s"]).await?.success()?;
        let url = home.context("url")?;
        let outside = Browser::open(Size::DESKTOP).await?;
        outside.page.goto(&url).await?;
        outside.see_text("manman login").await?;
        look(&outside, "login", "manman").await?;

        let browser = Browser::signed_in(&home, Size::DESKTOP).await?;
        browser.see_text("arena").await?;
        let server = home.server_page("arena").await?;
        let worker = home.json(&["worker", "list"]).await?;
        let machine = format!("{url}/#/machine/{}", worker[0]["id"].as_str().unwrap_or_default());
        let pages = [
            ("fleet", url.clone(), "Fleet"),
            ("new-server", format!("{url}/#/new"), "New server"),
            ("new-openarena", format!("{url}/#/new/openarena"), "OpenArena"),
            ("server", server.clone(), "arena"),
            ("server-overview", format!("{server}/overview"), "arena"),
            ("server-settings", format!("{server}/settings"), "arena"),
            ("server-actions", format!("{server}/actions"), "arena"),
            ("server-events", format!("{server}/events"), "arena"),
            ("machines", format!("{url}/#/machines"), "Machines"),
            ("machine", machine, worker[0]["name"].as_str().unwrap_or_default()),
            ("services", format!("{url}/#/services"), "Services"),
            ("activity", format!("{url}/#/activity"), "Activity"),
            ("settings", format!("{url}/#/settings"), "Settings"),
            ("sessions", format!("{url}/#/settings/sessions"), "Settings"),
            ("people", format!("{url}/#/settings/people"), "Settings"),
            ("tokens", format!("{url}/#/settings/tokens"), "Settings"),
            ("about", format!("{url}/#/settings/about"), "Settings"),
        ];
        for (name, address, heading) in &pages {
            for (size, suffix) in [(Size::DESKTOP, ""), (Size::PHONE, "-phone")] {
                browser.resize(size).await?;
                browser.page.goto(address).await?;
                look(&browser, &format!("{name}{suffix}"), heading).await?;
                let wide = browser.eval("document.documentElement.scrollWidth").await?;
                ensure!(wide.as_u64() <= Some(u64::from(size.width)), "{name} is {wide} px wide in a window of {}", size.width);
            }
        }
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "a page complained: {complaints:#?}");
        Ok(())
    })
}
