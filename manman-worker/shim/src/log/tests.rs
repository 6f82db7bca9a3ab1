use std::path::Path;

use manman_common::logs::{self, LogStream};
use tempfile::TempDir;

use super::*;
use crate::stream::{Found, READ, Stream};

fn place(dir: &Path) -> LogPlace {
    LogPlace { dir: dir.to_owned(), segment_bytes: 1 << 20, total_bytes: 1 << 24 }
}

/// Everything in the directory, as the worker's reader sees it.
fn read(dir: &Path) -> Vec<(u64, LogStream, Vec<u8>)> {
    let mut segments = resume::segments(dir).expect("a directory");
    segments.sort_unstable();
    let mut all = Vec::new();
    for seq in segments {
        let content = std::fs::read(dir.join(resume::name(seq))).expect("a segment");
        let lines = content.iter().filter(|byte| **byte == b'\n').count();
        let records: Vec<_> = logs::records(&content).collect();
        assert_eq!(records.len(), lines, "each line is a record");
        assert_eq!(records.first().map_or(seq, |record| record.seq.get()), seq, "a segment is named after its first");
        for record in records {
            assert!(chrono_like(record.time), "{}", record.time);
            all.push((record.seq.get(), record.stream, record.text.to_vec()));
        }
    }
    all
}

fn chrono_like(time: &str) -> bool {
    time.len() == STAMP_LENGTH && time.starts_with("20") && time.ends_with('Z') && time.as_bytes()[10] == b'T'
}

/// Puts bytes through a stream, in pieces as long as a pipe takes them.
fn print(log: &mut Log, bytes: &[u8]) {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
    let mut stream = Stream::new(ours, b'e');
    let now = clock::instant();
    for piece in bytes.chunks(READ / 2) {
        assert_eq!(rustix::io::write(&theirs, piece), Ok(piece.len()));
        assert_eq!(stream.read(log, now), Found::Bytes(piece.len()));
        assert_eq!(stream.read(log, now), Found::Nothing);
    }
    stream.show_prompt(log, now, true);
    log.flush();
    drop(theirs);
    assert_eq!(stream.read(log, now), Found::End);
}

#[test]
fn records_are_as_the_worker_reads_them() {
    let dir = TempDir::new().expect("a directory");
    let mut log = Log::open(&place(dir.path())).expect("a log");
    print(&mut log, b"one\r\n\n \x1b[1mtwo \xff\nthree");
    assert_eq!(log.note("a word\nof ours"), Some(5));
    assert_eq!(log.last_seq(), 5);
    let e = LogStream::Stderr;
    let expected = [(1, e, b"one".to_vec()), (2, e, vec![]), (3, e, b" \x1b[1mtwo \xff".to_vec()), (4, e, b"three".to_vec())];
    let all = read(dir.path());
    assert_eq!(all[..4], expected);
    assert_eq!(all[4], (5, LogStream::Manager, b"a word of ours".to_vec()));
}

#[test]
fn long_lines_are_split_and_nothing_is_cut() {
    let dir = TempDir::new().expect("a directory");
    let mut log = Log::open(&place(dir.path())).expect("a log");
    let mut text: Vec<u8> = "aé€😀".bytes().cycle().take(200_000).collect();
    while std::str::from_utf8(&text).is_err() {
        text.pop();
    }
    let exact = vec![b'x'; LINE_MAX];
    print(&mut log, &[text.as_slice(), b"\n", &exact, b"\nshort\n", &text].concat());
    let all = read(dir.path());
    let pieces: Vec<_> = all.iter().map(|(_, _, text)| text.as_slice()).collect();
    assert!(pieces.iter().all(|piece| piece.len() <= logs::LINE_MAX && std::str::from_utf8(piece).is_ok()));
    let count = text.len().div_ceil(LINE_MAX - 3).max(text.len().div_ceil(LINE_MAX));
    assert_eq!(pieces[..count].concat(), text);
    assert_eq!(pieces[count], exact);
    assert_eq!(pieces[count + 1], b"short");
    assert_eq!(pieces[count + 2..].concat(), text);
}

#[test]
fn numbers_go_on_where_they_were_and_a_torn_tail_goes() {
    let dir = TempDir::new().expect("a directory");
    let mut log = Log::open(&place(dir.path())).expect("a log");
    print(&mut log, b"one\ntwo\n");
    drop(log);
    let file = dir.path().join(resume::name(1));
    let whole = std::fs::read(&file).expect("the segment");
    for torn in [&b"3 2026-11-20T12:00:00.12"[..], b"\0\0\0\0\0", b"garbage\nmore\n", b"2\n", b"\0\0\n\0\0"] {
        std::fs::write(&file, [&whole, torn].concat()).expect("a torn tail");
        let mut log = Log::open(&place(dir.path())).expect("a log");
        assert_eq!(log.last_seq(), 2, "{torn:?}");
        print(&mut log, b"three\n");
        let texts: Vec<_> = read(dir.path()).into_iter().map(|(seq, _, text)| (seq, text)).collect();
        assert_eq!(texts, [(1, b"one".to_vec()), (2, b"two".to_vec()), (3, b"three".to_vec())]);
    }
    // An empty segment tells by its name, one of nothing but garbage likewise.
    for content in [&b""[..], b"garbage\n", b"\0\0\0"] {
        std::fs::write(dir.path().join(resume::name(4)), content).expect("a segment");
        assert_eq!(Log::open(&place(dir.path())).expect("a log").last_seq(), 3);
    }
    std::fs::write(dir.path().join(resume::name(4)), vec![b'\n'; 3 << 20]).expect("a segment");
    let log = Log::open(&place(dir.path())).expect("a log");
    assert!(log.last_seq() > 3 + (3 << 20) / 40, "no number that the lost records may have had");
}

#[test]
fn the_oldest_segments_go_and_the_total_is_kept() {
    let dir = TempDir::new().expect("a directory");
    let place = LogPlace { dir: dir.path().to_owned(), segment_bytes: 64 << 10, total_bytes: 512 << 10 };
    let mut log = Log::open(&place).expect("a log");
    let mut text = Vec::new();
    for number in 0..40_000 {
        writeln!(text, "line {number}").expect("a vec takes all");
    }
    print(&mut log, &text);
    assert_eq!(log.last_seq(), 40_000);
    let all = read(log.dir());
    assert!(all.len() < 40_000);
    assert!(all.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "no hole in what is left");
    assert_eq!(all.last().map(|(seq, _, text)| (*seq, text.as_slice())), Some((40_000, &b"line 39999"[..])));
    let size: u64 = std::fs::read_dir(dir.path()).expect("a directory").flatten().map(|file| file.metadata().expect("a file").len()).sum();
    assert!(size <= place.total_bytes + READ as u64 * 3, "{size}");
    drop(log);
    assert_eq!(Log::open(&place).expect("a log").last_seq(), 40_000);
}

#[test]
fn a_number_counts_as_text() {
    for (from, to) in [(1, "2"), (9, "10"), (1_999, "2000"), (99_999, "100000"), (u64::MAX - 1, "18446744073709551615")] {
        let mut head = Head::new(from);
        assert_eq!(head.seq(), from.to_string().as_bytes());
        head.next();
        assert_eq!(head.seq(), to.as_bytes());
    }
}
