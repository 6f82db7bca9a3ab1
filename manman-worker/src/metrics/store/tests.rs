use super::*;
use crate::clock;

const NOW: i64 = 1_800_000_005;

fn memory(bytes: u64) -> Sample {
    Sample { memory_bytes: bytes, ..Sample::default() }
}

fn a_server() -> Subject {
    Subject::Server(ServerId::from_uuid(clock::new_uuid()))
}

fn bytes(store: &Store, subject: Subject, range: MetricsRange, now: i64) -> Vec<u64> {
    let steps = store.steps(subject, range, now).expect("it looks");
    assert_eq!(steps.len(), range.points() as usize);
    steps.into_iter().flatten().map(|step| step.memory_bytes / step.count).collect()
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_gone_after_a_purge() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.sqlite");
    let (one, two) = (a_server(), a_server());
    let store = Store::new(Some(path.clone()));
    for round in 0..13 {
        let at = NOW + round * 10;
        let bytes = u64::try_from(round).expect("few") * 100;
        store.add(at, &[(Subject::Machine, memory(7)), (one, memory(bytes)), (two, memory(1))]).expect("kept");
    }
    // As a crash leaves it: nothing is closed.
    std::mem::forget(store);
    let store = Store::new(Some(path));
    let end = NOW + 120;
    assert_eq!(bytes(&store, one, MetricsRange::Hour, end), (0..13).map(|round| round * 100).collect::<Vec<_>>());
    assert_eq!(bytes(&store, one, MetricsRange::Day, end), [550, 1200], "two minutes of ten seconds each, and what follows");
    assert_eq!(bytes(&store, one, MetricsRange::Week, end), [600]);
    assert_eq!(bytes(&store, one, MetricsRange::Hour, end + 3600), [0u64; 0], "an hour later it is no longer shown");
    let Subject::Server(purged) = one else { panic!("it is a server") };
    store.remove(purged).expect("purged");
    assert_eq!(bytes(&store, one, MetricsRange::Week, end), [0u64; 0]);
    assert_eq!(bytes(&store, two, MetricsRange::Week, end), [1]);
    assert_eq!(store.keep_only(|_| false).expect("swept"), 1);
    assert_eq!((bytes(&store, Subject::Machine, MetricsRange::Week, end), store.rows()), (vec![7], 13 + 2 + 1));
}

#[test]
fn it_never_grows_beyond_its_points() {
    let store = Store::new(None);
    let server = a_server();
    // Two hours, then the clock jumps to next year and back, then two hours more.
    let times = (0..720).chain(3_000_000..3_000_400).chain(300..1_000);
    for round in times {
        store.add(NOW + round * 10, &[(server, memory(1))]).expect("kept");
    }
    let most: u32 = MetricsRange::ALL.iter().map(|range| range.points()).sum();
    assert!(store.rows() <= most, "{}", store.rows());
    assert_eq!(bytes(&store, server, MetricsRange::Hour, NOW + 9_990).len(), 360);
}

#[test]
fn a_damaged_file_and_one_of_another_layout_are_begun_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.sqlite");
    std::fs::write(&path, vec![b'x'; 8192]).expect("written");
    let store = Store::new(Some(path.clone()));
    store.add(NOW, &[(Subject::Machine, memory(3))]).expect("kept");
    drop(store);
    Connection::open(&path).expect("open").pragma_update(None, "user_version", 99).expect("changed");
    let store = Store::new(Some(path));
    assert_eq!(bytes(&store, Subject::Machine, MetricsRange::Hour, NOW), [0u64; 0]);
    store.add(NOW, &[(Subject::Machine, memory(4))]).expect("kept");
    assert_eq!(bytes(&store, Subject::Machine, MetricsRange::Hour, NOW), [4]);
}
