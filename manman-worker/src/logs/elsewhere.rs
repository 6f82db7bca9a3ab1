//! A log that another process writes: a shim goes on with it whether or not a worker is there.
//!
//! Whoever writes names its last record, or the look finds it; either way what readers may see are
//! whole records. A segment is never shorter than it was seen, so a look reads only what is new.

use std::collections::VecDeque;
use std::fs::File;
use std::io;

use manman_common::InstanceId;

use super::book::{LogBook, Pen};
use super::cursor::Begun;
use super::segment::{self, Segment};

impl LogBook {
    /// From now on `pen` writes, and this book only looks. Blocks on the disk.
    pub fn hand_over(&self, pen: Pen) -> io::Result<()> {
        let shared = self.shared();
        {
            let mut writer = shared.writer();
            writer.file = None;
            writer.elsewhere = Some(pen);
        }
        self.catch_up()
    }

    /// Notes where an instance's lines begin, before whoever writes them is started. Blocks on the disk.
    pub fn begin_elsewhere(&self, instance: InstanceId) -> io::Result<()> {
        if Begun::read(self.shared().dir())?.is_some_and(|begun| begun.instance == instance) {
            return Ok(());
        }
        Begun { instance, seq: self.last_seq().next().get() }.write(self.shared().dir())
    }

    /// The other process has ended: this one writes again, after the last whole record. Blocks on the
    /// disk.
    pub fn take_back(&self) -> io::Result<()> {
        let shared = self.shared();
        let mut writer = shared.writer();
        if writer.elsewhere.is_none() {
            return Ok(());
        }
        let found = segment::scan(shared.dir())?;
        if let Some(last) = found.last() {
            let file = segment::open_at(&segment::path(shared.dir(), *last), File::options().read(true).append(true))?;
            let (sound, _) = segment::sound_end(&file, *last)?;
            if sound < file.metadata()?.len() {
                file.set_len(sound)?;
            }
            writer.file = Some(file);
        }
        writer.elsewhere = None;
        drop(writer);
        self.catch_up()
    }

    /// Shows the readers what has been written since the last look. Blocks on the disk.
    pub fn catch_up(&self) -> io::Result<()> {
        let shared = self.shared();
        let known = shared.snapshot();
        // The usual case: the segment that was the newest has grown, and no other has begun.
        let mut segments = known.segments.clone();
        let mut next_seq = known.next_seq;
        if let Some(last) = segments.back_mut()
            && let Some(grown) = grow(last)?
        {
            next_seq = next_seq.max(grown + 1);
        }
        let found = segment::scan(shared.dir())?;
        segments.retain(|segment| found.binary_search(&segment.first_seq).is_ok());
        let newest = segments.back().map(|segment| segment.first_seq);
        for first_seq in found.into_iter().filter(|first_seq| newest.is_none_or(|newest| *first_seq > newest)) {
            let start = segments.back().map_or_else(|| end_of(&known.segments), |segment| segment.start + segment.len);
            let mut fresh = Segment { first_seq, start, len: 0, path: segment::path(shared.dir(), first_seq) };
            if let Some(last) = grow(&mut fresh)? {
                next_seq = next_seq.max(last + 1);
            }
            segments.push_back(fresh);
        }
        if segments != known.segments || next_seq != known.next_seq {
            shared.publish(segments, next_seq);
        }
        Ok(())
    }
}

fn end_of(segments: &VecDeque<Segment>) -> u64 {
    segments.back().map_or(0, |segment| segment.start + segment.len)
}

/// Takes in the whole records that a segment has got; the number of the last of them.
fn grow(segment: &mut Segment) -> io::Result<Option<u64>> {
    let file = match segment::open_at(&segment.path, File::options().read(true)) {
        Ok(file) => file,
        // Deleted to make room.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= segment.len {
        return Ok(None);
    }
    let (sound, last) = segment::last_whole(&file, segment.len)?;
    segment.len = sound;
    Ok(last)
}
