//! Our programs as child processes, ended by the id under which they were started.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::wait::eventually_within;

/// A program of the workspace, built before the tests run and found beside them; in `MANMAN_BINARIES`,
/// where that names a directory.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("MANMAN_BINARIES") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let test = std::env::current_exe()?;
    let found = test.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| anyhow!("`{name}` is not beside {}; `cargo build --workspace --bins` makes it", test.display()))
}

/// What a finished program left behind.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output of a program that is expected to succeed.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == Some(0), "exit code {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

/// A running program. Dropping it kills it, and nothing that it has started.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let lines = Arc::default();
        collect(child.stdout.take(), &lines);
        collect(child.stderr.take(), &lines);
        Ok(Self { name: name.to_owned(), child, lines })
    }

    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    }

    /// Everything that it has said, in the order in which it came.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// The first line that begins with `start`, waited for.
    pub async fn line(&mut self, start: &str, limit: Duration) -> Result<String> {
        let lines = Arc::clone(&self.lines);
        let name = self.name.clone();
        let child = &mut self.child;
        eventually_within(limit, &format!("{name} says `{start}…`"), async || {
            let said = lines.lock().map(|lines| lines.clone()).unwrap_or_default();
            match said.iter().find(|line| line.starts_with(start)) {
                Some(line) => Ok(Ok(line.clone())),
                None => match child.try_wait() {
                    Ok(Some(status)) => Ok(Err(anyhow!("{name} ended with {status} and without saying `{start}…`:\n{}", said.join("\n")))),
                    _ => Err(said),
                },
            }
        })
        .await?
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} has ended already", self.name))?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Waits for its end.
    pub async fn ended(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} has not ended within {} s", self.name, limit.as_secs()))??)
    }

    /// SIGKILL, and its end.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(Duration::from_secs(10)).await.map(drop)
    }

    /// SIGTERM, and SIGKILL if it has not ended ten seconds later; for where nobody can await.
    pub fn end(&mut self) {
        let _ = self.signal(Signal::CONT);
        let _ = self.signal(Signal::TERM);
        for _ in 0..200 {
            if !self.is_running() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.signal(Signal::KILL);
    }

    /// SIGKILL, for where nobody can await.
    pub(crate) fn end_now(&self) {
        // One that has ended already is what was wanted.
        let _ = self.signal(Signal::KILL);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// The processes that were started with both of these among their arguments.
pub(crate) fn processes_with(one: &str, other: &str) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let with_both = |entry: &std::fs::DirEntry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        arguments.contains(one) && arguments.contains(other)
    };
    let found = entries.flatten().filter(with_both);
    found.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn collect(stream: Option<impl AsyncRead + Unpin + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>) {
    let Some(stream) = stream else { return };
    let lines = Arc::clone(lines);
    tokio::spawn(async move {
        let mut reader = BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            if let Ok(mut lines) = lines.lock() {
                lines.push(line);
            }
        }
    });
}

/// Runs a program to its end.
pub async fn run(program: &Path, configure: impl FnOnce(&mut Command)) -> Result<Output> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    configure(&mut command);
    let output = command.output().await.with_context(|| format!("run {}", program.display()))?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
