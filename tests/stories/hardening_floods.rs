//! Too much of everything: connections, sockets, bytes, depth, batches, strangers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::client::{Client, Socket};
use manman_e2e::{Context, Home, Result, bail, ensure, eventually_within, story};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::Asker;

/// Connections that say half of a request, or nothing, or a byte now and then.
const HALF_OPEN: usize = 600;

async fn half_open(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut open = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(address).await?;
        if number % 2 == 0 {
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nx-slow: ").await?;
        }
        open.push(stream);
    }
    Ok(open)
}

/// Whether the other side has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 512];
    loop {
        match tokio::time::timeout(Duration::from_millis(1), stream.read(&mut rest)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

async fn answers_soon(ask: &Asker) -> Result<()> {
    let began = Instant::now();
    let status = ask.request(Method::GET, "/server").timeout(Duration::from_secs(5)).send().await.context("it does not answer")?.status();
    ensure!(status == 200 && began.elapsed() < Duration::from_secs(5), "{status} after {:?}", began.elapsed());
    Ok(())
}

#[test]
fn half_open_connections_end_and_hold_nobody_up() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let worker = ask.did(Method::GET, "/worker", Value::Null).await?;
        let listener = worker["items"][0]["api_url"].as_str().and_then(|url| url.parse::<url::Url>().ok());
        let mut doors = vec![ask.address()?];
        doors.extend(listener.and_then(|url| url.socket_addrs(|| None).ok()?.pop()));
        let mut all = Vec::new();
        let mut silent = TcpStream::connect(doors.last().context("a door")?).await?;
        for door in &doors {
            all.extend(half_open(*door).await?);
            answers_soon(&ask).await?;
        }
        // Those that drip a byte now and then are no exception.
        eventually_within(Duration::from_secs(30), "the half-open connections end", async || {
            let mut open = Vec::new();
            for mut stream in std::mem::take(&mut all) {
                if !is_closed(&mut stream).await && stream.write_all(b"x").await.is_ok() {
                    open.push(stream);
                }
            }
            all = open;
            answers_soon(&ask).await.map_err(|error| format!("{error:#}"))?;
            if all.is_empty() { Ok(()) } else { Err(format!("{} of {} are open", all.len(), HALF_OPEN * doors.len())) }
        })
        .await?;
        // The worker has few places, so that who says nothing at all does not keep one either.
        eventually_within(Duration::from_secs(30), "a silent connection ends", async || {
            if is_closed(&mut silent).await { Ok(()) } else { Err("it is open") }
        })
        .await
    })
}

