//! Nonsense, and what it is answered: a problem that names the field, and nothing half-made.

use manman_common::Problem;
use manman_e2e::{Context, Home, Result, ensure, eventually, free_port, story};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

struct Asker {
    http: Client,
    url: String,
    token: String,
}

impl Asker {
    fn new(home: &Home) -> Result<Self> {
        Ok(Self { http: Client::builder().build()?, url: home.context("url")?, token: home.context("token")? })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// The problem that a request is answered with, of just this status.
    async fn refused(&self, request: reqwest::RequestBuilder, status: u16) -> Result<Problem> {
        let response = request.send().await?;
        let got = response.status();
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let text = response.text().await?;
        ensure!(got.as_u16() == status, "expected {status}, got {got}: {text}");
        ensure!(kind.starts_with("application/problem+json"), "content type {kind}: {text}");
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    async fn names(&self, request: reqwest::RequestBuilder, status: u16, field: &str) -> Result<Problem> {
        let problem = self.refused(request, status).await?;
        ensure!(problem.field.as_deref() == Some(field), "expected the field {field}: {problem:?}");
        ensure!(!problem.detail.is_empty(), "{problem:?}");
        Ok(problem)
    }
}

#[test]
fn bad_requests_are_answered_with_the_field_at_fault() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let create = |body: Value| ask.request(Method::POST, "/server").json(&body);
        let printer = "docker:manman-e2e/printer";

        ask.names(create(json!({"game_id": "lgsm:oa"})), 400, "game_id").await?;
        ask.names(create(json!({"game_id": "nothing"})), 400, "game_id").await?;
        ask.names(create(json!({"game_id": printer, "name": "a/b"})), 400, "name").await?;
        ask.names(create(json!({"game_id": printer, "ports": [{"name": "game", "port": 70000}]})), 400, "ports[0].port").await?;
        ask.names(create(json!({"game_id": printer, "worker_id": "nobody"})), 400, "worker_id").await?;
        ask.refused(create(json!({"game_id": printer, "surprise": 1})), 400).await?;
        ask.refused(create(json!({})), 400).await?;
        ask.refused(ask.request(Method::POST, "/server").header("content-type", "application/json").body("{\"game_id\":"), 400).await?;
        ask.refused(create(json!({"game_id": printer, "env": {"X": "x".repeat(2 << 20)}})), 413).await?;
        ask.refused(ask.http.get(format!("{}/server", ask.url)).bearer_auth("mm_admin_wrong"), 401).await?;
        ask.refused(ask.http.get(format!("{}/server", ask.url)), 401).await?;
        ask.refused(ask.request(Method::GET, "/server/nobody"), 404).await?;
        ask.refused(ask.request(Method::GET, "/no/such/route"), 404).await?;
        let steam = ask.refused(create(json!({"game_id": "steamcmd:1"})), 400).await?;
        ensure!(steam.hint.is_some() || steam.detail.contains("definition"), "{steam:?}");

        // A port that something else on the machine has.
        let port = free_port()?;
        let _taken = std::net::UdpSocket::bind(("0.0.0.0", port))?;
        ask.names(create(json!({"game_id": printer, "ports": [{"name": "game", "protocol": "udp", "port": port}]})), 409, "ports[0].port")
            .await?;

        // None of them has left anything behind.
        let list: Value = ask.request(Method::GET, "/server").send().await?.json().await?;
        ensure!(list["items"] == json!([]), "{list}");
        Ok(())
    })
}

#[test]
fn a_lost_update_a_frozen_worker_a_missing_image() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let server = home.printer("game", &[]).await?;
        let path = format!("/server/{}", server["id"].as_str().context("an id")?);
        let patch = ask.request(Method::PATCH, &path).json(&json!({"limits": {"pids": 64}}));
        ask.refused(patch.header("if-match", "\"999\""), 412).await?;
        ask.refused(ask.request(Method::PATCH, &path).json(&json!({"generation": 0})), 409).await?;

        let console = ask.request(Method::POST, &format!("{path}/command"));
        ask.names(console.json(&json!({"command": "say hi\nquit"})), 400, "command").await?;

        let worker = home.json(&["worker", "list"]).await?[0]["name"].as_str().context("a name")?.to_owned();
        home.manman(&["worker", "freeze", &worker]).await?.success()?;
        ask.refused(ask.request(Method::POST, "/server").json(&json!({"game_id": "docker:manman-e2e/printer"})), 409).await?;
        home.manman(&["worker", "unfreeze", &worker]).await?.success()?;

        // An image that is nowhere: said on the server, and retried when asked.
        let wait = home.manman(&["server", "create", "docker:manman-e2e/nowhere", "--name", "lost", "--wait=60s"]).await?;
        ensure!(wait.code == Some(1) && wait.stderr.contains("manman-e2e/nowhere"), "{wait:?}");
        manman_e2e::docker(&["tag", "manman-e2e/printer", "manman-e2e/nowhere"]).await?;
        let again = home.manman(&["server", "start", "lost", "--wait=60s"]).await;
        manman_e2e::docker(&["rmi", "manman-e2e/nowhere"]).await.ok();
        again?.success()?;
        Ok(())
    })
}

#[test]
fn a_stranger_gets_nothing_of_a_worker() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let join = home.join_token().await?;
        let _worker = home.worker("attic", &home.context("url")?, &["--join-token", &join]).await?;
        let attic = eventually("the worker is alive", async || {
            let seen = home.json(&["worker", "show", "attic"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["status"] == "alive" { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await?;
        let attic_id = attic["id"].as_str().context("an id")?;

        // Under its id: refused. Under its name: somebody else, who waits.
        let body = json!({"worker-name": "attic", "ip-address": "127.0.0.1", "api-url": "http://127.0.0.1:1"});
        ask.refused(ask.http.post(format!("{}/worker/{attic_id}", ask.url)).json(&body), 403).await?;
        let reserved: Value = ask.http.post(format!("{}/worker", ask.url)).json(&json!({"name": "attic"})).send().await?.json().await?;
        ensure!(reserved["id"] != attic["id"], "{reserved}");
        let id = reserved["id"].as_str().context("an id")?;
        let response = ask.http.post(format!("{}/worker/{id}", ask.url)).json(&body).send().await?;
        ensure!(response.status() == StatusCode::CREATED, "{}", response.status());
        let stranger: Value = response.json().await?;
        ensure!(stranger["status"] == "pending", "{stranger}");
        let own = stranger["token"].as_str().context("a token")?;

        // A worker's token reaches its own worker, and nothing else.
        let other = home.json(&["server", "create", "docker:manman-e2e/printer", "--name", "game", "--worker", "attic"]).await?;
        let server = other["id"].as_str().context("an id")?;
        for (method, path) in [
            (Method::POST, format!("/worker/{attic_id}/health")),
            (Method::POST, format!("/server/{server}/health")),
            (Method::POST, format!("/server/{server}/stop")),
            (Method::DELETE, format!("/server/{server}")),
            (Method::POST, "/token".to_owned()),
        ] {
            let response = ask.http.request(method.clone(), format!("{}{path}", ask.url)).bearer_auth(own).json(&json!({})).send().await?;
            ensure!(response.status() == StatusCode::FORBIDDEN, "{method} {path} gave {}", response.status());
        }
        let still = home.json(&["worker", "show", attic_id]).await?;
        ensure!(still["status"] == "alive" && still["session_epoch"] == attic["session_epoch"], "{still:#}");
        Ok(())
    })
}
