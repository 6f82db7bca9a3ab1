//! Two machines that were told nothing of each other.

use std::path::Path;
use std::time::{Duration, Instant};

use manman_e2e::netns::{Cable, inside, ip, on};
use manman_e2e::{Context, Home, Program, Result, anyhow, ensure, eventually_within, story};
use serde_json::Value;
use tokio::process::Command;

const UP: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(40);

/// `curl URL` at a machine: the status and what came back.
async fn curl(machine: &str, url: &str) -> Result<(u16, Value), String> {
    let output = inside(machine).args(["curl", "-sS", "-w", "\n%{http_code}", "--max-time", "5", url]).output().await;
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, status) = text.rsplit_once('\n').ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let status = status.parse().map_err(|_| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))))
}

/// SIGKILL to every process that is at a machine. How many there were.
async fn kill_all(machine: &str) -> Result<usize> {
    let mut killed = 0;
    // Whatever was being started meanwhile is killed, too.
    for _ in 0..20 {
        let output = Command::new("ip").args(["netns", "pids", machine]).output().await?;
        let listed = String::from_utf8(output.stdout)?;
        let pids: Vec<_> = listed.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?)).collect();
        if pids.is_empty() {
            break;
        }
        killed += pids.iter().filter(|pid| rustix::process::kill_process(**pid, rustix::process::Signal::KILL).is_ok()).count();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(killed)
}

async fn host(machine: &str, data: &Path, arguments: &[&str]) -> Result<Program> {
    let mut command = on(machine, "manman-host")?;
    command.args(["run", "--data"]).arg(data).args(arguments);
    let mut host = Program::spawn("manman-host", &mut command)?;
    host.line("ready", UP).await?;
    Ok(host)
}

fn worker(machine: &str, data: &Path, arguments: &[&str]) -> Result<Program> {
    let mut command = on(machine, "manman-worker")?;
    command.args(["run", "--docker", "off", "--name", "attic", "--data"]).arg(data).args(arguments);
    Program::spawn("worker attic", &mut command)
}

