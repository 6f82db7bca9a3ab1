//! A Docker engine of the test's own, to be restarted at will. The machine's own is never touched.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::process::Command;

use crate::guard::Guard;
use crate::process::{Program, run};
use crate::wait::eventually_within;

/// An engine has a containerd to start, and containers to look after.
const UP: Duration = Duration::from_secs(60);

/// Removes what is in the engine, ends it, and whatever it has left.
const CLEAN: &str = r#"
folder=$1
docker() { timeout 20 docker -H "unix://$folder/docker.sock" "$@"; }
ids=$(docker ps -aq 2>/dev/null) && [ -n "$ids" ] && docker rm -f $ids >/dev/null 2>&1
pid=$(cat "$folder/docker.pid" 2>/dev/null) && kill "$pid" 2>/dev/null
for _ in $(seq 100); do [ -n "$pid" ] && [ -d "/proc/$pid" ] || break; sleep 0.1; done
for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF "$folder/"; then
        # A game is a child of its container's shim, and nothing about it names the folder.
        kill -9 $(cat "$process"/task/*/children 2>/dev/null) "${process#/proc/}" 2>/dev/null
    fi
done
grep -F "$folder/" /proc/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf "$folder"
true
"#;

/// A dockerd with a root, a socket, a containerd and a network namespace of its own, and no bridge.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    live_restore: bool,
    program: Option<Program>,
    _guard: Guard,
}

impl Engine {
    pub async fn start(live_restore: bool) -> Result<Self> {
        // Short, since a Unix socket's path has 107 bytes at most; and the guard's to remove.
        let folder = tempfile::Builder::new().prefix("mmd-").tempdir()?.keep();
        let guard = Guard::new(CLEAN, &[folder.to_str().context("the path of an engine")?])?;
        let mut engine = Self { folder, live_restore, program: None, _guard: guard };
        engine.up().await?;
        Ok(engine)
    }

    async fn up(&mut self) -> Result<()> {
        // In a network of its own: an engine that is to have no bridge deletes the `docker0` that it
        // finds, which is that of the machine's own engine. Its socket is a file and reached all the same.
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "dockerd"]);
        let at = |name: &str| self.folder.join(name);
        command.arg("--data-root").arg(at("root")).arg("--exec-root").arg(at("run"));
        command.arg("--pidfile").arg(at("docker.pid")).arg("-H").arg(self.host());
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        let mut program = Program::spawn("dockerd", &mut command)?;
        eventually_within(UP, "the engine answers", async || {
            if !program.is_running() {
                return Ok(Err(anyhow::anyhow!("dockerd has ended: {:?}", program.said())));
            }
            match self.docker(&["version"]).await {
                Ok(_) => Ok(Ok(())),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await??;
        self.program = Some(program);
        Ok(())
    }

    /// As `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.display())
    }

    /// `docker ARGS…` on this engine.
    pub async fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = run(Path::new("docker"), |command| {
            command.arg("-H").arg(self.host()).args(arguments);
        })
        .await?;
        output.success().map(|text| text.trim().to_owned()).with_context(|| format!("docker {}", arguments.join(" ")))
    }

    /// Brings an image of the machine's own engine here.
    pub async fn load(&self, image: &str) -> Result<()> {
        let mut save = Command::new("docker");
        let mut save = save.args(["save", image]).stdout(Stdio::piped()).spawn()?;
        let archive: Stdio = save.stdout.take().context("an output")?.try_into()?;
        let loaded = Command::new("docker").arg("-H").arg(self.host()).arg("load").stdin(archive).stdout(Stdio::null()).status().await?;
        let saved = save.wait().await?;
        ensure!(saved.success() && loaded.success(), "{image} was not brought: {saved}, {loaded}");
        Ok(())
    }

    /// SIGTERM, as an upgrade's package scripts send it, and its end.
    pub async fn stop(&mut self) -> Result<()> {
        let mut program = self.program.take().context("the engine does not run")?;
        program.signal(Signal::TERM)?;
        program.ended(UP).await?;
        Ok(())
    }

    pub async fn start_again(&mut self) -> Result<()> {
        self.up().await
    }
}
