//! A database that went back in time: the worker's (row 12), the host's (row 11).

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Database, Result, binary, ensure, run};
use serde_json::{Value, json};

use super::{Yesterday, effect};
use crate::stage::Stage;

#[test]
fn f12_a_worker_with_the_database_of_yesterday_does_nothing_until_a_person_rebases_it() -> Result<()> {
    scenario(12, "a worker is killed, its SQLite put back to an earlier session's, and it is started", async |seen| {
        let mut stage = Stage::with("always", &["box"]).await?;
        stage.game("stays", "box", "").await?;
        stage.game("goes", "box", "").await?;
        stage.game("stopped", "box", "").await?;
        let first = stage.alive("box").await?;
        stage.kill_worker("box").await?;
        let yesterday = Yesterday::keep(&stage.data_of("box"))?;
        stage.start_worker("box", &[], &[]).await?;
        let today = stage.linked_after("box", &first["session_epoch"]).await?;
        stage.ask("stopped", "stop").await?;
        stage.phase("stopped", "Stopped").await?;
        stage.game("newer", "box", "").await?;
        let all = ["stays", "goes", "newer"];
        let pids = stage.pids_of(&all)?;

        stage.kill_worker("box").await?;
        yesterday.put_back()?;
        stage.start_worker("box", &[], &[]).await?;
        let shown = stage.quarantined("box").await?;
        stage.linked_after("box", &today["session_epoch"]).await?;
        // What its database says is to run is not started, what its host says is to stop is not stopped.
        stage.ask("goes", "stop").await?;
        stage.with_condition("goes", "Quarantined").await?;
        stage
            .never("a quarantined worker starts what was stopped", || (!stage.pids("stopped").is_empty()).then(|| "it runs".to_owned()))
            .await?;
        ensure!(stage.pids_of(&all)? == pids, "{pids:?}, and then {:?}", stage.pids_of(&all)?);
        seen.saw(format!("quarantine: {}; three games kept their pids, one that was stopped today was not started", shown["quarantine"]));

        let view = stage.rebase_view("box").await?;
        let goes = stage.shown("goes").await?;
        ensure!(effect(&view, &goes["id"]) == "stops", "{view:#}");
        let (status, told) = stage.refused(reqwest::Method::POST, "/worker/box/rebase", &json!({})).await?;
        ensure!(status == 409, "{told}");
        let wrong = stage.home.manman(&["worker", "rebase", "box", "--yes", "attic"]).await?;
        ensure!(wrong.code != Some(0) && stage.pids_of(&all)? == pids, "{wrong:?}");
        let said = stage.home.manman(&["worker", "rebase", "box", "--yes", "box"]).await?.success()?;
        stage.worker_until("box", "trusted again", |seen| seen["quarantine"].is_null()).await?;
        stage.phase("goes", "Stopped").await?;
        stage.phase("newer", "Ready").await?;
        stage.phase("stays", "Ready").await?;
        ensure!(stage.pids("goes").is_empty() && stage.pids("stopped").is_empty(), "something runs that is not wanted: {said}");
        ensure!([stage.pid("stays")?, stage.pid("newer")?] == [pids[0], pids[2]], "the worlds were touched");
        ensure!(stage.count("worker.quarantined", None).await? == 1 && stage.count("worker.rebased", None).await? == 1, "events");
        seen.saw("after `manman worker rebase box --yes box` the host's wishes were met, and the others ran on with their pids");
        stage.alone()?;
        Ok(())
    })
}

#[test]
fn f12_on_its_own_machine_and_without_a_rival_the_host_trusts_it_again_by_itself() -> Result<()> {
    scenario(12, "the same, and nobody comes; the host waits 3 s instead of 10 min", async |seen| {
        let mut stage = Stage::new("always")?;
        stage.database = Some(Database::start().await?);
        stage.start_host(&["--rebase-after", "3s"], &[]).await?;
        stage.start_worker("box", &[], &[]).await?;
        let first = stage.alive("box").await?;
        stage.game("world", "box", "").await?;
        stage.kill_worker("box").await?;
        let yesterday = Yesterday::keep(&stage.data_of("box"))?;
        stage.start_worker("box", &[], &[]).await?;
        stage.linked_after("box", &first["session_epoch"]).await?;
        let pid = stage.pid("world")?;
        stage.kill_worker("box").await?;
        yesterday.put_back()?;
        stage.start_worker("box", &[], &[]).await?;
        stage.quarantined("box").await?;
        stage.worker_until("box", "trusted again", |seen| seen["quarantine"].is_null() && seen["linked"] == true).await?;
        stage.phase("world", "Ready").await?;
        ensure!(stage.pid("world")? == pid, "the world was touched");
        ensure!(stage.count("worker.quarantined", None).await? == 1 && stage.count("worker.rebased", None).await? == 1, "events");
        stage.ask("world", "stop").await?;
        stage.phase("world", "Stopped").await?;
        stage.alone()?;
        seen.saw("quarantined, trusted again after 3 s without a person; the world kept its pid and obeys again");
        Ok(())
    })
}

