//! Two machines that were told nothing of each other, each a network namespace, with a cable in
//! between: what is seen here depends on no other network.

use std::path::Path;
use std::time::Duration;

use manman_e2e::{Context, Home, Program, Result, anyhow, binary, ensure, eventually_within, story};
use serde_json::Value;
use tokio::process::Command;

const UP: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(40);

/// Two network namespaces with a cable; they and all in them go with this.
struct Cable {
    host: String,
    worker: String,
}

async fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().await.context("run `ip` of iproute2")?;
    ensure!(output.status.success(), "`ip {words}` (as root): {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Cable {
    async fn new(story: &str) -> Result<Self> {
        let pid = std::process::id();
        let cable = Self { host: format!("mm{story}h{pid}"), worker: format!("mm{story}w{pid}") };
        let (a, b) = (&cable.host, &cable.worker);
        for words in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add cable type veth peer name cable netns {b}"),
            format!("-n {a} address add 10.77.0.1/24 dev cable"),
            format!("-n {b} address add 10.77.0.2/24 dev cable"),
        ] {
            ip(&words).await?;
        }
        for machine in [a, b] {
            ip(&format!("-n {machine} link set lo up")).await?;
            ip(&format!("-n {machine} link set cable up")).await?;
        }
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for machine in [&self.host, &self.worker] {
            let _ = std::process::Command::new("ip").args(["netns", "delete", machine]).output();
        }
    }
}

fn on(machine: &str, program: &str) -> Result<Command> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", machine]).arg(binary(program)?);
    Ok(command)
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
        ensure!(place["source"] == "network" && place["url"] == "http://10.77.0.1:8443", "{place}");

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
