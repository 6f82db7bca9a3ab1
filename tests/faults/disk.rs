//! Disk full, memory short, dockerd restarted, SteamCMD killed (rows 23, 25).

use manman_e2e::faults::scenario;
use manman_e2e::{Context, Engine, Home, Result, SmallDisk, WorkerProcess, ensure, eventually, eventually_within};
use serde_json::{Value, json};

use crate::stage::{GAME, SOON, Stage};

const MIB: u64 = 1 << 20;

fn has_condition(shown: &Value, kind: &str) -> bool {
    shown["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == kind))
}

#[test]
fn f23_a_full_disk_stops_no_game_and_starts_none() -> Result<()> {
    scenario(23, "the worker's whole data directory on a disk of 128 MiB, filled to the last byte, then freed", async |seen| {
        let mut stage = Stage::new("always")?;
        stage.start_host(&[], &[]).await?;
        let disk = SmallDisk::mounted_at(&stage.data_of("small"), 128)?;
        let token = stage.home.join_token().await?;
        stage.start_worker_at("small", disk.path(), Some(&token), &[], &[])?;
        stage.alive("small").await?;
        let runs = stage.game("runs", "small", "lines=20,save=4096").await?;
        let waits = stage.game("waits", "small", "").await?;
        stage.ask("waits", "stop").await?;
        stage.phase("waits", "Stopped").await?;
        let chatty = stage.game("chatty", "small", "flood").await?;
        let (pid, log) = (stage.pid("runs")?, stage.server_dir("small", chatty["id"].as_str().context("an id")?).join("log"));
        let segments = || {
            std::fs::read_dir(&log)
                .map_or(0, |found| found.flatten().filter(|file| file.file_name().to_string_lossy().ends_with(".log")).count())
        };
        eventually("the log has more than one segment", async || if segments() > 2 { Ok(()) } else { Err(segments()) }).await?;
        stage.ask("chatty", "stop").await?;
        stage.phase("chatty", "Stopped").await?;
        let before = segments();

        // Almost full: what is given up first is old log.
        disk.fill(2 * MIB)?;
        eventually("old log is shed", async || {
            if disk.free()? > 8 * MIB { Ok(()) } else { Err(manman_e2e::anyhow!("{} free, {} segments", disk.free()?, segments())) }
        })
        .await?;
        ensure!(segments() < before, "{before} segments, and then {}", segments());
        seen.saw(format!("with 2 MiB left {} of {before} log segments were shed", before - segments()));

        // Full, and nothing old is left to shed.
        let shown = eventually_within(SOON, "the running game's status says that the disk is full", async || {
            disk.fill(0).map_err(|error| format!("{error:#}"))?;
            let shown = stage.shown("runs").await.map_err(|error| format!("{error:#}"))?;
            if has_condition(&shown, "DiskFull") { Ok(shown) } else { Err(shown.to_string()) }
        })
        .await?;
        ensure!(shown["phase"] == "Ready", "{shown:#}");
        let worker = stage.worker_until("small", "alive", |seen| seen["status"] == "alive").await?;
        // The wish can not be kept, let alone met.
        stage.ask("waits", "start").await?;
        let said = stage.until("waits", "held back by the disk", |shown| has_condition(shown, "DiskFull")).await?;
        ensure!(stage.pids("waits").is_empty(), "it has started: {said:#}");
        seen.saw(format!(
            "full: runs is {} with the condition DiskFull; waits, wished for, is {} and has no process",
            shown["phase"], said["phase"]
        ));
        ensure!(stage.pid("runs")? == pid, "the running game is another process");
        ensure!(disk.free()? < 8 * MIB, "the disk was not full: {} bytes free", disk.free()?);
        let epoch = worker["session_epoch"].clone();

        disk.make_room()?;
        let begun = std::time::Instant::now();
        stage.phase("waits", "Ready").await?;
        let shown = stage.until("runs", "without that condition", |shown| !has_condition(shown, "DiskFull")).await?;
        ensure!(stage.pid("runs")? == pid && shown["restarts"] == runs["restarts"], "the running game is another process: {shown:#}");
        ensure!(shown["phase"] == "Ready", "{shown:#}");
        seen.saw(format!("freed: the wish was met by itself after {:.0} s, and runs kept its pid", begun.elapsed().as_secs_f64()));
        let now = stage.alive("small").await?;
        seen.saw(format!("session {epoch} before, {} after", now["session_epoch"]));
        // Its memory is whole: what it says of itself after a restart is the same.
        stage.kill_worker("small").await?;
        stage.start_worker_at("small", disk.path(), None, &[], &[])?;
        stage
            .until("waits", "Ready after a restart of the worker", |shown| shown["phase"] == "Ready" && shown["id"] == waits["id"])
            .await?;
        ensure!(stage.pid("runs")? == pid, "the worker's restart touched the game");
        ensure!(stage.count("worker.quarantined", None).await? == 0, "a full disk made a quarantine");
        stage.alone()?;
        Ok(())
    })
}

#[test]
fn f25_memory_that_runs_out_ends_one_game_alone() -> Result<()> {
    scenario(25, "one of two games eats more than its limit of memory (cgroup)", async |seen| {
        let stage = Stage::with("on-failure", &["box"]).await?;
        let calm = stage.game("calm", "box", "").await?;
        let pid = stage.pid("calm")?;
        let body = json!({"game_id": GAME, "name": "hungry", "worker_id": "box", "variables": {"OPTIONS": "eat=268435456"},
            "limits": {"memory_bytes": 64 * MIB}});
        stage.client()?.call::<Value>(reqwest::Method::POST, "/server", Some(&body)).await.context("create hungry")?;
        let hungry = stage.until("hungry", "out of memory", |shown| shown["exit"]["oom"] == true).await?;
        ensure!(hungry["exit"]["reason"].as_str().is_some_and(|reason| reason.contains("memory")), "{:#}", hungry["exit"]);
        let told = eventually("the crash is told", async || {
            let events = stage.events(Some(&hungry["id"])).await.map_err(|error| format!("{error:#}"))?;
            let told = events.into_iter().find(|event| event["kind"] == "server.crashed");
            told.ok_or_else(|| "no crash".to_owned())
        })
        .await?;
        ensure!(told["message"].as_str().is_some_and(|text| text.contains("memory")), "{told:#}");
        ensure!(stage.pid("calm")? == pid, "the other game is another process");
        let after = stage.shown("calm").await?;
        ensure!(after["phase"] == "Ready" && after["restarts"] == calm["restarts"], "{after:#}");
        seen.saw(format!("hungry: {}; calm kept its pid and is {}", told["message"], after["phase"]));
        stage.alone()?;
        Ok(())
    })
}

/// A game in an engine of the test's own, and that engine restarted.
async fn engine_restarts(live_restore: bool) -> Result<(Value, Value, bool)> {
    let home = Home::empty()?;
    let host = home.host(&["--settle", "0s"]).await?;
    let mut engine = Engine::start(live_restore).await?;
    engine.load("manman-e2e/printer").await?;
    let token = home.join_token().await?;
    let data = home.data().join("workers/box");
    let socket = engine.host();
    let worker = WorkerProcess::start_with(&data, "box", &host.url, &["--join-token", &token], &[("DOCKER_HOST", &socket)]).await?;
    eventually("the worker is alive", async || {
        let shown = home.json(&["worker", "show", "box"]).await.map_err(|error| format!("{error:#}"))?;
        if shown["status"] == "alive" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await?;
    home.printer("game", &["10", "100000"]).await?;
    let ready = async |what: &str| {
        eventually_within(SOON, what, async || {
            let shown = home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            if shown["phase"] == "Ready" && !has_condition(&shown, "Blind") { Ok(shown) } else { Err(shown.to_string()) }
        })
        .await
    };
    let before = ready("the game is Ready").await?;
    let pid_before = pids(&engine).await?;
    engine.stop().await?;
    eventually_within(SOON, "the worker says that it can not look", async || {
        let shown = home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
        if has_condition(&shown, "Blind") { Ok(()) } else { Err(shown.to_string()) }
    })
    .await?;
    engine.start_again().await?;
    let after = ready("the game is Ready again").await?;
    let running = pids(&engine).await?;
    ensure!(running.len() == 1, "{} containers run: {running:?}", running.len());
    drop(worker);
    Ok((before, after, running == pid_before))
}

/// The running containers with their processes.
async fn pids(engine: &Engine) -> Result<Vec<String>> {
    let ids = engine.docker(&["ps", "-q", "--no-trunc"]).await?;
    let mut found = Vec::new();
    for id in ids.lines() {
        found.push(format!("{id} {}", engine.docker(&["inspect", "--format", "{{.State.Pid}}", id]).await?));
    }
    Ok(found)
}

#[test]
fn f25_a_restart_of_dockerd_with_live_restore_is_noticed_by_no_game() -> Result<()> {
    scenario(25, "a dockerd of the test's own, with live-restore, is stopped and started", async |seen| {
        let (before, after, same) = engine_restarts(true).await?;
        ensure!(same && after["restarts"] == 0 && after["instance"] == before["instance"], "not the same container: {before:#} {after:#}");
        seen.saw("the same container with the same pid was adopted; no restart");
        Ok(())
    })
}

#[test]
fn f25_a_restart_of_dockerd_without_live_restore_brings_the_game_back_once() -> Result<()> {
    scenario(25, "a dockerd of the test's own, without live-restore, is stopped and started", async |seen| {
        let (before, after, same) = engine_restarts(false).await?;
        ensure!(!same && after["instance"] != before["instance"], "the container outlived its engine: {before:#} {after:#}");
        seen.saw(format!("the engine took its container along; one other runs, restarts {}", after["restarts"]));
        Ok(())
    })
}

#[test]
fn f25_steamcmd_killed_at_60_percent_resumes_and_starts_nothing_half_written() -> Result<()> {
    scenario(25, "SteamCMD is killed at 60 % of a download, twice", async |seen| {
        let mut stage = Stage::new("on-failure")?;
        stage.start_host(&[], &[]).await?;
        let told = stage.data_of("box").join("steam/home");
        std::fs::create_dir_all(&told)?;
        std::fs::write(told.join("stand-in"), "fail=kill\nat=60\ntimes=2\nseconds=2\n")?;
        let token = stage.home.join_token().await?;
        stage.start_worker_at("box", &stage.data_of("box"), Some(&token), &[], &[])?;
        stage.alive("box").await?;
        let game = stage.create("game", "box", "").await?;
        let id = game["id"].as_str().context("an id")?.to_owned();
        let runs = || std::fs::read_to_string(told.join("stand-in.argv")).unwrap_or_default().matches("app_update").count();
        eventually_within(SOON, "SteamCMD is tried again", async || if runs() > 1 { Ok(()) } else { Err(runs()) }).await?;
        let laid_out = stage.server_dir("box", &id).join("data/bzfs");
        ensure!(stage.pids("game").is_empty() && !laid_out.exists(), "it has started half-written");
        let shown = stage.shown("game").await?;
        ensure!(shown["phase"] == "Installing" || shown["phase"] == "Backoff", "{shown:#}");
        stage.phase("game", "Ready").await?;
        let log = std::fs::read_to_string(told.join("stand-in.downloaded"))?;
        let mut files: Vec<&str> = log.lines().collect();
        let all = files.len();
        files.sort_unstable();
        files.dedup();
        ensure!(files.len() == all, "something was downloaded twice: {log}");
        let runs = std::fs::read_to_string(told.join("stand-in.argv"))?;
        let validated = runs.lines().filter(|line| line.contains("app_update") && line.contains("validate")).count();
        let updates = runs.lines().filter(|line| line.contains("app_update")).count();
        ensure!(updates >= 3, "{updates} runs: {runs}");
        ensure!(validated >= 1, "nothing was validated: {runs}");
        seen.saw(format!(
            "killed twice at 60 %: {} meanwhile; {updates} runs, {validated} of them with validate, {all} files each downloaded once, then Ready",
            shown["phase"]
        ));
        ensure!(laid_out.exists() && stage.alone()? == 1, "the game of the whole build has not started once");
        Ok(())
    })
}