#[test]
fn f11_a_host_with_the_database_of_yesterday_stops_and_deletes_nothing() -> Result<()> {
    scenario(11, "the host's Postgres is put back to a copy of before several wishes", async |seen| {
        let mut stage = Stage::with("always", &["box"]).await?;
        stage.game("keeps", "box", "").await?;
        stage.game("back", "box", "").await?;
        stage.ask("back", "stop").await?;
        stage.phase("back", "Stopped").await?;
        stage.kill_host().await?;
        stage.database.as_ref().context("a database")?.keep("yesterday").await?;
        stage.start_host(&[], &[]).await?;
        stage.worker_until("box", "linked", |seen| seen["linked"] == true).await?;
        stage.ask("back", "start").await?;
        stage.phase("back", "Ready").await?;
        stage.ask("keeps", "restart").await?;
        stage.until("keeps", "restarted", |shown| shown["phase"] == "Ready" && shown["generation"] == shown["applied_generation"]).await?;
        let after = stage.game("after", "box", "").await?;
        let generations = [stage.shown("keeps").await?, stage.shown("back").await?].map(|shown| shown["generation"].as_u64());
        let all = ["keeps", "back", "after"];
        let pids = stage.pids_of(&all)?;

        stage.kill_host().await?;
        stage.database.as_ref().context("a database")?.put_back("yesterday").await?;
        stage.start_host(&[], &[]).await?;
        stage.worker_until("box", "linked with reserve", |seen| seen["rebase_needed"] == true && seen["linked"] == true).await?;
        let back = stage.with_condition("back", "HostRegressed").await?;
        ensure!(stage.count("host.regressed", None).await? == 1, "no new timeline was told of, or several");
        let jumped = [stage.shown("keeps").await?, stage.shown("back").await?].map(|shown| shown["generation"].as_u64());
        ensure!(jumped[0] > generations[0] && jumped[1] > generations[1], "{generations:?}, and then {jumped:?}");
        // A stop is not heeded, a start is.
        stage.ask("keeps", "stop").await?;
        stage.with_condition("keeps", "HostRegressed").await?;
        stage.ask("keeps", "start").await?;
        stage.game("fresh", "box", "").await?;
        ensure!(stage.pids_of(&all)? == pids, "{pids:?}, and then {:?}", stage.pids_of(&all)?);
        seen.saw(format!(
            "a new timeline; nothing was stopped (a wish of today's to stop neither), a new server started; generations {generations:?} jumped to {jumped:?}"
        ));

        let view = stage.rebase_view("box").await?;
        let keeps = stage.shown("keeps").await?;
        ensure!(effect(&view, &back["id"]) == "stops" && effect(&view, &keeps["id"]) == "none", "{view:#}");
        ensure!(effect(&view, &after["id"]) == "is_forgotten", "{view:#}");
        let (status, told) = stage.refused(reqwest::Method::POST, "/worker/box/rebase", &json!({})).await?;
        ensure!(status == 409 && stage.pids_of(&all)? == pids, "{told}");
        stage.home.manman(&["worker", "rebase", "box", "--yes", "box"]).await?.success()?;
        stage.worker_until("box", "without reserve", |seen| seen["rebase_needed"] == false).await?;
        stage.phase("back", "Stopped").await?;
        ensure!(stage.pids("back").is_empty() && stage.pid("keeps")? == pids[0] && stage.pid("after")? == pids[2], "after the rebase");
        let shown: Value =
            stage.until("keeps", "Ready without a reserve", |shown| shown["phase"] == "Ready" && shown["conditions"] == json!([])).await?;
        ensure!(shown["generation"] == shown["applied_generation"], "{shown:#}");
        seen.saw("the diff named what would stop and what the host had forgotten; after a typed confirmation just that was stopped");
        stage.alone()?;
        Ok(())
    })
}

#[test]
fn f11_a_person_says_that_the_database_of_a_running_host_was_restored() -> Result<()> {
    scenario(11, "`manman-host restored` beside a running host, as after a restore that nothing else could tell of", async |seen| {
        let stage = Stage::with("always", &["box"]).await?;
        stage.game("world", "box", "").await?;
        let pid = stage.pid("world")?;
        let database = stage.database.as_ref().context("a database")?.url();
        let said = run(&binary("manman-host")?, |command| {
            command.args(["restored", "--database-url", &database]);
        })
        .await?
        .success()?;
        stage.worker_until("box", "linked with reserve", |seen| seen["rebase_needed"] == true && seen["linked"] == true).await?;
        stage.ask("world", "stop").await?;
        stage.with_condition("world", "HostRegressed").await?;
        ensure!(stage.pid("world")? == pid && stage.count("host.regressed", None).await? == 1, "{said}");
        seen.saw("the running host took a new timeline, and a stop was not heeded");
        stage.home.manman(&["worker", "rebase", "box", "--yes", "box"]).await?.success()?;
        stage.phase("world", "Stopped").await?;
        seen.saw("it was after `manman worker rebase box --yes box`");
        stage.alone()?;
        Ok(())
    })
}
