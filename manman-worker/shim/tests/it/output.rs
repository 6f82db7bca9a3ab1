//! The log: whole, at a pipe's speed, and never in the game's way.

use manman_shim::clock;
use std::io::Read;
use std::process::{Command, Stdio};

use manman_common::logs::LogStream;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::support::{Instance, is_alive, records, until};

const LINES: u64 = 1_000_000;

/// Prints a million lines of 80 bytes, each with its number, in writes of 64 KiB.
const PRINT: &str = "my $a = 'a' x 71; my $b = ''; \
     for (0..999999) { $b .= sprintf(qq(%07d %s\\n), $_, $a); if (length($b) >= 65536) { syswrite(STDOUT, $b); $b = '' } } syswrite(STDOUT, $b)";

#[test]
fn streams_stay_apart_and_a_prompt_is_shown() {
    let instance = Instance::play(|instance| instance.spec("echo out; echo err >&2; printf 'password: '; read line; printf 'no end'"));
    instance.wait_for_line("password: ");
    instance.connect().type_in(b"x\n").unwrap();
    instance.ended();
    let mut records: Vec<_> = instance.records().into_iter().map(|(_, stream, text)| (stream, text)).collect();
    assert_eq!(records.pop().unwrap().0, LogStream::Manager);
    records.sort_by_key(|(stream, _)| *stream == LogStream::Stderr);
    let o = LogStream::Stdout;
    let expected =
        [(LogStream::Manager, "instance an-instance started"), (o, "out"), (o, "password: "), (o, "no end"), (LogStream::Stderr, "err")];
    assert_eq!(records, expected.map(|(stream, text)| (stream, text.to_owned())));
}

#[test]
fn a_million_lines_are_all_there_near_the_speed_of_a_pipe() {
    let instance = Instance::new();
    // What a pipe does with the same game and a reader that throws everything away.
    let bare = {
        let begun = clock::instant();
        let mut game = Command::new("perl").args(["-e", PRINT]).stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = game.stdout.take().unwrap();
        let mut buffer = vec![0; 64 << 10];
        while pipe.read(&mut buffer).unwrap() > 0 {}
        game.wait().unwrap();
        begun.elapsed().as_secs_f64()
    };
    instance.start(&instance.spec_of(&["perl", "-e", PRINT]));
    let exit = instance.ended();
    let ours = std::time::Duration::from_millis(exit.ran_ms.max(1)).as_secs_f64();
    assert_eq!((exit.code, exit.lost_lines), (Some(0), 0));
    let records = instance.records();
    assert!(records.iter().zip(1..).all(|((seq, ..), expected)| *seq == expected), "every number once");
    let numbers =
        records.iter().filter(|(_, stream, _)| *stream == LogStream::Stdout).map(|(_, _, text)| text[..7].parse::<u64>().unwrap());
    assert!(numbers.eq(0..LINES), "every line once, in its order");
    let rate = |seconds: f64| 1.0 / seconds;
    eprintln!("1,000,000 lines: bare pipe {:.2} M lines/s, shim {:.2} M lines/s, ratio {:.2}", rate(bare), rate(ours), bare / ours);
}

#[test]
fn a_full_disk_costs_lines_but_not_the_game() {
    let instance = Instance::new();
    let small = instance.path("small");
    std::fs::create_dir(&small).unwrap();
    if mount("tmpfs", &small, "tmpfs", MountFlags::empty(), c"size=256k").is_err() {
        eprintln!("skipped: may not mount here");
        return;
    }
    let mut spec = instance.spec("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo 1 > printed; while [ ! -e go ]; do sleep 0.01; done; echo after; exit 5");
    spec.log.dir = small.join("log");
    spec.log.segment_bytes = 64 << 20;
    instance.start(&spec);
    until("all is printed", || instance.path("data/printed").exists().then_some(()));
    assert!(is_alive(instance.state().child.pid));
    let full = records(&spec.log.dir);
    assert!(full.len() > 1000 && full.len() < 20_000, "{}", full.len());
    // Room again.
    mount_remount(&small, MountFlags::empty(), c"size=8m").unwrap();
    let missing =
        until("it is told", || records(&spec.log.dir).into_iter().map(|(_, _, text)| text).find(|text| text.contains("missing here")));
    std::fs::write(instance.path("data/go"), "").unwrap();
    let exit = instance.ended();
    let all = records(&spec.log.dir);
    let content = std::fs::read_dir(&spec.log.dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).next().unwrap();
    unmount(&small, UnmountFlags::DETACH).unwrap();
    assert_eq!(content.iter().filter(|byte| **byte == b'\n').count(), all.len(), "no torn record is left");
    assert!(all.iter().zip(1..).all(|((seq, ..), expected)| *seq == expected), "numbers without a hole");
    let printed = all.iter().filter(|(_, _, text)| text.starts_with("line ")).count() as u64;
    assert_eq!((exit.code, exit.lost_lines), (Some(5), 20_000 - printed));
    assert!(missing.starts_with(&format!("{} line", 20_000 - printed)), "{missing} {printed}");
    assert!(missing.contains("No space left on device"), "{missing}");
    assert!(all.iter().any(|(_, _, text)| text == "after"));
}

#[test]
fn an_exit_is_on_record_though_the_disk_of_the_run_directory_is_full() {
    let instance = Instance::new();
    let run = instance.run_dir();
    if mount("tmpfs", &run, "tmpfs", MountFlags::empty(), c"size=128k,mode=700").is_err() {
        eprintln!("skipped: may not mount here");
        return;
    }
    instance.start(&instance.spec("while [ ! -e go ]; do sleep 0.01; done; exit 6"));
    instance.connect();
    let filler = std::fs::File::create(run.join("filler")).unwrap();
    while std::io::Write::write(&mut &filler, &[0; 4096]).is_ok_and(|count| count > 0) {}
    assert!(std::fs::write(run.join("more"), [0; 4096]).is_err());
    std::fs::write(instance.path("data/go"), "").unwrap();
    let exit = instance.ended();
    assert_eq!(exit.code, Some(6));
    instance.shim_code();
    unmount(&run, UnmountFlags::DETACH).unwrap();
}

#[test]
fn the_log_goes_on_over_instances() {
    let first = Instance::play(|instance| instance.spec("echo one"));
    first.ended();
    let log = first.path("log");
    let whole = records(&log);
    // A power cut in the middle of a record.
    let segment = std::fs::read_dir(&log).unwrap().next().unwrap().unwrap().path();
    let mut content = std::fs::read(&segment).unwrap();
    content.extend_from_slice(b"4 2026-11-20T12:00:00.1");
    std::fs::write(&segment, content).unwrap();
    let second = Instance::new();
    let mut spec = second.spec("echo two");
    spec.log.dir.clone_from(&log);
    second.start(&spec);
    second.ended();
    let all = records(&log);
    assert_eq!(all[..whole.len()], whole);
    assert!(all.iter().zip(1..).all(|((seq, ..), expected)| *seq == expected));
    assert!(all.iter().any(|(_, _, text)| text == "two"));
}
