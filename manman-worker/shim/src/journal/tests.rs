use super::*;

fn place() -> (tempfile::TempDir, JournalPlace) {
    let dir = tempfile::tempdir().expect("a directory");
    let place = JournalPlace { dir: dir.path().join("journal"), server: "s-1".to_owned() };
    (dir, place)
}

#[test]
fn what_is_written_is_read() {
    let (_dir, place) = place();
    let events = [
        Event::Locked,
        Event::Refused { code: 76 },
        Event::Started { pid: 7, ticks: 99 },
        Event::Lease { until_ms: 5, kill_ms: 9 },
        Event::Lapsed { until_ms: 5, kill_ms: 9, kill: true },
        Event::Stop { asked: "lease".to_owned() },
        Event::Rung { index: 1, step: "signal:TERM".to_owned() },
        Event::Signal { number: 15, pid: 7, ticks: 99 },
        Event::Killing,
        Event::Stuck { pids: vec![7, 8] },
        Event::Exit { code: None, signal: Some(9), oom: true, lease: false, empty: false },
        Event::Exit { code: Some(0), signal: None, oom: false, lease: true, empty: true },
        Event::Unlocked,
        Event::Other("of-a-later-version".to_owned()),
    ];
    let before = clock::boottime();
    let mut writer = Writer::open(&place, "i-1", Some(1 << 32), 42);
    events.iter().for_each(|event| writer.note(event));
    Writer::open(&place, "i-2", None, 0).note(&Event::Locked);
    let journal = read(&place.dir).expect("a journal");
    assert_eq!(journal.torn, 0);
    let (last, first) = journal.lines.split_last().expect("lines");
    assert_eq!(first.iter().map(|line| line.event.clone()).collect::<Vec<_>>(), events);
    assert!(first.iter().all(|line| line.server == "s-1" && line.instance == "i-1" && line.epoch == Some(1 << 32) && line.shim == 42));
    assert!(journal.lines.iter().all(|line| line.at >= before && line.boot_id == boot_id().expect("one") && line.wall.ends_with('Z')));
    assert!(journal.lines.is_sorted_by_key(|line| line.at));
    assert_eq!((last.instance.as_str(), last.epoch, last.shim), ("i-2", None, 0));
}

#[test]
fn it_is_bounded_and_the_newest_stay() {
    let (_dir, place) = place();
    let mut writer = Writer::open(&place, "i", None, 1);
    for pid in 0..6000 {
        writer.note(&Event::Started { pid, ticks: 0 });
    }
    let size = |name| std::fs::metadata(place.dir.join(name)).expect("a file").len();
    assert!(size(CURRENT) < SEGMENT + 1000 && size(BEFORE) < SEGMENT + 1000);
    let journal = read(&place.dir).expect("a journal");
    let pids: Vec<i32> = journal.lines.iter().map(|line| if let Event::Started { pid, .. } = line.event { pid } else { -1 }).collect();
    assert!(pids.len() > 1000 && pids.last() == Some(&5999) && pids.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn a_torn_line_is_counted_and_costs_only_itself() {
    let (_dir, place) = place();
    let mut writer = Writer::open(&place, "i", None, 1);
    writer.note(&Event::Locked);
    writer.note(&Event::Unlocked);
    let mut content = std::fs::read(place.dir.join(CURRENT)).expect("a file");
    content.truncate(content.len() - 3);
    content.extend_from_slice(b"\n\xff\xfe");
    std::fs::write(place.dir.join(CURRENT), &content).expect("a file");
    Writer::open(&place, "i", None, 1).note(&Event::Killing);
    let journal = read(&place.dir).expect("a journal");
    let events: Vec<_> = journal.lines.into_iter().map(|line| line.event).collect();
    assert_eq!((events, journal.torn), (vec![Event::Locked, Event::Killing], 2));
    assert_eq!(read(Path::new("/no/such/journal")).expect("an empty one"), Journal::default());
}

#[test]
fn what_found_no_room_is_counted_in_the_next_line() {
    let (dir, place) = place();
    std::fs::write(dir.path().join("journal"), "in the way").expect("a file");
    let mut writer = Writer::open(&place, "i", None, 1);
    writer.note(&Event::Locked);
    writer.note(&Event::Killing);
    std::fs::remove_file(dir.path().join("journal")).expect("a file");
    writer.note(&Event::Unlocked);
    let journal = read(&place.dir).expect("a journal");
    assert_eq!(journal.lines.iter().map(|line| line.lost).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_link_in_its_place_is_not_followed() {
    let (dir, place) = place();
    std::fs::create_dir(&place.dir).expect("a directory");
    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "").expect("a file");
    for link in [std::os::unix::fs::symlink, |from: std::path::PathBuf, to: std::path::PathBuf| std::fs::hard_link(from, to)] {
        link(foreign.clone(), place.dir.join(CURRENT)).expect("a link");
        Writer::open(&place, "i", None, 0).note(&Event::Locked);
        assert_eq!(std::fs::read(&foreign).expect("a file"), b"");
        std::fs::remove_file(place.dir.join(CURRENT)).expect("a link");
    }
}
