//! Where somebody names a place, the host goes there and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use manman_e2e::{Home, Result, ensure, eventually_within, story};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Asker, text};

/// Answers each request with the same bytes, and counts them; the last request is kept.
struct Place {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Place {
    async fn open(answer: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, answer) = (Arc::clone(&count), answer.clone());
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Ok(Self { url, asked })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The address that a worker gives for its own listener: whoever registers may name one.
#[test]
fn a_workers_address_leads_no_further_than_itself() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        let reserve = async |name: &str| -> Result<String> {
            let said: Value =
                ask.plain(Method::POST, "/worker").bearer_auth(&join).json(&json!({ "name": name })).send().await?.json().await?;
            text(&said, "id")
        };
        for bad in [
            "http://169.254.169.254",
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]:80",
            "http://2852039166",
            "http://0.0.0.0:9000",
            "http://[fd00:ec2::254]",
            "http://u:p@10.0.0.1",
            "http://10.0.0.1/?x=",
            "http://10.0.0.1/#",
            "file:///etc/passwd",
            "gopher://10.0.0.1",
            "unix:/var/run/docker.sock",
        ] {
            let id = reserve("attic").await?;
            let body = json!({ "worker-name": "attic", "api-url": bad });
            let response = ask.plain(Method::POST, &format!("/worker/{id}")).bearer_auth(&join).json(&body).send().await?;
            let (status, answer) = (response.status(), response.text().await?);
            ensure!(status == 400 && answer.contains("api-url"), "{bad}: {status} {answer}");
        }

        // A worker that beats and has no link is asked at its listener. Where that leads elsewhere, nobody
        // follows; where it never ends, somebody stops listening.
        let treasure = Place::open("HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntreasure".to_owned()).await?;
        let leads = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}/status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            treasure.url
        );
        let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(24 << 20));
        for (name, answer) in [("redirects", leads), ("endless", endless)] {
            let listener = Place::open(answer).await?;
            let id = reserve(name).await?;
            let body =
                json!({ "worker-name": name, "ip-address": "127.0.0.1", "api-url": listener.url, "api-token": "mm_api_for_the_listener" });
            let registered = ask.plain(Method::POST, &format!("/worker/{id}")).bearer_auth(&join).json(&body).send().await?;
            let registered: Value = registered.error_for_status()?.json().await?;
            let token = text(&registered, "token")?;
            let beat = json!({ "session_epoch": registered["session_epoch"], "servers": [] });
            let beaten = ask.plain(Method::POST, &format!("/worker/{id}/health")).bearer_auth(&token).json(&beat).send().await?;
            ensure!(beaten.status().is_success(), "{}", beaten.text().await?);
            let asked = eventually_within(Duration::from_secs(10), "the listener is asked", async || {
                let response =
                    ask.request(Method::GET, &format!("/worker/{id}/metrics")).send().await.map_err(|error| error.to_string())?;
                let (status, text) = (response.status().as_u16(), response.text().await.unwrap_or_default());
                if listener.asked() > 0 { Ok((status, text)) } else { Err(format!("{status} {text}")) }
            })
            .await?;
            ensure!(asked.0 != 200 && !asked.1.contains("treasure") && asked.1.len() < 64 * 1024, "{name}: {} {:.300}", asked.0, asked.1);
        }
        ensure!(treasure.asked() == 0, "a redirect was followed");
        Ok(())
    })
}

/// An image's name is handed to the engine, which speaks to registries alone. It can carry no options
/// and no URL.
#[test]
fn a_games_name_is_no_url() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        for bad in [
            "docker:http://169.254.169.254/latest",
            "docker:file:///etc/passwd",
            "docker:--privileged",
            "docker:a/../../b",
            "docker:a b",
            "docker:a\nb",
            "docker:unix:///var/run/docker.sock",
            "docker:u:p@registry.example/x",
            "docker:x?y=z",
            "steamcmd:http://x",
            "steamcmd:1 +quit",
            "steamcmd:../1",
        ] {
            let response = ask.request(Method::POST, "/server").json(&json!({ "game_id": bad })).send().await?;
            let (status, answer) = (response.status(), response.text().await?);
            ensure!(status == 400, "{bad:?}: {status} {answer}");
        }
        Ok(())
    })
}
