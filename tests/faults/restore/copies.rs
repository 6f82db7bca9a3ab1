//! A machine cloned with its worker's data directory (row 13).

use std::path::{Path, PathBuf};

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Program, Result, binary, ensure, eventually_within};
use rustix::process::Signal;
use tokio::process::Command;

use crate::network::says;
use crate::stage::{SOON, Stage, kill};

const FIRST: &str = "board-1,card-1;id-1,disk-1";
const SECOND: &str = "board-2,card-2;id-1,disk-1";

/// A copy of a worker's data directory as it is at this moment.
async fn copy(from: &Path, to: &Path) -> Result<()> {
    // Sockets are no part of a disk, and some files go while it is read.
    let copied = Command::new("cp").args(["-a", "--"]).arg(from).arg(to).stderr(std::process::Stdio::null()).status().await?;
    ensure!(to.join("worker.sqlite").exists(), "cp: {copied}");
    Ok(())
}

/// The worker of a copy on another machine: another board, another boot.
fn elsewhere(stage: &Stage, data: &Path, host: &str) -> Result<Program> {
    let boot = data.join("boot-of-the-other-machine");
    std::fs::write(&boot, "11111111-2222-4333-8444-555555555555\n")?;
    let steamcmd = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\""]).arg(&boot);
    command.arg(binary("manman-worker")?).args(["run", "--name", "box", "--docker", "off", "--host", host, "--steamcmd"]).arg(steamcmd);
    command.arg("--data").arg(data).env("MANMAN_TEST_MACHINE", SECOND).current_dir(stage.home.data());
    Program::spawn("the worker of the copy", &mut command)
}

#[test]
fn f13_a_clone_of_a_live_worker_is_refused_with_one_alert_and_the_first_notices_nothing() -> Result<()> {
    scenario(
        13,
        "the data directory of a live worker is copied to another machine and started there, towards the same host",
        async |seen| {
            let mut stage = Stage::with("always", &[]).await?;
            stage.start_worker("box", &[], &[("MANMAN_TEST_MACHINE", FIRST)]).await?;
            stage.alive("box").await?;
            stage.game("world", "box", "").await?;
            let before = stage.worker_until("box", "linked", |seen| seen["linked"] == true).await?;
            let pid = stage.pid("world")?;
            let data = stage.data_of("clone");
            copy(&stage.data_of("box"), &data).await?;
            let clone = elsewhere(&stage, &data, &stage.url)?;
            stage.workers.insert("clone".to_owned(), clone);
            eventually_within(SOON, "the host tells of the rival", async || match stage.count("worker.rival", None).await {
                Ok(0) => Err("no rival yet".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            })
            .await?;
            // Its second try was told, since both live; the third is no news.
            says(stage.worker("clone")?, "the host refused this worker", 3, SOON).await?;
            ensure!(stage.count("worker.rival", None).await? == 1, "more than one alert");
            ensure!(stage.shims("clone", None).is_empty(), "the clone has started something");
            let now = stage.worker_until("box", "alive", |seen| seen["status"] == "alive").await?;
            ensure!(now["session_epoch"] == before["session_epoch"] && now["quarantine"].is_null() && now["linked"] == true, "{now:#}");
            ensure!(stage.pid("world")? == pid && stage.worker("box")?.is_running(), "the first was touched");
            seen.saw("refused, one alert; the first kept its session, its link and its game; the clone started nothing");
            stage.alone()?;
            Ok(())
        },
    )
}

#[test]
fn f13_a_clone_that_boots_offline_starts_nothing_until_a_person_says_that_it_may() -> Result<()> {
    scenario(13, "the same copy boots on another machine while the host is out of its reach", async |seen| {
        let mut stage = Stage::with("always", &[]).await?;
        stage.start_worker("box", &[], &[("MANMAN_TEST_MACHINE", FIRST)]).await?;
        stage.alive("box").await?;
        stage.game("world", "box", "").await?;
        let pid = stage.pid("world")?;
        let data = stage.data_of("clone");
        copy(&stage.data_of("box"), &data).await?;
        // The port for discarding: nobody listens there.
        let nowhere = "http://127.0.0.1:9";
        let clone = elsewhere(&stage, &data, nowhere)?;
        stage.workers.insert("clone".to_owned(), clone);
        let said = says(stage.worker("clone")?, "another machine", 1, SOON).await?;
        stage
            .never("the clone starts a world", || {
                Some(format!("{:?}", stage.shims("clone", None))).filter(|_| !stage.shims("clone", None).is_empty())
            })
            .await?;
        ensure!(stage.pid("world")? == pid, "the first world was touched");
        seen.saw(format!("the clone said: {}", said.split_once("quarantined").map_or(said.as_str(), |(_, rest)| rest).trim()));

        // The disk moved for good, as a person says: the same worker starts it, still without its host.
        stage.worker("clone")?.signal(Signal::TERM)?;
        stage.worker("clone")?.ended(SOON).await?;
        stage.kill_worker("box").await?;
        for shim in stage.shims("box", None) {
            kill(shim, Signal::KILL)?;
        }
        kill(pid, Signal::KILL)?;
        let mut rebase = Command::new(binary("manman-worker")?);
        rebase.args(["rebase", "--yes", "box", "--data"]).arg(&data).env("MANMAN_TEST_MACHINE", SECOND);
        let rebased = rebase.output().await?;
        ensure!(rebased.status.success(), "{}", String::from_utf8_lossy(&rebased.stderr));
        let clone = elsewhere(&stage, &data, nowhere)?;
        stage.workers.insert("clone".to_owned(), clone);
        let started = eventually_within(SOON, "the world starts", async || {
            if stage.shims("clone", None).len() == 1 {
                stage.pid("world").map_err(|error| format!("{error:#}"))
            } else {
                Err("no shim".to_owned())
            }
        })
        .await
        .context("after the word of a person")?;
        ensure!(started != pid, "the same process");
        seen.saw("it started nothing; after `manman-worker rebase` at the machine it started the world, still offline");
        stage.alone()?;
        Ok(())
    })
}
