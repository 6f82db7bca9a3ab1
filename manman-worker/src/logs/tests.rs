use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use manman_common::logs::{LogEnd, LogQuery, LogStream, RECORD_MAX, records};
use manman_common::{InstanceId, LogSeq};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{LogBook, LogItem, LogReader, LogSession, Read, Retention};
use crate::clock;
use crate::driver::{OutputCursor, OutputLine};

fn small() -> Retention {
    Retention { bytes: 4000, segment_bytes: 500, ..Retention::default() }
}

fn book(dir: &TempDir, retention: Retention) -> LogBook {
    LogBook::open(dir.path(), retention).expect("it opens")
}

fn line(stream: LogStream, second: u32, text: &str) -> OutputLine {
    OutputLine {
        stream,
        time: format!("2026-11-20T12:{:02}:{:02}.000000000Z", second / 60, second % 60),
        text: Bytes::from(text.to_owned()),
    }
}

fn out(text: &str) -> OutputLine {
    line(LogStream::Stdout, 0, text)
}

/// Everything from a number on, as numbers and texts; gaps as their counts.
fn read_all(reader: &mut LogReader, max: usize) -> (Vec<(u64, String)>, u64) {
    let (mut lines, mut missing) = (Vec::new(), 0);
    loop {
        match reader.read(max).expect("it reads") {
            Read::Chunk(chunk) => {
                assert!(chunk.len() <= max.max(RECORD_MAX) && chunk.ends_with(b"\n"));
                lines.extend(records(&chunk).map(|record| (record.seq.get(), record.text_lossy().into_owned())));
            }
            Read::Gap(gap) => {
                assert_eq!(gap.to_seq.get() - gap.from_seq.get() + 1, gap.count);
                missing += gap.count;
            }
            Read::End => return (lines, missing),
        }
    }
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
    found.sort();
    found.pop().expect("a segment")
}

#[derive(Clone, Debug)]
enum Event {
    Append(Vec<String>),
    Reopen,
    /// Cut so many bytes off the end, as a crash does.
    Tear(u64),
    /// Add what is no record, as a crash does.
    Garbage(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec("[a-z\u{1b}\u{e4} ]{0,60}", 1..8).prop_map(Event::Append),
        1 => Just(Event::Reopen),
        1 => (1u64..90).prop_map(Event::Tear),
        1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(Event::Garbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens to the file's end: what is read back are the lines that were written, in
    /// order, each under its number; a reader from anywhere sees the same and counts what is gone.
    #[test]
    fn a_log_is_what_was_written(events in prop::collection::vec(event(), 1..30), from in 0u64..120, max in 1usize..3000) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = book(&dir, small());
        // By number: what should be read.
        let mut written: Vec<String> = Vec::new();
        for event in events {
            match event {
                Event::Append(texts) => {
                    let lines: Vec<_> = texts.iter().map(|text| out(text)).collect();
                    log.append(&lines).expect("it is written");
                    written.extend(texts);
                }
                Event::Reopen => {
                    drop(log);
                    log = book(&dir, small());
                }
                Event::Tear(_) | Event::Garbage(_) if written.is_empty() => {}
                Event::Tear(bytes) => {
                    drop(log);
                    let path = newest_segment(dir.path());
                    let file = OpenOptions::new().write(true).open(&path).expect("a segment");
                    let size = file.metadata().expect("its size").len();
                    file.set_len(size.saturating_sub(bytes)).expect("it is cut");
                    log = book(&dir, small());
                    // Only what was torn is lost.
                    let last = usize::try_from(log.last_seq().get()).expect("few");
                    prop_assert!(last <= written.len());
                    written.truncate(last);
                }
                Event::Garbage(bytes) => {
                    drop(log);
                    let mut file = OpenOptions::new().append(true).open(newest_segment(dir.path())).expect("a segment");
                    file.write_all(&bytes).expect("it is written");
                    drop(file);
                    log = book(&dir, small());
                    prop_assert_eq!(log.last_seq().get(), written.len() as u64);
                }
            }
        }
        let first = log.first_seq().get();
        let mut reader = LogReader::new(&log, LogSeq::new(from));
        let (lines, missing) = read_all(&mut reader, max);
        let begin = from.max(1);
        let expected: Vec<_> = written.iter().cloned().zip(1u64..).map(|(text, seq)| (seq, text)).filter(|(seq, _)| *seq >= begin.max(first)).collect();
        prop_assert_eq!(lines, expected);
        prop_assert_eq!(missing, first.min(written.len() as u64 + 1).saturating_sub(begin));
        let kept: u64 = std::fs::read_dir(dir.path()).expect("a directory").flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        prop_assert!(kept <= 4000 + 2 * 500 + 700, "{}", kept);
    }
}

#[test]
fn an_instances_place_is_read_from_the_logs_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention::default());
    let (first, second) = (clock::new_instance_id(), clock::new_instance_id());
    assert_eq!(log.begin_instance(first).expect("begun"), OutputCursor::default());
    log.append(&[line(LogStream::Stderr, 1, "old"), line(LogStream::Stdout, 2, "old")]).expect("written");
    assert_eq!(log.begin_instance(second).expect("begun"), OutputCursor::default());
    assert_eq!(log.begin_instance(second).expect("nothing was printed"), OutputCursor::default());
    log.append(&[
        line(LogStream::Stderr, 400, "a"),
        line(LogStream::Stdout, 410, "b"),
        line(LogStream::Stdout, 420, "c"),
        line(LogStream::Stdout, 420, "d"),
    ])
    .expect("written");
    log.note("a word").expect("written");
    drop(log);
    let log = book(&dir, Retention::default());
    let time = |second: u32| format!("2026-11-20T12:{:02}:{:02}.000000000Z", second / 60, second % 60);
    let expected = OutputCursor { stdout: Some((time(420), 2)), stderr: Some((time(400), 1)) };
    assert_eq!(log.begin_instance(second).expect("it goes on"), expected);
    let (lines, _) = read_all(&mut LogReader::new(&log, LogSeq::new(1)), 100);
    let begins = lines.iter().filter(|(_, text)| text.starts_with("instance ")).count();
    assert_eq!(begins, 2, "{lines:?}");
}

