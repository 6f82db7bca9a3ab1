//! From a run directory to a running game, or to an exit record that says why there is none.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use manman_shim::files::{self, Reserve};
use manman_shim::identity::{Identity, boot_id, pid_namespace};
use manman_shim::journal::{Event, Writer};
use manman_shim::lease::{Course, Lease};
use manman_shim::lock::{self, Refusal};
use manman_shim::record::{Exit, Phase, State};
use manman_shim::spec::{self, Spec};
use manman_shim::{clock, exit_code};
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, getpid, set_child_subreaper, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::ladder::Ladder;
use crate::log::Log;
use crate::run::{Life, Output, Shim};
use crate::serve::Server;
use crate::stdin::Stdin;
use crate::stream::Stream;
use crate::sys::{self, Signals};
use crate::timer::BootTimer;
use crate::{STAGE, tree};

/// Room between the game and this process, so that a game that prints in bursts need not wait for
/// each of its writes to be taken. The kernel takes memory for what is in it only.
const PIPE: usize = 1024 * 1024;
/// The shim is among the last that the kernel kills for memory: with it the exit code would go.
const OWN_OOM_SCORE_ADJ: &str = "-500";

/// Holds one instance from its start to its end.
pub(crate) fn hold(run_dir: &Path) -> ExitCode {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let refuse = |code: u8, why: std::fmt::Arguments<'_>| {
        eprintln!("manman-shim: {}: {why}", run_dir.display());
        ExitCode::from(code)
    };
    // Everything of the run directory is short and relative from here on; a socket's path must be.
    if let Err(error) = std::env::set_current_dir(run_dir) {
        return refuse(exit_code::IO, format_args!("enter it: {error}"));
    }
    let own_lock = match own_lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => return refuse(exit_code::USED, format_args!("another shim is in it")),
        Err(error) => return refuse(exit_code::IO, format_args!("lock it: {error}")),
    };
    for name in [files::STATE, files::EXIT] {
        if Path::new(name).exists() {
            return refuse(exit_code::USED, format_args!("it has served an instance already: `{name}` is there"));
        }
    }
    let spec = match files::read(Path::new(files::SPEC)) {
        Ok(Some(content)) => Spec::parse(&content),
        Ok(None) => return refuse(exit_code::SPEC, format_args!("there is no `spec` in it")),
        Err(error) => return refuse(exit_code::IO, format_args!("read the spec: {error}")),
    };
    let instance = spec.as_ref().map(|spec| spec.instance.clone()).unwrap_or_default();
    let mut journal = spec.as_ref().ok().and_then(|spec| {
        let epoch = spec.lock.as_ref().map(|lock| lock.epoch);
        let pid = getpid().as_raw_nonzero().get();
        Some(Writer::open(spec.journal.as_ref()?, &spec.instance, epoch, pid))
    });
    let started = spec
        .map_err(|error| Refusal { code: exit_code::SPEC, reason: format!("spec: {error}") })
        .and_then(|spec| start(spec, &cwd, &mut journal));
    match started {
        Ok(shim) => shim.run(own_lock),
        Err(refusal) => {
            note(&mut journal, &Event::Refused { code: refusal.code });
            let exit = Exit {
                instance,
                reason: Some(refusal.reason.clone()),
                refused: Some(refusal.code),
                ended: clock::now(),
                boot_id: boot_id().unwrap_or_default(),
                boottime_ms: millis(clock::boottime()),
                tree_empty: true,
                ..Exit::default()
            };
            if let Err(error) = files::replace(Path::new("."), files::EXIT, &exit.to_text(), 0o600) {
                eprintln!("manman-shim: write the exit record: {error}");
            }
            refuse(refusal.code, format_args!("{}", refusal.reason))
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The lock that says that a shim lives here: as the worker has handed it over, or taken now where
/// somebody else has started this process. `None` when another one has it.
fn own_lock() -> io::Result<Option<File>> {
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(files::LOCK)?;
    let given = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let lock = if same(given.metadata()?, lock.metadata()?) { given } else { lock };
    // Somebody who only looks holds it for a moment.
    for _ in 0..20 {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn refusal(code: u8, what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal { code, reason: format!("{what}: {error}") }
}

fn note(journal: &mut Option<Writer>, event: &Event) {
    if let Some(journal) = journal {
        journal.note(event);
    }
}

fn start(spec: Spec, cwd: &Path, journal: &mut Option<Writer>) -> Result<Shim, Refusal> {
    if spec.lease.is_some_and(|lease| lease.until <= clock::boottime()) {
        return Err(Refusal { code: exit_code::LEASE, reason: "its lease is over already".to_owned() });
    }
    let io = |what: &'static str| refusal(exit_code::IO, what);
    let first = getpid() == Pid::INIT;
    let signals = Signals::block().map_err(io("block signals"))?;
    sys::keep_descriptors().map_err(io("keep descriptors"))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // Refused to the leader of a group, such as a container's process 1, which has a session anyway.
    let _ = setsid();
    if !first {
        set_child_subreaper(Some(getpid())).map_err(io::Error::from).map_err(io("become a subreaper"))?;
        // Only who is privileged may; it is a precaution, not a condition.
        let _ = std::fs::write("/proc/self/oom_score_adj", OWN_OOM_SCORE_ADJ);
    }
    let held = spec.lock.as_ref().map(lock::take).transpose()?;
    if let Some(held) = &held {
        held.pass_on().map_err(io("pass the lock on"))?;
        note(journal, &Event::Locked);
    }
    let timer = spec.lease.map(|_| BootTimer::new()).transpose().map_err(io("make a timer for the lease"))?;
    let log = Log::open(&spec.log).map_err(refusal(exit_code::IO, format_args!("open the log in {}", spec.log.dir.display())))?;
    let reserve = Reserve::take(Path::new("."), files::EXIT).map_err(io("take room for the exit record"))?;
    let listener = listen().map_err(io("listen"))?;
    let (ours, theirs) = stdio(&spec).map_err(io("make the game's stdio"))?;
    let (gate, stage_gate) = UnixStream::pair().map_err(io("make the gate"))?;
    gate.set_nonblocking(true).map_err(io("make the gate"))?;
    let oom_before = crate::cgroup::oom_kills(&spec.cgroups, first);

    let mut stage = Command::new("/proc/self/exe");
    stage.arg0("manman-shim").arg(STAGE).arg(cwd).stdin(OwnedFd::from(stage_gate));
    stage.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if !spec.inherit_env {
        stage.env_clear();
    }
    let child = stage.spawn().map_err(refusal(exit_code::START, "start the second step"))?;
    // The end of the socket that the stage has must be open nowhere else, or its close would not show.
    drop(stage);
    let (child, pid, pidfd) = tree::identify(child.id()).map_err(refusal(exit_code::START, "look at the second step"))?;
    let state = State {
        instance: spec.instance.clone(),
        nonce: spec.nonce.clone(),
        epoch: spec.lock.as_ref().map(|lock| lock.epoch),
        pid_namespace: pid_namespace().map_err(io("look at my pid namespace"))?,
        shim: Identity::of(getpid()).map_err(io("look at myself"))?,
        child,
        phase: Phase::Gated,
        started: clock::now(),
        pty: matches!(spec.stdio, spec::Stdio::Pty { .. }),
        rung: None,
        stuck: Vec::new(),
        lease: spec.lease,
    };
    // Written down first, begun second: whatever runs is known.
    files::replace(Path::new("."), files::STATE, &state.to_text(), 0o600).map_err(io("write the state"))?;
    note(journal, &Event::Started { pid: state.child.pid, ticks: state.child.start_ticks });
    if let Some(lease) = spec.lease {
        let (until_ms, kill_ms) = Lease::millis(spec.lease);
        note(journal, &Event::Lease { until_ms, kill_ms });
        if let Some(timer) = &timer {
            timer.set(Some(lease.until)).map_err(io("set the timer for the lease"))?;
        }
    }
    open_gate(&gate, &theirs).map_err(refusal(exit_code::START, "open the gate"))?;
    drop(theirs);
    Ok(Shim {
        server: Server::new(listener, &spec),
        ladder: Ladder::default(),
        course: Course::new(spec.lease),
        timer,
        journal: journal.take(),
        first,
        held,
        signals,
        log,
        ours,
        gate: Some(gate),
        heard: Vec::new(),
        pid,
        pidfd,
        state,
        oom_before,
        begun: clock::instant(),
        reserve: Some(reserve),
        life: Life::default(),
        spec,
    })
}

fn listen() -> io::Result<UnixListener> {
    let listener = UnixListener::bind(files::SOCKET)?;
    std::fs::set_permissions(files::SOCKET, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The shim's ends and the game's: stdin, stdout, stderr.
fn stdio(spec: &Spec) -> io::Result<(Output, [OwnedFd; 3])> {
    let (ours, theirs) = match spec.stdio {
        spec::Stdio::Pipes => pipes()?,
        spec::Stdio::Pty { rows, columns } => terminal(rows, columns)?,
    };
    if let Some(user) = &spec.user {
        // A game that opens /dev/stdout or its terminal anew is asked for permission like anybody.
        for end in &theirs {
            fchown(end, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
        }
    }
    Ok((ours, theirs))
}

fn pipes() -> io::Result<(Output, [OwnedFd; 3])> {
    let (stdin, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    unblock(&ours)?;
    let output = |letter: u8| -> io::Result<(Stream, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        unblock(&ours)?;
        // Who has used up a user's share of pipe memory keeps the usual 64 KiB.
        let _ = fcntl_setpipe_size(&ours, PIPE);
        Ok((Stream::new(ours, letter), theirs))
    };
    let (stdout, their_stdout) = output(b'o')?;
    let (stderr, their_stderr) = output(b'e')?;
    let ours = Output { streams: [Some(stdout), Some(stderr)], stdin: Stdin::new(ours), terminal: None };
    Ok((ours, [stdin, their_stdout, their_stderr]))
}

fn terminal(rows: u16, columns: u16) -> io::Result<(Output, [OwnedFd; 3])> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    let theirs = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let mut modes = tcgetattr(&theirs)?;
    // What is typed would be in the log twice, and each line feed would become two bytes.
    modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK | LocalModes::ECHONL | LocalModes::ECHOCTL);
    modes.output_modes.remove(OutputModes::OPOST);
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    unblock(&master)?;
    // An end of the game's kept open here: without one, what is read after the game's last close is
    // an error, and a game that closes its terminal for a moment would look ended.
    let kept = theirs.try_clone()?;
    let ours = Output { streams: [Some(Stream::new(master.try_clone()?, b'o')), None], stdin: Stdin::new(master), terminal: Some(kept) };
    Ok((ours, [theirs.try_clone()?, theirs.try_clone()?, theirs]))
}

fn unblock(end: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?)
}

/// Hands the game's stdio over, which is what the stage waits for.
fn open_gate(gate: &UnixStream, theirs: &[OwnedFd; 3]) -> io::Result<()> {
    let descriptors = theirs.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    match sendmsg(gate, &[IoSlice::new(b"g")], &mut control, SendFlags::NOSIGNAL) {
        // A stage that has ended has said why, and is about to be heard.
        Ok(_) | Err(Errno::PIPE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
