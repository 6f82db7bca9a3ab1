//! Fifty quiet games: what they take, and how soon the next worker has them all. A hundred shims: what they weigh.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use manman_common::Phase;
use manman_common::client::ListServers;
use manman_common::wire::{PAGE_MAX, PageQuery, ServerView};
use manman_e2e::{Context, Home, Result, ensure, eventually_within};

use super::{GAME, SOON, Tools, create};
use crate::row;
use crate::stats::{megabytes, percentile, processor_time, resident};

const GAMES: usize = 50;
const SHIMS: usize = 100;
const WATCHED: Duration = Duration::from_secs(60);

pub(super) async fn measure(tools: &Tools) -> Result<()> {
    let mut home = Home::empty()?;
    tools.up(&mut home, &["--docker", "off"]).await?;
    let start = Instant::now();
    let before = fill(&home, GAMES).await?;
    let took = start.elapsed().as_secs_f64();
    row("process: 50 games, first wish until all are Ready", &format!("{took:.1} s"), "the install of each included");
    processor(&mut home).await?;

    // The games and their shims stay; host and worker are one process here.
    home.program()?.kill().await?;
    let start = Instant::now();
    tools.up(&mut home, &["--docker", "off"]).await?;
    let ready = start.elapsed().as_secs_f64();
    let after = all_ready(&home, GAMES).await?;
    let adopted = start.elapsed().as_secs_f64();
    ensure!(before == after, "other instances than before");
    row(
        "process: SIGKILL of `up`, until 50 games are adopted",
        &format!("{adopted:.2} s, restarts 0"),
        &format!("{ready:.2} s until the new `up`, Postgres included, says ready"),
    );

    fill(&home, SHIMS).await?;
    let shims = shims(&home)?;
    ensure!(shims.len() == SHIMS, "{} shims", shims.len());
    let mut each = shims.iter().map(|pid| Ok(resident(*pid)? as f64)).collect::<Result<Vec<_>>>()?;
    let shares = shims.iter().map(|pid| proportional(*pid)).sum::<Result<u64>>()?;
    let total: f64 = each.iter().sum();
    let (median, most) = (percentile(&mut each, 50.0), percentile(&mut each, 100.0));
    row(
        "process: a shim",
        &format!("{:.0} kB resident, the largest {:.0} kB", median / 1e3, most / 1e3),
        &format!("the `up` above them: {}", megabytes(up(&mut home).and_then(resident)?)),
    );
    row(
        "process: 100 shims",
        &format!("{} resident", megabytes(total as u64)),
        &format!("{} with shared pages counted once", megabytes(shares)),
    );
    Ok(())
}

/// Creates games until there are so many, and waits until all are Ready.
async fn fill(home: &Home, count: usize) -> Result<BTreeMap<String, String>> {
    let here = listed(home).await?.len();
    for number in here..count {
        create(home, GAME, &format!("game{number}")).await?;
    }
    all_ready(home, count).await
}

async fn listed(home: &Home) -> Result<Vec<ServerView>> {
    let page = PageQuery { limit: Some(PAGE_MAX), cursor: None };
    Ok(home.client()?.server_list(&ListServers { page, ..ListServers::default() }).await?.items)
}

/// Each server with its instance, once the worker has said of all of them that they are Ready.
async fn all_ready(home: &Home, count: usize) -> Result<BTreeMap<String, String>> {
    eventually_within(SOON, "all games are Ready", async || {
        let seen = listed(home).await.map_err(|error| format!("{error:#}"))?;
        let ready: BTreeMap<_, _> = seen
            .iter()
            .filter(|server| server.phase == Phase::Ready && server.restarts == 0)
            .filter_map(|server| Some((server.id.to_string(), server.instance?.to_string())))
            .collect();
        if ready.len() == count { Ok(ready) } else { Err(format!("{} of {count}", ready.len())) }
    })
    .await
}

async fn processor(home: &mut Home) -> Result<()> {
    let (up, shims) = (up(home)?, shims(home)?);
    ensure!(shims.len() == GAMES, "{} shims", shims.len());
    let used =
        || -> Result<(Duration, Duration)> { Ok((processor_time(up)?, shims.iter().map(|pid| processor_time(*pid)).sum::<Result<_>>()?)) };
    let before = used()?;
    tokio::time::sleep(WATCHED).await;
    let after = used()?;
    let share = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    row(
        "process: 50 quiet games, 60 s",
        &format!("{:.2} % of a core for all 50 shims", share(before.1, after.1)),
        &format!("{:.2} % for host and worker, without Postgres", share(before.0, after.0)),
    );
    Ok(())
}

fn up(home: &mut Home) -> Result<i32> {
    Ok(home.program()?.pid().context("`up` has ended")?.as_raw_pid())
}

/// The shims of this home, by the place from which they were started.
fn shims(home: &Home) -> Result<Vec<i32>> {
    let place = home.data().join("worker/libexec/shim-").to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The process that becomes the game is the shim's for a moment, and has its command line.
        if words.starts_with(place.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Resident bytes, of pages shared by many its share alone.
fn proportional(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
