//! Whatever is open ends with the right that opened it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::client::{Client, Socket};
use manman_e2e::{Context, Home, Result, ensure, story};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Asker, text};

const WITHIN: Duration = Duration::from_secs(3);

/// All that a person can hold open, with one secret.
struct Open {
    sockets: Vec<(&'static str, Socket)>,
    /// A log as it is followed without a WebSocket.
    body: reqwest::Response,
}

impl Open {
    async fn all(ask: &Asker, secret: &str, server: &str) -> Result<Self> {
        let client = Client::new(ask.url.parse()?, Some(secret.to_owned()))?;
        let log = format!("/server/{server}/log/stream?tail=1");
        let mut sockets = Vec::new();
        for (what, path) in [("the feed", "/feed"), ("the events", "/event/stream"), ("the log", log.as_str())] {
            sockets.push((what, client.websocket(path).await.with_context(|| what.to_owned())?));
        }
        let body = ask.plain(Method::GET, &log).bearer_auth(secret).send().await?.error_for_status()?;
        Ok(Self { sockets, body })
    }

    async fn end(self) -> Result<()> {
        let Self { sockets, mut body } = self;
        for (what, socket) in sockets {
            ends(what, socket).await?;
        }
        let ended = async { while let Ok(Some(_)) = body.chunk().await {} };
        tokio::time::timeout(WITHIN, ended).await.context("the log's body goes on")
    }

    /// A moment later they are still there.
    async fn go_on(&mut self) -> Result<()> {
        for (what, socket) in &mut self.sockets {
            socket.send(Message::Ping(b"still".to_vec().into())).await?;
            let answered = async {
                while let Some(message) = socket.next().await {
                    if matches!(message, Ok(Message::Pong(_))) {
                        return true;
                    }
                    if matches!(message, Ok(Message::Close(_)) | Err(_)) {
                        return false;
                    }
                }
                false
            };
            ensure!(tokio::time::timeout(WITHIN, answered).await == Ok(true), "{what} has ended");
        }
        Ok(())
    }
}

async fn ends(what: &str, mut socket: Socket) -> Result<()> {
    let ended = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
    };
    tokio::time::timeout(WITHIN, ended).await.with_context(|| format!("{what} is still open"))
}

#[test]
fn what_is_open_ends_with_its_right() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let server = text(&home.printer("game", &["5", "2"]).await?, "id")?;
        home.manman(&["server", "start", "game", "--wait=60s"]).await?.success()?;
        const FIRST: &str = "correct horse battery";
        let anna = ask.account("anna", "operator", FIRST).await?;
        let path = format!("/account/{anna}");
        let (_, bystander) = ask.token(json!({ "scope": "viewer", "label": "bystander" })).await?;
        let mut bystander = Open::all(&ask, &bystander, &server).await?;

        // Each way by which a person loses the right that a session stood for.
        let mut password = FIRST;
        for (how, method, body, next) in [
            ("a role lowered", Method::PUT, json!({ "role": "viewer" }), FIRST),
            ("a new password", Method::PUT, json!({ "password": "another horse battery" }), "another horse battery"),
            ("a disabled account", Method::PUT, json!({ "disabled": true }), "another horse battery"),
            ("a deleted account", Method::DELETE, Value::Null, ""),
        ] {
            let session = ask.sign_in("anna", password).await.context(how)?;
            let open = Open::all(&ask, &session, &server).await.context(how)?;
            ask.did(method, &path, body.clone()).await?;
            open.end().await.context(how)?;
            let status = ask.plain(Method::GET, "/server").bearer_auth(&session).send().await?.status();
            ensure!(status == 401, "{how}: the session still reads: {status}");
            if body["disabled"] == true {
                ask.did(Method::PUT, &path, json!({ "disabled": false })).await?;
            }
            password = next;
        }

        let (id, token) = ask.token(json!({ "scope": "operator", "label": "robot" })).await?;
        let open = Open::all(&ask, &token, &server).await?;
        ask.did(Method::DELETE, &format!("/token/{id}"), Value::Null).await?;
        open.end().await.context("a revoked token")?;

        // A worker's link ends with the worker.
        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        let (attic, says) = ask.register("attic", Some(&join)).await?;
        let token = text(&says, "token")?;
        let client = Client::new(ask.url.parse()?, Some(token.clone()))?;
        let mut link = client.websocket(&format!("/worker/{attic}/link")).await.context("attic's link")?;
        let hello = json!({
            "frame": "hello", "session_epoch": says["session_epoch"], "run_id": uuid::Uuid::from_u128(7), "boot_id": "a test's",
            "have_revision": 0, "inventory": []
        });
        link.send(Message::text(hello.to_string())).await?;
        let welcomed = async {
            while let Some(Ok(message)) = link.next().await {
                if message.to_text().is_ok_and(|text| text.contains("welcome")) {
                    return true;
                }
            }
            false
        };
        ensure!(tokio::time::timeout(WITHIN, welcomed).await == Ok(true), "the link is not welcome");
        ask.did(Method::DELETE, &format!("/worker/{attic}?force=true"), Value::Null).await?;
        ends("the link", link).await?;
        ensure!(client.websocket(&format!("/worker/{attic}/link")).await.is_err(), "a removed worker opens a link");

        bystander.go_on().await.context("somebody else's")
    })
}
