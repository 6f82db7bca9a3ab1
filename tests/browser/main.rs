//! The console as a person meets it: a real browser, a real host, real games.

mod floods;
mod host_away;
mod hostile;
mod newcomer;
mod pages;
mod sign_in;

use manman_e2e::{Browser, Context as _, Home, Result, Size};

/// A browser that has followed a one-time link, as `manman login` prints it.
async fn signed_in(home: &Home, size: Size) -> Result<Browser> {
    let browser = Browser::open(size).await?;
    browser.page.goto(&login_link(home).await?).await?;
    browser.see("the fleet", "//h1[normalize-space()='Fleet']").await?;
    Ok(browser)
}

async fn login_link(home: &Home) -> Result<String> {
    let said = home.manman(&["login"]).await?.success()?;
    let link = said.split_ascii_whitespace().find(|word| word.contains("/login?code="));
    link.map(str::to_owned).with_context(|| format!("no link in {said:?}"))
}

/// The address of a server's page.
async fn server_page(home: &Home, name: &str) -> Result<String> {
    let server = home.client()?.server_show(name).await?;
    Ok(format!("{}/#/server/{}", home.context("url")?, server.id))
}
