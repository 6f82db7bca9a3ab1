//! A host, workers and games for a scenario: each a process of its own, each killed and started
//! again as the scenario likes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use manman_common::client::Client;
use manman_e2e::history::{Wish, Witness};
use manman_e2e::{Context, Database, Home, Program, Result, binary, ensure, eventually_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// What the games are: the stand-in of SteamCMD installs BZFlag, and this suite's own game is started.
pub(crate) const GAME: &str = "steamcmd:4000000001";
/// Time for anything that has to happen on two busy cores.
pub(crate) const SOON: Duration = Duration::from_secs(90);

pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) host: Option<Program>,
    /// Of the host; stays over its restarts.
    pub(crate) url: String,
    pub(crate) workers: BTreeMap<String, Program>,
    witness: TempDir,
    games: PathBuf,
    dice: Dice,
    /// A database of the scenario's own, where the host is to use one.
    pub(crate) database: Option<Database>,
    /// What was asked for, for the history.
    pub(crate) wishes: Mutex<Vec<Wish>>,
    /// World and line of what was typed on a console.
    pub(crate) typed: Mutex<Vec<(String, String)>>,
}

/// Whether all of it is to be done, as `tests/faults/run` does, or what the test command has time for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("MANMAN_FAULTS_FULL").is_some()
}

