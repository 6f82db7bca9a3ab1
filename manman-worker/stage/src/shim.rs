//! The re-exec: sets limits on itself, and then becomes the command.
//!
//! The pid stays the same from the start on, so whoever started it waits for the command itself. It
//! is a second exec and not a hook between fork and exec, since such a hook is unsafe code and makes
//! each start copy the page tables of the whole stage.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

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

/// The arguments that make the shim do it.
pub(crate) fn args(
    own: &[OsString],
    leaves: &[PathBuf],
    rlimits: &[(&'static str, u64)],
    program: &Path,
    name: &OsStr,
    args: Vec<OsString>,
) -> Vec<OsString> {
    let mut all = own.to_vec();
    for leaf in leaves {
        all.extend(["--join".into(), leaf.clone().into()]);
    }
    for (resource, value) in rlimits {
        all.extend(["--limit".into(), format!("{resource}={value}").into()]);
    }
    all.extend(["--".into(), program.into(), name.into()]);
    all.extend(args);
    all
}

/// Comes back only with why it could not.
fn run(mut args: impl Iterator<Item = OsString>) -> String {
    // If the stage is killed there is nobody left to end this process, so the kernel does.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("the death signal could not be set: {error}");
    }
    while let Some(word) = args.next() {
        let done = match word.to_str() {
            Some("--") => break,
            Some("--join") => join(&args.next().unwrap_or_default()),
            Some("--limit") => limit(&args.next().unwrap_or_default()),
            _ => Err(format!("`{}` is not known", word.display())),
        };
        if let Err(error) = done {
            return error;
        }
    }
    let (Some(program), Some(name)) = (args.next(), args.next()) else { return "no command was given".to_owned() };
    let error = Command::new(&program).arg0(name).args(args).exec();
    format!("`{}` could not be run: {error}", program.display())
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
