//! A game of SteamCMD's from a wish to its end. SteamCMD is the stand-in (tests/stand-in/steamcmd):
//! what it installs is the real OpenArena as Debian packaged it, or a small program that says how it was started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_e2e::{Context, Home, Result, ensure, eventually, eventually_within, free_port, openarena, story};
use serde_json::Value;

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in")
}

async fn start(home: &mut Home) -> Result<()> {
    let steamcmd = stand_in().join("steamcmd").display().to_string();
    let games = stand_in().join("games").display().to_string();
    home.start(&["--docker", "off", "--steamcmd", &steamcmd, "--games", &games]).await
}

/// How the stand-in is to behave from now on.
fn tell(home: &Home, lines: &str) -> Result<()> {
    let folder = home.data().join("worker/steam/home");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("stand-in"), lines)?;
    let _ = std::fs::remove_file(folder.join("stand-in.runs"));
    Ok(())
}

/// The stand-ins that run for this home.
fn steamcmds(home: &Home) -> Vec<String> {
    let folder = format!("HOME={}", home.data().join("worker/steam/home").display());
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == folder.as_bytes())
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Games that are processes outlive everything of ours: a story ends its own.
async fn end(home: &Home) -> Result<()> {
    home.manman(&["down"]).await?.success().map(drop)
}

async fn phase(home: &Home, server: &str, wanted: &str) -> Result<Value> {
    eventually_within(Duration::from_secs(90), "the server gets there", async || {
        let shown = home.json(&["server", "show", server]).await.map_err(|error| format!("{error:#}"))?;
        if shown["phase"] == wanted { Ok(shown) } else { Err(shown.to_string()) }
    })
    .await
}

#[test]
fn a_real_game_is_installed_queried_and_stopped() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        tell(&home, "seconds=2")?;
        start(&mut home).await?;
        let port = free_port()?;
        let create = ["server", "create", "steamcmd:4000000003", "--name", "oa", "--port", &format!("game={port}")];
        home.manman(&create).await?.success()?;
        let mut percents = Vec::new();
        eventually_within(Duration::from_secs(90), "it is Ready", async || {
            let shown = home.json(&["server", "show", "oa"]).await.map_err(|error| format!("{error:#}"))?;
            percents.extend(shown["progress"]["percent"].as_u64());
            if shown["phase"] == "Ready" { Ok(()) } else { Err(shown.to_string()) }
        })
        .await?;
        ensure!(percents.is_sorted() && percents.first() != percents.last(), "the bar moved so: {percents:?}");
        let shown = home.json(&["server", "show", "oa"]).await?;
        ensure!(shown["players"]["max"] == 8, "{shown:#}");
        ensure!(!openarena(port).await?.map.is_empty(), "the game does not answer a stranger");
        let answer = home.manman(&["send", "oa", "status"]).await?.success()?;
        ensure!(answer.contains("map:"), "the game answered {answer:?}");
        home.manman(&["server", "stop", "oa", "--wait=60s"]).await?.success()?;
        let shown = home.json(&["server", "show", "oa"]).await?;
        ensure!(shown["phase"] == "Stopped" && shown["exit"]["code"] == 0, "{shown:#}");
        let events = home.json(&["events", "--tail", "100"]).await?;
        let kinds: Vec<_> = events.as_array().context("a list")?.iter().filter_map(|event| event["kind"].as_str()).collect();
        for kind in ["server.installing", "server.installed", "server.started", "server.ready", "server.rung", "server.stopped"] {
            ensure!(kinds.contains(&kind), "no {kind} among {kinds:?}");
        }
        end(&home).await
    })
}

#[test]
fn a_worker_killed_in_the_middle_goes_on_with_one_steamcmd() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        tell(&home, "seconds=20")?;
        start(&mut home).await?;
        home.manman(&["server", "create", "steamcmd:896660", "--name", "v", "--set", "PASSWORD=secret1"]).await?.success()?;
        eventually("it downloads", async || {
            let shown = home.json(&["server", "show", "v"]).await.map_err(|error| format!("{error:#}"))?;
            if shown["progress"]["percent"].as_u64() > Some(20) { Ok(()) } else { Err(shown.to_string()) }
        })
        .await?;
        home.program()?.kill().await?;
        ensure!(steamcmds(&home).len() == 1, "SteamCMD outlives its worker: {:?}", steamcmds(&home));
        let game = || {
            std::fs::read_dir(home.data().join("worker/servers"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|e| e.path().join("data/valheim_server.x86_64").exists())
        };
        ensure!(!game(), "a half-written build was laid out");
        tell(&home, "")?;
        let orphan = steamcmds(&home);
        start(&mut home).await?;
        phase(&home, "v", "Ready").await?;
        ensure!(steamcmds(&home).iter().all(|pid| !orphan.contains(pid)), "the old SteamCMD still runs");
        let log = std::fs::read_to_string(home.data().join("worker/steam/home/stand-in.downloaded"))?;
        let mut files: Vec<&str> = log.lines().collect();
        let all = files.len();
        files.sort_unstable();
        files.dedup();
        ensure!(files.len() == all, "something was downloaded twice: {log}");
        end(&home).await
    })
}

#[test]
fn a_failure_has_a_name_and_a_way_on() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        tell(&home, "fail=no-subscription")?;
        start(&mut home).await?;
        home.manman(&["server", "create", "steamcmd:896660", "--name", "v", "--set", "PASSWORD=secret1"]).await?.success()?;
        let told = eventually("the failure is shown", async || {
            let shown = home.json(&["server", "show", "v"]).await.map_err(|error| format!("{error:#}"))?.to_string();
            if shown.contains("No subscription") { Ok(shown) } else { Err(shown) }
        })
        .await?;
        ensure!(told.contains("manman-worker steam login"), "there is no way on in {told}");
        tell(&home, "")?;
        home.manman(&["server", "start", "v"]).await?.success()?;
        phase(&home, "v", "Ready").await?;
        end(&home).await
    })
}

#[test]
fn a_start_brings_the_newest_build() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        start(&mut home).await?;
        let create = ["server", "create", "steamcmd:896660", "--name", "v", "--set", "PASSWORD=secret1", "--wait=60s"];
        home.manman(&create).await?.success()?;
        let id = home.json(&["server", "show", "v"]).await?["id"].as_str().context("an id")?.to_owned();
        let build = home.data().join("worker/servers").join(id).join("data/stand-in/build.txt");
        ensure!(std::fs::read_to_string(&build)? == "1000 public\n", "the first build");
        tell(&home, "build=1001")?;
        home.manman(&["server", "restart", "v", "--wait=60s"]).await?.success()?;
        phase(&home, "v", "Ready").await?;
        let now = std::fs::read_to_string(&build)?;
        ensure!(now == "1001 public\n", "after a restart it is {now}");
        end(&home).await
    })
}
