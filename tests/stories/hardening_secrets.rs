//! Secrets are where they belong and nowhere else: not in a log, however much it tells, not in an
//! event, an answer, a command line or somebody else's environment, and not in a core.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::time::Duration;

use manman_e2e::{Context, Home, Program, Result, binary, ensure, eventually, story};
use reqwest::Method;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Asker, session_of, text};

/// Longest file of a data directory that is looked into.
const FILE_MAX: u64 = 64 << 20;

#[derive(Default)]
struct Known(BTreeMap<&'static str, String>);

impl Known {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        self.0.insert(what, secret.into());
    }

    /// Which of them are in there.
    fn within<'a>(&'a self, place: &[u8]) -> Vec<&'a str> {
        let is_in = |secret: &str| place.windows(secret.len()).any(|part| part == secret.as_bytes());
        self.0.iter().filter(|(_, secret)| is_in(secret)).map(|(what, _)| *what).collect()
    }
}

/// The lines of a program's output that hold one.
fn lines_with(known: &Known, who: &str, program: &Program) -> Vec<String> {
    let said = program.said();
    let leaks = said.iter().filter_map(|line| {
        let found = known.within(line.as_bytes());
        (!found.is_empty()).then(|| format!("{who} says {}: {:.240}", found.join(" and "), line))
    });
    leaks.take(10).collect()
}

/// Of every process of this machine: what it was started with, and its environment.
fn processes_with(known: &Known, may: impl Fn(i32, &str, &[u8]) -> bool) -> Result<Vec<String>> {
    let mut leaks = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // One that ends meanwhile has nothing to show.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        for (place, bytes) in [("command line", &command), ("environment", &environment)] {
            for what in known.within(bytes) {
                if !(place == "environment" && may(pid, what, &environment)) {
                    leaks.push(format!("{what} is in the {place} of {pid}: {:.200}", String::from_utf8_lossy(&command).replace('\0', " ")));
                }
            }
        }
    }
    Ok(leaks)
}

/// Files with a secret that others than their owner may read: rights of the file, or of a folder on
/// the way to it, keep them out.
fn files_with(known: &Known, root: &Path) -> Result<Vec<String>> {
    let (mut leaks, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            // What others may not enter, they may not read.
            if meta.permissions().mode() & 0o077 == 0 {
                continue;
            }
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && meta.len() < FILE_MAX {
                let found = known.within(&std::fs::read(entry.path()).unwrap_or_default()).join(" and ");
                if !found.is_empty() {
                    leaks.push(format!("{found} is in {}, which is {:o}", entry.path().display(), meta.permissions().mode()));
                }
            }
        }
    }
    Ok(leaks)
}

