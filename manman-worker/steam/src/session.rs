//! One run of SteamCMD: on a pseudo terminal, since into a pipe it prints in bursts of 4 KiB, in a
//! process group of its own, with the lock or the terminal as its input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::SteamConfig;
use crate::error::SteamError;
use crate::lock::Lock;
use crate::output::{Lines, Prompt};
use crate::tool::Tool;

pub(crate) enum Input<'a> {
    /// Nobody answers; the lock lives as long as the run.
    Lock(&'a Lock),
    /// A person answers.
    Terminal,
}

#[derive(Debug)]
pub(crate) enum Event {
    Line(String),
    Prompt(Prompt),
    Ended(ExitStatus),
}

/// Dropped before its end, it takes SteamCMD with it; the next run goes on where that one stopped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    group: Option<Pid>,
    /// What it prints. A terminal's end is read as a pipe's is.
    output: pipe::Receiver,
    /// Where is typed.
    input: File,
    lines: Lines,
    heard: VecDeque<String>,
    ended: Option<ExitStatus>,
    /// The terminal has no other end any more.
    silent: bool,
}

/// What of our environment SteamCMD needs; the rest may hold secrets of ours. Whatever is meant for
/// it by name goes through.
const PASSED_ON: [&str; 16] = [
    "PATH",
    "LANG",
    "TERM",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
const PASSED_ON_BEGIN: &str = "STEAMCMD_";

/// After SteamCMD itself has ended, something it left behind may keep the terminal open.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Session {
    pub(crate) fn start(config: &SteamConfig, tool: &Tool, input: Input<'_>, arguments: &[String]) -> Result<Self, SteamError> {
        let what = || format!("SteamCMD at {} can not be started", tool.program().display());
        let home = config.dir.join("home");
        drop(crate::beneath::create(&config.root, &home)?);
        let (master, slave) = terminal().map_err(|error| SteamError::io("no pseudo terminal can be opened", error))?;
        let input = match input {
            Input::Lock(lock) => lock.for_child(),
            Input::Terminal => slave.try_clone().map(File::from),
        };
        let (input, output) = input.and_then(|input| Ok((input, slave.try_clone()?))).map_err(|error| SteamError::io(what(), error))?;
        let mut command = Command::new(tool.program());
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
            .env("HOME", &home)
            // A decimal point, whatever the machine speaks.
            .env("LC_ALL", "C")
            .current_dir(tool.directory())
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(slave))
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| tool.explain(error, what()))?;
        drop(command);
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let ends = master.try_clone().and_then(|input| Ok((pipe::Receiver::from_file_unchecked(master)?, input)));
        let (output, input) = ends.map_err(|error| SteamError::io("no pseudo terminal can be followed", error))?;
        Ok(Self { child, group, output, input, lines: Lines::default(), heard: VecDeque::new(), ended: None, silent: false })
    }

    /// What happens next. Cancel-safe: what was read is kept.
    pub(crate) async fn next(&mut self) -> Result<Event, SteamError> {
        loop {
            if let Some(line) = self.heard.pop_front() {
                return Ok(Event::Line(line));
            }
            if let Some(prompt) = Prompt::of(&self.lines.partial()) {
                self.lines.forget_partial();
                return Ok(Event::Prompt(prompt));
            }
            match self.ended {
                Some(status) if self.silent => {
                    self.heard.extend(self.lines.push(b"\n"));
                    match self.heard.pop_front() {
                        Some(line) => return Ok(Event::Line(line)),
                        None => return Ok(Event::Ended(status)),
                    }
                }
                Some(_) => {
                    // Cancel-safe: a read either happened whole or not at all.
                    self.silent =
                        tokio::time::timeout(LAST_WORDS, read(&mut self.output, &mut self.lines, &mut self.heard)).await.unwrap_or(true);
                }
                None if self.silent => self.ended = Some(self.wait().await?),
                None => {
                    // Cancel-safe: tokio's wait is, and so is the read.
                    tokio::select! {
                        status = self.child.wait() => {
                            self.ended = Some(status.map_err(|error| SteamError::io("the end of SteamCMD can not be seen", error))?);
                            self.group = None;
                        }
                        end = read(&mut self.output, &mut self.lines, &mut self.heard) => self.silent = end,
                    }
                }
            }
        }
    }

    /// Types a line.
    pub(crate) fn answer(&mut self, text: &[u8]) -> io::Result<()> {
        self.input.write_all(text)?;
        self.input.write_all(b"\n")
    }

    /// Ends it with all it started, and sees it dead.
    pub(crate) async fn kill(&mut self) -> Result<(), SteamError> {
        self.kill_group();
        self.wait().await.map(drop)
    }

    async fn wait(&mut self) -> Result<ExitStatus, SteamError> {
        let status = self.child.wait().await.map_err(|error| SteamError::io("the end of SteamCMD can not be seen", error))?;
        self.group = None;
        Ok(status)
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            // It may just have ended; not yet reaped, its number is still its own.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Reads what there is; true at the end.
async fn read(output: &mut pipe::Receiver, lines: &mut Lines, heard: &mut VecDeque<String>) -> bool {
    let mut bytes = [0; 4096];
    // EIO: the last process with the other end has gone.
    let Ok(count @ 1..) = output.read(&mut bytes).await else { return true };
    heard.extend(lines.push(&bytes[..count]));
    false
}

/// Both ends. What is typed is not echoed: it may be a password.
fn terminal() -> io::Result<(File, OwnedFd)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
    Ok((File::from(master), slave))
}

fn is_passed_on(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| PASSED_ON.contains(&name) || name.starts_with(PASSED_ON_BEGIN))
}

/// The home that SteamCMD keeps its logins in.
pub(crate) fn home(config: &SteamConfig) -> std::path::PathBuf {
    config.dir.join("home")
}

/// Whether a file begins as a 32 bit program does.
pub(crate) fn is_elf32(path: &Path) -> bool {
    let mut head = [0; 5];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == [0x7f, b'E', b'L', b'F', 1]
}
