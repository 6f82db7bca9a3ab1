//! A server moved away from a worker that nobody reaches (row 19).

use manman_e2e::faults::{Seen, scenario};
use manman_e2e::{Context, Result, ensure, eventually_within};
use manman_shim::exit_code;
use manman_shim::journal::{self, Event};
use serde_json::json;

use super::{Yesterday, old_and_new, to_worker};
use crate::stage::SOON;

#[test]
fn f19_a_server_is_taken_from_a_silent_worker_only_by_a_typed_fence() -> Result<()> {
    scenario(19, "a worker falls silent behind a black hole; its server is to go to another worker", async |seen| {
        let (stage, proxy) = old_and_new().await?;
        stage.alive("old").await?;
        stage.alive("new").await?;
        let world = stage.game("world", "old", "").await?;
        let id = world["id"].as_str().context("an id")?.to_owned();
        let pid = stage.pid("world")?;
        let (status, _) = stage.refused(reqwest::Method::PATCH, "/server/world", &to_worker("new")).await?;
        ensure!(status == 409, "it was {status} while its worker is alive");

        proxy.freeze();
        stage.worker_until("old", "silent", |seen| seen["status"] != "alive").await?;
        let (status, told) = stage.refused(reqwest::Method::PATCH, "/server/world", &to_worker("new")).await?;
        ensure!(status == 409 && told.contains("fence"), "{status}: {told}");
        let (status, told) = stage.refused(reqwest::Method::POST, "/worker/old/fence", &json!({"confirm": "new"})).await?;
        ensure!(status == 409 || status == 400, "{status}: {told}");
        let wrong = stage.home.manman(&["worker", "fence", "old", "--yes", "new"]).await?;
        ensure!(wrong.code != Some(0), "{wrong:?}");
        let (status, _) = stage.refused(reqwest::Method::PATCH, "/server/world", &to_worker("new")).await?;
        ensure!(status == 409, "a wrong word fenced it");
        seen.saw("refused while it was alive, refused while it was silent, refused after a wrong name");

        stage.home.manman(&["worker", "fence", "old", "--yes", "old"]).await?.success()?;
        let moved = stage.patch("world", &to_worker("new")).await?;
        ensure!(moved["epoch"].as_u64() > world["epoch"].as_u64(), "{moved:#}");
        let shown =
            stage.until("world", "Ready on the new worker", |shown| shown["phase"] == "Ready" && shown["worker_name"] == "new").await?;
        let new = stage.pids("world").into_iter().find(|other| *other != pid).context("no process on the new worker")?;
        let kept = stage.server_dir("old", &id).join("data");
        ensure!(kept.join("bzfs").exists(), "no data on the old worker");

        // It was not off, whatever the person said: it comes back.
        proxy.thaw();
        eventually_within(SOON, "the old worker lets go", async || {
            if stage.shims("old", Some(&id)).is_empty() && !stage.pids("world").contains(&pid) {
                Ok(())
            } else {
                Err(format!("{:?}", stage.pids("world")))
            }
        })
        .await?;
        let ended = stage.witness()?.into_iter().any(|entry| entry.pid == pid && entry.what == "ends");
        ensure!(ended, "it was killed and not asked to end");
        ensure!(kept.join("bzfs").exists(), "its data went with it");
        stage.alive("old").await?;
        stage
            .never("the old worker starts it again", || Some("a shim".to_owned()).filter(|_| !stage.shims("old", Some(&id)).is_empty()))
            .await?;
        ensure!(stage.pids("world") == [new], "{:?}", stage.pids("world"));
        let after = stage.shown("world").await?;
        ensure!(after["instance"] == shown["instance"] && after["phase"] == "Ready", "{after:#}");
        seen.saw(format!(
            "after a typed fence it ran on the new worker in epoch {}; the old one, back, ended its copy by the stop ladder and kept the data",
            moved["epoch"]
        ));
        Ok(())
    })
}

