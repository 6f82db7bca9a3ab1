//! Starting processes, on threads of their own.
//!
//! A start blocks its thread until the new program is in place (about a millisecond), which is no
//! thing for a runtime's. The threads live as long as the engine: the death signal that a bound
//! process asks for comes when the *thread* that started it ends.
//!
//! Nothing here asks std for what makes it fork the whole process (a hook before exec, another user):
//! `vfork` costs the same whatever this process holds in memory.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;
use uuid::Uuid;

/// More than cores: a start mostly waits for the kernel.
const THREADS: usize = 4;

pub(crate) struct Launch {
    pub(crate) id: Uuid,
    pub(crate) program: PathBuf,
    pub(crate) name: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) wd: PathBuf,
    pub(crate) stdin: bool,
    pub(crate) file: Option<Bytes>,
}

/// A process that runs, and is reaped by whoever holds this and nobody else.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) child: Child,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// The payload's file; dropped, it is removed.
    pub(crate) file: Option<tempfile::TempPath>,
}

type Task = Box<dyn FnOnce() + Send>;

pub(crate) struct Launcher {
    tasks: Sender<Task>,
    pub(crate) roots: Arc<Roots>,
}

/// The processes that somebody waits for. All other children are orphans that came to us.
#[derive(Default)]
pub(crate) struct Roots {
    known: Mutex<HashMap<i32, Uuid>>,
    /// Read while a child is started and made known; written by who must not see one in between.
    starting: RwLock<()>,
}

impl Roots {
    /// To be called when the process has been waited for. A start may have got the same pid since.
    pub(crate) fn remove(&self, pid: Pid, id: Uuid) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = pid.as_raw_nonzero().get();
        if known.get(&pid) == Some(&id) {
            known.remove(&pid);
        }
    }

    /// Runs while nothing is being started.
    pub(crate) fn settled<R>(&self, look: impl FnOnce(&HashMap<i32, Uuid>) -> R) -> R {
        let _settled = self.starting.write().unwrap_or_else(PoisonError::into_inner);
        look(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Launcher {
    pub(crate) fn start() -> io::Result<Self> {
        let (tasks, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = queue.clone();
            std::thread::Builder::new().name("stage-launch".to_owned()).spawn(move || work(&queue))?;
        }
        Ok(Self { tasks, roots: Arc::default() })
    }

    pub(crate) async fn launch(&self, launch: Launch) -> io::Result<Process> {
        let (done, result) = oneshot::channel();
        let roots = self.roots.clone();
        let task: Task = Box::new(move || {
            // The one who asked waits for ever, or the whole runtime has ended.
            let _ = done.send(start(launch, &roots));
        });
        self.tasks.send(task).map_err(|_| io::Error::other("the launching threads have ended"))?;
        result.await.map_err(|_| io::Error::other("the launching thread has ended"))?
    }
}

fn work(queue: &Mutex<Receiver<Task>>) {
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match task {
            Ok(task) => task(),
            Err(_) => return,
        }
    }
}

fn start(launch: Launch, roots: &Roots) -> io::Result<Process> {
    let Launch { id, program, name, args, env, wd, stdin, file } = launch;
    let mut command = Command::new(program);
    command.arg0(name).args(args).env_clear().envs(env).current_dir(wd).process_group(0);
    let file = file.map(|payload| payload_file(&payload)).transpose()?;
    if let Some(path) = &file {
        command.env("UROCKET_PAYLOAD", path);
    }
    command.stdin(if stdin { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let _starting = roots.starting.read().unwrap_or_else(PoisonError::into_inner);
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            // Out of descriptors: nobody could wait for it, so it must not run.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            let _ = child.wait();
            return Err(error.into());
        }
    };
    roots.known.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.as_raw_nonzero().get(), id);
    let (stdin, stdout, stderr) =
        (child.stdin.take().map(Into::into), child.stdout.take().map(Into::into), child.stderr.take().map(Into::into));
    Ok(Process { pid, child, pidfd: Some(pidfd), stdin, stdout, stderr, file })
}

/// Readable by this user alone.
fn payload_file(payload: &[u8]) -> io::Result<tempfile::TempPath> {
    let mut file = tempfile::Builder::new().prefix("urocket-").tempfile()?;
    File::write_all(file.as_file_mut(), payload)?;
    Ok(file.into_temp_path())
}
