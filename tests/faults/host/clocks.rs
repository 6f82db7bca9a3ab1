//! Wall clocks that jump (row 22).

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Result, WallClock, ensure};
use serde_json::{Value, json};

use crate::network::whole_history;
use crate::stage::Stage;

#[test]
fn f22_wall_clocks_that_jump_decide_nothing() -> Result<()> {
    scenario(22, "host's and worker's wall clocks jump by +2 d, -2 d, 1 s and apart (libfaketime), with games running", async |seen| {
        let mut stage = Stage::new("always")?;
        stage.database = Some(manman_e2e::Database::start().await?);
        let hosts = WallClock::new(&stage.home.data().join("clock-host"))?;
        let workers = WallClock::new(&stage.home.data().join("clock-worker"))?;
        stage.start_host(&[], &hosts.environment()).await?;
        stage.start_worker("attic", &[], &workers.environment()).await?;
        let before = stage.worker_until("attic", "alive and linked", |shown| shown["status"] == "alive" && shown["linked"] == true).await?;
        let worker = stage.home.worker_id("attic").await?;
        let game = stage.game("world", "attic", "").await?;
        let pid = stage.pid("world")?;
        let client = stage.client()?;
        let jumps = [("+2d", "+2d"), ("-2d", "-2d"), ("-1s", "+1s"), ("+0d", "+2d"), ("+2d", "+0d"), ("+0d", "+0d")];
        for (number, (host, worker)) in jumps.into_iter().enumerate() {
            hosts.jump(host)?;
            workers.jump(worker)?;
            super::more_beats(&stage, 1).await?;
            let shown = stage.home.json(&["worker", "show", "attic"]).await?;
            ensure!(
                shown["status"] == "alive" && shown["linked"] == true && shown["session_epoch"] == before["session_epoch"],
                "{host}, {worker}: {shown:#}"
            );
            // A command has its time from when it is received, by nobody's wall clock.
            let body = json!({"command": format!("word {number}"), "answer_ms": 500});
            let answer: Value = client.call(reqwest::Method::POST, "/server/world/command", Some(&body)).await?;
            ensure!(answer.to_string().contains(&format!("got word {number}")), "{host}, {worker}: {answer}");
            let name = format!("late-{number}");
            stage.game(&name, "attic", "silent").await?;
            stage.ask(&name, "stop").await?;
            stage.phase(&name, "Stopped").await?;
        }
        let shown = stage.shown("world").await?;
        ensure!(
            shown["phase"] == "Ready" && shown["restarts"] == 0 && shown["instance"] == game["instance"] && stage.pid("world")? == pid,
            "{shown:#}"
        );
        for kind in ["worker.unknown", "worker.kill_attempt", "worker.revoked", "host.settling", "server.restart_expired"] {
            ensure!(stage.count(kind, None).await? == 0, "the host has told of {kind}");
        }
        ensure!(stage.alone()? == 1 + jumps.len(), "something was started twice");
        let database = stage.database.as_ref().context("a database of its own")?;
        let events = whole_history(database, &worker).await?;
        let backwards = database
            .number("select count(*) from (select at, lag(at) over (order by id) as before from event) e where at < before")
            .await?;
        ensure!(backwards > 0, "the clocks have not jumped for the host and its worker");
        seen.saw(format!(
            "{} jumps: one session throughout, no stale, no expiry; same pid, 0 restarts; every start and stop once",
            jumps.len()
        ));
        seen.saw(format!("{events} events of the worker in the order of their numbers, though their times go back {backwards} times"));
        seen.saw("there is no cron in manman that could fire twice");
        Ok(())
    })
}