#[test]
fn a_place_is_found_over_many_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention { segment_bytes: 300, ..Retention::default() });
    let id = InstanceId::from_uuid(clock::new_uuid());
    log.begin_instance(id).expect("begun");
    for n in 0..40 {
        log.append(&[line(LogStream::Stdout, 5, &format!("number {n}"))]).expect("written");
    }
    let cursor = log.begin_instance(id).expect("it goes on");
    assert_eq!(cursor.stdout.map(|(_, count)| count), Some(40));
}

#[test]
fn a_line_too_long_or_broken_is_made_whole_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, small());
    log.append(&[out(&"x".repeat(40_000)), out("a\nb"), out("")]).expect("written");
    let (lines, _) = read_all(&mut LogReader::new(&log, LogSeq::new(0)), 1);
    assert_eq!(lines.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [16384, 16384, 7232, 1, 1, 0]);
}

async fn session_texts(session: &mut LogSession) -> (Vec<String>, Option<LogEnd>) {
    let mut texts = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(500), session.next(1000)).await {
            Ok(Ok(LogItem::Chunk(chunk))) => texts.extend(records(&chunk).map(|record| record.text_lossy().into_owned())),
            Ok(Ok(LogItem::Gap(gap))) => texts.push(format!("gap of {}", gap.count)),
            Ok(Ok(LogItem::End(end))) => return (texts, Some(end)),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return (texts, None),
        }
    }
}

#[tokio::test]
async fn a_session_gives_what_was_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention::default());
    let texts = |range: std::ops::Range<u32>| range.map(|n| format!("line {n}")).collect::<Vec<_>>();
    log.append(&texts(0..100).iter().map(|text| out(text)).collect::<Vec<_>>()).expect("written");
    let ask = |query: LogQuery| LogSession::open(&log, &query).expect("it opens");
    let whole = LogQuery { follow: Some(false), ..LogQuery::default() };

    assert_eq!(session_texts(&mut ask(whole.clone())).await, (texts(0..100), Some(LogEnd::Complete)));
    let tail = LogQuery { tail: Some(3), ..whole.clone() };
    assert_eq!(session_texts(&mut ask(tail)).await.0, texts(97..100));
    let since = LogQuery { since_seq: Some(LogSeq::new(98)), ..whole.clone() };
    assert_eq!(session_texts(&mut ask(since)).await.0, texts(98..100));
    let grep = LogQuery { grep: Some("line [0-9]*7$".to_owned()), ..whole.clone() };
    assert_eq!(session_texts(&mut ask(grep)).await.0.len(), 10);
    let nothing = LogQuery { grep: Some("nowhere".to_owned()), ..whole.clone() };
    assert_eq!(session_texts(&mut ask(nothing)).await, (Vec::new(), Some(LogEnd::Complete)));
    let problem = LogSession::open(&log, &LogQuery { grep: Some("(".to_owned()), ..whole.clone() }).err().expect("it is refused");
    assert_eq!(problem.field.as_deref(), Some("grep"));

    let mut follower = ask(LogQuery { tail: Some(1), ..LogQuery::default() });
    let mut past = ask(whole);
    assert_eq!(session_texts(&mut follower).await, (texts(99..100), None));
    log.append(&[out("new")]).expect("written");
    assert_eq!(session_texts(&mut follower).await, (vec!["new".to_owned()], None));
    assert_eq!(session_texts(&mut past).await.0, texts(0..100), "what comes after the question is no part of the answer");
    log.close();
    assert_eq!(session_texts(&mut follower).await.1, Some(LogEnd::ServerGone));
}

#[tokio::test]
async fn a_follower_that_falls_behind_is_told_how_many_it_missed() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention { bytes: 200 << 20, segment_bytes: 4 << 20, ..Retention::default() });
    log.append(&[out("first")]).expect("written");
    let mut follower = LogReader::new(&log, LogSeq::new(1));
    assert_eq!(read_all(&mut follower, 1000).0.len(), 1);
    let lines: Vec<_> = (0..64).map(|n| out(&format!("{n:016000}"))).collect();
    for _ in 0..100 {
        log.append(&lines).expect("written");
    }
    let (read, missed) = read_all(&mut follower, 1 << 20);
    assert!(missed > 0, "100 MiB behind is too far");
    assert_eq!(read.len() as u64 + missed, 6400);
    assert_eq!(read.last().map(|(seq, _)| *seq), Some(6401));
    // One that reads history on purpose gets all of it.
    let (read, missed) = read_all(&mut LogReader::new(&log, LogSeq::new(2)), 1 << 20);
    assert_eq!((read.len(), missed), (6400, 0));
}

mod history;
mod planted;
