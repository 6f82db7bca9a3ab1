//! The lock on a server's data: a second start finds it held while anything of the first one lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::exit_code;
use crate::spec::{DataLock, EPOCH_SHIFT};

/// Digits of an epoch in the file: always as many, so that a later one is written over it in place
/// and no power cut can leave the file without one.
const WIDTH: usize = 20;

/// A held lock.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// From here on every process that this one starts holds it, too.
    pub fn pass_on(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.0, FdFlags::empty())?)
    }
}

/// Why there is no start, and the [`exit_code`] that says so.
#[derive(Debug)]
pub struct Refusal {
    pub code: u8,
    pub reason: String,
}

/// Takes it and writes its epoch down, unless somebody has it or the file knows a later epoch.
pub fn take(lock: &DataLock) -> Result<Held, Refusal> {
    let failed = |what: &str, error: io::Error| Refusal { code: exit_code::IO, reason: format!("{what} {}: {error}", lock.path.display()) };
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock.path)
        .map_err(|error| failed("open", error))?;
    // What a game is handed can not be written: the number in the file is none of its business.
    let again = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let file = File::open(again).map_err(|error| failed("open for reading", error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let reason = format!("{} is locked: an earlier instance, or something that it started, still runs", lock.path.display());
            return Err(Refusal { code: exit_code::LOCKED, reason });
        }
        Err(error) => return Err(failed("lock", error.into())),
    }
    let written = epoch(&file).map_err(|error| failed("read", error))?;
    if written > lock.epoch {
        let reason = format!(
            "this world was moved away in epoch {}: {} says so, and this start is of epoch {}",
            written >> EPOCH_SHIFT,
            lock.path.display(),
            lock.epoch >> EPOCH_SHIFT
        );
        return Err(Refusal { code: exit_code::EPOCH, reason });
    }
    if written < lock.epoch {
        let text = format!("{:0WIDTH$}\n", lock.epoch);
        writer.write_all_at(text.as_bytes(), 0).and_then(|()| writer.sync_all()).map_err(|error| failed("write", error))?;
    }
    Ok(Held(file))
}

/// 0 for a file that has none yet.
fn epoch(file: &File) -> io::Result<u64> {
    let mut text = [0; WIDTH];
    match file.read_at(&mut text, 0)? {
        0 => Ok(0),
        WIDTH => {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            number.ok_or_else(|| io::Error::other("it holds no epoch"))
        }
        _ => Err(io::Error::other("it holds no epoch")),
    }
}
