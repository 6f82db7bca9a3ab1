//! Every route of the user's own text, with `curl` and the bodies as that text has them.

use std::path::Path;

use manman_e2e::{Context, Home, Result, bail, docker, ensure, eventually, story};
use serde_json::Value;
use tokio::process::Command;

/// `curl -X METHOD URL`, with a body or none: the status and what came back.
async fn curl(url: &str, token: Option<&str>, method: &str, body: Option<&str>) -> Result<(u16, String)> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-X", method, "-w", "\n%{http_code}", "--max-time", "30", url]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    if let Some(body) = body {
        command.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    let output = command.output().await?;
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
    Ok((status.parse()?, body.to_owned()))
}

struct Api {
    url: String,
    token: String,
}

impl Api {
    async fn call(&self, method: &str, path: &str, body: Option<&str>, expected: &[u16]) -> Result<Value> {
        let (status, text) = curl(&format!("{}{path}", self.url), Some(&self.token), method, body).await?;
        ensure!(expected.contains(&status), "{method} {path} gave {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

#[test]
fn every_route_of_the_host() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let host = Api { url: home.context("url")?, token: home.context("token")? };

        // A worker registers by hand.
        let told = host.call("POST", "/worker", None, &[200, 201]).await?;
        ensure!(told["required"].to_string().contains("worker-name"), "{told}");
        let id = told["id"].as_str().context("an id")?;
        let body = r#"{"worker-name": "by-hand", "ip-address": "127.0.0.1", "api-url": "http://127.0.0.1:1", "api-port": 1}"#;
        let (status, text) = curl(&format!("{}/worker/{id}", host.url), None, "POST", Some(body)).await?;
        ensure!(status == 201, "{status}: {text}");
        let registered: Value = serde_json::from_str(&text)?;
        let own = registered["token"].as_str().context("a token")?.to_owned();
        host.call("POST", &format!("/worker/{id}/accept"), None, &[200]).await?;
        let worker = Api { url: host.url.clone(), token: own };
        let beat = worker.call("POST", &format!("/worker/{id}/health"), None, &[200]).await?;
        ensure!(beat["next_seconds"].is_u64(), "{beat}");
        host.call("GET", "/worker", None, &[200]).await?;
        host.call("GET", &format!("/worker/{id}"), None, &[200]).await?;
        host.call("PUT", &format!("/worker/{id}"), Some(r#"{"labels": {"room": "attic"}}"#), &[200]).await?;
        host.call("DELETE", &format!("/worker/{id}"), None, &[200, 202, 204]).await?;

        // A server lives.
        let own_worker = home.json(&["worker", "list"]).await?;
        let own_worker =
            own_worker.as_array().and_then(|all| all.iter().find(|w| w["status"] == "alive")).context("a worker")?["id"].clone();
        let created = host
            .call("POST", "/server", Some(&format!(r#"{{"worker_id": {own_worker}, "game_id": "docker:manman-e2e/printer"}}"#)), &[201])
            .await?;
        let server = created["id"].as_str().context("an id")?;
        for query in ["", "?worker_id=", "?game_id=docker:manman-e2e/printer"] {
            let query =
                if query == "?worker_id=" { format!("?worker_id={}", own_worker.as_str().unwrap_or_default()) } else { query.to_owned() };
            let list = host.call("GET", &format!("/server{query}"), None, &[200]).await?;
            ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{query}: {list}");
        }
        eventually("the server is Ready", async || {
            let seen = host.call("GET", &format!("/server/{server}"), None, &[200]).await.map_err(|error| format!("{error:#}"))?;
            if seen["phase"] == "Ready" { Ok(()) } else { Err(seen["phase"].to_string()) }
        })
        .await?;
        let log = host.call("GET", &format!("/server/{server}/log"), None, &[200]).await?;
        ensure!(log["url"].is_string() && log["stream_url"].is_string(), "{log}");
        let answer = host.call("POST", &format!("/server/{server}/command"), Some(r#"{"command": "hello there"}"#), &[200]).await?;
        ensure!(answer["answer"].to_string().contains("hello there"), "{answer}");
        for (kind, status) in [("1", 200), ("\"HEALTH\"", 200), ("17", 400), ("\"NONSENSE\"", 400)] {
            host.call("POST", &format!("/server/{server}/command"), Some(&format!(r#"{{"type": {kind}}}"#)), &[status]).await?;
        }
        let body = r#"{"type": 200, "body": {"command": "by envelope"}}"#;
        let answer = host.call("POST", &format!("/server/{server}/command"), Some(body), &[200]).await?;
        ensure!(answer["answer"].to_string().contains("by envelope"), "{answer}");
        host.call("PUT", &format!("/server/{server}"), Some(r#"{"limits": {"memory_bytes": 134217728}}"#), &[200]).await?;
        let seen = host.call("GET", &format!("/server/{server}"), None, &[200]).await?;
        ensure!(seen["limits"]["memory_bytes"] == 134_217_728, "{seen}");
        host.call("DELETE", &format!("/server/{server}"), None, &[409]).await?;
        host.call("DELETE", &format!("/server/{server}?force=true&purge=true"), None, &[200, 202, 204]).await?;
        Ok(())
    })
}

#[test]
fn every_route_of_a_worker() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let join = home.join_token().await?;
        let mut worker = home.worker("attic", &home.context("url")?, &["--join-token", &join]).await?;
        let shown = eventually("the worker is alive", async || {
            let seen = home.json(&["worker", "show", "attic"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["status"] == "alive" { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await?;
        let url = shown["api_url"].as_str().context("an api url")?.trim_end_matches('/').to_owned();
        let token = token_of(&worker.data)?;

        let (status, _) = curl(&format!("{url}/status"), None, "GET", None).await?;
        ensure!(status == 401, "the worker's own listener wants a token, on loopback too: {status}");
        let api = Api { url, token };
        let ok = api.call("GET", "/status", None, &[200]).await?;
        ensure!(ok.is_object() || ok == "ok", "{ok}");

        let id = "0197a000-0000-7000-8000-000000000001";
        let body = format!(r#"{{"id": "{id}", "name": "own", "game_id": "docker:manman-e2e/printer"}}"#);
        api.call("POST", "/server", Some(&body), &[200, 201, 202]).await?;
        api.call("POST", "/server", Some(&body), &[200, 201, 202]).await?;
        let phase = async |wanted: &str| {
            eventually(&format!("the server is {wanted}"), async || {
                let seen = api.call("GET", &format!("/server/{id}"), None, &[200]).await.map_err(|error| format!("{error:#}"))?;
                if seen["phase"] == wanted { Ok(()) } else { Err(seen["phase"].to_string()) }
            })
            .await
        };
        phase("Ready").await?;
        api.call("GET", "/server", None, &[200]).await?;
        api.call("POST", &format!("/server/{id}/start"), None, &[200]).await?;
        let answer = api.call("POST", &format!("/server/{id}/command"), Some(r#"{"command": "hi"}"#), &[200]).await?;
        ensure!(answer.to_string().contains(" hi"), "{answer}");
        let log = api.call("GET", &format!("/server/{id}/log"), None, &[200]).await?;
        ensure!(log["last_seq"].as_u64() > Some(0), "{log}");
        api.call("DELETE", &format!("/server/{id}"), None, &[409]).await?;
        api.call("POST", &format!("/server/{id}/shutdown"), None, &[200, 202]).await?;
        phase("Stopped").await?;
        api.call("POST", &format!("/server/{id}/start"), None, &[200, 202]).await?;
        phase("Ready").await?;
        api.call("POST", &format!("/server/{id}/kill"), None, &[200, 202]).await?;
        phase("Stopped").await?;
        api.call("POST", "/freeze", None, &[200]).await?;
        eventually("the host sees it frozen", async || {
            let seen = home.json(&["worker", "show", "attic"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["status"] == "frozen" { Ok(()) } else { Err(seen["status"].to_string()) }
        })
        .await?;
        api.call("POST", "/unfreeze", None, &[200]).await?;
        api.call("DELETE", &format!("/server/{id}"), None, &[200, 202, 204]).await?;
        api.call("POST", "/shutdown", None, &[200, 202]).await?;
        let ended = worker.program.ended(std::time::Duration::from_secs(60)).await?;
        ensure!(ended.success(), "it ended with {ended}");
        ensure!(docker(&["ps", "-q", "--filter", &format!("label=manman.server={id}")]).await?.is_empty(), "its game still runs");
        Ok(())
    })
}

fn token_of(data: &Path) -> Result<String> {
    for place in ["api-token", "worker/api-token"] {
        if let Ok(token) = std::fs::read_to_string(data.join(place)) {
            return Ok(token.trim().to_owned());
        }
    }
    bail!("no api-token below {}", data.display())
}
