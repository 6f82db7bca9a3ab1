//! A second machine: asks to join, is accepted, falls silent, comes back, dies.

use std::time::Duration;

use manman_e2e::{Context, Home, Result, WorkerProcess, anyhow, containers_of_server, ensure, eventually, eventually_within, story};
use rustix::process::Signal;
use serde_json::Value;

async fn status_of(home: &Home, worker: &str) -> Result<Value, String> {
    home.json(&["worker", "show", worker]).await.map_err(|error| format!("{error:#}"))
}

async fn until(home: &Home, worker: &str, status: &str, limit: Duration) -> Result<()> {
    eventually_within(limit, &format!("{worker} is {status}"), async || {
        let seen = status_of(home, worker).await?;
        if seen["status"] == status { Ok(()) } else { Err(seen["status"].to_string()) }
    })
    .await
}

async fn kill_attempts(home: &Home) -> Result<usize, String> {
    let events = home.json(&["events", "--tail", "200"]).await.map_err(|error| format!("{error:#}"))?;
    let count = events.as_array().map_or(0, |all| all.iter().filter(|event| event["kind"] == "worker.kill_attempt").count());
    Ok(count)
}

async fn joined(home: &Home) -> Result<WorkerProcess> {
    let worker = home.worker("attic", &home.context("url")?, &[]).await?;
    until(home, "attic", "pending", Duration::from_secs(30)).await?;
    home.manman(&["worker", "accept", "attic"]).await?.success()?;
    until(home, "attic", "alive", Duration::from_secs(30)).await?;
    Ok(worker)
}

#[test]
fn a_stopped_worker_is_unknown_then_killed_at_and_comes_back_by_itself() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--settle", "0s"]).await?;
        let mut worker = joined(&home).await?;
        let server =
            home.json(&["server", "create", "docker:manman-e2e/printer", "--name", "game", "--worker", "attic", "--wait=60s"]).await?;
        let id = server["id"].as_str().context("an id")?.to_owned();
        let container = containers_of_server(&id).await?.remove(0);

        worker.program.signal(Signal::STOP)?;
        until(&home, "attic", "unknown", Duration::from_secs(30)).await?;
        let seen = home.json(&["server", "show", "game"]).await?;
        ensure!(seen["phase"] == "Unknown", "{seen:#}");
        eventually_within(Duration::from_secs(90), "a kill attempt is told", async || match kill_attempts(&home).await? {
            0 => Err("no attempt yet".to_owned()),
            _ => Ok(()),
        })
        .await?;
        worker.program.signal(Signal::CONT)?;
        until(&home, "attic", "alive", Duration::from_secs(60)).await?;
        ensure!(worker.program.is_running(), "the worker has ended");
        eventually("the game is seen again", async || {
            let seen = home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["phase"] == "Ready" && seen["restarts"] == 0 { Ok(()) } else { Err(seen["phase"].to_string()) }
        })
        .await?;
        let now = containers_of_server(&id).await?;
        ensure!(
            now.len() == 1 && now[0].id == container.id && now[0].started_at() == container.started_at(),
            "the game did not live through it"
        );
        Ok(())
    })
}

#[test]
fn a_worker_killed_for_good_ends_by_signal_and_its_game_lives() -> Result<()> {
    story(async {
        let home = Home::up_with(&["--settle", "0s"]).await?;
        let mut worker = joined(&home).await?;
        let server =
            home.json(&["server", "create", "docker:manman-e2e/printer", "--name", "game", "--worker", "attic", "--wait=60s"]).await?;
        let id = server["id"].as_str().context("an id")?.to_owned();
        let container = containers_of_server(&id).await?.remove(0);

        worker.program.signal(Signal::STOP)?;
        let ended = worker.program.ended(Duration::from_secs(150)).await?;
        ensure!(std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9), "it ended with {ended}");
        let now = containers_of_server(&id).await?;
        ensure!(now[0].id == container.id && now[0].is_running(), "the game has ended with its worker");

        // Started afresh, it adopts the game.
        let _again = WorkerProcess::start(&worker.data, "attic", &home.context("url")?, &[]).await?;
        until(&home, "attic", "alive", Duration::from_secs(60)).await?;
        eventually("the game is adopted", async || {
            let seen = home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["phase"] == "Ready" && seen["restarts"] == 0 { Ok(()) } else { Err(seen["phase"].to_string()) }
        })
        .await
    })
}

#[test]
fn a_worker_killed_before_it_has_stored_that_it_was_let_in_is_still_the_same() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let (url, data) = (home.context("url")?, home.data().join("workers").join("attic"));
        let token = home.join_token().await?;
        let killed = [("MANMAN_FAILPOINT", "session.begun")];
        let mut worker = WorkerProcess::start_with(&data, "attic", &url, &["--join-token", &token], &killed).await?;
        worker.program.ended(Duration::from_secs(30)).await?;
        until(&home, "attic", "alive", Duration::from_secs(30)).await?;
        let before = status_of(&home, "attic").await.map_err(|error| anyhow!(error))?;

        let worker = WorkerProcess::start(&data, "attic", &url, &[]).await?;
        eventually_within(Duration::from_secs(60), "it has a link", async || {
            let seen = status_of(&home, "attic").await?;
            if seen["linked"] == true { Ok(()) } else { Err(seen["status"].to_string()) }
        })
        .await?;
        let after = status_of(&home, "attic").await.map_err(|error| anyhow!(error))?;
        ensure!(after["id"] == before["id"], "{before:#} became {after:#}");
        let all = home.json(&["worker", "list"]).await?;
        let named = all.as_array().map_or(0, |all| all.iter().filter(|one| one["name"] == "attic").count());
        ensure!(named == 1, "{all:#}");
        drop(worker);
        Ok(())
    })
}
