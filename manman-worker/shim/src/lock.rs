//! The lock on a server's data: a second start finds it held while anything of the first one lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::exit_code;
use crate::spec::{DataLock, EPOCH_SHIFT};

/// Digits of the number in the file: always as many, so that a later one is written over it in place
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

/// Takes it and writes its epoch down, unless somebody has it, or the file knows a later epoch or a stop
/// by this wish or a later one.
pub fn take(lock: &DataLock) -> Result<Held, Refusal> {
    let open = Open::for_this(lock)?;
    // The generation is written by stops alone: what ran by a later wish does no harm by running again.
    let epoch = lock.epoch >> EPOCH_SHIFT << EPOCH_SHIFT;
    if open.number < epoch {
        open.write(lock, epoch)?;
    }
    Ok(Held(open.file))
}

/// Has whatever starts by this wish or an earlier one refused, by whoever it is asked for. A file that
/// knows a later one stays as it is.
pub fn let_go(lock: &DataLock) -> Result<(), Refusal> {
    let open = Open::of(lock)?;
    if open.number < lock.epoch { open.write(lock, lock.epoch) } else { Ok(()) }
}

/// Which stops somebody knows of who wants a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// By the very wish that the start is of: a person at the machine stops and starts within one.
    OfThisWish,
    /// By later ones, too.
    All,
}

/// Forgets stops that whoever wants this start knows of.
pub fn take_up(lock: &DataLock, stops: Stops) -> Result<(), Refusal> {
    let before = lock.epoch.saturating_sub(1).max(lock.epoch >> EPOCH_SHIFT << EPOCH_SHIFT);
    let is_behind = |number: u64| {
        let is_known = stops == Stops::All || number <= lock.epoch;
        number >> EPOCH_SHIFT == lock.epoch >> EPOCH_SHIFT && number > before && is_known
    };
    // Nearly always there is nothing to forget, and whoever starts next wants the lock at once.
    match File::open(&lock.path).and_then(|file| number(&file)) {
        Ok(number) if !is_behind(number) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(failed(lock, "read", &error)),
    }
    let open = Open::of(lock)?;
    if is_behind(open.number) { open.write(lock, before) } else { Ok(()) }
}

/// The file, locked.
struct Open {
    writer: File,
    /// What a game is handed can not be written: the number in the file is none of its business.
    file: File,
    number: u64,
}

impl Open {
    fn of(lock: &DataLock) -> Result<Self, Refusal> {
        let failed = |what: &'static str| move |error: io::Error| failed(lock, what, &error);
        let writer =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock.path).map_err(failed("open"))?;
        let again = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let file = File::open(again).map_err(failed("open for reading"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let reason = format!("{} is locked: an earlier instance, or something that it started, still runs", lock.path.display());
                return Err(Refusal { code: exit_code::LOCKED, reason });
            }
            Err(error) => return Err(failed("lock")(error.into())),
        }
        let number = number(&file).map_err(failed("read"))?;
        Ok(Self { writer, file, number })
    }

    /// Refuses what the file is ahead of.
    fn for_this(lock: &DataLock) -> Result<Self, Refusal> {
        let open = Self::of(lock)?;
        let (path, parted) = (lock.path.display(), |number: u64| (number >> EPOCH_SHIFT, number & ((1 << EPOCH_SHIFT) - 1)));
        let ((known, stopped), (epoch, generation)) = (parted(open.number), parted(lock.epoch));
        if known > epoch {
            let reason = format!("this world was moved away in epoch {known}: {path} says so, and this start is of epoch {epoch}");
            return Err(Refusal { code: exit_code::EPOCH, reason });
        }
        // 0 is no stop.
        if known == epoch && stopped >= generation.max(1) {
            let reason = format!(
                "this world was stopped since: {path} knows of a stop by generation {stopped}, and this start is of generation {generation}"
            );
            return Err(Refusal { code: exit_code::STOPPED, reason });
        }
        Ok(open)
    }

    fn write(&self, lock: &DataLock, number: u64) -> Result<(), Refusal> {
        let text = format!("{number:0WIDTH$}\n");
        self.writer.write_all_at(text.as_bytes(), 0).and_then(|()| self.writer.sync_all()).map_err(|error| failed(lock, "write", &error))
    }
}

fn failed(lock: &DataLock, what: &str, error: &io::Error) -> Refusal {
    Refusal { code: exit_code::IO, reason: format!("{what} {}: {error}", lock.path.display()) }
}

/// 0 for a file that has none yet.
fn number(file: &File) -> io::Result<u64> {
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
