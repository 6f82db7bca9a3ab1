//! Two workers on one engine, and a copy of a worker.

use std::time::Duration;

use manman_e2e::{Context, Home, Result, WorkerProcess, containers_of, containers_of_server, ensure, eventually, story};

#[test]
fn two_workers_on_one_engine_leave_each_other_alone() -> Result<()> {
    story(async {
        let first = Home::up().await?;
        let second = Home::up().await?;
        let mut servers = Vec::new();
        for home in [&first, &second] {
            let server = home.json(&["server", "create", "docker:manman-e2e/printer", "--name", "game", "--wait=60s"]).await?;
            servers.push(server["id"].as_str().context("an id")?.to_owned());
        }
        // One drains all of its own; the other's game does not notice.
        let before = containers_of_server(&servers[1]).await?.remove(0);
        first.manman(&["down"]).await?.success()?;
        ensure!(containers_of_server(&servers[0]).await?.iter().all(|c| !c.is_running()), "the first's game still runs");
        let after = containers_of_server(&servers[1]).await?.remove(0);
        ensure!(after.is_running() && after.started_at() == before.started_at(), "the second's game was touched");
        let seen = second.json(&["server", "show", "game"]).await?;
        ensure!(seen["phase"] == "Ready" && seen["restarts"] == 0, "{seen:#}");
        Ok(())
    })
}

#[test]
fn a_copy_of_a_worker_is_refused_and_the_original_notices_nothing() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let url = home.context("url")?;
        let token = home.join_token().await?;
        let mut original = home.worker("attic", &url, &["--join-token", &token]).await?;
        let server = eventually("the worker takes a server", async || {
            home.json(&["server", "create", "docker:manman-e2e/printer", "--name", "game", "--worker", "attic", "--wait=60s"])
                .await
                .map_err(|error| format!("{error:#}"))
        })
        .await?;
        let worker = home.worker_id("attic").await?;
        let epoch = home.json(&["worker", "show", "attic"]).await?["session_epoch"].clone();

        let copy = home.data().join("workers").join("copy");
        let copied = tokio::process::Command::new("cp").arg("-a").arg(&original.data).arg(&copy).status().await?;
        ensure!(copied.success(), "cp: {copied}");
        let mut rival = WorkerProcess::start(&copy, "attic", &url, &[]).await?;
        let ended = rival.program.ended(Duration::from_secs(30)).await?;
        ensure!(!ended.success(), "the copy ended with {ended}");
        let said = rival.program.said().join("\n");
        ensure!(said.contains("copy"), "the copy said {said}");

        ensure!(original.program.is_running(), "the original has ended");
        let now = home.json(&["worker", "show", "attic"]).await?;
        ensure!(now["status"] == "alive" && now["session_epoch"] == epoch, "{now:#}");
        let id = server["id"].as_str().context("an id")?;
        ensure!(
            containers_of("manman.worker", &worker).await?.len() == 1 && containers_of_server(id).await?[0].is_running(),
            "the game was touched"
        );
        Ok(())
    })
}
