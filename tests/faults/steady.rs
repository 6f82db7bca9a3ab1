//! SIGKILL of everything of ours in steady state (rows 1–6).

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::{Result, ensure, follow};

use crate::stage::{SOON, Stage};

#[test]
fn f01_worker_killed_again_and_again() -> Result<()> {
    scenario(1, "SIGKILL of the worker again and again at random moments, three games running", async |seen| {
        let kills = if crate::stage::is_full() { 50 } else { 12 };
        let mut stage = Stage::with("on-failure", &["attic"]).await?;
        let mut games = Vec::new();
        for name in ["one", "two", "three"] {
            let shown = stage.game(name, "attic", "lines=20").await?;
            games.push((name, shown["id"].clone(), stage.pid(name)?));
        }
        let mut lines = 0;
        let mut slowest = Duration::ZERO;
        for round in 1..=kills {
            // Somewhere between nothing at all and a second of life.
            tokio::time::sleep(Duration::from_millis(stage.random(1_000))).await;
            stage.kill_worker("attic").await?;
            let begun = Instant::now();
            stage.start_worker("attic", &[], &[]).await?;
            for (name, id, pid) in &games {
                stage.adopted(id, round).await?;
                ensure!(stage.pid(name)? == *pid, "{name} is another process after kill {round}");
            }
            slowest = slowest.max(begun.elapsed());
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
        seen.saw(format!(
            "{kills} kills: the same 3 processes, 0 restarts, none of {lines} lines missing or doubled; start to adopted and told at the host took {} ms at most",
            slowest.as_millis()
        ));
        Ok(())
    })
}