/// Numbers that are the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64: any seed is a good one.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// The seed of this run's dice.
pub(crate) fn seed() -> u64 {
    std::env::var("MANMAN_DAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

impl Stage {
    /// A home with definitions; nothing runs. `restart` is the games' policy.
    pub(crate) fn new(restart: &str) -> Result<Self> {
        let home = Home::empty()?;
        let witness = tempfile::Builder::new().prefix("manman-witness-").tempdir()?;
        // Each game may run as a user of its own.
        std::fs::set_permissions(witness.path(), std::fs::Permissions::from_mode(0o777))?;
        let program = witness.path().join("game");
        std::fs::copy(env!("CARGO_BIN_EXE_fault-game"), &program)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        let games = home.data().join("definitions");
        std::fs::create_dir_all(&games)?;
        let definition = format!(
            "game: {GAME}\nname: A game that misbehaves\nsteam: {{login: anonymous}}\n\
             variables:\n  OPTIONS: {{label: Options, default: \"\", max: 200}}\n\
             start: {{argv: [{program}, --witness, {witness}, --world, \"{{{{server.name}}}}\", --options, \"{{{{OPTIONS}}}}\"], expect: [bzfs]}}\n\
             ready: {{log: \"^world is up\"}}\nconsole: {{input: stdin}}\nrestart: {restart}\nupdate: {{on: manual}}\n\
             stop: [{{console: quit, wait: 2s}}, {{signal: TERM, wait: 2s}}]\ndata: {{save: [\"*.cfg\"], logs: []}}\n",
            program = program.display(),
            witness = witness.path().display(),
        );
        std::fs::write(games.join("game.yaml"), definition)?;
        Ok(Self {
            home,
            host: None,
            url: String::new(),
            workers: BTreeMap::new(),
            witness,
            games,
            dice: Dice::new(seed()),
            database: None,
            wishes: Mutex::default(),
            typed: Mutex::default(),
        })
    }

    /// A host and workers of these names, all alive.
    pub(crate) async fn with(restart: &str, workers: &[&str]) -> Result<Self> {
        let mut stage = Self::new(restart)?;
        stage.database = Some(Database::start().await?);
        stage.start_host(&[], &[]).await?;
        for worker in workers {
            stage.start_worker(worker, &[], &[]).await?;
        }
        for worker in workers {
            stage.alive(worker).await?;
        }
        Ok(stage)
    }

    /// Starts the host; a second time at the same address.
    pub(crate) async fn start_host(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        self.spawn_host(arguments, environment)?;
        self.host()?.line("ready", SOON).await?;
        self.url = self.home.context("url")?;
        Ok(())
    }

    /// The same, without waiting for it to be there.
    pub(crate) fn spawn_host(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let public = if self.url.is_empty() { "127.0.0.1:0" } else { self.url.trim_start_matches("http://") };
        let mut command = Command::new(binary("manman-host")?);
        command.args(["run", "--public", public, "--internal", "127.0.0.1:0", "--data"]).arg(self.home.data());
        if !arguments.contains(&"--settle") {
            command.args(["--settle", "0s"]);
        }
        if let Some(database) = &self.database {
            command.args(["--database-url", &database.url()]);
        }
        command.arg("--games").arg(&self.games).args(arguments).envs(environment.iter().copied());
        self.host = Some(Program::spawn("manman-host", &mut command)?);
        Ok(())
    }

    pub(crate) fn host(&mut self) -> Result<&mut Program> {
        self.host.as_mut().context("no host runs")
    }

    pub(crate) async fn kill_host(&mut self) -> Result<()> {
        self.host.take().context("no host runs")?.kill().await
    }

    /// Where a worker keeps everything.
    pub(crate) fn data_of(&self, worker: &str) -> PathBuf {
        self.home.data().join("workers").join(worker)
    }

    /// A server's directory on a worker.
    pub(crate) fn server_dir(&self, worker: &str, id: &str) -> PathBuf {
        self.data_of(worker).join("servers").join(id)
    }

    /// Starts a worker on its data directory; it joins with a token where that is new.
    pub(crate) async fn start_worker(&mut self, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let data = self.data_of(name);
        let token = if data.exists() { None } else { Some(self.home.join_token().await?) };
        self.start_worker_at(name, &data, token.as_deref(), arguments, environment)
    }

    /// The same on any directory, by the name under which it is kept here.
    pub(crate) fn start_worker_at(
        &mut self,
        name: &str,
        data: &Path,
        token: Option<&str>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        self.start_program(&binary("manman-worker")?, name, data, token, arguments, environment)
    }

    /// Another build than the one to be tried, on its data directory.
    pub(crate) async fn start_worker_of(&mut self, program: &Path, name: &str) -> Result<()> {
        let data = self.data_of(name);
        let token = if data.exists() { None } else { Some(self.home.join_token().await?) };
        self.start_program(program, name, &data, token.as_deref(), &[], &[])
    }

    fn start_program(
        &mut self,
        program: &Path,
        name: &str,
        data: &Path,
        token: Option<&str>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        std::fs::create_dir_all(data)?;
        let steamcmd = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
        let mut command = Command::new(program);
        command.args(["run", "--name", name, "--docker", "off", "--steamcmd"]).arg(steamcmd).arg("--data").arg(data);
        if !arguments.contains(&"--host") {
            command.args(["--host", &self.url]);
        }
        if let Some(token) = token {
            command.args(["--join-token", token]);
        }
        command.args(arguments).envs(environment.iter().copied());
        let program = Program::spawn(&format!("worker {name}"), &mut command)?;
        self.workers.insert(name.to_owned(), program);
        Ok(())
    }

    pub(crate) fn worker(&mut self, name: &str) -> Result<&mut Program> {
        self.workers.get_mut(name).with_context(|| format!("no worker {name} runs"))
    }

    pub(crate) async fn kill_worker(&mut self, name: &str) -> Result<()> {
        self.workers.remove(name).with_context(|| format!("no worker {name} runs"))?.kill().await
    }

    /// A number below `bound`, the same for the same seed.
    pub(crate) fn random(&mut self, bound: u64) -> u64 {
        self.dice.below(bound)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        self.home.client()
    }

    pub(crate) async fn alive(&self, worker: &str) -> Result<Value> {
        self.worker_until(worker, "alive", |seen| seen["status"] == "alive").await
    }

    pub(crate) async fn worker_until(&self, worker: &str, what: &str, enough: impl FnMut(&Value) -> bool) -> Result<Value> {
        self.shown_until(&format!("/worker/{worker}"), &format!("{worker} is {what}"), enough).await
    }

    /// Makes a server that is wanted running, and answers at once.
    pub(crate) async fn create(&self, name: &str, worker: &str, options: &str) -> Result<Value> {
        let body = json!({"game_id": GAME, "name": name, "worker_id": worker, "variables": {"OPTIONS": options}});
        self.client()?.call(reqwest::Method::POST, "/server", Some(&body)).await.with_context(|| format!("create {name}"))
    }

    /// Makes a server and waits until it is Ready; gives what the host shows of it.
    pub(crate) async fn game(&self, name: &str, worker: &str, options: &str) -> Result<Value> {
        self.create(name, worker, options).await?;
        self.phase(name, "Ready").await
    }

    /// `POST /server/{name}/{verb}`.
    pub(crate) async fn ask(&self, name: &str, verb: &str) -> Result<Value> {
        self.wish(name, verb != "start");
        let path = format!("/server/{name}/{verb}");
        self.client()?.call(reqwest::Method::POST, &path, Some(&json!({}))).await.with_context(|| path)
    }

    /// Notes for the history that somebody wished something of a server, by its name.
    pub(crate) fn wish(&self, server: &str, ends_it: bool) {
        let wish = Wish { server: server.to_owned(), at_ms: boot_ms(), ends_it, once: None };
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).push(wish);
    }

    /// Notes for the history that a line is being typed.
    pub(crate) fn types(&self, world: &str, line: &str) {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner).push((world.to_owned(), line.to_owned()));
    }

    pub(crate) async fn shown(&self, name: &str) -> Result<Value> {
        Ok(self.client()?.call(reqwest::Method::GET, &format!("/server/{name}"), None::<&()>).await?)
    }

    pub(crate) async fn phase(&self, name: &str, wanted: &str) -> Result<Value> {
        self.until(name, wanted, |seen| seen["phase"] == wanted).await
    }

    /// One game runs. It may be short of Ready where its line that says so fell into a closed pipe.
    pub(crate) async fn one(&self, name: &str, processes: usize) -> Result<Value> {
        let there = |shown: &Value| shown["phase"] == "Ready" || shown["phase"] == "Running";
        self.until(name, "one running game", |shown| there(shown) && !shown["instance"].is_null() && self.pids(name).len() == processes)
            .await
    }

    pub(crate) async fn until(&self, name: &str, what: &str, enough: impl FnMut(&Value) -> bool) -> Result<Value> {
        self.shown_until(&format!("/server/{name}"), &format!("{name} is {what}"), enough).await
    }

    /// Asks for a thing again and again, and gives it as it is once it is as it should be.
    async fn shown_until(&self, path: &str, what: &str, mut enough: impl FnMut(&Value) -> bool) -> Result<Value> {
        let client = self.client()?;
        eventually_within(SOON, what, async || {
            let seen: Result<Value, _> = client.call(reqwest::Method::GET, path, None::<&()>).await;
            let seen = seen.map_err(|error| format!("{error:#}"))?;
            if enough(&seen) { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await
    }

    /// All events that the host has of a server, or of everybody, oldest first.
    pub(crate) async fn events(&self, server_id: Option<&Value>) -> Result<Vec<Value>> {
        let client = self.client()?;
        let filter = server_id.and_then(Value::as_str).map_or_else(String::new, |id| format!("&server_id={id}"));
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/event?limit=200{filter}{cursor}");
            let page: Value = client.call(reqwest::Method::GET, &path, None::<&()>).await?;
            events.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        events.reverse();
        Ok(events)
    }

    /// How many events of a kind a server (or anybody) has had.
    pub(crate) async fn count(&self, kind: &str, server_id: Option<&Value>) -> Result<usize> {
        Ok(self.events(server_id).await?.iter().filter(|event| event["kind"] == kind).count())
    }

    /// Waits until the host was told of a server at least `times` times that it was adopted.
    pub(crate) async fn adopted(&self, server_id: &Value, times: usize) -> Result<()> {
        eventually_within(SOON, &format!("{server_id} is adopted {times} times"), async || {
            match self.count("server.adopted", Some(server_id)).await {
                Ok(count) if count >= times => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Types a line on a game's console.
    pub(crate) async fn send(&self, name: &str, line: &str) -> Result<String> {
        self.types(name, line);
        self.home.manman(&["send", name, line]).await?.success()
    }

    /// The processes of a world's game that live, its main one first.
    pub(crate) fn pids(&self, world: &str) -> Vec<i32> {
        let witness = self.witness.path().to_string_lossy().into_owned();
        let mut found = processes(|words| words.contains(&witness.as_str()) && words.windows(2).any(|pair| pair == ["--world", world]));
        found.sort_by_key(|process| (process.words.iter().any(|word| word == "--role"), process.pid));
        found.into_iter().map(|process| process.pid).collect()
    }

    /// The main processes of a world's game, without what they started.
    pub(crate) fn games(&self, world: &str) -> Vec<i32> {
        let witness = self.witness.path().to_string_lossy().into_owned();
        let ours = |words: &[&str]| {
            words.contains(&witness.as_str()) && words.windows(2).any(|pair| pair == ["--world", world]) && !words.contains(&"--role")
        };
        processes(ours).into_iter().map(|process| process.pid).collect()
    }

    /// The game's main process, which must be the only one.
    pub(crate) fn pid(&self, world: &str) -> Result<i32> {
        let pids = self.pids(world);
        ensure!(pids.len() == 1, "{world} has the processes {pids:?}");
        Ok(pids[0])
    }

    /// The shims of a worker that live, or of one of its servers.
    pub(crate) fn shims(&self, worker: &str, server_id: Option<&str>) -> Vec<i32> {
        let data = self.data_of(worker);
        let place = server_id.map_or_else(|| data.join("servers"), |id| self.server_dir(worker, id)).join("");
        let (data, place) = (data.join("").to_string_lossy().into_owned(), place.to_string_lossy().into_owned());
        let of =
            |words: &[&str]| words.first().is_some_and(|word| word.starts_with(&data)) && words.iter().any(|word| word.contains(&place));
        processes(of).into_iter().map(|process| process.pid).collect()
    }

    /// What the games themselves have written down.
    pub(crate) fn witness(&self) -> Result<Vec<Witness>> {
        Witness::read(self.witness.path())
    }

    /// Fails if any game ever saw another one on its world.
    pub(crate) fn alone(&self) -> Result<usize> {
        let witness = self.witness()?;
        let crowd: Vec<_> = witness.iter().filter(|entry| entry.alone == Some(false)).collect();
        ensure!(crowd.is_empty(), "not alone: {crowd:?}");
        Ok(witness.iter().filter(|entry| entry.alone.is_some()).count())
    }

    pub(crate) fn witness_dir(&self) -> &Path {
        self.witness.path()
    }
}

/// Workers first, while their host is there; then whatever they left running.
impl Drop for Stage {
    fn drop(&mut self) {
        for worker in self.workers.values_mut() {
            worker.end();
        }
        if let Some(mut host) = self.host.take() {
            host.end();
        }
        let (data, witness) =
            (self.home.data().join("").to_string_lossy().into_owned(), self.witness.path().to_string_lossy().into_owned());
        // A game first, or its shim would tell of its end to nobody.
        for mark in [witness, data] {
            for process in processes(|words| words.iter().any(|word| word.starts_with(&mark))) {
                let _ = kill(process.pid, Signal::KILL);
            }
        }
    }
}

/// Since boot, sleep included; the clock of journals and witnesses.
pub(crate) fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0)
}

pub(crate) fn kill(pid: i32, signal: Signal) -> Result<()> {
    let process = Pid::from_raw(pid).with_context(|| format!("{pid} is no pid"))?;
    kill_process(process, signal).with_context(|| format!("send {signal:?} to {pid}"))
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) words: Vec<String>,
}

/// The living processes whose command line `ours` says yes to.
pub(crate) fn processes(ours: impl Fn(&[&str]) -> bool) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let look = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read(entry.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let words: Vec<&str> = text.split_terminator('\0').collect();
        if words.is_empty() || !ours(&words) {
            return None;
        }
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let state = stat.rsplit_once(')')?.1.split_ascii_whitespace().next()?.to_owned();
        (state != "Z").then(|| Process { pid, words: words.into_iter().map(str::to_owned).collect() })
    };
    entries.flatten().filter_map(look).collect()
}
