//! A real browser: headless Chromium behind ChromeDriver, each test its own, with a fresh profile.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::devtools::Devtools;
use crate::home::Home;
use crate::process::{Program, processes_with};
use crate::wait::eventually_within;

/// Time for something to appear on a page; a machine with two cores may be busy with games.
const APPEARS: Duration = Duration::from_secs(30);

/// The size of a window, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    pub const DESKTOP: Self = Self { width: 1280, height: 860 };
    pub const PHONE: Self = Self { width: 390, height: 844 };
}

/// A window of a browser, which ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    pub page: Client,
    driver: Program,
    profile: TempDir,
}

impl Browser {
    pub async fn open(size: Size) -> Result<Self> {
        let mut driver = Program::spawn("chromedriver", Command::new("chromedriver").arg("--port=0"))
            .context("ChromeDriver is missing; `apt-get install chromium chromium-driver`")?;
        let said = driver.line("ChromeDriver was started successfully on port ", Duration::from_secs(30)).await?;
        let port = said.trim_end_matches('.').rsplit(' ').next().unwrap_or_default().to_owned();
        let profile = tempfile::Builder::new().prefix("manman-browser-").tempdir()?;
        let folder = format!("--user-data-dir={}", profile.path().display());
        let options = json!({
            "goog:chromeOptions": {"args": [folder, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en"]},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(options) = options else { bail!("the options are an object") };
        let page = ClientBuilder::new(HttpConnector::new()).capabilities(options).connect(&format!("http://127.0.0.1:{port}")).await?;
        let browser = Self { page, driver, profile };
        browser.resize(size).await?;
        Ok(browser)
    }

    /// A browser that has followed a one-time link to the fleet.
    pub async fn signed_in(home: &Home, size: Size) -> Result<Self> {
        let browser = Self::open(size).await?;
        browser.page.goto(&home.login_link().await?).await?;
        browser.see("the fleet", "//h1[normalize-space()='Fleet']").await?;
        Ok(browser)
    }

    /// Memory of the open page's own process, in bytes: its share of what is shared, and what is its own.
    #[must_use]
    pub fn page_memory(&self) -> u64 {
        let renderers = processes_with(&self.profile.path().to_string_lossy(), "--type=renderer");
        let sizes = renderers.iter().filter_map(|pid| {
            let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = memory.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        });
        // Chromium keeps an empty one in reserve.
        sizes.max().unwrap_or(0) * 1024
    }

    /// Gives the page exactly this size, whatever the window's frame takes.
    pub async fn resize(&self, size: Size) -> Result<()> {
        let metrics = json!({"width": size.width, "height": size.height, "deviceScaleFactor": 1, "mobile": size == Size::PHONE});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await.map(drop)
    }

    /// What the system prefers, as the page is told.
    pub async fn dark(&self, dark: bool) -> Result<()> {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await.map(drop)
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let command = Devtools { path: "goog/cdp/execute", body: json!({"cmd": command, "params": parameters}) };
        Ok(self.page.issue_cmd(command).await?)
    }

    /// What the page has complained of since the last look: errors and refusals of its policy.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.page.issue_cmd(Devtools { path: "se/log", body: json!({"type": "browser"}) }).await?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter(|entry| entry["level"] == "SEVERE").filter_map(|entry| entry["message"].as_str());
        // Docker gives and takes interfaces of this machine meanwhile; the page asks again.
        Ok(messages.filter(|message| !message.contains("ERR_NETWORK_CHANGED")).map(str::to_owned).collect())
    }

    /// The first visible element that an XPath finds, waited for.
    pub async fn see(&self, what: &str, xpath: &str) -> Result<Element> {
        self.see_within(APPEARS, what, xpath).await
    }

    pub async fn see_within(&self, limit: Duration, what: &str, xpath: &str) -> Result<Element> {
        eventually_within(limit, &format!("{what} is on the page"), async || {
            for element in self.page.find_all(Locator::XPath(xpath)).await.map_err(|error| error.to_string())? {
                if element.is_displayed().await.unwrap_or(false) {
                    return Ok(element);
                }
            }
            Err(self.text().await.unwrap_or_else(|error| format!("{error:#}")))
        })
        .await
    }

    /// Waits until nothing visible matches any more.
    pub async fn gone(&self, what: &str, xpath: &str) -> Result<()> {
        eventually_within(APPEARS, &format!("{what} is gone from the page"), async || {
            for element in self.page.find_all(Locator::XPath(xpath)).await.map_err(|error| error.to_string())? {
                if element.is_displayed().await.unwrap_or(false) {
                    return Err(self.text().await.unwrap_or_default());
                }
            }
            Ok(())
        })
        .await
    }

    /// A server's state, as its badge says it.
    pub async fn state(&self, state: &str) -> Result<Element> {
        let badge = format!("//*[contains(@class, 'activity')]//*[contains(@class, 'badge') and normalize-space()={}]", quoted(state));
        // An image of ours is built when it is first used.
        self.see_within(Duration::from_secs(240), &format!("the state {state}"), &badge).await
    }

    /// A line of the log that holds all of these.
    pub async fn log_line(&self, parts: &[&str]) -> Result<Element> {
        let holds: Vec<String> = parts.iter().map(|part| format!("contains(., {})", quoted(part))).collect();
        self.see(&format!("a line of the log with {parts:?}"), &format!("//*[@role='log']//*[{}]", holds.join(" and "))).await
    }

    /// Something that says this, anywhere.
    pub async fn see_text(&self, text: &str) -> Result<Element> {
        self.see(
            &format!("`{text}`"),
            &format!(
                "//body//*[not(self::script)][contains(normalize-space(.), {})][not(./*[contains(normalize-space(.), {0})])]",
                quoted(text)
            ),
        )
        .await
    }

    /// Clicks a button, link or tab by its name, as a person reads it or as a screen reader says it.
    pub async fn click(&self, name: &str) -> Result<()> {
        let name_matches = format!("(normalize-space(.)={0} or @aria-label={0})", quoted(name));
        let xpath = format!(
            "//*[(self::button or self::a or self::summary or @role='button' or @role='tab' or @role='menuitem') and {name_matches}]"
        );
        eventually_within(APPEARS, &format!("`{name}` can be clicked"), async || {
            let element = self.page.find_all(Locator::XPath(&xpath)).await.map_err(|error| error.to_string())?;
            for element in element {
                if element.is_displayed().await.unwrap_or(false) && can_be_used(&element).await {
                    return self.tap(&element).await.map_err(|error| format!("{error:#}"));
                }
            }
            Err(self.text().await.unwrap_or_default())
        })
        .await
    }

    /// Clicks an element, brought to where nothing lies over it.
    pub async fn tap(&self, element: &Element) -> Result<()> {
        let middle = "arguments[0].scrollIntoView({block: 'center'})";
        self.page.execute(middle, vec![serde_json::to_value(element)?]).await?;
        Ok(element.click().await?)
    }

    /// Writes into the field of this label, in place of what was there.
    pub async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let field = self.field(label).await?;
        // As a person does it: WebDriver's own clearing is no input to the page. Ctrl+A, then Delete.
        field.send_keys("\u{E009}a\u{E000}\u{E017}").await?;
        field.send_keys(text).await.with_context(|| format!("write into `{label}`"))
    }

    /// The field of this label.
    pub async fn field(&self, label: &str) -> Result<Element> {
        let label = quoted(label);
        let own = format!("@aria-label={label} or @placeholder={label} or @id=//label[starts-with(normalize-space(.), {label})]/@for");
        let xpath = format!(
            "//*[(self::input or self::textarea or self::select) and ({own} or ancestor::label[starts-with(normalize-space(.), {label})])]"
        );
        self.see(&format!("the field {label}"), &xpath).await
    }

    /// A key, pressed where the focus is.
    pub async fn press(&self, key: &str, code: u32) -> Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.devtools("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// All text that the page shows.
    pub async fn text(&self) -> Result<String> {
        let text = self.page.execute("return document.body ? document.body.innerText : ''", vec![]).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// The value of an expression in the page.
    pub async fn eval(&self, expression: &str) -> Result<Value> {
        Ok(self.page.execute(&format!("return ({expression})"), vec![]).await?)
    }

    /// Writes what the page looks like to target/screens/NAME.png.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let folder = crate::target().join("screens");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, self.page.screenshot().await?).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Fails with what axe-core finds that is serious or critical.
    pub async fn accessible(&self, page: &str) -> Result<()> {
        let path = crate::target().join("axe-core/axe.min.js");
        let axe = std::fs::read_to_string(&path).with_context(|| format!("read {}; `tests/prepare` fetches it", path.display()))?;
        self.page.execute(&axe, vec![]).await?;
        let run = "const done = arguments[arguments.length - 1]; \
                   axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done([{impact: 'critical', id: String(e), nodes: []}]))";
        let found = self.page.execute_async(run, vec![]).await?;
        let found = found.as_array().ok_or_else(|| anyhow!("axe-core answered {found}"))?;
        let grave: Vec<String> = found
            .iter()
            .filter(|violation| violation["impact"] == "serious" || violation["impact"] == "critical")
            .map(|violation| {
                let nodes = violation["nodes"].as_array().into_iter().flatten().take(4);
                let nodes: Vec<String> = nodes.map(|node| format!("{} {}", node["html"], node["failureSummary"])).collect();
                format!("{}: {}\n  {}", violation["id"], violation["help"], nodes.join("\n  "))
            })
            .collect();
        ensure!(grave.is_empty(), "axe-core on {page}:\n{}", grave.join("\n"));
        Ok(())
    }
}

/// ChromeDriver leaves its browser behind when it is killed; each is known by its profile.
impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.end_now();
        for pid in processes_with(&self.profile.path().to_string_lossy(), "") {
            // One that has ended meanwhile is what was wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Whether a control takes clicks; ours stay focusable while they do not, and say so.
async fn can_be_used(element: &Element) -> bool {
    let off = element.attr("aria-disabled").await.ok().flatten().is_some_and(|value| value == "true");
    !off && element.is_enabled().await.unwrap_or(false)
}

/// A text as XPath writes it; one that holds both kinds of quotes is put together of parts.
fn quoted(text: &str) -> String {
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    let parts: Vec<String> = text.split('\'').map(|part| format!("'{part}'")).collect();
    format!("concat({})", parts.join(", \"'\", "))
}