#[test]
fn f19_a_worker_that_forgot_its_stop_leaves_the_world_to_its_new_owner() -> Result<()> {
    let done = "a worker stops a world and falls silent; the world is moved; the worker's SQLite is put back to before the stop, and it \
                boots without its host";
    scenario(19, done, async |seen| forgets_its_stop(seen, StoppedBy::Host).await)
}

#[test]
fn f19_a_worker_that_forgot_a_stop_at_its_machine_leaves_the_world_to_its_new_owner() -> Result<()> {
    let done = "somebody at the machine starts a world that the host has stopped, and stops it again; the world is moved; the worker's \
                SQLite is put back to between the two, and it boots without its host";
    scenario(19, done, async |seen| forgets_its_stop(seen, StoppedBy::PersonThere).await)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StoppedBy {
    Host,
    /// Whose wishes have the generation of the host's last one.
    PersonThere,
}

async fn forgets_its_stop(seen: &mut Seen, by: StoppedBy) -> Result<()> {
    let (mut stage, proxy) = old_and_new().await?;
    stage.alive("old").await?;
    stage.alive("new").await?;
    let world = stage.game("world", "old", "").await?;
    let id = world["id"].as_str().context("an id")?.to_owned();
    if by == StoppedBy::PersonThere {
        stage.ask("world", "stop").await?;
        stage.phase("world", "Stopped").await?;
        stage.ask_there("old", &id, "start").await?;
        stage.phase("world", "Ready").await?;
    }
    let first = stage.alive("old").await?;
    stage.kill_worker("old").await?;
    let yesterday = Yesterday::keep(&stage.data_of("old"))?;
    stage.start_worker("old", &["--host", &proxy.url()], &[]).await?;
    stage.linked_after("old", &first["session_epoch"]).await?;
    match by {
        StoppedBy::Host => stage.ask("world", "stop").await.map(drop)?,
        StoppedBy::PersonThere => stage.ask_there("old", &id, "shutdown").await?,
    }
    stage.phase("world", "Stopped").await?;

    // The word for it never reaches the worker, which has said that the world has stopped.
    proxy.freeze();
    stage.patch("world", &to_worker("new")).await?;
    stage.ask("world", "start").await?;
    let ready = |shown: &serde_json::Value| shown["phase"] == "Ready" && shown["worker_name"] == "new";
    let shown = stage.until("world", "Ready on the new worker", ready).await?;
    let pid = stage.pid("world")?;
    stage.kill_worker("old").await?;
    yesterday.put_back()?;
    let place = stage.server_dir("old", &id).join("journal");
    stage.start_worker("old", &["--host", &proxy.url()], &[]).await?;
    eventually_within(SOON, "the old worker's start is refused", async || {
        let journal = journal::read(&place).map_err(|error| error.to_string())?;
        let refused = |line: &journal::Line| line.event == Event::Refused { code: exit_code::STOPPED };
        if journal.lines.iter().any(refused) { Ok(()) } else { Err(format!("{:?}", journal.lines.last())) }
    })
    .await?;
    stage.never("the old worker starts it", || Some("a shim".to_owned()).filter(|_| !stage.shims("old", Some(&id)).is_empty())).await?;
    ensure!(stage.pids("world") == [pid], "{:?}", stage.pids("world"));
    seen.saw("its database says that the world is to run, its data that it was stopped since: it started nothing");

    proxy.thaw();
    stage.quarantined("old").await?;
    stage.home.manman(&["worker", "rebase", "old", "--yes", "old"]).await?.success()?;
    stage.worker_until("old", "trusted again", |seen| seen["quarantine"].is_null()).await?;
    stage.never("the old worker starts it", || Some("a shim".to_owned()).filter(|_| !stage.shims("old", Some(&id)).is_empty())).await?;
    let after = stage.shown("world").await?;
    ensure!(stage.pids("world") == [pid] && after["instance"] == shown["instance"], "{after:#}");
    seen.saw("nor after a person had said that it may go on; the world ran on at its new place, untouched");
    stage.alone()?;
    Ok(())
}
