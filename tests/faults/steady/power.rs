//! The power fails (row 6): everything dies at once, and the worker's database is as an honest disk
//! may leave it: each commit that was acknowledged, and of what came later any torn part.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{SOON, Stage, is_full, kill};

/// What a power cut makes of the files.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All that was written is there.
    Whole,
    /// The next transaction had begun to be written: whole frames without a commit, or half of one.
    TornTail(usize),
    /// The index, which is never synced, is nonsense.
    NoIndex,
    /// A checkpoint's pages, which the log still holds, were half written.
    HalfCheckpoint,
    /// Not a power cut but a disk that lied: the file's head is gone.
    Damaged,
}

const CUTS: [Cut; 6] = [Cut::Whole, Cut::TornTail(1), Cut::TornTail(4096), Cut::NoIndex, Cut::HalfCheckpoint, Cut::Damaged];

fn beside(database: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", database.display()))
}

/// The page size of a log, and its frames; 0 where it has none.
fn frames(wal: &[u8]) -> (usize, usize) {
    let size = wal.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    if size == 0 { (0, 0) } else { (size, wal.len().saturating_sub(32) / (size + 24)) }
}

fn apply(cut: Cut, database: &Path) -> Result<String> {
    let (wal_path, index) = (beside(database, "-wal"), beside(database, "-shm"));
    let mut wal = std::fs::read(&wal_path).unwrap_or_default();
    let (page, count) = frames(&wal);
    match cut {
        Cut::Whole => {}
        Cut::TornTail(bytes) => {
            // A frame that looks like the next one but for its checksum.
            let frame: Vec<u8> = if count > 0 { wal[32..32 + page + 24].to_vec() } else { vec![7; 4120] };
            wal.truncate(32 + count * (page + 24));
            wal.extend(frame.iter().cycle().take(bytes));
            std::fs::write(&wal_path, &wal)?;
        }
        Cut::NoIndex => std::fs::write(&index, vec![0xa5; 32 * 1024])?,
        Cut::HalfCheckpoint => {
            // Some pages of the newest content, copied into the file as a checkpoint would; the log stays.
            let mut file = std::fs::read(database)?;
            for frame in (0..count).step_by(2) {
                let at = 32 + frame * (page + 24);
                let number = u32::from_be_bytes(wal[at..at + 4].try_into()?) as usize;
                // Only what the log holds again later may be half written.
                let half = page / 2;
                if number > 1 && number * page <= file.len() {
                    let to = (number - 1) * page;
                    file[to..to + half].copy_from_slice(&wal[at + 24..at + 24 + half]);
                }
            }
            std::fs::write(database, file)?;
        }
        Cut::Damaged => {
            let mut file = std::fs::read(database)?;
            let end = file.len().min(8192);
            file[..end].fill(0x5a);
            std::fs::write(database, file)?;
            let _ = std::fs::remove_file(&wal_path);
        }
    }
    Ok(format!("{cut:?} over {count} frames"))
}

/// The number in a world's lock file.
fn epoch(lock: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(lock).with_context(|| format!("read {}", lock.display()))?;
    Ok(text.trim().parse()?)
}

fn installs(events: &[Value]) -> usize {
    events.iter().filter(|event| event["kind"] == "server.installing").count()
}

#[test]
fn f06_power_cut() -> Result<()> {
    scenario(
        6,
        "everything of a machine killed in the middle of its work, its database then left as an honest disk may leave it (no LazyFS here: torn tail of the log, index lost, half a checkpoint), and once with its head destroyed",
        async |seen| {
            let mut stage = Stage::with("always", &["attic"]).await?;
            let mut ids = Vec::new();
            for name in ["one", "two"] {
                let shown = stage.game(name, "attic", "").await?;
                ids.push((name, shown["id"].clone()));
            }
            let database = stage.data_of("attic").join("worker.sqlite");
            let mut seen_cuts = Vec::new();
            let rounds = if is_full() { 3 } else { 1 };
            for cut in CUTS.into_iter().cycle().take(CUTS.len() * rounds) {
                let mut epochs = Vec::new();
                for (name, id) in &ids {
                    epochs.push(epoch(&stage.server_dir("attic", id.as_str().unwrap_or_default()).join("lock"))?);
                    // Something is being written while the power fails.
                    stage.ask(name, "restart").await?;
                }
                let before = installs(&stage.events(None).await?);
                tokio::time::sleep(Duration::from_millis(stage.random(400))).await;
                stage.worker("attic")?.signal(Signal::STOP)?;
                // The power is gone for all of them before one of them can say so.
                let everything = [stage.shims("attic", None), stage.pids("one"), stage.pids("two")].concat();
                stage.kill_worker("attic").await?;
                for pid in everything {
                    let _ = kill(pid, Signal::KILL);
                }
                for (_, id) in &ids {
                    for shim in stage.shims("attic", id.as_str()) {
                        let _ = kill(shim, Signal::KILL);
                    }
                }
                seen_cuts.push(apply(cut, &database)?);
                stage.start_worker("attic", &[], &[]).await?;
                for ((name, id), before) in ids.iter().zip(epochs) {
                    manman_e2e::eventually_within(SOON, "the world runs again, alone", async || {
                        let shown = stage.shown(name).await.map_err(|error| format!("{error:#}"))?;
                        match stage.pids(name).len() {
                            1 if shown["phase"] == "Ready" && shown["pending_restart"] == false => Ok(()),
                            count => Err(format!("{cut:?}: {count} processes, {shown}")),
                        }
                    })
                    .await?;
                    let now = epoch(&stage.server_dir("attic", id.as_str().unwrap_or_default()).join("lock"))?;
                    ensure!(now >= before, "{cut:?}: the epoch of {name} fell from {before} to {now}");
                }
                let after = installs(&stage.events(None).await?);
                // A database that is lost knows of no install; the marker beside the files does, and nothing is fetched.
                ensure!(after == before || matches!(cut, Cut::Damaged), "{cut:?}: {} installs", after - before);
            }
            let aside = std::fs::read_dir(stage.data_of("attic"))?
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().contains("corrupt-"))
                .count();
            ensure!(aside > 0, "the damaged database was not set aside");
            stage.alone()?;
            seen.saw(format!("{}: each time the database opened (or was set aside and rebuilt), no epoch fell, nothing was installed anew, each world ran once", seen_cuts.join(", ")));
            Ok(())
        },
    )
}
