//! A person's first five minutes: up, a game, its log, its console, its end.

use std::time::Duration;

use manman_e2e::{Context, Home, Result, containers_of_server, ensure, eventually, free_port, openarena, story};

#[test]
fn a_wish_becomes_a_game_that_answers() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let port = free_port()?;
        let port_wish = format!("game={port}");
        let create = ["server", "create", "docker:manman/openarena", "--name", "oa", "--port", &port_wish, "--wait=5m"];
        let told = home.manman(&create).await?.success()?;
        ensure!(told.contains("Ready") || told.contains(&port.to_string()), "create said {told}");

        let server = home.json(&["server", "show", "oa"]).await?;
        ensure!(server["phase"] == "Ready" && server["restarts"] == 0 && server["ports"][0]["port"] == port, "{server:#}");
        ensure!(server["players"]["max"].as_u64() > Some(0) && server["extra"]["map"].is_string(), "no players or map in {server:#}");

        // Somebody who knows nothing of us asks the game itself.
        let answer = openarena(port).await?;
        ensure!(!answer.map.is_empty() && answer.players_maximum > 0, "{answer:?}");

        let answer = home.manman(&["send", "oa", "status"]).await?.success()?;
        ensure!(answer.contains("map:"), "the game answered {answer:?}");
        let log = home.manman(&["logs", "oa", "--tail", "2000"]).await?.success()?;
        ensure!(log.contains("items registered") && log.contains("map:"), "the log is {log}");

        let id = server["id"].as_str().context("an id")?;
        home.manman(&["server", "stop", "oa", "--wait=60s"]).await?.success()?;
        let server = home.json(&["server", "show", "oa"]).await?;
        ensure!(server["phase"] == "Stopped" && server["exit"]["code"] == 0 && server["desired"] == "stopped", "{server:#}");
        ensure!(containers_of_server(id).await?.iter().all(|c| !c.is_running()), "a container still runs");

        // Its stop plan, rung by rung, is told as events.
        let events = home.json(&["events", "--tail", "100"]).await?;
        let kinds: Vec<_> = events.as_array().context("a list")?.iter().filter_map(|event| event["kind"].as_str()).collect();
        for kind in ["server.created", "server.started", "server.ready", "server.rung", "server.stopped"] {
            ensure!(kinds.contains(&kind), "no {kind} among {kinds:?}");
        }

        home.manman(&["server", "delete", "oa", "--purge"]).await?.success()?;
        eventually("the server is gone from the list", async || {
            let list = home.json(&["server", "list"]).await.map_err(|error| format!("{error:#}"))?;
            if list.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(list.to_string()) }
        })
        .await
    })
}

#[test]
fn a_second_up_says_that_one_is_running() -> Result<()> {
    story(async {
        let mut home = Home::up().await?;
        let second = home.manman(&["up", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0"]).await?;
        ensure!(second.code == Some(1) && second.stderr.contains("running"), "{second:?}");

        home.manman(&["down"]).await?.success()?;
        home.program()?.ended(Duration::from_secs(30)).await?;
        let lost = home.manman(&["server", "list"]).await?;
        ensure!(lost.code == Some(3) && lost.stderr.contains("hint:"), "{lost:?}");
        Ok(())
    })
}