#[test]
fn secrets_are_where_they_belong_and_nowhere_else() -> Result<()> {
    story(async {
        let mut known = Known::default();
        let home = Home::empty()?;
        super::templates::with_printer(&home)?;
        known.add("the webhook's key", "https-hook-key-5f0c1e7d9a");
        let mut command = Command::new(binary("manman-host")?);
        command.args(["run", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data"]).arg(home.data());
        command
            .env("MANMAN_LOG", "trace")
            .env("MANMAN_INCIDENT_WEBHOOK", format!("http://127.0.0.1:9/hook/{}", known.0["the webhook's key"]));
        let mut host = Program::spawn("manman-host", &mut command)?;
        host.line("ready", Duration::from_secs(90)).await?;
        // The first start says its one-time link, to whoever started it: that is what it is for.
        let ask = Asker::new(&home)?;
        known.add("the admin's token", &ask.admin);

        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        known.add("the token to join with", &join);
        let data = home.data().join("worker");
        std::fs::create_dir_all(&data)?;
        let mut command = Command::new(binary("manman-worker")?);
        command.args(["run", "--host", &ask.url, "--name", "attic", "--data"]).arg(&data);
        command.env("MANMAN_LOG", "trace").env("MANMAN_JOIN_TOKEN", &join);
        let worker = Program::spawn("manman-worker", &mut command)?;
        eventually("the worker is alive", async || {
            let seen = home.json(&["worker", "show", "attic"]).await.map_err(|error| format!("{error:#}"))?;
            if seen["status"] == "alive" { Ok(()) } else { Err(seen.to_string()) }
        })
        .await?;
        known.add("the worker's API token", std::fs::read_to_string(data.join("api-token"))?.trim());

        // People, their passwords, tokens, links and sessions.
        for (what, password) in [("a password", "open sesame 8e21c0"), ("a wrong password", "open barley 77d1ab")] {
            known.add(what, password);
        }
        ask.account("anna", "operator", &known.0["a password"]).await?;
        known.add("a session", ask.sign_in("anna", &known.0["a password"]).await?);
        ask.plain(Method::POST, "/login").json(&json!({ "name": "anna", "password": known.0["a wrong password"] })).send().await?;
        let (_, token) = ask.token(json!({ "scope": "viewer", "label": "robot" })).await?;
        known.add("an API token", &token);
        ask.plain(Method::GET, "/server").bearer_auth(&token).send().await?.error_for_status()?;
        ask.plain(Method::POST, "/login").json(&json!({ "token": token })).send().await?;
        let link = text(&ask.did(Method::POST, "/login-link", Value::Null).await?, "url")?;
        known.add("a link's code", link.split("code=").nth(1).context("a code")?);
        let followed = ask.plain(Method::GET, &format!("/login?code={}", known.0["a link's code"])).send().await?;
        known.add("a link's session", session_of(&followed)?);
        let (_, registered) = ask.register("cellar", Some(&join)).await?;
        known.add("a worker's token", text(&registered, "token")?);
        if let Some(resume) = registered["resume_token"].as_str() {
            known.add("a resume token", resume);
        }
        // A waifu's own secret, and the password of its database.
        known.add("a waifu's secret", "waifu-secret-30b1d2c4");
        let internal = home.context("internal_url")?;
        let asked = ask
            .http
            .post(format!("{internal}/__internal/database"))
            .json(&json!({ "name": "links", "host": "127.0.0.1:1", "secret": known.0["a waifu's secret"] }))
            .send()
            .await?;
        if let Ok(given) = asked.json::<Value>().await
            && let Some(password) = given["password"].as_str()
        {
            known.add("a database's password", password);
        }

        // A game's secret: in its own environment alone.
        known.add("a game's password", "game-password-c0ffee42");
        let wish =
            json!({ "game_id": "docker:manman-e2e/printer", "name": "game", "variables": { "PASSWORD": known.0["a game's password"] } });
        let made = ask.did(Method::POST, "/server", wish).await?;
        ensure!(known.within(made.to_string().as_bytes()).is_empty(), "{made:#}");
        home.manman(&["server", "start", "game", "--wait=90s"]).await?.success()?;
        home.manman(&["send", "game", "hello"]).await?.success()?;
        ask.did(Method::PATCH, "/server/game", json!({ "variables": { "TEXT": "other" } })).await?;
        home.manman(&["server", "restart", "game", "--wait=60s"]).await?.success()?;

        // Wrong in as many ways, with a secret in hand.
        let mut answers = Vec::new();
        let password = &known.0["a game's password"];
        for request in [
            ask.request(Method::PATCH, "/server/game")
                .json(&json!({ "variables": { "PASSWORD": format!("{password}{}", "x".repeat(100)) } })),
            ask.request(Method::PATCH, "/server/game").json(&json!({ "variables": { "PASSWORD": format!("{password}\n") } })),
            ask.request(Method::PATCH, "/server/game").json(&json!({ "variables": { "PASSWORD": { "is": password } } })),
            ask.request(Method::POST, "/server")
                .header("content-type", "application/json")
                .body(format!("{{\"variables\": {{\"PASSWORD\": \"{password}\" \"")),
            ask.plain(Method::POST, "/login").json(&json!({ "name": "anna", "password": known.0["a password"], "token": token })),
            ask.plain(Method::POST, "/login").header("content-type", "application/json").body(format!("{{\"token\": \"{token}\", ")),
            ask.plain(Method::GET, "/nowhere").bearer_auth(&token),
            ask.plain(Method::GET, &format!("/login?code={}", known.0["a link's code"])),
            ask.request(Method::GET, "/server/game"),
            ask.request(Method::GET, "/server"),
            ask.request(Method::GET, "/event?limit=200"),
            ask.request(Method::GET, "/token"),
            ask.request(Method::GET, "/session"),
            ask.request(Method::GET, "/account"),
            ask.request(Method::GET, "/worker"),
            ask.request(Method::GET, "/status"),
            ask.request(Method::GET, "/metrics"),
            ask.request(Method::GET, "/service"),
        ] {
            let request = request.build()?;
            let what = format!("{} {}", request.method(), request.url().path());
            let response = ask.http.execute(request).await?;
            answers.push((what, format!("{:?}", response.headers()), response.text().await?));
        }
        let mut leaks = Vec::new();
        for (what, headers, answer) in answers {
            let found = known.within([headers, answer].concat().as_bytes()).join(" and ");
            if !found.is_empty() {
                leaks.push(format!("{what} answers with {found}"));
            }
        }
        for arguments in [
            &["server", "list"][..],
            &["server", "show", "game"],
            &["worker", "list"],
            &["events"],
            &["status"],
            &["doctor"],
            &["logs", "game"],
        ] {
            let said = home.manman(&[arguments, &["--json"]].concat()).await?;
            let found = known.within(format!("{}{}", said.stdout, said.stderr).as_bytes()).join(" and ");
            if !found.is_empty() {
                leaks.push(format!("`manman {}` prints {found}", arguments.join(" ")));
            }
        }

        let pid = |program: &Program| program.pid().map(Pid::as_raw_nonzero).map_or(0, std::num::NonZero::get);
        let (host_pid, worker_pid) = (pid(&host), pid(&worker));
        leaks.extend(processes_with(&known, |pid, what, environment| match what {
            "the webhook's key" => pid == host_pid,
            "the token to join with" => pid == worker_pid,
            "a game's password" => environment.windows(16).any(|part| part == b"PASSWORD_IN_ENV="),
            _ => false,
        })?);
        leaks.extend(files_with(&known, home.data())?);
        leaks.extend(lines_with(&known, "the host", &host));
        leaks.extend(lines_with(&known, "the worker", &worker));
        ensure!(host.said().len() > 200 && worker.said().len() > 50, "they were to tell everything");
        ensure!(leaks.is_empty(), "{leaks:#?}");
        Ok(())
    })
}

/// A crash of ours leaves no core, though whoever started us allowed one.
#[test]
fn no_crash_leaves_a_core_with_what_we_know() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let allowed = |program: &Path, arguments: &[&str]| -> Result<std::process::Child> {
            let folder = home.data().join("cores");
            std::fs::create_dir_all(&folder)?;
            // `prlimit` sets what a shell's `ulimit -c unlimited` would.
            let mut command = std::process::Command::new("prlimit");
            command.arg("--core=unlimited:unlimited").arg(program).args(arguments).current_dir(folder).process_group(0);
            Ok(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?)
        };
        let crash = async |mut child: std::process::Child| -> Result<std::process::ExitStatus> {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process")?;
            kill_process(pid, Signal::ABORT)?;
            eventually("it ends", async || match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(format!("{other:?}")),
            })
            .await
        };
        ensure!(
            rustix::process::getrlimit(Resource::Core) != Rlimit { current: Some(0), maximum: Some(0) },
            "no core is allowed here at all"
        );
        let data = home.data().join("data").display().to_string();
        let sleeper = allowed(Path::new("sleep"), &["60"])?;
        is_called(&sleeper, "sleep").await?;
        let control = crash(sleeper).await?;
        ensure!(control.signal() == Some(6), "{control:?}");
        for (name, arguments) in [
            ("manman-host", vec!["run", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data", &data]),
            ("manman-worker", vec!["run", "--host", "http://127.0.0.1:1", "--docker", "off", "--name", "attic", "--data", &data]),
            ("manman", vec!["up", "--yes", "--docker", "off", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data", &data]),
        ] {
            let child = allowed(&binary(name)?, &arguments)?;
            is_called(&child, name).await?;
            // It is set before anything is read that is worth keeping.
            let pid = child.id();
            eventually("it works", async || {
                let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count);
                if threads.as_ref().is_ok_and(|count| *count > 1) { Ok(()) } else { Err(format!("{threads:?}")) }
            })
            .await?;
            let ended = crash(child).await?;
            ensure!(ended.signal() == Some(6) && !ended.core_dumped(), "{name}: {ended:?}");
        }
        if !control.core_dumped() {
            eprintln!("this machine makes no cores, so that none was to be seen: {control:?}");
        }
        Ok(())
    })
}

/// `prlimit` has become the program itself.
async fn is_called(child: &std::process::Child, name: &str) -> Result<()> {
    eventually("it is started", async || {
        let called = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        if called.trim() == name { Ok(()) } else { Err(called) }
    })
    .await
}