#[test]
fn whatever_is_too_much_is_refused_and_nothing_falls_over() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let printer = "docker:manman-e2e/printer";
        let many = |count: usize, length: usize| -> Value {
            (0..count).map(|number| (format!("K{number}"), Value::String("v".repeat(length)))).collect::<serde_json::Map<_, _>>().into()
        };
        let deep = |depth: usize| format!("{{\"game_id\": \"{printer}\", \"variables\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        let create = |body: Value| ask.request(Method::POST, "/server").json(&body);
        let raw = |text: String| ask.request(Method::POST, "/server").header("content-type", "application/json").body(text);
        let long = "x".repeat(70_000);
        let tries: Vec<(&str, reqwest::RequestBuilder)> = vec![
            ("a body", create(json!({ "game_id": printer, "env": { "X": "x".repeat(2 << 20) } }))),
            ("depth", raw(deep(100_000))),
            ("a little depth", raw(deep(200))),
            ("env", create(json!({ "game_id": printer, "env": many(300, 1) }))),
            ("variables", create(json!({ "game_id": printer, "variables": many(40_000, 1) }))),
            ("a name", create(json!({ "game_id": printer, "name": "n".repeat(500_000) }))),
            ("a game", create(json!({ "game_id": format!("docker:{}", "x".repeat(500_000)) }))),
            ("arguments", create(json!({ "game_id": printer, "start": { "argv": vec!["x"; 200_000] } }))),
            (
                "ports",
                create(json!({ "game_id": printer, "ports": (0..5_000).map(|n| json!({ "name": format!("p{n}") })).collect::<Vec<_>>() })),
            ),
            (
                "mounts",
                create(json!({ "game_id": printer, "docker": { "mounts": (0..5_000).map(|n| format!("/m{n}")).collect::<Vec<_>>() } })),
            ),
            (
                "actions",
                create(
                    json!({ "game_id": printer, "actions": (0..5_000).map(|n| (format!("a{n}"), json!({ "label": "x", "console": "x" }))).collect::<serde_json::Map<_, _>>() }),
                ),
            ),
            ("a number", raw(format!("{{\"game_id\": \"{printer}\", \"limits\": {{\"pids\": {}}}}}", "9".repeat(100_000)))),
            ("a header", ask.request(Method::GET, "/server").header("x-long", &long)),
            ("a cookie", ask.plain(Method::GET, "/server").header("cookie", format!("manman_session={long}"))),
            ("a bearer", ask.plain(Method::GET, "/server").bearer_auth("x".repeat(30_000))),
            ("a query", ask.request(Method::GET, &format!("/server?after={}", "x".repeat(60_000)))),
            ("a path", ask.request(Method::GET, &format!("/server/{}", "x".repeat(60_000)))),
            ("a limit", ask.request(Method::GET, "/server?limit=4294967295")),
            ("a page before time", ask.request(Method::GET, "/event?limit=-1")),
            ("a password", ask.plain(Method::POST, "/login").json(&json!({ "name": "a", "password": "p".repeat(900_000) }))),
            ("labels", ask.request(Method::PATCH, "/worker/nobody").json(&json!({ "labels": many(10_000, 10) }))),
            ("a label", ask.request(Method::POST, "/token").json(&json!({ "scope": "viewer", "label": "l".repeat(100_000) }))),
        ];
        for (what, request) in tries {
            match request.timeout(Duration::from_secs(20)).send().await {
                Ok(response) => {
                    let (status, answer) = (response.status(), response.text().await.unwrap_or_default());
                    ensure!(status.is_client_error(), "{what}: {status} {answer:.300}");
                    ensure!(answer.len() < 16 * 1024, "{what}: an answer of {} bytes", answer.len());
                }
                // A head that is too long may find the connection closed before it was sent whole.
                Err(error) => ensure!(error.is_request() || error.is_body() || error.is_connect(), "{what}: {error}"),
            }
        }
        answers_soon(&ask).await?;
        ensure!(ask.did(Method::GET, "/server", Value::Null).await?["items"] == json!([]), "something was made");

        // One token holds so many sockets and no more; another has its own.
        let (_, viewer) = ask.token(json!({ "scope": "viewer", "label": "greedy" })).await?;
        let (greedy, other) = (Client::new(ask.url.parse()?, Some(viewer))?, home.client()?);
        let mut open = Vec::new();
        let refused = loop {
            match greedy.websocket(if open.len() % 2 == 0 { "/event/stream" } else { "/feed" }).await {
                Ok(socket) => open.push(socket),
                Err(error) => break error,
            }
            ensure!(open.len() <= 1_000, "no end of sockets");
        };
        ensure!(refused.problem().is_some_and(|problem| problem.status == 429), "{refused:?}");
        let mut feed = other.websocket("/feed").await.context("another's socket")?;

        // Who talks too much, or too long, is cut off; the others hear on.
        let mut talker = open.pop().context("a socket")?;
        let flood = async {
            for _ in 0..200_000 {
                talker.send(Message::text("x".repeat(64))).await?;
            }
            talker.send(Message::text("x".repeat(8 << 20))).await
        };
        let _ = tokio::time::timeout(Duration::from_secs(20), flood).await;
        answers_soon(&ask).await?;
        drop(open);
        ask.token(json!({ "scope": "viewer", "label": "news" })).await?;
        let heard = tokio::time::timeout(Duration::from_secs(5), feed.next()).await.ok().flatten();
        ensure!(matches!(heard, Some(Ok(Message::Text(_)))), "{heard:?}");
        Ok(())
    })
}

