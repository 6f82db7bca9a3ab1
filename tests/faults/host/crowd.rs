//! A fleet of a thousand, and the host is restarted (row 9).

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::{Crowd, Result, ensure, eventually_within};

use super::more_beats;
use crate::stage::{SOON, Stage};

const WORKERS: usize = 1000;
/// Shorter than the 90 s that people have, so that there is something to see beyond it.
const SETTLE: &str = "15s";

#[test]
fn f09_a_restarted_host_calls_none_of_a_thousand_stale() -> Result<()> {
    scenario(9, "1,000 simulated workers with links and beats; SIGKILL of the host, and its start; settle 15 s", async |seen| {
        let mut stage = Stage::with("always", &[]).await?;
        let began = Instant::now();
        let crowd = Crowd::join(&stage.url, &stage.home.join_token().await?, WORKERS).await?;
        let all_linked = async || {
            eventually_within(SOON * 2, "all are linked", async || match crowd.linked() {
                (linked, all) if linked == all => Ok(()),
                other => Err(format!("{other:?}; {:?}", crowd.refusals().first())),
            })
            .await
        };
        all_linked().await?;
        let joined = began.elapsed();

        stage.kill_host().await?;
        stage.start_host(&["--settle", SETTLE], &[]).await?;
        let began = Instant::now();
        all_linked().await?;
        let storm = began.elapsed();
        eventually_within(SOON, "the host has settled", async || match super::metric(&stage, "manman_settling_seconds").await {
            Ok(0) => Ok(()),
            other => Err(other),
        })
        .await?;
        // Settling and silence together: from then on somebody could have been called stale.
        while began.elapsed() < Duration::from_secs(15 + 16) {
            more_beats(&stage, WORKERS as u64).await?;
        }

        let alive = super::metric(&stage, "manman_workers{status=\"alive\"}").await.unwrap_or(0);
        ensure!(alive == WORKERS as u64, "{alive} of {WORKERS} are alive");
        for kind in ["worker.unknown", "worker.kill_attempt", "host.settling"] {
            ensure!(stage.count(kind, None).await? == 0, "the host has told of {kind}");
        }
        let refusals = crowd.refusals();
        ensure!(refusals.is_empty(), "{} refusals, the first: {:?}", refusals.len(), refusals.first());
        let said = stage.host()?.said();
        let exhausted: Vec<_> = said.iter().filter(|line| line.contains("timed out") || line.contains("ERROR")).take(3).collect();
        ensure!(exhausted.is_empty(), "the host had trouble: {exhausted:?}");
        let waits = said.iter().filter(|line| line.contains("slow threshold")).count();
        seen.saw(format!(
            "1,000 joined within {:.0} s; all links were back {:.1} s after the host was ready (wanted: 10 s)",
            joined.as_secs_f64(),
            storm.as_secs_f64()
        ));
        seen.saw(format!(
            "{} beats, none refused; none stale; no error of the pool, {waits} waits of more than 2 s for a connection",
            crowd.beats()
        ));
        Ok(())
    })
}
