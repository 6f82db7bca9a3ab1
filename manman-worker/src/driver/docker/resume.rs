//! Goes on in a log where it was left: neither a line less nor a line twice.
//!
//! Per stream the engine's times only grow, since one thread of the engine stamps and writes a
//! stream. What was taken is always a beginning of the engine's file. So after a break each stream
//! is read again from the time of its last line, and its lines are passed over up to that very one.

use manman_common::logs::LogStream;

use super::frames::{Record, TIME_LENGTH, Time};
use crate::driver::OutputCursor;

#[derive(Clone, Debug, Default)]
pub(super) struct Resume {
    stdout: Place,
    stderr: Place,
}

/// Where one stream stands.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The time of the last line taken, and how many with that time have been.
    last: Option<(Time, u32)>,
    /// While lines are passed over: how many with the time of the last one have come by.
    passing: Option<u32>,
    /// A step back in time that is in the file itself, since the machine's clock was set.
    true_step: Option<(Time, Time)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A line that is new.
    Take,
    /// As `Take`, and the lines between the last one taken and this one are lost.
    TakeAfterGap,
    /// A line that was taken before.
    Pass,
    /// The stream goes back in time: read anew from `since`.
    Rewind { since: Time },
}

impl Resume {
    pub(super) fn new(after: Option<&OutputCursor>) -> Self {
        let place = |last: &Option<(String, u32)>| {
            let last = last.as_ref().and_then(|(time, count)| Some((Time::try_from(time.as_bytes()).ok()?, *count)));
            Place { last, passing: None, true_step: None }
        };
        let mut resume = after.map_or_else(Self::default, |after| Self { stdout: place(&after.stdout), stderr: place(&after.stderr) });
        resume.begin_again();
        resume
    }

    /// The earliest time that has to be read again: that of the stream which is further behind, but
    /// no hours back for a stream that rarely says a word.
    pub(super) fn since(&self) -> Option<Time> {
        match (self.stdout.last, self.stderr.last) {
            (Some((stdout, _)), Some((stderr, _))) => Some(stdout.min(stderr).max(before(stdout.max(stderr)))),
            (Some((only, _)), None) | (None, Some((only, _))) => Some(before(only)),
            (None, None) => None,
        }
    }

    /// From here on lines are passed over until the last one taken comes by. One that is older than
    /// what is read again will not come by: all of that stream is new then.
    pub(super) fn begin_again(&mut self) {
        let since = self.since();
        for place in [&mut self.stdout, &mut self.stderr] {
            place.passing = place.last.filter(|(last, _)| since.is_some_and(|since| *last >= since)).map(|_| 0);
        }
    }

    pub(super) fn judge(&mut self, record: &Record) -> Verdict {
        let place = match record.stream {
            LogStream::Stderr => &mut self.stderr,
            LogStream::Stdout | LogStream::Manager => &mut self.stdout,
        };
        let time = record.time;
        let Some((last, count)) = place.last else {
            place.last = Some((time, 1));
            return Verdict::Take;
        };
        if let Some(passed) = place.passing {
            if time < last {
                return Verdict::Pass;
            }
            if time == last && passed < count {
                place.passing = if passed + 1 == count { None } else { Some(passed + 1) };
                return Verdict::Pass;
            }
            place.passing = None;
            place.last = Some((time, 1));
            return Verdict::TakeAfterGap;
        }
        if time == last {
            place.last = Some((last, count + 1));
            return Verdict::Take;
        }
        if time < last && place.true_step != Some((last, time)) {
            place.true_step = Some((last, time));
            return Verdict::Rewind { since: time };
        }
        place.last = Some((time, 1));
        Verdict::Take
    }
}

/// A stream's line could have been stamped, and not yet written, when the other stream's last line
/// was taken; a minute covers an engine that was held up.
fn before(time: Time) -> Time {
    const SLACK: i64 = 60;
    let text = std::str::from_utf8(&time).unwrap_or_default();
    let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text) else { return time };
    let earlier = moment.to_utc() - chrono::Duration::seconds(SLACK);
    let text = earlier.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    Time::try_from(text.as_bytes()).unwrap_or(time)
}

