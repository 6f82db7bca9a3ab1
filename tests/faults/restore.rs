//! State from yesterday, copies, moves and leases (rows 11–13, 19, 20).

mod copies;
mod leases;
mod moves;
mod yesterday;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manman_common::client::Client;
use manman_e2e::{Context, Database, FreezeProxy, Result, ensure, eventually_within};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{SOON, Stage};

/// How long something is looked at that is not to happen; the opposite was seen within two seconds.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// A worker's database as it was when this was made, with the worker down.
struct Yesterday {
    data: PathBuf,
    kept: TempDir,
}

const DATABASE: [&str; 3] = ["worker.sqlite", "worker.sqlite-wal", "worker.sqlite-shm"];

impl Yesterday {
    fn keep(data: &Path) -> Result<Self> {
        let yesterday = Self { data: data.to_owned(), kept: tempfile::tempdir()? };
        for file in DATABASE.into_iter().filter(|file| data.join(file).exists()) {
            std::fs::copy(data.join(file), yesterday.kept.path().join(file))?;
        }
        ensure!(yesterday.kept.path().join(DATABASE[0]).exists(), "no database in {}", data.display());
        Ok(yesterday)
    }

    fn put_back(&self) -> Result<()> {
        for file in DATABASE {
            let (kept, place) = (self.kept.path().join(file), self.data.join(file));
            if place.exists() {
                std::fs::remove_file(&place)?;
            }
            if kept.exists() {
                std::fs::copy(kept, place)?;
            }
        }
        Ok(())
    }
}

impl Stage {
    /// In a session later than `epoch`, with an open link.
    async fn linked_after(&self, worker: &str, epoch: &Value) -> Result<Value> {
        let later = |seen: &Value| seen["linked"] == true && seen["session_epoch"].as_u64() > epoch.as_u64();
        self.worker_until(worker, "linked in a new session", later).await
    }

    async fn quarantined(&self, worker: &str) -> Result<Value> {
        self.worker_until(worker, "quarantined", |seen| !seen["quarantine"].is_null()).await
    }

    async fn with_condition(&self, server: &str, kind: &str) -> Result<Value> {
        let has = |shown: &Value| shown["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == kind));
        self.until(server, kind, has).await
    }

    /// The main process of each game, which must be its only one.
    fn pids_of(&self, servers: &[&str]) -> Result<Vec<i32>> {
        servers.iter().map(|server| self.pid(server)).collect()
    }

    /// What the host would have a worker do, by server.
    async fn rebase_view(&self, worker: &str) -> Result<Value> {
        let view = self.client()?.call(reqwest::Method::GET, &format!("/worker/{worker}/rebase"), None::<&()>).await;
        Ok(view?)
    }

    /// The status and the words of a refusal.
    async fn refused(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<(u16, String)> {
        match self.client()?.call::<Value>(method, path, Some(body)).await {
            Ok(answer) => Err(manman_e2e::anyhow!("{path} was done: {answer}")),
            Err(error) => {
                let problem = error.problem().with_context(|| format!("no problem but {error:?}"))?;
                Ok((problem.status, format!("{problem:?}")))
            }
        }
    }

    /// What somebody at the machine asks of a server, past the host.
    async fn ask_there(&self, worker: &str, id: &str, what: &str) -> Result<()> {
        let api = self.alive(worker).await?["api_url"].as_str().context("an api url")?.parse()?;
        let token = std::fs::read_to_string(self.data_of(worker).join("api-token"))?;
        let there = Client::new(api, Some(token.trim().to_owned()))?;
        there.call::<Value>(reqwest::Method::POST, &format!("/server/{id}/{what}"), None::<&()>).await?;
        Ok(())
    }

    async fn patch(&self, server: &str, body: &Value) -> Result<Value> {
        Ok(self.client()?.call(reqwest::Method::PATCH, &format!("/server/{server}"), Some(body)).await?)
    }

    /// Fails if `bad` says what it sees within the time that it would take.
    async fn never(&self, what: &str, mut bad: impl FnMut() -> Option<String>) -> Result<()> {
        let begun = Instant::now();
        eventually_within(SOON, what, async || match bad() {
            Some(seen) => Ok(Err(manman_e2e::anyhow!("{what}, which it must not: {seen}"))),
            None if begun.elapsed() > LONG_ENOUGH => Ok(Ok(())),
            None => Err("not yet"),
        })
        .await?
    }
}

/// What the rebase view says of a server.
fn effect<'a>(view: &'a Value, id: &Value) -> &'a str {
    let servers = view["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    servers.iter().find(|server| server["id"] == *id).and_then(|server| server["effect"].as_str()).unwrap_or("is not there")
}

fn to_worker(name: &str) -> Value {
    json!({ "worker": name })
}

/// A host and two workers, of which `old` reaches it through a proxy that can fall silent.
async fn old_and_new() -> Result<(Stage, FreezeProxy)> {
    let mut stage = Stage::new("always")?;
    stage.database = Some(Database::start().await?);
    stage.start_host(&[], &[]).await?;
    let proxy = FreezeProxy::before(&stage.url).await?;
    let url = proxy.url();
    stage.start_worker("old", &["--host", &url], &[]).await?;
    stage.start_worker("new", &[], &[]).await?;
    Ok((stage, proxy))
}
