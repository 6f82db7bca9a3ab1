//! What the checker would see if it happened: three violations are planted among the real records of
//! a game that runs.

use std::process::Stdio;

use manman_e2e::faults::scenario;
use manman_e2e::history::check;
use manman_e2e::{Context, Result, ensure, eventually};
use tokio::process::Command;

use crate::stage::Stage;

async fn broken(stage: &Stage) -> Result<Vec<&'static str>> {
    Ok(check(&stage.history().await?).into_iter().map(|violation| violation.invariant).collect())
}

#[test]
fn f00_planted_violations_are_caught() -> Result<()> {
    let done = "planted: a second copy of a world, a start under a lower epoch in a journal, an end that the database has twice";
    scenario(0, done, async |seen| {
        let stage = Stage::with("always", &["attic"]).await?;
        let shown = stage.game("world", "attic", "").await?;
        let id = shown["id"].as_str().context("an id")?;
        let _ = stage.send("world", "break").await;
        stage.until("world", "back", |shown| shown["restarts"] == 1 && shown["phase"] == "Ready").await?;
        ensure!(broken(&stage).await?.is_empty(), "something is wrong before anything was planted: {:?}", check(&stage.history().await?));

        let database = stage.database.as_ref().context("a database")?;
        let twice = database
            .rows(
                "insert into event (at, actor, kind, worker_id, server_id, message, data) \
                 select at, actor, kind, worker_id, server_id, message, data from event where kind = 'server.crashed' returning id",
            )
            .await?;
        ensure!(twice.len() == 1 && broken(&stage).await?.contains(&"I5"), "an end that is recorded twice is not seen");
        database.rows(&format!("delete from event where id = {}", twice[0])).await?;

        let journal = stage.server_dir("attic", id).join("journal").join(manman_shim::journal::CURRENT);
        let before = std::fs::read_to_string(&journal)?;
        let started = before.lines().rfind(|line| line.contains("event=started")).context("no start in the journal")?;
        let lower = |word: &str| if word.starts_with("epoch=") { "epoch=1".to_owned() } else { word.to_owned() };
        let planted: Vec<String> = started.split(' ').map(lower).collect();
        std::fs::write(&journal, format!("{before}{}\n", planted.join(" ")))?;
        ensure!(broken(&stage).await?.contains(&"I2"), "an epoch that falls is not seen");
        std::fs::write(&journal, &before)?;
        ensure!(broken(&stage).await?.is_empty(), "what was planted is not all gone");

        let mut second = Command::new(stage.witness_dir().join("game"))
            .args(["--world", "world", "--witness"])
            .arg(stage.witness_dir())
            .current_dir(stage.home.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        eventually("the second copy has looked around", async || match stage.alone() {
            Ok(count) => Err(count),
            Err(_) => Ok(()),
        })
        .await?;
        ensure!(broken(&stage).await?.contains(&"I1"), "a second copy is not seen");
        second.kill().await?;
        seen.saw("each was caught, as I5, I2 and I1; before and between them nothing was");
        Ok(())
    })
}