/// A time as the engine's `since` takes it: seconds, a dot, nanoseconds.
pub(super) fn since_parameter(time: Time) -> Option<String> {
    let text = std::str::from_utf8(&time).ok()?;
    let moment = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    // The digits after the dot, as they stand.
    let nanos = text.get(20..TIME_LENGTH - 1)?;
    Some(format!("{}.{nanos}", moment.timestamp()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn time(n: u32) -> Time {
        Time::try_from(format!("2026-11-20T12:00:00.{n:09}Z").as_bytes()).expect("30 characters")
    }

    fn record((stream, at): (bool, u32), n: usize) -> Record {
        let stream = if stream { LogStream::Stderr } else { LogStream::Stdout };
        Record { stream, time: time(at), text: Bytes::from(n.to_string()) }
    }

    fn cursor(taken: &[Record]) -> OutputCursor {
        let of = |stream| {
            let last = taken.iter().rev().find(|record| record.stream == stream)?;
            let count = taken.iter().filter(|record| record.stream == stream && record.time == last.time).count();
            Some((String::from_utf8_lossy(&last.time).into_owned(), u32::try_from(count).expect("few")))
        };
        OutputCursor { stdout: of(LogStream::Stdout), stderr: of(LogStream::Stderr) }
    }

    proptest! {
        /// Cut anywhere, as often as one likes: every line once, in order.
        #[test]
        fn nothing_is_lost_or_doubled(lines in prop::collection::vec((any::<bool>(), 0u32..3), 1..60), cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut clocks = [100u32, 100];
            let file: Vec<Record> = lines.iter().enumerate().map(|(n, (stream, step))| {
                let clock = &mut clocks[usize::from(*stream)];
                *clock += step;
                record((*stream, *clock), n)
            }).collect();
            let mut taken: Vec<Record> = Vec::new();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (file.len() + 1)).collect();
            ends.push(file.len());
            for end in ends {
                let after = cursor(&taken);
                let mut resume = Resume::new(Some(&after));
                let since = resume.since();
                for record in file[..end].iter().filter(|record| since.is_none_or(|since| record.time >= since)) {
                    match resume.judge(record) {
                        Verdict::Take => taken.push(Record { text: record.text.clone(), ..*record }),
                        Verdict::Pass => {}
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
            prop_assert_eq!(taken, file);
        }
    }

    #[test]
    fn a_rotation_that_outran_the_reader_is_seen() {
        let mut resume =
            Resume::new(Some(&OutputCursor { stdout: Some((String::from_utf8_lossy(&time(5)).into_owned(), 1)), stderr: None }));
        assert_eq!(resume.judge(&record((false, 9), 0)), Verdict::TakeAfterGap);
        assert_eq!(resume.judge(&record((false, 10), 1)), Verdict::Take);
    }

    #[test]
    fn a_file_read_twice_is_told_from_a_clock_set_back() {
        let mut resume = Resume::default();
        for (at, n) in [(1, 0), (2, 1), (3, 2)] {
            assert_eq!(resume.judge(&record((false, at), n)), Verdict::Take);
        }
        // The follower begins the file anew: read from there, pass over what is known, go on.
        assert_eq!(resume.judge(&record((false, 1), 0)), Verdict::Rewind { since: time(1) });
        resume.begin_again();
        for at in [1, 2, 3] {
            assert_eq!(resume.judge(&record((false, at), 0)), Verdict::Pass);
        }
        assert_eq!(resume.judge(&record((false, 4), 3)), Verdict::Take);
        // The clock was set back: after the same reading the line is there again, and is taken.
        assert_eq!(resume.judge(&record((false, 2), 4)), Verdict::Rewind { since: time(2) });
        resume.begin_again();
        for at in [2, 3, 4] {
            assert_eq!(resume.judge(&record((false, at), 0)), Verdict::Pass);
        }
        assert_eq!(resume.judge(&record((false, 2), 4)), Verdict::Take);
    }

    #[test]
    fn since_has_nine_digits() {
        assert_eq!(since_parameter(time(7)).as_deref(), Some("1795176000.000000007"));
    }
}
