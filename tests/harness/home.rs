//! A home: a data directory, and our programs running on it, on free ports of the loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use manman_common::client::Client;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::container::{containers_of, docker};
use crate::guard::Guard;
use crate::process::{Output, Program, binary, run};

/// Time for Postgres, host and worker to come up on a busy machine.
const UP: Duration = Duration::from_secs(90);

/// A data directory with everything that `manman up` made in it.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    pub up: Option<Program>,
    // Behind the folder: where that has gone, everything has.
    _guard: Guard,
}

/// After a test that was killed: what ran on its home, the cluster elsewhere, and the home.
const CLEAN: &str = r#"
[ -d "$1" ] || exit 0
for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF "$1/"; then kill -9 "${process#/proc/}" 2>/dev/null; fi
done
home=$(sed -n 's/^home = "\(.*\)"$/\1/p' "$1/postgres.toml" 2>/dev/null)
case $home in /var/lib/manman/?*)
    for _ in $(seq 100); do [ -e "$home/data/postmaster.pid" ] || break; sleep 0.1; done
    rm -rf "$home" ;;
esac
rm -rf "$1"
"#;

/// A host of its own, without a worker.
#[derive(Debug)]
pub struct HostProcess {
    pub program: Program,
    pub url: String,
}

/// A worker of its own.
#[derive(Debug)]
pub struct WorkerProcess {
    pub program: Program,
    pub data: PathBuf,
    name: String,
}

impl Home {
    /// An empty home; nothing runs.
    pub fn empty() -> Result<Self> {
        // Short, since a Unix socket's path has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("manman-").tempdir()?;
        let guard = Guard::new(CLEAN, &[folder.path().to_str().context("the path of a home")?])?;
        Ok(Self { folder, up: None, _guard: guard })
    }

    /// `manman up` in an empty home.
    pub async fn up() -> Result<Self> {
        Self::up_with(&[]).await
    }

    pub async fn up_with(arguments: &[&str]) -> Result<Self> {
        let mut home = Self::empty()?;
        home.start(arguments).await?;
        Ok(home)
    }

    /// `manman up` again, on what is there.
    pub async fn start(&mut self, arguments: &[&str]) -> Result<()> {
        self.start_with(arguments, &[]).await
    }

    /// The same with further words in its environment.
    pub async fn start_with(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(binary("manman")?);
        command.args(["up", "--yes", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data"]).arg(self.data()).args(arguments);
        command.envs(environment.iter().copied());
        let mut up = Program::spawn("manman up", &mut command)?;
        up.line("ready", UP).await?;
        self.up = Some(up);
        Ok(())
    }

    #[must_use]
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    pub fn program(&mut self) -> Result<&mut Program> {
        self.up.as_mut().context("`manman up` does not run")
    }

    /// The value of a key of context.toml.
    pub fn context(&self, key: &str) -> Result<String> {
        let path = self.data().join("context.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let value = text.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| name.trim() == key);
        let (_, value) = value.ok_or_else(|| anyhow!("no `{key}` in {text:?}"))?;
        Ok(value.trim().trim_matches('"').to_owned())
    }

    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.context("url")?.parse()?, Some(self.context("token")?))?)
    }

    /// `manman ARGS…` on this home.
    pub async fn manman(&self, arguments: &[&str]) -> Result<Output> {
        run(&binary("manman")?, |command| {
            command.arg("--data").arg(self.data()).args(arguments);
        })
        .await
    }