async fn manman(machine: &str, data: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = on(machine, "manman").map_err(|error| format!("{error:#}"))?;
    let output = command.arg("--data").arg(data).args(arguments).arg("--json").output().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

async fn until(machine: &str, data: &Path, status: &str) -> Result<()> {
    eventually_within(SOON, &format!("the worker is {status}"), async || {
        let seen = manman(machine, data, &["worker", "show", "attic"]).await?;
        if seen["status"] == status { Ok(()) } else { Err(seen.to_string()) }
    })
    .await
}

async fn says(program: &Program, words: &str) -> Result<String> {
    eventually_within(SOON, &format!("it says `{words}`"), async || {
        let said = program.said();
        said.iter().find(|line| line.contains(words)).cloned().ok_or(said)
    })
    .await
}

#[test]
fn a_worker_that_was_told_nothing_finds_the_host_and_waits_to_be_accepted() -> Result<()> {
    story(async {
        let cable = Cable::new("a").await?;
        let home = Home::empty()?;
        let host_data = home.data().join("host");
        let host = host(&cable.host, &host_data, &["--lan"]).await?;
        let joining = says(&host, "#sha256=").await?;
        let (_, pin) = joining.split_once("#sha256=").context("a join line has the fingerprint")?;

        // One that was not told to join says who is there, and stays by itself.
        let alone = worker(&cable.worker, &home.data().join("alone"), &[])?;
        let line = says(&alone, "a host is on this network").await?;
        ensure!(line.contains("https://10.77.0.1:8443#sha256=") && line.contains(pin.trim()), "{line}");
        drop(alone);

        // Nor does a registry have to be there for its place to be found.
        let nowhere = home.data().join("nowhere");
        let place = manman(&cable.worker, &nowhere, &["--host", "http://127.0.0.1:1", "service", "find", "manman-host"]).await;
        let place = place.map_err(|error| anyhow!(error))?;
        let url = format!("https://10.77.0.1:8443#sha256={}", pin.trim());
        ensure!(place["source"] == "network" && place["url"] == url, "{place}");

        let data = home.data().join("worker");
        // A join token is not for whoever answers; the worker waits like any other.
        let mut found = worker(&cable.worker, &data, &["--find", "--join-token", "mm_join_of-another-host"])?;
        let line = says(&found, "found a host at").await?;
        ensure!(line.contains(pin.trim()), "{line} is not the host's own certificate, {pin}");
        until(&cable.host, &host_data, "pending").await?;
        manman(&cable.host, &host_data, &["worker", "accept", "attic"]).await.map_err(|error| anyhow!(error))?;
        until(&cable.host, &host_data, "alive").await?;
        let first = manman(&cable.host, &host_data, &["worker", "show", "attic"]).await.map_err(|error| anyhow!(error))?;

        // It knows its host from then on, also where it is told nothing at all.
        found.kill().await?;
        let _again = worker(&cable.worker, &data, &[])?;
        eventually_within(SOON, "it is back as itself", async || {
            let seen = manman(&cable.host, &host_data, &["worker", "show", "attic"]).await?;
            let renewed = seen["session_epoch"] != first["session_epoch"] && seen["status"] == "alive" && seen["id"] == first["id"];
            if renewed { Ok(()) } else { Err(seen.to_string()) }
        })
        .await
    })
}

#[test]
fn a_host_that_was_found_and_has_another_address_is_found_again() -> Result<()> {
    story(async {
        let cable = Cable::new("d").await?;
        let home = Home::empty()?;
        let host_data = home.data().join("host");
        let _host = host(&cable.host, &host_data, &["--lan", "--settle", "0s"]).await?;
        let found = worker(&cable.worker, &home.data().join("worker"), &["--find"])?;
        until(&cable.host, &host_data, "pending").await?;
        manman(&cable.host, &host_data, &["worker", "accept", "attic"]).await.map_err(|error| anyhow!(error))?;
        until(&cable.host, &host_data, "alive").await?;
        // The router gives the host another address; nobody tells the worker.
        ip(&format!("-n {} address delete 10.77.0.1/24 dev cable", cable.host)).await?;
        ip(&format!("-n {} address add 10.77.0.9/24 dev cable", cable.host)).await?;
        until(&cable.host, &host_data, "unknown").await?;
        let line = eventually_within(Duration::from_secs(120), "the worker finds it", async || {
            let said = found.said();
            said.iter().find(|line| line.contains("is at https://10.77.0.9:8443")).cloned().ok_or(said)
        })
        .await?;
        ensure!(line.contains("https://10.77.0.1:8443"), "{line}");
        until(&cable.host, &host_data, "alive").await
    })
}

#[test]
fn a_host_for_this_machine_alone_is_found_on_this_machine_alone() -> Result<()> {
    story(async {
        let cable = Cable::new("b").await?;
        let home = Home::empty()?;
        let host_data = home.data().join("host");
        let _host = host(&cable.host, &host_data, &["--mdns"]).await?;
        let here = worker(&cable.host, &home.data().join("here"), &["--find"])?;
        says(&here, "found a host at http://127.0.0.1:8080").await?;
        let there = worker(&cable.worker, &home.data().join("there"), &["--find"])?;
        says(&there, "no host announces itself here yet").await?;
        Ok(())
    })
}

const GAME: &str = "steamcmd:4000000001";

/// A game of a few lines: whoever asks at its port is told so. What SteamCMD installs is the stand-in's.
const DEFINITION: &str = r#"game: steamcmd:4000000001
name: A game that answers
steam: {login: anonymous}
ports:
  game: {protocol: tcp, default: 27960}
start:
  argv: [/usr/bin/python3, -u, -c, "import socket, sys\ns = socket.create_server(('', int(sys.argv[1])))\nprint('it listens')\nwhile True:\n    c, _ = s.accept()\n    c.recv(4096)\n    c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n\"a game\"')\n    c.close()", "{{ports.game}}"]
  expect: [bzfs]
ready: {log: it listens, within: 1m}
console: {input: none}
stop: [{signal: TERM, wait: 5s}]
data: {save: ["*.cfg"], logs: []}
"#;

#[test]
fn a_game_on_a_machine_that_was_found_is_found_by_its_name_until_that_machine_is_gone() -> Result<()> {
    story(async {
        let cable = Cable::new("c").await?;
        let home = Home::empty()?;
        let (host_data, games) = (home.data().join("host"), home.data().join("games"));
        std::fs::create_dir_all(&games)?;
        std::fs::write(games.join("answers.yaml"), DEFINITION)?;
        let mut command = on(&cable.host, "manman")?;
        command.args(["up", "--yes", "--lan", "--docker", "off", "--worker-name", "cellar", "--data"]).arg(&host_data);
        let mut up = Program::spawn("manman up", command.arg("--games").arg(&games))?;
        up.line("ready", UP).await?;

        let steamcmd = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
        let arguments = ["--find", "--steamcmd", &steamcmd.to_string_lossy()];
        let mut attic = worker(&cable.worker, &home.data().join("worker"), &arguments)?;
        until(&cable.host, &host_data, "pending").await?;
        manman(&cable.host, &host_data, &["worker", "accept", "attic"]).await.map_err(|error| anyhow!(error))?;
        until(&cable.host, &host_data, "alive").await?;
        let create = ["server", "create", GAME, "--name", "my-game", "--worker", "attic", "--port", "game=27977", "--wait=90s"];
        let made = manman(&cable.host, &host_data, &create).await.map_err(|error| anyhow!("{error}\n{:#?}", attic.said()))?;
        ensure!(made["phase"] == "Ready", "{made:#}");

        let registry = "http://127.0.0.1:12000";
        let by_name = format!("{registry}/discover/my-game");
        let place = eventually_within(Duration::from_secs(10), "the game is found by its name", async || {
            match curl(&cable.host, &by_name).await? {
                (200, place) => Ok(place),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        ensure!(place == serde_json::json!({"ip": "10.77.0.2", "port": 27977}), "{place}");
        // What is said to be there is there.
        let there = curl(&cable.host, "http://10.77.0.2:27977/").await.map_err(|error| anyhow!(error))?;
        ensure!(there == (200, Value::String("a game".to_owned())), "{there:?}");
        let (_, all) = curl(&cable.host, &format!("{registry}/discover")).await.map_err(|error| anyhow!(error))?;
        for name in ["attic", "cellar", "manman-host", "my-game"] {
            ensure!(all[name]["ip"].is_string(), "no {name} in {all}");
        }

        // The machine is gone as by a power cut: its game is no longer said to be anywhere.
        let killed = Instant::now();
        let count = kill_all(&cable.worker).await?;
        ensure!(count >= 3, "worker, shim and game were {count} processes");
        eventually_within(Duration::from_secs(30), "the game has vanished", async || match curl(&cable.host, &by_name).await? {
            (404, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        ensure!(killed.elapsed() < Duration::from_secs(30), "it took {:?}", killed.elapsed());
        let (_, all) = curl(&cable.host, &format!("{registry}/discover")).await.map_err(|error| anyhow!(error))?;
        ensure!(all["cellar"]["ip"].is_string(), "a machine that lives has vanished, too: {all}");
        let _ = attic.ended(Duration::from_secs(5)).await;
        up.end();
        Ok(())
    })
}