/// Reads on until the host has said that it has all events up to this one.
async fn stored_up_to(link: &mut Socket, last: u64) -> Result<()> {
    let reading = async {
        while let Some(frame) = link.next().await {
            if let Message::Text(text) = frame? {
                let frame: Value = serde_json::from_str(&text)?;
                if frame["frame"] == "events_stored" && frame["up_to"] == last {
                    return Ok(());
                }
            }
        }
        bail!("the link was closed")
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.context("the host does not say that it has the events")?
}

/// More in one batch than a database takes parameters: 32,766 in SQLite, 65,535 in Postgres.
#[test]
fn a_worker_reports_more_than_a_statement_has_parameters() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        let (id, says) = ask.register("attic", Some(&join)).await?;
        let token = super::text(&says, "token")?;
        let status = |number: u128| {
            json!({
                "id": uuid::Uuid::from_u128(0x0197_a000_0000_7000_8000_0000_0000_0000 + number),
                "phase": "Stopped", "generation": 1, "applied_generation": 1, "restarts": 0
            })
        };
        let servers: Vec<Value> = (0..5_000).map(status).collect();
        let beat = json!({ "session_epoch": says["session_epoch"], "servers": servers });
        let response = ask.plain(Method::POST, &format!("/worker/{id}/health")).bearer_auth(&token).json(&beat).send().await?;
        ensure!(!response.status().is_server_error(), "{}: {}", response.status(), response.text().await?);

        let client = Client::new(ask.url.parse()?, Some(token))?;
        let mut link = client.websocket(&format!("/worker/{id}/link")).await?;
        let hello = json!({
            "frame": "hello", "session_epoch": says["session_epoch"], "run_id": uuid::Uuid::from_u128(7), "boot_id": "a test's",
            "have_revision": 0, "inventory": []
        });
        link.send(Message::text(hello.to_string())).await?;
        // So many statuses of some 115 bytes are just within a frame.
        for batch in 0..3_u128 {
            let servers: Vec<Value> = (0..33_000).map(|number| status(batch * 33_000 + number)).collect();
            link.send(Message::text(json!({ "frame": "status", "servers": servers }).to_string())).await.context("the link was closed")?;
        }
        // A thousand events, and the same ones once more: each is kept once.
        let events: Vec<Value> = (1..=1_000)
            .map(|seq| json!({ "seq": seq, "at": "2026-11-21T12:00:00Z", "kind": "server.said", "message": format!("event {seq}"), "data": null }))
            .collect();
        let frame = json!({ "frame": "events", "events": events }).to_string();
        for _ in 0..2 {
            link.send(Message::text(frame.clone())).await.context("the link was closed")?;
            stored_up_to(&mut link, 1_000).await?;
        }
        answers_soon(&ask).await?;
        let (mut found, mut cursor) = (0, String::new());
        loop {
            let page = ask.did(Method::GET, &format!("/event?limit=200&kind=server.said{cursor}"), Value::Null).await?;
            found += page["items"].as_array().context("events")?.len();
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        ensure!(found == 1_000, "{found} events, not 1,000");
        home.manman(&["status"]).await?.success()?;
        Ok(())
    })
}

/// Strangers that ask to join from one address, and somebody else at another.
#[test]
fn strangers_of_one_address_lock_nobody_out() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let from = |address: [u8; 4]| reqwest::Client::builder().local_address(std::net::IpAddr::from(address)).build();
        let (many, other) = (from([127, 0, 0, 5])?, from([127, 0, 0, 6])?);
        let url = format!("{}/worker", ask.url);
        let mut refused = None;
        for number in 0..200 {
            let asked = many.post(&url).json(&json!({ "name": format!("stranger-{number}") })).send().await?;
            if asked.status() == 429 {
                refused = Some(number);
                break;
            }
            let id = super::text(&asked.json().await?, "id")?;
            let body = json!({ "worker-name": format!("stranger-{number}") });
            many.post(format!("{url}/{id}")).json(&body).send().await?;
        }
        ensure!(refused.is_some_and(|number| number < 100), "refused at {refused:?}");
        let asked = other.post(&url).json(&json!({ "name": "attic" })).send().await?;
        ensure!(asked.status() == 200, "somebody else is refused: {}", asked.status());
        let id = super::text(&asked.json().await?, "id")?;
        let pending = other.post(format!("{url}/{id}")).json(&json!({ "worker-name": "attic" })).send().await?;
        ensure!(pending.status() == 201, "{}", pending.status());

        // Guessing at a password is slowed there and nowhere else.
        ask.account("anna", "viewer", "correct horse battery").await?;
        let sign_in = |client: &reqwest::Client, password: &str| {
            client.post(format!("{}/login", ask.url)).json(&json!({ "name": "anna", "password": password })).send()
        };
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(sign_in(&many, "wrong horse battery").await?.status().as_u16());
        }
        ensure!(statuses.contains(&429) && !statuses.contains(&204), "{statuses:?}");
        ensure!(sign_in(&other, "correct horse battery").await?.status() == 204, "its owner is locked out");
        Ok(())
    })
}
