//! The host or its database is away (rows 7, 8, 10).

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Database, Program, Result, WallClock, binary, ensure, eventually_within};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;

use super::{metric, more_beats};
use crate::network::whole_history;
use crate::stage::{SOON, Stage, kill};

fn database(stage: &Stage) -> Result<&Database> {
    stage.database.as_ref().context("a database of its own")
}

/// Everything of a worker dies at once.
async fn power_cut(stage: &mut Stage, worker: &str, worlds: &[&str]) -> Result<()> {
    // The worker first, so that it tells nobody.
    stage.kill_worker(worker).await?;
    for pid in stage.shims(worker, None).into_iter().chain(worlds.iter().flat_map(|world| stage.pids(world))) {
        // A shim that has just lost its game ends by itself.
        let _ = kill(pid, Signal::KILL);
    }
    eventually_within(SOON, "nothing lives any more", async || {
        let left: Vec<i32> = worlds.iter().flat_map(|world| stage.pids(world)).chain(stage.shims(worker, None)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await
}

/// Starts a worker on its data as after a boot: another boot id, and a wall clock of its own.
fn boot(stage: &mut Stage, worker: &str, boot_id: &str, clock: &WallClock) -> Result<()> {
    let file = stage.home.data().join(format!("boot-id-{worker}"));
    std::fs::write(&file, format!("{boot_id}\n"))?;
    let steamcmd = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
    // In a mount namespace of its own the kernel's file is another.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec env \"$@\""]).arg(&file);
    command.args(clock.environment().into_iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(binary("manman-worker")?).args(["run", "--docker", "off", "--name", worker, "--host", &stage.url]);
    command.arg("--steamcmd").arg(steamcmd).arg("--data").arg(stage.data_of(worker));
    stage.workers.insert(worker.to_owned(), Program::spawn(&format!("worker {worker}"), &mut command)?);
    Ok(())
}

#[test]
fn f07_a_reboot_with_the_host_away_starts_every_world() -> Result<()> {
    scenario(7, "SIGKILL of host, worker, shims and games; the worker starts a day later in a new boot, without a host", async |seen| {
        let mut stage = Stage::with("always", &["attic"]).await?;
        let worker = stage.home.worker_id("attic").await?;
        let running = ["one", "two", "three"];
        for world in running.into_iter().chain(["stopped"]) {
            stage.create(world, "attic", "silent").await?;
        }
        for world in running.into_iter().chain(["stopped"]) {
            stage.phase(world, "Ready").await?;
        }
        stage.ask("stopped", "stop").await?;
        stage.phase("stopped", "Stopped").await?;
        let before = stage.home.json(&["worker", "show", "attic"]).await?;

        stage.kill_host().await?;
        power_cut(&mut stage, "attic", &running).await?;
        let clock = WallClock::new(&stage.home.data().join("clock"))?;
        clock.jump("+1d")?;
        boot(&mut stage, "attic", "11111111-2222-3333-4444-555555555555", &clock)?;
        let began = Instant::now();
        eventually_within(Duration::from_secs(120), "all worlds run, by SQLite alone", async || {
            let pids: Vec<_> = running.iter().map(|world| stage.pids(world)).collect();
            if pids.iter().all(|pids| pids.len() == 1) { Ok(()) } else { Err(pids) }
        })
        .await?;
        let took = began.elapsed();
        ensure!(stage.pids("stopped").is_empty(), "a world that was stopped has been started");
        let pids: Vec<i32> = running.iter().map(|world| stage.pid(world)).collect::<Result<_>>()?;

        // Something happens while nobody listens, too.
        kill(pids[0], Signal::KILL)?;
        eventually_within(SOON, "the crashed world is back", async || match stage.pids("one")[..] {
            [pid] if pid != pids[0] => Ok(()),
            ref other => Err(other.to_vec()),
        })
        .await?;
        stage.start_host(&[], &[]).await?;
        stage
            .worker_until("attic", "alive in a new session", |shown| {
                shown["status"] == "alive" && shown["session_epoch"] != before["session_epoch"]
            })
            .await?;
        for world in running {
            stage.phase(world, "Ready").await?;
        }
        ensure!(stage.shown("stopped").await?["phase"] == "Stopped", "the stopped world is not");
        for (world, pid) in running.iter().zip(&pids).skip(1) {
            ensure!(stage.pid(world)? == *pid, "{world} was touched when the host came back");
        }
        let events = whole_history(database(&stage)?, &worker).await?;
        let told = format!(
            "select kind, (data ->> 'reason'), count(*) from event where worker_id = '{worker}' and kind = 'server.crashed' group by 1, 2 order by 1, 2"
        );
        let told = database(&stage)?.rows(&told).await?;
        ensure!(stage.alone()? == 8, "{} starts, not 4 + 3 + 1", stage.alone()?);
        seen.saw(format!(
            "3 worlds up {:.1} s after the worker's start, host away, clock a day ahead; the stopped one stayed stopped",
            took.as_secs_f64()
        ));
        seen.saw(format!("{events} events arrived afterwards, in order, none missing; ends that were told: {}", told.join(", ")));
        Ok(())
    })
}

/// As many rows as the outbox holds before it sheds metrics.
const OUTBOX_MAX: i64 = 50_000;

fn open(stage: &Stage, worker: &str) -> Result<Connection> {
    let path = stage.data_of(worker).join("worker.sqlite");
    Connection::open(&path).with_context(|| format!("open {}", path.display()))
}

/// The number of the newest event that the worker has made.
fn newest_made(stage: &Stage) -> Result<i64> {
    Ok(open(stage, "attic")?.query_row("SELECT event_seq FROM meta", [], |row| row.get(0))?)
}

#[test]
fn f08_an_overflowing_outbox_sheds_metrics_and_keeps_the_lifecycle() -> Result<()> {
    let done = "host away; 49,990 metrics and 8 lifecycle events inserted into the stopped worker's SQLite; then games crash";
    scenario(8, done, async |seen| {
        let mut stage = Stage::with("always", &["attic"]).await?;
        let worker = stage.home.worker_id("attic").await?;
        let server = stage.game("world", "attic", "silent").await?;
        whole_history(database(&stage)?, &worker).await?;
        let had = database(&stage)?.number(&format!("select max(worker_seq) from event where worker_id = '{worker}'")).await?;
        stage.kill_host().await?;
        stage.kill_worker("attic").await?;

        let kept = 8;
        {
            let mut sqlite = open(&stage, "attic")?;
            let first: i64 = sqlite.query_row("SELECT event_seq FROM meta", [], |row| row.get(0))?;
            let transaction = sqlite.transaction()?;
            {
                let mut insert = transaction.prepare("INSERT INTO outbox (event_seq, metric, event) VALUES (?1, ?2, ?3)")?;
                for number in 1..OUTBOX_MAX - 2 {
                    // The oldest of all is a word about a life: it is not what goes first.
                    let metric = number > kept;
                    let kind = if metric { "server.metric" } else { "server.test_lifecycle" };
                    let event = serde_json::json!({
                        "seq": first + number, "at": format!("2026-11-20T12:00:00.{number:06}Z"), "kind": kind, "server_id": server["id"], "message": format!("number {number} of an outage"), "data": null,
                    });
                    insert.execute(rusqlite::params![first + number, metric, event.to_string()])?;
                }
            }
            transaction.execute("UPDATE meta SET event_seq = ?1", [first + OUTBOX_MAX - 3])?;
            transaction.commit()?;
        }
        // By its own hand the worker now goes over the limit.
        stage.start_worker("attic", &[], &[]).await?;
        let mut pid =
            eventually_within(SOON, "the game is adopted", async || stage.pid("world").map_err(|error| error.to_string())).await?;
        for _ in 0..2 {
            kill(pid, Signal::KILL)?;
            pid = eventually_within(SOON, "the game is back", async || match stage.pids("world")[..] {
                [now] if now != pid => Ok(now),
                ref other => Err(other.to_vec()),
            })
            .await?;
        }
        let dropped = eventually_within(SOON, "metrics are dropped and counted", async || {
            let sqlite = open(&stage, "attic").map_err(|error| error.to_string())?;
            let dropped: i64 =
                sqlite.query_row("SELECT metrics_dropped FROM meta", [], |row| row.get(0)).map_err(|error| error.to_string())?;
            let rows: i64 = sqlite.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).map_err(|error| error.to_string())?;
            if dropped > 0 && rows <= OUTBOX_MAX { Ok(dropped) } else { Err(format!("{dropped} dropped, {rows} there")) }
        })
        .await?;

        stage.start_host(&[], &[]).await?;
        stage.alive("attic").await?;
        let began = Instant::now();
        eventually_within(SOON, "the outbox is empty", async || {
            let sqlite = open(&stage, "attic").map_err(|error| error.to_string())?;
            let rows: i64 = sqlite.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).map_err(|error| error.to_string())?;
            if rows == 0 { Ok(()) } else { Err(format!("{rows} rows")) }
        })
        .await?;
        let took = began.elapsed();
        let of = format!("from event where worker_id = '{worker}' and worker_seq > {had}");
        let count = async |condition: &str| database(&stage)?.number(&format!("select count(*) {of} and {condition}")).await;
        // The count reaches the host as an event; what that has displaced is told of by another.
        let dropped = eventually_within(SOON, "the host is told how many were dropped", async || {
            let told = format!("select coalesce(sum((data ->> 'count')::bigint), 0) {of} and kind = 'worker.events_dropped'");
            let told = database(&stage)?.number(&told).await?;
            let newest = database(&stage)?.number(&format!("select max(worker_seq) {of}")).await?;
            ensure!(told >= dropped && newest == newest_made(&stage)?, "{told} of {dropped}");
            Ok(told)
        })
        .await?;
        let lifecycle = count("kind = 'server.test_lifecycle'").await?;
        ensure!(lifecycle == kept, "{lifecycle} of {kept} lifecycle events have arrived");
        let crashed = count("kind = 'server.crashed'").await?;
        ensure!(crashed == 2, "{crashed} crashes are told of");
        let newest = database(&stage)?.number(&format!("select max(worker_seq) {of}")).await?;
        let holes = newest - had - count("true").await?;
        ensure!(holes == dropped, "{holes} numbers are missing, {dropped} were dropped");
        let oldest_kept = database(&stage)?.number(&format!("select min(worker_seq) {of} and kind = 'server.metric'")).await?;
        ensure!(oldest_kept > had + kept + dropped, "a newer metric was dropped before the oldest");
        seen.saw(format!(
            "{dropped} oldest metrics dropped and counted, no other number missing; 8 lifecycle events and both crashes arrived"
        ));
        seen.saw(format!("{} events were taken in within {:.0} s", newest - had - dropped, took.as_secs_f64()));
        Ok(())
    })
}

#[test]
fn f10_postgres_away_changes_nothing_and_is_shown() -> Result<()> {
    scenario(
        10,
        "Postgres killed under a running host, for longer than a silent worker would count as alive; then it is back",
        async |seen| {
            let stage = Stage::with("always", &["attic"]).await?;
            let worker = stage.home.worker_id("attic").await?;
            let game = stage.game("world", "attic", "").await?;
            let pid = stage.pid("world")?;
            let before =
                stage.worker_until("attic", "alive and linked", |shown| shown["status"] == "alive" && shown["linked"] == true).await?;
            whole_history(database(&stage)?, &worker).await?;

            database(&stage)?.stop().await?;
            let began = Instant::now();
            // Longer than the time after which a silent worker would count as unknown.
            while began.elapsed() < Duration::from_secs(20) {
                more_beats(&stage, 1).await?;
            }
            let alive = metric(&stage, "manman_workers{status=\"alive\"}").await.unwrap_or(0);
            ensure!(alive == 1, "the host shows {alive} workers alive");
            let url = format!("{}/status", stage.url);
            let asked = Instant::now();
            let shown = eventually_within(SOON, "the host says what is wrong", async || {
                let answer = reqwest::Client::new()
                    .get(&url)
                    .bearer_auth(stage.home.context("token").map_err(|error| error.to_string())?)
                    .send()
                    .await;
                let answer = answer.map_err(|error| error.to_string())?;
                let status = answer.status().as_u16();
                let problem: Value = answer.json().await.map_err(|error| error.to_string())?;
                if status == 503 { Ok(problem) } else { Err(format!("{status} {problem}")) }
            })
            .await?;
            ensure!(shown["detail"].as_str().is_some_and(|detail| detail.contains("database")), "{shown:#}");
            let answered = asked.elapsed();
            ensure!(stage.pid("world")? == pid, "the game was touched");
            // A crash is seen to without either.
            kill(pid, Signal::KILL)?;
            let second = eventually_within(SOON, "the game is back", async || match stage.pids("world")[..] {
                [now] if now != pid => Ok(now),
                ref other => Err(other.to_vec()),
            })
            .await?;
            let down = began.elapsed();

            database(&stage)?.again().await?;
            let after =
                stage.worker_until("attic", "alive and linked", |shown| shown["status"] == "alive" && shown["linked"] == true).await?;
            ensure!(after["session_epoch"] == before["session_epoch"], "the session was lost: {after:#}");
            let shown = stage.until("world", "Ready, crashed once", |shown| shown["phase"] == "Ready" && shown["restarts"] == 1).await?;
            ensure!(stage.pid("world")? == second && shown["generation"] == game["generation"], "{shown:#}");
            for kind in ["worker.unknown", "worker.kill_attempt", "worker.revoked"] {
                ensure!(stage.count(kind, None).await? == 0, "the host has told of {kind}");
            }
            eventually_within(SOON, "the crash is told of", async || match stage.count("server.crashed", Some(&game["id"])).await {
                Ok(1) => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await?;
            let events = whole_history(database(&stage)?, &worker).await?;
            stage.ask("world", "stop").await?;
            stage.phase("world", "Stopped").await?;
            seen.saw(format!(
                "Postgres away for {:.0} s: the worker stayed alive in its session, 503 names the database after {:.0} s; nothing was revoked",
                down.as_secs_f64(),
                answered.as_secs_f64()
            ));
            seen.saw(format!("{events} events without a hole afterwards, the crash during the outage once; wishes are taken again"));
            Ok(())
        },
    )
}
