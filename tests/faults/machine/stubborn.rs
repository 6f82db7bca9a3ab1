//! Games that will not go (row 24).

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::{Result, ensure, eventually_within};
use manman_test_ice::Ice;

use crate::stage::{SOON, Stage};

#[test]
fn f24_game_that_will_not_go() -> Result<()> {
    scenario(24, "a game that ignores SIGTERM and has a child that left its session and its parent is stopped", async |seen| {
        let stage = Stage::with("on-failure", &["attic"]).await?;
        stage.game("world", "attic", "ignore-term,deaf,daemon").await?;
        let all = stage.pids("world");
        ensure!(all.len() == 2, "{all:?}");
        let begun = Instant::now();
        stage.ask("world", "stop").await?;
        let shown = stage.phase("world", "Stopped").await?;
        ensure!(stage.pids("world").is_empty(), "{:?} lives on", stage.pids("world"));
        ensure!(shown["exit"]["signal"] == 9, "{shown:#}");
        let rungs = stage.count("server.rung", Some(&shown["id"])).await?;
        ensure!(rungs >= 2, "{rungs} rungs were told");
        seen.saw(format!("{rungs} rungs, then SIGKILL for game and runaway, all gone after {:.1} s", begun.elapsed().as_secs_f64()));
        stage.ask("world", "start").await?;
        stage.phase("world", "Ready").await?;
        stage.alone()?;
        stage.holds(seen).await
    })
}

#[test]
fn f24_process_that_no_signal_reaches() -> Result<()> {
    scenario(24, "a child that SIGKILL does not end (frozen by cgroup v1, as one in state D) outlives the stop of its game", async |seen| {
        let stage = Stage::with("on-failure", &["attic"]).await?;
        let shown = stage.game("world", "attic", "ignore-term,deaf,daemon").await?;
        let all = stage.pids("world");
        ensure!(all.len() == 2, "{all:?}");
        let ice = Ice::around(all[1])?;
        stage.ask("world", "stop").await?;
        eventually_within(SOON, "it is said that the stop is stuck", async || {
            match stage.count("server.stop_stuck", Some(&shown["id"])).await {
                Ok(0) => Err("not yet".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        ensure!(stage.pids("world") == [all[1]], "{:?}", stage.pids("world"));
        let stuck = stage.shown("world").await?;
        seen.saw(format!("the ladder ended the game; of the other it is said: {} ({})", stuck["phase"], stuck["message"]));
        // Nothing is started beside it.
        stage.ask("world", "start").await?;
        tokio::time::sleep(Duration::from_secs(6)).await;
        ensure!(stage.pids("world") == [all[1]], "a second game was started: {:?}", stage.pids("world"));
        seen.saw("a start is held back while it lives");
        drop(ice);
        stage
            .until("world", "started after all", |shown| {
                shown["phase"] == "Ready" && stage.pids("world").len() == 2 && !stage.pids("world").contains(&all[1])
            })
            .await?;
        stage.alone()?;
        seen.saw("once it was gone the start went through, alone");
        stage.holds(seen).await
    })
}
