//! The second step of a start: the process that becomes the game.
//!
//! It comes with one end of a socket pair as stdin. It makes itself what the spec asks, waits for
//! the three descriptors of the game's stdio (the gate), and execs. What fails goes back over the
//! socket as text; the socket closes by itself on exec, which is how the shim knows that it worked.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use manman_shim::files;
use manman_shim::spec::{Spec, Stdio};
use rustix::fs::Mode;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};

/// Said before exec: what follows is exec's own failure, and silence its success.
pub(crate) const READY: u8 = 1;

const FAILED: u8 = 127;

/// Does not return unless it fails. `cwd` is where the shim was started; the working directory of
/// this process is the run directory.
pub(crate) fn become_game(cwd: &Path) -> ExitCode {
    // Off the lowest numbers, which the game's stdio gets.
    let Ok(gate) = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { return ExitCode::from(FAILED) };
    let mut gate = UnixStream::from(gate);
    let failure = match prepare(&mut gate, cwd) {
        Ok(failure) | Err(failure) => failure,
    };
    // A shim that is gone has nobody to tell.
    let _ = gate.write_all(failure.as_bytes());
    ExitCode::from(FAILED)
}

/// What an error was met at.
fn at(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// The failure of exec, or of what comes before it.
fn prepare(gate: &mut UnixStream, shim_cwd: &Path) -> Result<String, String> {
    let content = files::read(Path::new(files::SPEC)).map_err(at("read the spec"))?;
    let spec = Spec::parse(&content.ok_or("the spec is gone")?).map_err(|error| error.to_string())?;
    rustix::process::setsid().map_err(io::Error::from).map_err(at("begin a session"))?;
    for leaf in &spec.cgroups {
        crate::cgroup::join(leaf).map_err(at(format_args!("join cgroup {}", leaf.display())))?;
    }
    if let Some(adjustment) = spec.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", adjustment.to_string()).map_err(at("set oom_score_adj"))?;
    }
    let stdio = receive(gate).map_err(at("receive stdio"))?;
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(stdio).map_err(|_| "the gate did not open")?;
    if matches!(spec.stdio, Stdio::Pty { .. }) {
        rustix::process::ioctl_tiocsctty(&stdin).map_err(io::Error::from).map_err(at("take the terminal"))?;
    }
    rustix::stdio::dup2_stdin(&stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(&stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(&stderr))
        .map_err(io::Error::from)
        .map_err(at("take over stdio"))?;
    if let Some(bind) = &spec.bind {
        crate::sys::bind(bind).map_err(at(format_args!("show {} as {}", bind.source.display(), bind.target.display())))?;
    }
    restrict(&spec)?;
    // Last, since from here on a signal that was meant for the game ends this process.
    crate::sys::plain().map_err(at("reset signals"))?;
    let cwd = spec.cwd.as_deref().unwrap_or(shim_cwd);
    std::env::set_current_dir(cwd).map_err(at(format_args!("enter {}", cwd.display())))?;
    Ok(exec(gate, &spec))
}

fn receive(gate: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(gate, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    Ok(received)
}

/// Limits, groups and user, in the only order that works.
fn restrict(spec: &Spec) -> Result<(), String> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for limit in &spec.limits {
        let resource: Resource = limit.resource;
        setrlimit(resource, Rlimit { current: limit.value, maximum: limit.value })
            .map_err(io::Error::from)
            .map_err(at(format_args!("limit {resource:?}")))?;
    }
    if let Some(user) = &spec.user {
        let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        // Only this thread exists, so the thread's is the process's.
        rustix::thread::set_thread_groups(&groups)
            .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
            .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
            .map_err(io::Error::from)
            .map_err(at(format_args!("become user {}:{}", user.uid, user.gid)))?;
    }
    if spec.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(io::Error::from).map_err(at("set no_new_privs"))?;
    }
    Ok(())
}

/// Says why there is no game after all.
fn exec(gate: &mut UnixStream, spec: &Spec) -> String {
    let Some((program, args)) = spec.argv.split_first() else { return "no program".to_owned() };
    let mut command = Command::new(program);
    command.args(args);
    if !spec.inherit_env {
        command.env_clear();
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Err(error) = gate.write_all(&[READY]) {
        return format!("tell the shim: {error}");
    }
    let error = command.exec();
    let program = Path::new(program);
    let hint = if error.kind() == io::ErrorKind::NotFound && is_path(program.as_os_str()) && program.exists() {
        "; the file is there, so its interpreter or loader is not (a 32-bit program on a 64-bit system?)"
    } else {
        ""
    };
    format!("exec {}: {}{hint}", program.display(), words(&error))
}

/// The kernel's words without std's number behind them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

fn is_path(program: &OsStr) -> bool {
    program.as_encoded_bytes().contains(&b'/')
}
