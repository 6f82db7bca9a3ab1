//! The console in a real browser: what its first page weighs, how soon it can be used with two hundred
//! servers, and how it takes a flood of lines.

use std::time::Duration;

use manman_e2e::{Browser, Home, Result, Size};
use reqwest::Method;
use serde_json::{Value, json};

use crate::row;
use crate::stats::megabytes;

const SERVERS: usize = 200;
const FLOOD: &str = "print 10000 300000\n";

/// Notes when the first server's button is there, and every task that keeps the page from answering.
const WATCH: &str = "window.longest = 0; window.usable = null;
    new PerformanceObserver((list) => { for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration); })
        .observe({type: 'longtask', buffered: true});
    const look = () => document.querySelector('[data-server] [data-verb]') ? window.usable = performance.now() : requestAnimationFrame(look);
    requestAnimationFrame(look);";

const WEIGHT: &str = "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation')).reduce((sum, one) => sum + one.transferSize, 0)";

pub(crate) async fn measure() -> Result<()> {
    let home = Home::up().await?;
    let client = home.client()?;
    home.printer("flood", &["printer"]).await?;
    home.manman(&["server", "start", "flood", "--wait=60s"]).await?.success()?;
    for number in 1..SERVERS {
        let wish = json!({"game_id": "docker:manman-e2e/printer", "name": format!("quiet-{number:03}"), "desired": "stopped"});
        client.call::<Value>(Method::POST, "/server", Some(&wish)).await?;
    }

    let browser = Browser::open(Size::DESKTOP).await?;
    browser.devtools("Page.enable", json!({})).await?;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH})).await?;
    browser.page.goto(&home.login_link().await?).await?;
    browser.see("a server", "//*[@data-server]//*[@data-verb]").await?;
    let weight = browser.eval(WEIGHT).await?.as_f64().unwrap_or(f64::NAN);
    row("the console's first load, over the wire", &format!("{:.0} KB", weight / 1e3), "bar: 300 KB");
    let usable = browser.eval("window.usable").await?.as_f64().unwrap_or(f64::NAN);
    let longest = browser.eval("window.longest").await?.as_f64().unwrap_or(f64::NAN);
    let docs = other_page(&home).await?;
    let figure = format!("{usable:.0} ms, longest task {longest:.0} ms");
    row("login link to a usable fleet of 200 servers", &figure, &format!("/docs in the same browser: {docs:.0} ms; bar: 1 s"));

    browser.page.goto(&home.server_page("flood").await?).await?;
    browser.log_line(&["printer: ready"]).await?;
    browser.page.execute("window.longest = 0", vec![]).await?;
    browser.fill("Console line", FLOOD).await?;
    browser
        .see_within(Duration::from_secs(120), "the end of the flood", "//*[@role='log']//*[contains(., 'printed 300000 lines')]")
        .await?;
    let longest = browser.eval("window.longest").await?.as_f64().unwrap_or(f64::NAN);
    row("10,000 lines/s for 30 s: longest task of the page", &format!("{longest:.0} ms"), "bar: 100 ms");
    row("the tab's process afterwards", &megabytes(browser.page_memory()), "bar: 200 MB");
    Ok(())
}

/// How long the same browser takes for the page of the API's description.
async fn other_page(home: &Home) -> Result<f64> {
    let browser = Browser::signed_in(home, Size::DESKTOP).await?;
    browser.page.goto(&format!("{}/docs/", home.context("url")?)).await?;
    browser.see("the description", "//*[contains(@class, 'opblock')]").await?;
    Ok(browser.eval("performance.now()").await?.as_f64().unwrap_or(f64::NAN))
}
