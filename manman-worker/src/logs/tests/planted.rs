//! What a game plants where its shim writes the log: in a container the directory is the game's own,
//! and the worker, which may be root, reads and writes there.

use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

const SECRET: &str = "a file of the machine that is none of the game's\n";

struct Planted {
    dir: TempDir,
    victim: std::path::PathBuf,
}

impl Planted {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        std::fs::write(&victim, SECRET).expect("it is written");
        Self { dir, victim }
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    fn segment(&self, first_seq: u64) -> std::path::PathBuf {
        self.log().join(format!("{first_seq:020}.log"))
    }

    fn unharmed(&self) {
        assert_eq!(std::fs::read_to_string(&self.victim).expect("it is there"), SECRET);
    }
}

/// A pipe that nobody writes to would be waited for for ever.
fn within_seconds<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(Duration::from_secs(10)).expect("it is not held up")
}

#[test]
fn a_link_for_a_segment_leads_nowhere() {
    let planted = Planted::new();
    let book = LogBook::open(&planted.log(), small()).expect("it opens");
    book.append(&[out("one"), out("two")]).expect("it is written");
    book.hand_over(std::sync::Arc::new(|_: &str| Ok(()))).expect("it is handed over");
    // Newer than every segment: the one that would be cut to its last sound record and appended to.
    symlink(&planted.victim, planted.segment(99)).expect("it is planted");
    book.catch_up().expect("it looks");
    book.take_back().expect("it is taken back");
    book.append(&[out("three")]).expect("it is written");
    planted.unharmed();
    let (lines, _) = read_all(&mut LogReader::new(&book, LogSeq::new(1)), 4096);
    assert_eq!(lines.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["one", "two", "three"]);

    // So at the next start of the worker.
    let again = LogBook::open(&planted.log(), small()).expect("it opens");
    again.append(&[out("four")]).expect("it is written");
    planted.unharmed();

    // And the name that the next segment will have.
    let next = again.last_seq().next().get();
    symlink(&planted.victim, planted.segment(next)).expect("it is planted");
    let long = "x".repeat(600);
    again.append(&[out(&long)]).expect("it is written");
    again.append(&[out(&long)]).expect("it is written");
    planted.unharmed();
}

#[test]
fn a_link_in_place_of_a_segment_that_is_known_is_not_read() {
    let planted = Planted::new();
    let book = LogBook::open(&planted.log(), small()).expect("it opens");
    book.append(&[out("one")]).expect("it is written");
    std::fs::write(&planted.victim, "1 2026-11-20T12:00:00.000000000Z o of somebody else\n").expect("it is written");
    std::fs::remove_file(planted.segment(1)).expect("it goes");
    symlink(&planted.victim, planted.segment(1)).expect("it is planted");
    assert!(LogReader::new(&book, LogSeq::new(1)).read(4096).is_err());
}

#[test]
fn where_an_instance_began_is_written_over_no_link() {
    let planted = Planted::new();
    let book = LogBook::open(&planted.log(), small()).expect("it opens");
    symlink(&planted.victim, planted.log().join("instance.new")).expect("it is planted");
    book.begin_elsewhere(InstanceId::from_uuid(clock::new_uuid())).expect("it is noted");
    planted.unharmed();
}

#[test]
fn a_pipe_holds_nobody_up() {
    let planted = Planted::new();
    let log = planted.log();
    drop(LogBook::open(&log, small()).expect("it opens"));
    for name in ["instance", "00000000000000000007.log"] {
        rustix::fs::mkfifoat(rustix::fs::CWD, log.join(name), rustix::fs::Mode::from_raw_mode(0o666)).expect("a pipe");
    }
    within_seconds(move || {
        let book = LogBook::open(&log, small()).expect("it opens");
        book.append(&[out("one")]).expect("it is written");
        let _ = book.begin_of(InstanceId::from_uuid(clock::new_uuid()));
        book.catch_up().expect("it looks");
    });
}
