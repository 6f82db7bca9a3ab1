//! The re-exec: sets limits on itself, and then becomes the command.
//!
//! The pid stays the same from the start on, so whoever started it waits for the command itself. It
//! is a second exec and not a hook between fork and exec, since such a hook is unsafe code and makes
//! each start copy the page tables of the whole stage.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The word after which an executable's arguments are these. Its `main` has to ask [`asked`] first.
pub const WORD: &str = "stage-exec";

/// As shells say it: found, and could not be run.
const CAN_NOT_RUN: u8 = 126;

/// What this process was started as, if it is to be the shim. Before any thread and any runtime.
pub fn asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == WORD).then(|| {
        let error = run(args);
        eprintln!("{WORD}: {error}");
        ExitCode::from(CAN_NOT_RUN)
    })
}

/// As whom a process runs, and where it thinks it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// User and group; this process' own where it is `None`.
    pub user: Option<(u32, u32)>,
    /// Its working directory appears here, in a mount namespace of its own: for a user who may not
    /// pass through the directories above the real one. The place has to be an empty directory.
    pub place: Option<PathBuf>,
}

impl Stand {
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// The arguments that make the shim do it.
pub(crate) fn args(
    own: &[OsString],
    leaves: &[PathBuf],
    rlimits: &[(&'static str, u64)],
    stand: &Stand,
    (program, name): (&Path, &OsStr),
    args: Vec<OsString>,
) -> Vec<OsString> {
    let mut all = own.to_vec();
    all.extend(["--parent".into(), std::process::id().to_string().into()]);
    for leaf in leaves {
        all.extend(["--join".into(), leaf.clone().into()]);
    }
    for (resource, value) in rlimits {
        all.extend(["--limit".into(), format!("{resource}={value}").into()]);
    }
    // In this order: who has become another user may do neither of the others any more.
    if let Some(place) = &stand.place {
        all.extend(["--at".into(), place.clone().into()]);
    }
    if let Some((uid, gid)) = stand.user {
        all.extend(["--as".into(), format!("{uid}:{gid}").into()]);
    }
    all.extend(["--".into(), program.into(), name.into()]);
    all.extend(args);
    all
}

/// Comes back only with why it could not.
fn run(mut args: impl Iterator<Item = OsString>) -> String {
    let mut parent = None;
    while let Some(word) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        let done = match word.to_str() {
            Some("--") => break,
            Some("--parent") => {
                value().to_str().and_then(|text| text.parse().ok()).map(|pid: i32| parent = Some(pid)).ok_or_else(|| "no parent".to_owned())
            }
            Some("--join") => join(&value()),
            Some("--limit") => limit(&value()),
            Some("--at") => stand_at(Path::new(&value())),
            Some("--as") => become_user(&value()),
            _ => Err(format!("`{}` is not known", word.display())),
        };
        if let Err(error) = done {
            return error;
        }
    }
    // If the stage is killed there is nobody left to end this process, so the kernel does. Last, since
    // the kernel forgets it with a change of user.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("the death signal could not be set: {error}");
    }
    if parent.is_some_and(|parent| getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent)) {
        return "whoever started this has ended".to_owned();
    }
    let (Some(program), Some(name)) = (args.next(), args.next()) else { return "no command was given".to_owned() };
    let error = Command::new(&program).arg0(name).args(args).exec();
    format!("`{}` could not be run: {error}", program.display())
}

/// Has the working directory appear at `place`, for this process and those that it starts.
fn stand_at(place: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("the directory could not be shown at `{}`: {error}", place.display());
    let here = std::env::current_dir().map_err(|error| failed(&error))?;
    #[expect(deprecated, reason = "what takes its place is unsafe code, for threads that share descriptors; this process has one thread")]
    let alone = rustix::thread::unshare(UnshareFlags::NEWNS);
    alone.map_err(|error| failed(&error))?;
    // What is mounted from here on is nobody else's, and what others unmount goes here, too.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(|error| failed(&error))?;
    mount_bind_recursive(&here, place).map_err(|error| failed(&error))?;
    std::env::set_current_dir(place).map_err(|error| failed(&error))
}

fn become_user(text: &OsStr) -> Result<(), String> {
    let ids = text.to_str().and_then(|text| text.split_once(':')).and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let (uid, gid) = ids.ok_or_else(|| format!("`{}` is no user", text.display()))?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let changed = set_thread_groups(&[]).and_then(|()| set_thread_res_gid(gid, gid, gid)).and_then(|()| set_thread_res_uid(uid, uid, uid));
    changed.map_err(|error| format!("the user could not be changed to {}: {error}", text.display()))
}

fn join(leaf: &OsStr) -> Result<(), String> {
    std::fs::write(Path::new(leaf).join("cgroup.procs"), "0").map_err(|error| format!("the control group `{}`: {error}", leaf.display()))
}

fn limit(text: &OsStr) -> Result<(), String> {
    let parsed = text.to_str().and_then(|text| text.split_once('=')).and_then(|(name, value)| {
        let resource = match name {
            "nofile" => Resource::Nofile,
            "as" => Resource::As,
            "nproc" => Resource::Nproc,
            _ => return None,
        };
        Some((resource, value.parse::<u64>().ok()?))
    });
    let (resource, value) = parsed.ok_or_else(|| format!("`{}` is no limit", text.display()))?;
    // Never above what this process may have itself.
    let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
        .map_err(|error| format!("the limit `{}`: {error}", text.display()))
}
