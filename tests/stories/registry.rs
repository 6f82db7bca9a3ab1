//! The registry with `curl` and the bodies of the user's own text: alone, and inside a home.

use std::time::{Duration, Instant};

use manman_e2e::{Context, Home, Program, Result, WorkerProcess, binary, ensure, eventually, eventually_within, free_port, story};
use serde_json::{Value, json};
use tokio::process::Command;

/// `curl ARGS… URL`: the status and what came back.
pub(crate) async fn curl(arguments: &[&str], url: &str) -> Result<(u16, Value)> {
    let output = Command::new("curl").args(["-sS", "-w", "\n%{http_code}", "--max-time", "30"]).args(arguments).arg(url).output().await?;
    ensure!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
    Ok((status.parse()?, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))))
}

async fn get(url: &str, path: &str) -> Result<(u16, Value)> {
    curl(&[], &format!("{url}{path}")).await
}

/// `manman-host registry` on a free port, and where it answers.
async fn registry(home: &Home) -> Result<(Program, String)> {
    let mut command = Command::new(binary("manman-host")?);
    command.args(["registry", "--internal", "127.0.0.1:0", "--data"]).arg(home.data());
    let mut program = Program::spawn("manman-host registry", &mut command)?;
    let line = program.line("ready", Duration::from_secs(20)).await?;
    let url = line.split_whitespace().last().context("no address")?.to_owned();
    Ok((program, url))
}

#[test]
fn it_runs_alone_and_outlives_a_kill() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let (mut program, url) = registry(&home).await?;
        ensure!(get(&url, "/discover").await? == (200, json!({})), "it knows somebody from the beginning");

        // The port is the socket's where the body does not say it.
        let port = free_port()?.to_string();
        let body = r#"{"name": "links", "expire": 600}"#;
        let (status, added) = curl(&["-X", "PUT", "--local-port", &port, "-d", body], &format!("{url}/self-register")).await?;
        ensure!(status == 201 && added["result"] == "added", "{status}: {added}");
        let links = json!({"ip": "127.0.0.1", "port": port.parse::<u16>()?});
        ensure!(get(&url, "/discover/links").await? == (200, links.clone()), "it is elsewhere");

        let body = r#"{"name": "nas", "expiry": 600, "ip": "192.168.1.20", "port": 445}"#;
        let (status, _) = curl(&["-X", "PUT", "-d", body], &format!("{url}/register")).await?;
        ensure!(status == 201, "{status}");
        let rival = r#"{"name": "nas", "expire": 600, "port": 445}"#;
        let (status, ignored) = curl(&["-X", "PUT", "-d", rival], &format!("{url}/self-register")).await?;
        ensure!(status == 409 && ignored["result"] == "ignored", "{status}: {ignored}");
        let (status, _) = curl(&["-X", "PUT", "-H", "X-Forwarded-For: 10.0.0.1", "-d", body], &format!("{url}/register")).await?;
        ensure!(status == 403, "a proxy on this machine makes nobody local: {status}");

        // An hour is not waited for; a second is.
        let (status, _) = curl(&["-X", "PUT", "-d", r#"{"name":"brief","expire":1,"port":1}"#], &format!("{url}/self-register")).await?;
        ensure!(status == 201, "{status}");
        eventually("a record ends with its time", async || match get(&url, "/discover/brief").await {
            Ok((404, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;

        let listed = home.manman(&["--host", &url, "service", "list"]).await?.success()?;
        ensure!(listed.contains("nas") && listed.contains("192.168.1.20:445"), "{listed}");

        let found = home.manman(&["--host", &url, "service", "find", "nas"]).await?.success()?;
        ensure!(found == "http://192.168.1.20:445\n", "{found}");
        let nowhere = home.manman(&["--host", &url, "service", "find", "nobody"]).await?;
        ensure!(nowhere.code == Some(1) && nowhere.stderr.contains("does not have it"), "{nowhere:?}");

        // It is killed, not ended.
        eventually("it is saved", async || {
            let text = std::fs::read_to_string(home.data().join("registry.json")).unwrap_or_default();
            if text.contains("nas") && !text.contains("brief") { Ok(()) } else { Err(text) }
        })
        .await?;
        program.kill().await?;
        let found = home.manman(&["--host", &url, "service", "find", "nas"]).await?;
        ensure!(
            found.stderr.contains("does not answer") && found.success()? == "http://192.168.1.20:445\n",
            "the last answer is forgotten"
        );
        let (mut program, url) = registry(&home).await?;
        let (_, known) = get(&url, "/discover").await?;
        ensure!(known == json!({"links": links, "nas": {"ip": "192.168.1.20", "port": 445}}), "{known}");

        program.signal(rustix::process::Signal::TERM)?;
        let ended = program.ended(Duration::from_secs(10)).await?;
        ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    })
}

/// L15: every port is any, and nobody is told of anybody.
#[test]
fn a_running_game_is_found_by_its_name() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let (inner, public) = (home.context("internal_url")?, home.context("url")?);
        for path in ["/discover", "/discover/manman-host", "/health"] {
            let token = format!("Authorization: Bearer {}", home.context("token")?);
            let (status, _) = curl(&["-H", &token], &format!("{public}{path}")).await?;
            ensure!(status == 404, "{path} at the front door: {status}");
        }
        let body = r#"{"name": "links", "expire": 600}"#;
        let (status, _) = curl(&["-X", "PUT", "-d", body], &format!("{public}/self-register")).await?;
        ensure!(status == 404, "a service registers through the front door: {status}");
        let (status, _) = curl(&["-X", "PUT", "-d", body], &format!("{inner}/self-register")).await?;
        ensure!(status == 201, "{status}");

        let join = home.join_token().await?;
        let mut attic: WorkerProcess = home.worker("attic", &public, &["--join-token", &join]).await?;
        eventually("the worker is alive", async || {
            let seen = home.json(&["worker", "show", "attic"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["status"] == "alive" { Ok(()) } else { Err(seen["status"].to_string()) }
        })
        .await?;
        let port = free_port()?;
        let wish = format!("game={port}");
        let create =
            ["server", "create", "docker:manman/openarena", "--name", "my-server", "--worker", "attic", "--port", &wish, "--wait=5m"];
        home.manman(&create).await?.success()?;
        let seen = eventually_within(Duration::from_secs(10), "GET /discover/my-server answers", async || {
            match get(&inner, "/discover/my-server").await.map_err(|error| format!("{error:#}"))? {
                (200, seen) => Ok(seen),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let shown = home.json(&["server", "show", "my-server"]).await?;
        ensure!(seen == json!({"ip": shown["ports"][0]["address"], "port": port}), "{seen} is not where {shown:#} is");
        let (status, _) = get(&inner, "/discover/attic").await?;
        ensure!(status == 200, "the worker itself is not found: {status}");
        let listed = home.json(&["service", "list"]).await?;
        let names: Vec<&str> = listed.as_array().context("a list")?.iter().filter_map(|row| row["name"].as_str()).collect();
        for name in ["attic", "links", "manman-host", "my-server"] {
            ensure!(names.contains(&name), "no {name} among {names:?}");
        }

        // The whole machine is gone: its game is no longer said to be there.
        let killed = Instant::now();
        attic.program.kill().await?;
        eventually_within(Duration::from_secs(30), "the game has vanished", async || match get(&inner, "/discover/my-server").await {
            Ok((404, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        ensure!(killed.elapsed() < Duration::from_secs(30), "it took {:?}", killed.elapsed());
        Ok(())
    })
}
