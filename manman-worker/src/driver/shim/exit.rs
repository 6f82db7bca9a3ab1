//! From a shim's exit record to ours, with a name for what usually goes wrong.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use manman_common::logs::records;
use manman_common::status::ExitRecord;
use manman_shim::record::{Exit, StopAsked};

use crate::driver::LEASE_ENDED;

/// Of the end of a log, enough to hold what a game says when it gives up.
const TAIL: u64 = 32 * 1024;
const SIGKILL: i32 = 9;

/// The record as people see it. With a log directory, the last lines are searched for the reason of
/// an end that nobody asked for. Blocks on the disk.
pub(crate) fn record(exit: &Exit, log_dir: Option<&Path>) -> ExitRecord {
    // A launcher that was left alone passes the signal on as a shell does.
    let killed = exit.signal == Some(SIGKILL) || exit.code == Some(128 + SIGKILL);
    let oom = killed && exit.oom_kills.is_some_and(|kills| kills > 0) && !exit.lease;
    let failed = exit.stop == StopAsked::No && exit.code != Some(0);
    let outside = exit.stop == StopAsked::Signal && !exit.lease;
    let reason = if exit.lease {
        Some(LEASE_ENDED.to_owned())
    } else if oom {
        Some("out of memory".to_owned())
    } else if let Some(reason) = &exit.reason {
        Some(reason.clone())
    } else if outside {
        Some("its machine or its engine went down, or somebody else stopped it".to_owned())
    } else if failed {
        log_dir.and_then(last_words).or_else(|| exit.code.and_then(named_code))
    } else {
        None
    };
    // By code 0 a game would have ended by its own wish, and would not come back.
    let code = exit.code.filter(|code| !(outside && *code == 0));
    ExitRecord { code, signal: exit.signal, oom, reason, at: exit.ended.parse().ok() }
}

pub(crate) fn unknown(reason: &str) -> ExitRecord {
    ExitRecord { reason: Some(reason.to_owned()), ..ExitRecord::default() }
}

fn named_code(code: i32) -> Option<String> {
    match code {
        126 => Some("its program can not be executed".to_owned()),
        127 => Some("its program or a library of it is missing".to_owned()),
        _ => None,
    }
}

fn last_words(log_dir: &Path) -> Option<String> {
    let newest = std::fs::read_dir(log_dir).ok()?.flatten().map(|entry| entry.path());
    let newest = newest.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max()?;
    let mut file = manman_shim::files::open_plain(&newest, File::options().read(true)).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    // The first line may be cut.
    let whole = if size > TAIL { tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |at| at + 1) } else { 0 };
    let lines: Vec<String> = records(&tail[whole..]).map(|record| String::from_utf8_lossy(record.text).into_owned()).collect();
    lines.iter().rev().find_map(|line| name(line))
}

/// What a line says of why a program ends; most games pass on the C library's own words.
fn name(line: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    if let Some(library) = missing_library(line) {
        return Some(match package_of(&library) {
            Some(package) => format!("the library {library} is missing; on Debian and Ubuntu `apt-get install {package}` brings it"),
            None => format!("the library {library} is missing on this machine"),
        });
    }
    let named = [
        (&["address already in use", "eaddrinuse", "failed to bind", "couldn't bind", "could not bind"][..], "a port of it is in use"),
        (&["no space left on device", "enospc", "disk quota exceeded"][..], "the disk is full"),
        (&["you need to agree to the eula", "eula=true"][..], "its licence (EULA) has not been agreed to"),
        (&["out of memory", "outofmemoryerror", "std::bad_alloc", "cannot allocate memory"][..], "out of memory"),
        (&["permission denied"][..], "a file of it may not be used (permission denied)"),
    ];
    let found = named.iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    found.map(|(_, reason)| format!("{reason}: {}", short(line)))
}

fn missing_library(line: &str) -> Option<String> {
    let after = line.split("error while loading shared libraries: ").nth(1).or_else(|| {
        let before = line.split(": cannot open shared object file").next().filter(|before| before.len() < line.len())?;
        before.rsplit(' ').next()
    })?;
    let library: String = after.chars().take_while(|c| !c.is_whitespace() && *c != ':').collect();
    library.contains(".so").then_some(library)
}

/// Packages of Debian 12 and Ubuntu 24.04 for what dedicated servers ask for most.
fn package_of(library: &str) -> Option<&'static str> {
    const PACKAGES: [(&str, &str); 14] = [
        ("libSDL2", "libsdl2-2.0-0"),
        ("libcurl.so", "libcurl4"),
        ("libcurl-gnutls", "libcurl3-gnutls"),
        ("libstdc++", "libstdc++6"),
        ("libgcc_s", "libgcc-s1"),
        ("libatomic", "libatomic1"),
        ("libpulse", "libpulse0"),
        ("libGL.so", "libgl1"),
        ("libicu", "libicu-dev"),
        ("libgdiplus", "libgdiplus"),
        ("libsqlite3", "libsqlite3-0"),
        ("libncurses", "libncurses5"),
        ("libtinfo", "libtinfo5"),
        ("libz.so", "zlib1g"),
    ];
    PACKAGES.iter().find(|(name, _)| library.starts_with(name)).map(|(_, package)| *package)
}

fn short(line: &str) -> String {
    line.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_last_words_are_named() {
        for (line, expected) in [
            (
                "./srcds: error while loading shared libraries: libcurl-gnutls.so.4: cannot open shared object file: No such file or directory",
                "the library libcurl-gnutls.so.4 is missing; on Debian and Ubuntu `apt-get install libcurl3-gnutls` brings it",
            ),
            ("dlopen failed: libfoo.so.3: cannot open shared object file", "the library libfoo.so.3 is missing on this machine"),
            ("bind: Address already in use", "a port of it is in use: bind: Address already in use"),
            ("write error: No space left on device", "the disk is full: write error: No space left on device"),
        ] {
            assert_eq!(name(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(name("Player joined"), None);
    }

    #[test]
    fn an_end_by_the_kernel_for_want_of_memory_is_told_from_a_kill() {
        let killed = Exit { signal: Some(9), oom_kills: Some(0), ..Exit::default() };
        assert!(!record(&killed, None).oom);
        assert!(record(&Exit { oom_kills: Some(1), ..killed }, None).oom);
        let launcher = Exit { code: Some(137), oom_kills: Some(1), ..Exit::default() };
        assert!(record(&launcher, None).oom, "a launcher says it as a shell does");
        assert!(!record(&Exit { code: Some(1), ..launcher }, None).oom, "it lived on without the one that was killed");
    }

    #[test]
    fn the_end_of_a_lease_and_a_stop_from_outside_are_no_wish_of_the_games() {
        let lease = Exit { code: Some(0), lease: true, stop: StopAsked::Ladder, ..Exit::default() };
        assert_eq!(record(&lease, None).reason.as_deref(), Some(LEASE_ENDED));
        let killed = Exit { code: None, signal: Some(SIGKILL), oom_kills: Some(1), ..lease };
        assert!(!record(&killed, None).oom, "it was killed by its lease");
        let outside = record(&Exit { code: Some(0), stop: StopAsked::Signal, ..Exit::default() }, None);
        assert_eq!(outside.code, None, "with code 0 it would not come back");
        assert!(outside.reason.is_some_and(|reason| reason.contains("went down")));
        let asked = record(&Exit { code: Some(0), stop: StopAsked::Ladder, ..Exit::default() }, None);
        assert_eq!((asked.code, asked.reason), (Some(0), None));
    }
}
