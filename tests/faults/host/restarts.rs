//! A restart that comes late, or twice (rows 17, 18).

use manman_common::CommandId;
use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, Way, ensure, eventually_within};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::network::{BROKE, DROPPED_WITHIN, Split, says};
use crate::stage::{SOON, kill};

/// What takes a minute in life.
const HURRY: &[(&str, &str)] = &[("MANMAN_RESTART_WITHIN_MS", "5000")];

#[test]
fn f17_a_restart_that_can_not_be_delivered_expires() -> Result<()> {
    scenario(
        17,
        "a restart is asked for into a black hole and expires there (after 5 s here, 60 s in life); the hole is left",
        async |seen| {
            let mut split = Split::with("always", HURRY, false).await?;
            let game = split.stage.game("world", "attic", "silent").await?;
            let pid = split.stage.pid("world")?;
            split.proxy.freeze();
            split.stage.ask("world", "restart").await?;
            eventually_within(SOON, "the restart is told of as expired", async || {
                match split.stage.count("server.restart_expired", Some(&game["id"])).await {
                    Ok(1) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
            split.stage.worker_until("attic", "unknown", |shown| shown["status"] == "unknown" && shown["linked"] == false).await?;
            split.proxy.thaw();
            split.linked().await?;
            // Everything that the host wants has arrived, and been taken.
            let wanted = split.stage.shown("world").await?["generation"].clone();
            let shown = split
                .stage
                .until("world", "at the host's newest wish", |shown| shown["phase"] == "Ready" && shown["generation"] == wanted)
                .await?;
            split.stage.worker_until("attic", "up to date", |shown| shown["observed_revision"] == shown["desired_revision"]).await?;
            super::more_beats(&split.stage, 2).await?;
            ensure!(split.stage.pid("world")? == pid && shown["instance"] == game["instance"] && shown["restarts"] == 0, "{shown:#}");
            ensure!(split.stage.alone()? == 1, "the game was started again");

            // One that is delivered does not expire.
            split.stage.ask("world", "restart").await?;
            split.stage.until("world", "restarted", |shown| shown["phase"] == "Ready" && shown["instance"] != game["instance"]).await?;
            split.stage.kill_worker("attic").await?;
            ensure!(split.stage.alone()? == 2, "not one restart");
            ensure!(
                split.stage.count("server.restart_expired", None).await? == 1,
                "a restart that was carried out is said to have expired"
            );
            seen.saw("the restart expired, with an event; not executed on return (same pid, same instance); the next one is carried out");

            // Nor does a host that dies forget that it was meant for then.
            split.start_worker(&[]).await?;
            split.linked().await?;
            let pid = split.stage.pid("world")?;
            split.proxy.freeze();
            let asked = Instant::now();
            split.stage.ask("world", "restart").await?;
            split.stage.kill_host().await?;
            // What was on its way to the worker would still be heard.
            says(split.stage.worker("attic")?, BROKE, 1, DROPPED_WITHIN).await?;
            tokio::time::sleep(Duration::from_secs(6).saturating_sub(asked.elapsed())).await;
            split.stage.start_host(&[], HURRY).await?;
            split.proxy.thaw();
            split.linked().await?;
            split.stage.worker_until("attic", "up to date", |shown| shown["observed_revision"] == shown["desired_revision"]).await?;
            super::more_beats(&split.stage, 2).await?;
            ensure!(split.stage.count("server.restart_expired", None).await? == 2, "it did not expire");
            ensure!(split.stage.pid("world")? == pid && split.stage.alone()? == 2, "it was carried out by the next host");
            seen.saw(
                "the same with the host SIGKILLed right after it was asked: the next host withdraws the restart before any worker comes",
            );
            Ok(())
        },
    )
}

#[test]
fn f18_the_same_restart_twice_around_a_crash_is_one_restart() -> Result<()> {
    let done = "a restart's frames go twice; the worker is SIGKILLed in the middle of it, at three steps; a kill for the instance before comes late, twice";
    scenario(18, done, async |seen| {
        let mut split = Split::new("always").await?;
        let mut before = split.stage.game("world", "attic", "silent").await?;
        let id = before["id"].as_str().context("an id")?.to_owned();
        for (round, step) in (2..).zip(["start.files_written", "start.shim_spawned", "start.game_runs"]) {
            split.stage.kill_worker("attic").await?;
            split.start_worker(&[("MANMAN_FAILPOINT", step)]).await?;
            split.linked().await?;
            split.proxy.tangle(true);
            split.stage.ask("world", "restart").await?;
            split.stage.worker("attic")?.ended(SOON).await?;
            split.stage.workers.remove("attic");
            split.start_worker(&[]).await?;
            let after = split
                .stage
                .until("world", "another instance, Ready", |seen| seen["phase"] == "Ready" && seen["instance"] != before["instance"])
                .await?;
            super::more_beats(&split.stage, 2).await?;
            split.proxy.tangle(false);
            let starts = split.stage.alone()?;
            ensure!(starts == round, "{step}: {starts} starts, not {round}");
            let now = split.stage.shown("world").await?;
            ensure!(now["instance"] == after["instance"] && now["restarts"] == 0, "{step}: {now:#}");
            split.stage.pid("world")?;
            before = after;
        }

        // An order for the instance that runs now comes when that has crashed and another runs.
        let pid = split.stage.pid("world")?;
        kill(pid, Signal::KILL)?;
        let after = split
            .stage
            .until("world", "back after its crash", |seen| seen["phase"] == "Ready" && seen["instance"] != before["instance"])
            .await?;
        let call = CommandId::from_uuid(uuid::Uuid::now_v7());
        let late = json!({
            "frame": "call", "id": call, "method": "POST", "path": format!("/server/{id}/kill"), "body": null,
            "ttl_ms": 10_000, "expect_instance": before["instance"],
        });
        for _ in 0..2 {
            split.proxy.say_to_worker(&late).await?;
        }
        let replies = eventually_within(Duration::from_secs(20), "both are answered", async || {
            let frames = split.proxy.frames(Way::ToHost);
            let replies: Vec<Value> = frames.into_iter().filter(|frame| frame["frame"] == "reply" && frame["id"] == json!(call)).collect();
            if replies.len() == 2 { Ok(replies) } else { Err(replies) }
        })
        .await?;
        ensure!(replies.iter().all(|reply| reply["reply"]["status"] == 412 || reply["reply"]["status"] == 409), "{replies:#?}");
        super::more_beats(&split.stage, 1).await?;
        let now = split.stage.shown("world").await?;
        ensure!(now["instance"] == after["instance"] && now["phase"] == "Ready", "{now:#}");
        ensure!(split.stage.alone()? == 5, "not five starts");
        seen.saw("one start per restart at each of 3 steps, frames doubled; the late kill for the instance before was refused twice");
        let events = split.whole_history().await?;
        seen.saw(format!("{events} events without a hole"));
        Ok(())
    })
}
