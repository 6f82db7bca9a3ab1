//! SIGKILL of everything of ours in steady state (rows 1–6).

mod power;
mod shims;
mod upgrade;

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::{Result, bail, ensure, follow};

use crate::stage::{SOON, Stage, is_full};

#[test]
fn f01_worker_killed_again_and_again() -> Result<()> {
    scenario(1, "SIGKILL of the worker again and again at random moments, three games running", async |seen| {
        let kills = if is_full() { 50 } else { 12 };
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        let mut games = Vec::new();
        for name in ["one", "two", "three"] {
            let shown = stage.game(name, "attic", "lines=20").await?;
            games.push((name, shown["id"].clone(), stage.pid(name)?));
        }
        let mut lines = 0;
        let mut took = Vec::new();
        for _ in 0..kills {
            // Somewhere between nothing at all and a second of life.
            tokio::time::sleep(Duration::from_millis(stage.random(1_000))).await;
            stage.kill_worker("attic").await?;
            let mut before = Vec::new();
            for (_, id, _) in &games {
                before.push(stage.count("server.adopted", Some(id)).await?);
            }
            let begun = Instant::now();
            stage.start_worker("attic", &[], &[]).await?;
            for ((name, id, pid), before) in games.iter().zip(before) {
                stage.adopted(id, before + 1).await?;
                ensure!(stage.pid(name)? == *pid, "{name} is another process");
            }
            took.push(begun.elapsed());
        }
        for (name, ..) in &games {
            let shown = stage.phase(name, "Ready").await?;
            ensure!(shown["restarts"] == 0, "{shown:#}");
            let mark = format!("over after {kills}");
            stage.send(name, &mark).await?;
            let mark = format!("got {mark}");
            let transcript = follow(&stage.client()?, name, "since_seq=0", SOON, |log| log.printed().any(|text| text == mark)).await?;
            lines += transcript.whole()?;
        }
        ensure!(stage.alone()? == games.len(), "some game began twice");
        took.sort_unstable();
        seen.saw(format!(
            "{kills} kills: the same 3 processes, 0 restarts, none of {lines} lines missing or doubled; from the worker's start to all adopted and told at the host {} ms in the middle, {} ms at most",
            took[took.len() / 2].as_millis(),
            took[took.len() - 1].as_millis()
        ));
        stage.holds(seen).await
    })
}

/// Every named place between the wish and the running game.
const STEPS: [&str; 8] = [
    "start.committed",
    "start.files_written",
    "start.cgroup_made",
    "start.run_dir_made",
    "start.spec_written",
    "start.log_handed_over",
    "start.shim_spawned",
    "start.game_runs",
];

#[test]
fn f02_worker_killed_at_every_step_of_a_start() -> Result<()> {
    scenario(2, "SIGKILL of the worker at each named place of a start, then a worker without it", async |seen| {
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        // The host counts a worker as alive a moment before that has stored who it is.
        stage.game("before", "attic", "").await?;
        let mut halves = Vec::new();
        for (number, step) in STEPS.into_iter().enumerate() {
            stage.kill_worker("attic").await?;
            stage.start_worker("attic", &[], &[("MANMAN_FAILPOINT", step)]).await?;
            let name = format!("world-{number}");
            let shown = stage.create(&name, "attic", "").await?;
            let id = shown["id"].as_str().unwrap_or_default().to_owned();
            if let Err(error) = stage.worker("attic")?.ended(SOON).await {
                let said = stage.worker("attic")?.said();
                bail!("{step} was not reached: {error:#}; {}; the worker said {:#?}", stage.shown(&name).await?, said);
            }
            let left = stage.pids(&name).len();
            ensure!(left <= 1, "{step} left {left} games");
            halves.push(left);

            stage.start_worker("attic", &[], &[]).await?;
            stage.phase(&name, "Ready").await?;
            let pid = stage.pid(&name)?;
            let shims = stage.shims("attic", Some(&id));
            ensure!(shims.len() == 1, "{step}: the shims {shims:?}");
            let answer = stage.send(&name, "hello").await?;
            ensure!(answer.contains("got hello"), "{step}: the process {pid} that the worker knows answered {answer:?}");
            stage.ask(&name, "stop").await?;
            stage.phase(&name, "Stopped").await?;
            ensure!(stage.pids(&name).is_empty(), "{step}: {:?} lives on", stage.pids(&name));
        }
        stage.alone()?;
        seen.saw(format!(
            "{} places, {} of them left a game and the others none; each was adopted or begun anew, once, answered its console and stopped to the last process",
            STEPS.len(),
            halves.iter().sum::<usize>()
        ));
        stage.holds(seen).await
    })
}

#[test]
fn f02_worker_and_shim_killed_while_a_game_begins() -> Result<()> {
    scenario(2, "SIGKILL of worker and shim within the first milliseconds of a start (fork, record, exec)", async |seen| {
        let rounds = if is_full() { 25 } else { 6 };
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        let shown = stage.game("world", "attic", "").await?;
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        let mut survived = 0;
        for _ in 0..rounds {
            stage.ask("world", "stop").await?;
            stage.phase("world", "Stopped").await?;
            stage.ask("world", "start").await?;
            // The shim is there from the moment at which it was forked; what it has done by then varies.
            while stage.shims("attic", Some(&id)).is_empty() {
                tokio::task::yield_now().await;
            }
            let within = stage.random(8_000);
            tokio::time::sleep(Duration::from_micros(within)).await;
            let shims = stage.shims("attic", Some(&id));
            stage.kill_worker("attic").await?;
            for shim in shims {
                let _ = crate::stage::kill(shim, rustix::process::Signal::KILL);
            }
            let left = stage.pids("world").len();
            ensure!(left <= 1, "{left} games");
            survived += left;
            stage.start_worker("attic", &[], &[]).await?;
            stage.one("world", 1).await?;
        }
        stage.alone()?;
        seen.saw(format!("{rounds} starts cut off, {survived} of them behind the fork; never two games, and one at the end of each"));
        stage.holds(seen).await
    })
}