    /// `manman ARGS… --json`, which is expected to succeed.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.manman(&[arguments, &["--json"]].concat()).await?.success()?;
        serde_json::from_str(&text).with_context(|| format!("`manman {}` printed {text}", arguments.join(" ")))
    }

    /// A link that signs a browser in once, as `manman login` prints it.
    pub async fn login_link(&self) -> Result<String> {
        let said = self.manman(&["login"]).await?.success()?;
        let link = said.split_ascii_whitespace().find(|word| word.contains("/login?code="));
        link.map(str::to_owned).with_context(|| format!("no link in {said:?}"))
    }

    /// The address of a server's page in the console.
    pub async fn server_page(&self, name: &str) -> Result<String> {
        let server = self.client()?.server_show(name).await?;
        Ok(format!("{}/#/server/{}", self.context("url")?, server.id))
    }

    /// A server that prints, bare, without ports: `printer ARGV…`.
    pub async fn printer(&self, name: &str, argv: &[&str]) -> Result<Value> {
        let body =
            serde_json::json!({"game_id": "docker:manman-e2e/printer", "name": name, "start": {"argv": argv}, "restart": "on-failure"});
        let client = self.client()?;
        Ok(client.call(reqwest::Method::POST, "/server", Some(&body)).await?)
    }

    /// The host alone, as `manman-host run`.
    pub async fn host(&self, arguments: &[&str]) -> Result<HostProcess> {
        self.host_at("127.0.0.1:0", arguments).await
    }

    pub async fn host_at(&self, public: &str, arguments: &[&str]) -> Result<HostProcess> {
        let mut command = Command::new(binary("manman-host")?);
        command.args(["run", "--public", public, "--internal", "127.0.0.1:0", "--data"]).arg(self.data()).args(arguments);
        let mut program = Program::spawn("manman-host", &mut command)?;
        program.line("ready", UP).await?;
        let url = self.context("url")?;
        Ok(HostProcess { program, url })
    }

    /// A worker in a data directory of its own below the home, towards `host`.
    pub async fn worker(&self, name: &str, host: &str, arguments: &[&str]) -> Result<WorkerProcess> {
        WorkerProcess::start(&self.data().join("workers").join(name), name, host, arguments).await
    }

    /// A token that admits a worker.
    pub async fn join_token(&self) -> Result<String> {
        let made = self.json(&["worker", "token"]).await?;
        made["token"].as_str().map(str::to_owned).ok_or_else(|| anyhow!("no token in {made}"))
    }

    /// The id of a worker, by its name.
    pub async fn worker_id(&self, name: &str) -> Result<String> {
        let worker = self.client()?.worker_show(name).await?;
        Ok(worker.id.to_string())
    }
}

impl WorkerProcess {
    pub async fn start(data: &Path, name: &str, host: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_with(data, name, host, arguments, &[]).await
    }

    /// The same with further words in its environment.
    pub async fn start_with(data: &Path, name: &str, host: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let mut command = Command::new(binary("manman-worker")?);
        command.args(["run", "--host", host, "--name", name, "--data"]).arg(data).args(arguments);
        command.envs(environment.iter().copied());
        let program = Program::spawn(&format!("worker {name}"), &mut command)?;
        Ok(Self { program, data: data.to_owned(), name: name.to_owned() })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Ends what runs, and removes what it has left elsewhere: the containers of its servers, found by
/// the servers' own directories, and a cluster that Postgres' own account could not have had here.
impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.end();
        }
        let data = self.data().to_owned();
        end_processes_below(&data);
        let cleaning = std::thread::spawn(move || {
            remove_cluster(&data)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(remove_containers_below(&data))
        });
        match cleaning.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("something of a test has stayed behind: {error:#}"),
            Err(_) => eprintln!("cleaning up after a test panicked"),
        }
    }
}

fn remove_cluster(data: &Path) -> Result<()> {
    let Ok(record) = std::fs::read_to_string(data.join("postgres.toml")) else { return Ok(()) };
    let home = record.lines().find_map(|line| line.strip_prefix("home = ")).map(|home| PathBuf::from(home.trim_matches('"')));
    match home {
        Some(home) if home.starts_with("/var/lib/manman") => {
            // Postgres ends with its host, a moment after a SIGKILL.
            let pid_file = home.join("data/postmaster.pid");
            for _ in 0..200 {
                if !pid_file.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            std::fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))
        }
        _ => Ok(()),
    }
}

async fn remove_containers_below(data: &Path) -> Result<()> {
    let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", "label=manman.server"]).await?;
    for id in ids.lines() {
        let sources = docker(&["inspect", "--format", "{{range .Mounts}}{{println .Source}}{{end}}", id]).await.unwrap_or_default();
        if sources.lines().any(|source| Path::new(source).starts_with(data)) {
            let _ = docker(&["rm", "-f", id]).await;
        }
    }
    Ok(())
}

/// The containers of one server.
pub async fn containers_of_server(server: &str) -> Result<Vec<crate::Container>> {
    containers_of("manman.server", server).await
}

/// Ends the shims that were started for a data directory, and the games behind them: both outlive
/// everything else of a test, as they should.
fn end_processes_below(data: &Path) {
    let mark = data.join("").to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    let mut parents = std::collections::HashMap::new();
    let mut shims = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<i32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if words.starts_with(mark.as_bytes()) && words.windows(5).any(|part| part == b"/shim") {
            shims.push(pid);
        }
    }
    let below = |pid: i32| {
        let mut at = pid;
        while let Some(parent) = parents.get(&at).copied().filter(|parent| *parent > 1) {
            if shims.contains(&parent) {
                return true;
            }
            at = parent;
        }
        false
    };
    let games: Vec<i32> = parents.keys().copied().filter(|pid| below(*pid)).collect();
    for pid in games.into_iter().chain(shims.iter().copied()).filter_map(rustix::process::Pid::from_raw) {
        // One that has ended meanwhile is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
