//! The shim is killed, alone or with its worker (rows 3, 4).

use manman_e2e::faults::scenario;
use manman_e2e::{Result, ensure, eventually, follow};
use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{SOON, Stage, kill};

fn only(pids: &[i32]) -> Result<i32> {
    ensure!(pids.len() == 1, "not one but {pids:?}");
    Ok(pids[0])
}

fn is_degraded(shown: &Value) -> bool {
    shown["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == "Degraded"))
}

#[test]
fn f03_shim_killed() -> Result<()> {
    scenario(3, "SIGKILL of the shim of a running game; then of another whose worker was restarted since", async |seen| {
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        let shown = stage.game("world", "attic", "lines=20").await?;
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        let game = stage.pid("world")?;
        kill(only(&stage.shims("attic", Some(&id)))?, Signal::KILL)?;
        follow(&stage.client()?, "world", "since_seq=0", SOON, |log| {
            let killed = log.lines.iter().position(|line| line.text.contains("was killed"));
            killed.is_some_and(|at| log.lines[at..].iter().filter(|line| line.text.starts_with("line ")).count() > 20)
        })
        .await?;
        let shown = stage.phase("world", "Ready").await?;
        ensure!(shown["restarts"] == 0 && stage.pid("world")? == game, "{shown:#}");
        ensure!(stage.send("world", "hello").await?.contains("got hello"), "its console is dead");
        seen.saw("the game lives, prints on into its log and answers its console, and its log says that the shim was killed");
        let shown = stage.until("world", "shown as degraded", is_degraded).await?;
        eventually("it is told once", async || match stage.count("server.degraded", Some(&shown["id"])).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        seen.saw("event server.degraded, once, and a condition that says so");

        // Its worker is its parent now, so the code is known.
        let _ = stage.send("world", "break").await;
        let shown = stage.until("world", "restarted", |shown| shown["restarts"] == 1 && shown["phase"] == "Ready").await?;
        ensure!(shown["exit"]["code"] == 3 && !is_degraded(&shown), "{shown:#}");
        seen.saw("its exit code 3 was kept");

        // With another worker than the one that started the shim, nobody can be told the code.
        kill(only(&stage.shims("attic", Some(&id)))?, Signal::KILL)?;
        stage.kill_worker("attic").await?;
        stage.start_worker("attic", &[], &[]).await?;
        stage.until("world", "seen by the new worker", |shown| shown["phase"] == "Ready").await?;
        let game = only(&stage.pids("world"))?;
        kill(game, Signal::KILL)?;
        let shown = stage
            .until("world", "restarted", |shown| {
                shown["phase"] == "Ready" && stage.pids("world") != [game] && !stage.pids("world").is_empty()
            })
            .await?;
        seen.saw(format!("after a restart of the worker the exit of a game without shim reads {}", shown["exit"]));
        stage.alone()?;
        stage.holds(seen).await
    })
}

#[test]
fn f04_shim_and_worker_killed_together() -> Result<()> {
    scenario(4, "SIGKILL of shim and worker at once, of a game that goes on without either", async |seen| {
        let mut stage = Stage::with("always", &["attic"]).await?;
        let shown = stage.game("world", "attic", "ignore-term,daemon").await?;
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        let before = stage.pids("world");
        ensure!(before.len() == 2, "{before:?}");
        for shim in stage.shims("attic", Some(&id)) {
            kill(shim, Signal::KILL)?;
        }
        stage.kill_worker("attic").await?;
        ensure!(stage.pids("world") == before, "the game did not live on: {before:?}, {:?}", stage.pids("world"));
        stage.start_worker("attic", &[], &[]).await?;
        let shown = stage.until("world", "one whole game", |shown| shown["phase"] == "Ready" && stage.pids("world").len() == 2).await?;
        let after = stage.pids("world");
        ensure!(after == before || after.iter().all(|pid| !before.contains(pid)), "half of each: {before:?}, then {after:?}");
        seen.saw(if after == before { "the game that lived was adopted" } else { "what lived was killed before another began" });
        stage.ask("world", "stop").await?;
        let stopped = stage.phase("world", "Stopped").await?;
        ensure!(stage.pids("world").is_empty(), "{:?} outlived the stop", stage.pids("world"));
        ensure!(shown["exit"].is_null() || shown["exit"]["code"].is_null(), "{shown:#}");
        seen.saw(format!("a stop then ended all of it; its exit reads {}", stopped["exit"]));
        stage.alone()?;
        stage.holds(seen).await
    })
}
