//! The worker is replaced by another build while games run (row 5).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, binary, ensure};
use rustix::process::Signal;

use crate::stage::{SOON, Stage, is_full};

/// A worker that differs from the given one, in its shim too: one byte in the padding of the carried
/// shim's header, which nobody reads.
fn another_build(worker: &Path, shim: &Path, folder: &Path) -> Result<PathBuf> {
    let mut whole = std::fs::read(worker)?;
    let shim = std::fs::read(shim)?;
    let at = find(&whole, &shim).context("the worker does not carry the shim that it unpacked")?;
    let padding = at + 15;
    whole[padding] ^= 1;
    let path = folder.join("manman-worker-of-tomorrow");
    std::fs::write(&path, whole)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    // All shims begin alike, and so does the worker: the first 4 KiB tell most places apart.
    let head = part.get(..4096)?;
    let first = head.first()?;
    let mut from = 0;
    while let Some(at) = whole[from..].iter().position(|byte| byte == first).map(|at| from + at) {
        if whole[at..].starts_with(head) && whole[at..].starts_with(part) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The file that each shim of a worker was started from.
fn programs(stage: &Stage) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for shim in stage.shims("attic", None) {
        found.push(std::fs::read_link(format!("/proc/{shim}/exe"))?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[test]
fn f05_worker_upgraded_with_games_running() -> Result<()> {
    scenario(5, "the worker ended and a build with another shim started, twenty games (in short: five) running", async |seen| {
        let count = if is_full() { 20 } else { 5 };
        let mut stage = Stage::with("on-failure", &[]).await?;
        // A really older build, where the caller has one.
        let old = std::env::var_os("MANMAN_OLD_WORKER").map(PathBuf::from);
        let before = match &old {
            Some(old) => old.clone(),
            None => binary("manman-worker")?,
        };
        stage.start_worker_of(&before, "attic").await?;
        stage.alive("attic").await?;
        let names: Vec<String> = (0..count).map(|number| format!("world-{number}")).collect();
        for name in &names {
            stage.create(name, "attic", "").await?;
        }
        let mut pids = Vec::new();
        for name in &names {
            stage.phase(name, "Ready").await?;
            pids.push(stage.pid(name)?);
        }
        let old_shims = programs(&stage)?;
        ensure!(old_shims.len() == 1, "{old_shims:?}");
        let after = match old {
            Some(_) => binary("manman-worker")?,
            None => another_build(&before, &old_shims[0], stage.home.data())?,
        };
        stage.worker("attic")?.signal(Signal::TERM)?;
        stage.worker("attic")?.ended(SOON).await?;
        stage.start_worker_of(&after, "attic").await?;
        for (name, pid) in names.iter().zip(&pids) {
            let server = stage.shown(name).await?;
            stage.adopted(&server["id"], 1).await?;
            let shown = stage.phase(name, "Ready").await?;
            ensure!(shown["restarts"] == 0 && stage.pid(name)? == *pid, "{name} did not live through it: {shown:#}");
            ensure!(stage.send(name, "hello").await?.contains("got hello"), "{name} does not answer");
        }
        ensure!(programs(&stage)? == old_shims, "the running shims were touched");
        // The next start is the new shim's, beside the old ones.
        stage.ask(&names[0], "restart").await?;
        stage
            .until(&names[0], "restarted", |shown| shown["phase"] == "Ready" && stage.pid(&names[0]).is_ok_and(|pid| pid != pids[0]))
            .await?;
        let both = programs(&stage)?;
        ensure!(both.len() == 2, "after a restart the shims are {both:?}");
        let how = if std::env::var_os("MANMAN_OLD_WORKER").is_some() {
            "from an older build"
        } else {
            "to a build whose shim differs in content (a shim two protocol versions older is tested in the shim's crate)"
        };
        seen.saw(format!("{count} games, {how}: 0 restarts, every console answers, old shims untouched beside the new one"));
        stage.holds(seen).await
    })
}
