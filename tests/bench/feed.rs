//! The console's feed: what an open console costs the host, and how soon two hundred of them hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use manman_common::client::{Client, Endpoint};
use manman_e2e::{Context as _, Home, Result, eventually_within};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::row;
use crate::stats::{latency, megabytes, processor_time, resident};

const SERVERS: usize = 200;
const CONSOLES: usize = 200;
/// A token may hold this many streams at most.
const PER_TOKEN: usize = 50;
const ROUNDS: u32 = 50;

struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    async fn post(&self, token: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

pub(crate) async fn measure() -> Result<()> {
    let home = Home::empty()?;
    let host = home.host(&[]).await?;
    let pid = host.program.pid().map_or(0, rustix::process::Pid::as_raw_pid);
    let api = Api { http: reqwest::Client::builder().build()?, url: home.context("url")?, token: home.context("token")? };
    let join = home.join_token().await?;
    let reserved = api.post(&join, "/worker", &json!({ "name": "attic" })).await?;
    let worker = reserved["id"].as_str().context("an id")?.to_owned();
    let capabilities =
        json!({ "drivers": [{ "method": "docker", "ready": true, "version": "27" }], "memory_bytes": 64_000_000_000_u64, "cpus": 32 });
    let registration = json!({ "worker-name": "attic", "ip-address": "192.168.1.10", "capabilities": capabilities });
    let registered = api.post(&join, &format!("/worker/{worker}"), &registration).await?;
    let worker_token = registered["token"].as_str().context("a token")?.to_owned();
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let wish = json!({ "game_id": "docker:manman/openarena", "name": format!("arena-{number:03}"), "desired": "running" });
        let made = api.post(&api.token, "/server", &wish).await?;
        servers.push(made["id"].as_str().context("an id")?.to_owned());
    }
    let mut tokens = Vec::new();
    for number in 0..=CONSOLES / PER_TOKEN {
        let made = api.post(&api.token, "/token", &json!({ "scope": "viewer", "label": format!("person {number}") })).await?;
        tokens.push(made["token"].as_str().context("a secret")?.to_owned());
    }
    let beat = async |restarts: u32| -> Result<()> {
        let status = |id: &String| json!({ "id": id, "generation": 1, "applied_generation": 1, "phase": "Ready", "restarts": restarts });
        let body = json!({ "observed_revision": 1, "servers": servers.iter().take(10).map(status).collect::<Vec<_>>() });
        api.post(&worker_token, &format!("/worker/{worker}/health"), &body).await.map(drop)
    };

    // One is open already: what all share is no console's own.
    let (heard, _) = watch::channel(0_u32);
    let heard = Arc::new(heard);
    let mut consoles = JoinSet::new();
    let snapshots = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    let count = Arc::new(AtomicUsize::new(0));
    let open = |token: &str| {
        let (url, token) = (api.url.clone(), token.to_owned());
        let (heard, snapshots, bytes, count) = (Arc::clone(&heard), Arc::clone(&snapshots), Arc::clone(&bytes), Arc::clone(&count));
        async move { watch_feed(&url, &token, &heard, &snapshots, &bytes, &count).await }
    };
    consoles.spawn(open(&tokens[CONSOLES / PER_TOKEN]));
    let all_have = async |wanted: usize| {
        eventually_within(Duration::from_secs(60), "snapshots", async || {
            let have = snapshots.load(Ordering::Relaxed);
            if have >= wanted { Ok(()) } else { Err(have) }
        })
        .await
    };
    all_have(1).await?;
    // What the host needs for a round of changes at all, it has needed before.
    for round in 1..=5 {
        beat(round).await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let before = resident(pid)?;
    let began = Instant::now();
    for number in 0..CONSOLES {
        consoles.spawn(open(&tokens[number / PER_TOKEN]));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    all_have(CONSOLES + 1).await?;
    let opened = began.elapsed();
    let after = resident(pid)?;
    let each = after.saturating_sub(before) as f64 / CONSOLES as f64;
    let snapshot = bytes.load(Ordering::Relaxed);
    row(
        "feed: the host's memory for one open console",
        &format!("{:.1} kB, of {CONSOLES} on {SERVERS} servers", each / 1e3),
        &format!("100 kB is the limit; a snapshot is {:.0} kB; all in {:.2} s", snapshot as f64 / 1e3, opened.as_secs_f64()),
    );

    let mut took = Vec::new();
    let used = processor_time(pid)?;
    let began = Instant::now();
    for round in 100..100 + ROUNDS {
        count.store(0, Ordering::Relaxed);
        heard.send_replace(round);
        let told = Instant::now();
        beat(round).await?;
        eventually_heard(&count, CONSOLES + 1).await?;
        took.push(told.elapsed().as_secs_f64());
    }
    let used = processor_time(pid)?.saturating_sub(used).as_secs_f64() / began.elapsed().as_secs_f64();
    row(
        "feed: a beat of ten servers to the last of 201 consoles",
        &latency(&mut took),
        &format!("{:.0} % of a core, {:.1} rounds/s", used * 100.0, f64::from(ROUNDS) / began.elapsed().as_secs_f64()),
    );
    let later = resident(pid)?;
    row(
        "feed: the host after all that",
        &format!("{} resident", megabytes(later)),
        &format!("{} with one console, {:.1} kB each", megabytes(before), later.saturating_sub(before) as f64 / CONSOLES as f64 / 1e3),
    );
    Ok(())
}

async fn eventually_heard(count: &AtomicUsize, all: usize) -> Result<()> {
    let began = Instant::now();
    while count.load(Ordering::Relaxed) < all {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(10), "{} of {all} heard", count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn watch_feed(
    url: &str,
    token: &str,
    wanted: &watch::Sender<u32>,
    snapshots: &AtomicUsize,
    bytes: &AtomicUsize,
    count: &AtomicUsize,
) -> Result<()> {
    let endpoint: Endpoint = url.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let client = Client::new(endpoint, Some(token.to_owned()))?;
    let mut tries = 0;
    let mut socket = loop {
        match client.websocket("/feed").await {
            Ok(socket) => break socket,
            // As a browser does: a host that is busy is asked again.
            Err(error) if tries == 10 => return Err(error.into()),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    let mut last = 0;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        if text.starts_with(r#"{"type":"snapshot""#) {
            bytes.store(text.len(), Ordering::Relaxed);
            snapshots.fetch_add(1, Ordering::Relaxed);
        } else if text.starts_with(r#"{"type":"delta""#) {
            let now = *wanted.borrow();
            if now != last && text.contains(&format!(r#""restarts":{now},"#)) {
                last = now;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
