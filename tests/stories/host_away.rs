//! The host is down; the worker goes on by itself.

use std::time::Duration;

use manman_e2e::{Context, Home, Result, containers_of_server, ensure, eventually, eventually_within, story};

#[test]
fn a_worker_restarts_a_crashed_game_without_its_host_and_hears_wishes_afterwards() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let mut host = home.host(&["--settle", "0s"]).await?;
        let token = home.join_token().await?;
        let mut worker = home.worker("attic", &host.url, &["--join-token", &token]).await?;
        eventually("the worker is alive", async || {
            let workers = home.json(&["worker", "list"]).await.map_err(|error| format!("{error:#}"))?;
            if workers[0]["status"] == "alive" { Ok(()) } else { Err(workers.to_string()) }
        })
        .await?;
        let server = home.printer("game", &["10", "10"]).await?;
        let id = server["id"].as_str().context("an id")?;
        home.manman(&["server", "start", "game", "--wait=60s"]).await?.success()?;
        let first = containers_of_server(id).await?.remove(0);

        let address = host.url.trim_start_matches("http://").to_owned();
        host.program.kill().await?;
        manman_e2e::docker(&["kill", &first.id]).await?;
        let second = eventually("a fresh container runs", async || {
            let found = containers_of_server(id).await.unwrap_or_default();
            found.into_iter().find(|c| c.is_running() && c.id != first.id).ok_or("none")
        })
        .await?;
        ensure!(worker.program.is_running(), "the worker has gone with its host");

        let _host = home.host_at(&address, &["--settle", "0s"]).await?;
        home.manman(&["server", "stop", "game"]).await?.success()?;
        eventually_within(Duration::from_secs(70), "the wish made after the host's return is met", async || {
            let server = home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            if server["phase"] == "Stopped" { Ok(()) } else { Err(server["phase"].to_string()) }
        })
        .await?;
        let left = containers_of_server(id).await?;
        ensure!(left.iter().all(|c| !c.is_running()), "{} still runs", second.id);
        let events = home.json(&["events", "--tail", "200"]).await?;
        ensure!(events.to_string().contains("server.crashed"), "the crash during the outage has no event");
        Ok(())
    })
}
