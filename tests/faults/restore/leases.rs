//! A leased server whose worker stands still (row 20).

use std::time::Instant;

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, ensure, eventually_within};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{old_and_new, to_worker};
use crate::stage::{GAME, SOON};

const LEASE: u64 = 30;
/// The game's stop ladder, and the time that a shim may take to look at its clock on a busy machine.
const LADDER: u64 = 4;
const SLACK: u64 = 5;
/// What the host adds before somebody else may run it.
const MARGIN: u64 = 30;

#[test]
fn f20_a_leased_world_ends_with_its_lease_and_is_never_there_twice() -> Result<()> {
    scenario(20, "SIGSTOP of a worker with two leased games; one is given to another worker", async |seen| {
        let (mut stage, proxy) = old_and_new().await?;
        stage.alive("old").await?;
        stage.alive("new").await?;
        for name in ["world", "other"] {
            let body = json!({"game_id": GAME, "name": name, "worker_id": "old", "lease_seconds": LEASE, "variables": {"OPTIONS": ""}});
            stage.client()?.call::<Value>(reqwest::Method::POST, "/server", Some(&body)).await.with_context(|| format!("create {name}"))?;
        }
        stage.game("free", "old", "").await?;
        let (world, _) = (stage.phase("world", "Ready").await?, stage.phase("other", "Ready").await?);
        let (pid, free) = (stage.pid("world")?, stage.pid("free")?);

        let stopped = Instant::now();
        stage.worker("old")?.signal(Signal::STOP)?;
        eventually_within(SOON, "both games end", async || {
            let left = [stage.pids("world"), stage.pids("other")].concat();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await?;
        let took = stopped.elapsed().as_secs();
        ensure!(took <= LEASE + LADDER + SLACK, "they ended after {took} s");
        ensure!(stage.witness()?.into_iter().any(|entry| entry.pid == pid && entry.what == "ends"), "it was killed and not asked to end");
        ensure!(stage.pid("free")? == free, "a game without a lease ended, too");
        seen.saw(format!(
            "the shims ended both after {took} s of a lease of {LEASE} s while their worker stood still; a game without a lease ran on"
        ));

        let (status, told) = stage.refused(reqwest::Method::PATCH, "/server/world", &to_worker("new")).await?;
        ensure!(status == 409 && told.contains("lease"), "{status}: {told}");
        let moved = eventually_within(SOON, "the host gives it away", async || {
            stage.patch("world", &to_worker("new")).await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        let waited = stopped.elapsed().as_secs();
        // Its last word may be as old as a beat's period.
        ensure!(waited + 20 >= LEASE + LADDER + MARGIN, "given away after {waited} s");
        ensure!(moved["epoch"].as_u64() > world["epoch"].as_u64(), "{moved:#}");
        stage.until("world", "Ready on the new worker", |shown| shown["phase"] == "Ready" && shown["worker_name"] == "new").await?;
        let new = stage.pid("world")?;
        seen.saw(format!("the host refused to give it away until {waited} s had passed; then it ran on the other worker"));

        // The old worker wakes up without a host: it has no lease, so it starts nothing.
        proxy.freeze();
        stage.worker("old")?.signal(Signal::CONT)?;
        stage
            .never("a game starts before its lease is renewed", || {
                let there = stage.pids("other");
                (!there.is_empty() || stage.pids("world") != [new]).then(|| format!("{there:?}"))
            })
            .await?;
        proxy.thaw();
        // The host may have ended it as one that hangs.
        if !stage.worker("old")?.is_running() {
            stage.start_worker("old", &["--host", &proxy.url()], &[]).await?;
        }
        let other = stage.phase("other", "Ready").await?;
        ensure!(stage.pids("world") == [new], "the old worker runs what was given away: {:?}", stage.pids("world"));
        ensure!(stage.pid("free")? == free, "the game without a lease was touched");
        let told = stage.events(Some(&other["id"])).await?;
        let lapse = told
            .iter()
            .any(|event| event["kind"] == "server.stopped" && event["message"].as_str().is_some_and(|text| text.contains("lease")));
        ensure!(lapse && !told.iter().any(|event| event["kind"] == "server.crashed"), "{told:?}");
        let games = stage.alone()?;
        seen.saw(format!(
            "awake without its host it started nothing; with it the one that is still its own came back; {games} runs, none beside another"
        ));
        Ok(())
    })
}
