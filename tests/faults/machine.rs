//! The machine under a worker (rows 21, 24).

mod stubborn;

use std::process::Stdio;

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, ensure, eventually};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::stage::{Stage, kill};

/// Gives the next process of this machine a certain pid; needs to be root, and luck.
async fn occupy(pid: i32) -> Result<Option<Child>> {
    for _ in 0..50 {
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_err() {
            return Ok(None);
        }
        let mut child = Command::new("/bin/sleep").arg("600").stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        if child.id().and_then(|id| i32::try_from(id).ok()) == Some(pid) {
            return Ok(Some(child));
        }
        child.kill().await?;
    }
    Ok(None)
}

#[test]
fn f21_pid_taken_by_a_stranger() -> Result<()> {
    scenario(21, "game and shim killed while the worker is down, and their pids given to strangers", async |seen| {
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        let shown = stage.game("world", "attic", "").await?;
        let id = shown["id"].as_str().context("an id")?.to_owned();
        let game = stage.pid("world")?;
        let shims = stage.shims("attic", Some(&id));
        ensure!(shims.len() == 1, "{shims:?}");
        stage.kill_worker("attic").await?;
        kill(shims[0], Signal::KILL)?;
        kill(game, Signal::KILL)?;
        eventually("both are gone", async || {
            let there = |pid: i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
            if there(game) || there(shims[0]) { Err("not yet") } else { Ok(()) }
        })
        .await?;
        let mut strangers = Vec::new();
        for pid in [game, shims[0]] {
            match occupy(pid).await? {
                Some(child) => strangers.push((pid, child)),
                None => {
                    seen.not_here("a pid can not be chosen: /proc/sys/kernel/ns_last_pid takes nothing, or the pid went to another");
                    return Ok(());
                }
            }
        }
        stage.start_worker("attic", &[], &[]).await?;
        let shown = stage.until("world", "crashed and back", |shown| shown["restarts"] == 1 && shown["phase"] == "Ready").await?;
        ensure!(stage.count("server.crashed", Some(&shown["id"])).await? == 1, "not one crash");
        seen.saw(format!("recorded as one crash, {}", shown["exit"]));
        stage.ask("world", "stop").await?;
        stage.phase("world", "Stopped").await?;
        for (pid, stranger) in &mut strangers {
            ensure!(stranger.try_wait()?.is_none(), "the stranger with pid {pid} was killed");
        }
        seen.saw(format!("the strangers with the pids {game} (of the game) and {} (of the shim) live, over a start and a stop", shims[0]));
        stage.alone()?;
        stage.holds(seen).await
    })
}
