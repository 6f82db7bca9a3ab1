//! How far an instance's output has been taken over, as the log itself tells.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use manman_common::InstanceId;
use manman_common::logs::{LogRecord, LogStream};

use super::backwards::{Backwards, newest_first};
use super::book::Published;
use super::segment;
use crate::driver::OutputCursor;

/// The engine's log is read again from at most a minute before its last line, so a stream that has
/// been silent for longer need not be looked for.
const LOOK_BACK_SECONDS: i64 = 120;

const BLOCK: usize = 256 * 1024;

/// An id and a number are far shorter.
const BEGUN_MAX: u64 = 256;

/// Which instance printed last, and the number of the first line that can be its own.
pub(super) struct Begun {
    pub(super) instance: InstanceId,
    pub(super) seq: u64,
}

impl Begun {
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let file = match segment::open_at(&dir.join("instance"), OpenOptions::new().read(true)) {
            Ok(file) => file,
            // A link, where the game may write here: what is said by it is not ours, and goes with the next one.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(BEGUN_MAX).read_to_string(&mut text)?;
        let parsed =
            text.trim().split_once(' ').and_then(|(instance, seq)| Some(Self { instance: instance.parse().ok()?, seq: seq.parse().ok()? }));
        Ok(parsed)
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("instance.new");
        segment::remove(&new)?;
        let mut file = segment::open_at(&new, OpenOptions::new().write(true).create_new(true).mode(0o600))?;
        file.write_all(format!("{} {}\n", self.instance, self.seq).as_bytes())?;
        std::fs::rename(new, dir.join("instance"))
    }
}

/// Reads backwards from the end of the log to line `from`.
pub(super) fn find(log: &Published, from: u64) -> io::Result<OutputCursor> {
    let mut search = Search { from, cursor: OutputCursor::default(), oldest: None, done: [false; 2] };
    let mut blocks = Backwards::new(log);
    while let Some(block) = blocks.block(BLOCK)? {
        for (record, _) in newest_first(&block) {
            if search.take(&record) {
                return Ok(search.cursor);
            }
        }
    }
    Ok(search.cursor)
}

struct Search {
    from: u64,
    cursor: OutputCursor,
    /// The time before which nothing matters.
    oldest: Option<String>,
    done: [bool; 2],
}

impl Search {
    /// Whether the search is over.
    fn take(&mut self, record: &LogRecord<'_>) -> bool {
        if record.seq.get() < self.from {
            return true;
        }
        let (place, done) = match record.stream {
            LogStream::Stdout => (&mut self.cursor.stdout, 0),
            LogStream::Stderr => (&mut self.cursor.stderr, 1),
            LogStream::Manager => return false,
        };
        if self.oldest.get_or_insert_with(|| earlier(record.time)).as_str() > record.time {
            return true;
        }
        match place {
            None => *place = Some((record.time.to_owned(), 1)),
            Some((time, count)) if time == record.time && !self.done[done] => *count += 1,
            Some(_) => self.done[done] = true,
        }
        self.done == [true; 2]
    }
}

fn earlier(time: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(time) {
        Ok(moment) => {
            let earlier = moment.to_utc() - chrono::Duration::seconds(LOOK_BACK_SECONDS);
            earlier.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
        }
        Err(_) => String::new(),
    }
}
