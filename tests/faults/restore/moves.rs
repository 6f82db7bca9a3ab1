//! A server moved away from a worker that nobody reaches (row 19).

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Database, FreezeProxy, Result, ensure, eventually_within};
use serde_json::json;

use super::to_worker;
use crate::stage::{SOON, Stage};

#[test]
fn f19_a_server_is_taken_from_a_silent_worker_only_by_a_typed_fence() -> Result<()> {
    scenario(19, "a worker falls silent behind a black hole; its server is to go to another worker", async |seen| {
        let mut stage = Stage::new("always")?;
        stage.database = Some(Database::start().await?);
        stage.start_host(&[], &[]).await?;
        let proxy = FreezeProxy::before(&stage.url).await?;
        let url = proxy.url();
        stage.start_worker("old", &["--host", &url], &[]).await?;
        stage.start_worker("new", &[], &[]).await?;
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
