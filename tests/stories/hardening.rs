//! Hardening: every class of the advisories that the peers had (Wings, Panel, Pelican), tried on the
//! whole product with real parts. What is not tried here is tried nearer to its code:
//!
//! | class (example) | tried by |
//! |---|---|
//! | paths and links out of a sandbox (CVE-2023-25152, CVE-2023-25168) | `config-files` place/tests, `backup` tests/hostile, `steam` install/fail, `front-door` path/tests |
//! | the same raced (CVE-2024-27102) | `config-files` tests/race, `backup` tests/race, [`files`] |
//! | chmod and chown through a link (GHSA-rhq6-9rgh-v45c) | `backup` tests/restore, `worker` logs/tests/planted, [`files`] |
//! | deletion through a link (CVE-2023-25168) | [`files`] |
//! | what a game plants where the worker writes its log | `worker` logs/tests/planted, [`files`] |
//! | SSRF: webhooks, front door, workers' addresses, redirects (CVE-2024-34068) | `front-door` orchestrator/{target,webhook}, proxy/tests, `host` fleet/names, [`urls`] |
//! | token confusion (CVE-2026-54593) | [`tokens`], `host` router/tests |
//! | a worker that acts for another (CVE-2026-26016) | [`tokens`], `host` worker/tests/joining, server/tests |
//! | a socket that outlives its right (CVE-2025-68954, GHSA-hr7j-63v7-vj7g) | [`sockets`], `host` login/tests, log/tests, feed/tests |
//! | an API key that becomes a session which outlives it (GHSA-7v3x-h7r2-34jv) | `host` login/tests |
//! | secrets rendered from own configuration (CVE-2026-52855) | `host` domain/template, games/tests/hostile, [`templates`] |
//! | secrets in logs, events, `ps`, cores (CVE-2024-49762) | [`secrets`] |
//! | unauthenticated or too wide routes (CVE-2025-49132, GHSA-4wxv-r46p-w2f9) | `host` router/tests |
//! | CSRF, XSS (CVE-2021-41176, CVE-2024-34067) | `host` login/tests, `browser` hostile |
//! | websockets without limit (CVE-2025-69199) | [`floods`], `host` fleet/readers, link/tests |
//! | half-open connections, oversize everything (CVE-2026-52856, CVE-2026-52857) | [`floods`], `host` limit, router/tests, `config-files` place/tests, `stage` bad_input |
//! | a batch with too many parameters (CVE-2026-21696) | [`floods`] |
//! | one bucket that locks everybody out (CVE-2026-61609) | `host` login/attempts, login/tests, fleet/reservation, [`floods`] |
//! | accounts told by answer or time (CVE-2019-1020002) | `host` login/tests |
//! | limits checked without a lock (CVE-2025-69198) | stories/lists, `host` server/tests |
//! | no process limit, privileged installs (CVE-2021-32699, CVE-2023-32080) | `worker` driver/docker/tests/life, driver/process/tests/limits |
//! | supply chain | [`supply`], `tests/run` |

use std::net::SocketAddr;

use manman_e2e::{Context, Home, Result, ensure};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

#[path = "hardening_files.rs"]
mod files;
#[path = "hardening_floods.rs"]
mod floods;
#[path = "hardening_secrets.rs"]
mod secrets;
#[path = "hardening_sockets.rs"]
mod sockets;
#[path = "hardening_supply.rs"]
mod supply;
#[path = "hardening_templates.rs"]
mod templates;
#[path = "hardening_tokens.rs"]
mod tokens;
#[path = "hardening_urls.rs"]
mod urls;

/// Whoever asks a host, with whatever it has.
struct Asker {
    http: Client,
    url: String,
    admin: String,
}

impl Asker {
    fn new(home: &Home) -> Result<Self> {
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, url: home.context("url")?, admin: home.context("token")? })
    }

    fn address(&self) -> Result<SocketAddr> {
        let url: url::Url = self.url.parse()?;
        url.socket_addrs(|| None)?.pop().context("an address")
    }

    fn plain(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.plain(method, path).bearer_auth(&self.admin)
    }

    /// As the admin, with success.
    async fn did(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let mut request = self.request(method.clone(), path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{method} {path} gave {status}: {text}");
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    async fn token(&self, body: Value) -> Result<(String, String)> {
        let made = self.did(Method::POST, "/token", body).await?;
        Ok((text(&made, "id")?, text(&made, "token")?))
    }

    /// An account with a password, and a session of it.
    async fn account(&self, name: &str, role: &str, password: &str) -> Result<String> {
        let made = self.did(Method::POST, "/account", json!({ "name": name, "role": role, "password": password })).await?;
        text(&made, "id")
    }

    /// The secret of a fresh session.
    async fn sign_in(&self, name: &str, password: &str) -> Result<String> {
        let response = self.plain(Method::POST, "/login").json(&json!({ "name": name, "password": password })).send().await?;
        ensure!(response.status() == 204, "{}", response.text().await?);
        session_of(&response)
    }

    /// A machine that registers itself, as a worker does that has a token to join with; its id, and
    /// its registration.
    async fn register(&self, name: &str, join: Option<&str>) -> Result<(String, Value)> {
        let with = |request: RequestBuilder| match join {
            Some(join) => request.bearer_auth(join),
            None => request,
        };
        let reserved: Value =
            with(self.plain(Method::POST, "/worker")).json(&json!({ "name": name })).send().await?.error_for_status()?.json().await?;
        let id = text(&reserved, "id")?;
        let body = json!({ "worker-name": name, "ip-address": "127.0.0.1" });
        let response = with(self.plain(Method::POST, &format!("/worker/{id}"))).json(&body).send().await?;
        let (status, registered) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{status}: {registered}");
        Ok((id, serde_json::from_str(&registered)?))
    }
}

fn session_of(response: &reqwest::Response) -> Result<String> {
    let cookie = response.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()).context("a cookie")?;
    let secret = cookie.split(';').next().and_then(|pair| pair.strip_prefix("manman_session=")).context("a session")?;
    Ok(secret.to_owned())
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("no `{key}` in {value}"))?.to_owned())
}
