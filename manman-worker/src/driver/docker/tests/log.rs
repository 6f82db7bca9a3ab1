use std::time::Duration;

use futures_util::StreamExt;
use manman_common::logs::{LINE_MAX, LogStream};
use manman_common::spec::StopMode;
use tokio::time::Instant;

use super::game::{Rig, no_rungs, spec, texts};
use crate::clock;
use crate::driver::{Driver, OutputCursor, OutputLine};

fn cursor(lines: &[OutputLine]) -> OutputCursor {
    let of = |stream| {
        let last = lines.iter().rev().find(|line| line.stream == stream)?;
        let count = lines.iter().filter(|line| line.stream == stream && line.time == last.time).count();
        Some((last.time.clone(), u32::try_from(count).expect("few")))
    };
    OutputCursor { stdout: of(LogStream::Stdout), stderr: of(LogStream::Stderr) }
}

#[tokio::test]
async fn a_burst_cut_at_random_is_whole() {
    const LINES: usize = 20_000;
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.read_until(&instance, None, "up").await;
    rig.driver.write_line(&instance, &format!("burst {LINES}")).await.expect("it takes a line");
    let mut taken: Vec<OutputLine> = Vec::new();
    let (mut cuts, mut over) = (0, 0);
    let read = async {
        loop {
            let mut output = rig.driver.output(&instance, Some(cursor(&taken))).await.expect("its log");
            let until = taken.len() + usize::try_from(1 + clock::new_uuid().as_u128() % 1500).expect("small");
            while taken.len() < until {
                // A batch is what was ready; the cut may be anywhere in it.
                let batch = output.next().await.expect("it runs").expect("a batch");
                let room = until - taken.len();
                let before = taken.len();
                taken.extend(batch.lines.into_iter().take(room));
                // The engine reads the streams apart: the end of one says nothing of the other's.
                over += taken[before..].iter().filter(|line| line.text == "burst over" || line.text == "warn 19999").count();
                if over == 2 {
                    return;
                }
            }
            cuts += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), read).await.expect("it comes to its end");
    assert!(cuts > 5, "{cuts}");
    let of = |stream| texts(&taken.iter().filter(|line| line.stream == stream).cloned().collect::<Vec<_>>());
    let out: Vec<_> = of(LogStream::Stdout).into_iter().filter(|text| text.starts_with("line ")).collect();
    assert_eq!(out, (1..=LINES).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let err: Vec<_> = of(LogStream::Stderr).into_iter().filter(|text| text.starts_with("warn ")).collect();
    assert_eq!(err, (1..=LINES).filter(|n| n % 7 == 0).map(|n| format!("warn {n}")).collect::<Vec<_>>());
    assert_eq!(of(LogStream::Manager), Vec::<String>::new());
}

#[tokio::test]
async fn a_long_line_comes_in_parts_and_all_of_it() {
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.driver.write_line(&instance, "long 100000").await.expect("it takes a line");
    let lines = rig.read_until(&instance, None, "long over").await;
    let parts: Vec<_> = lines.iter().filter(|line| line.text.starts_with(b"xxx")).collect();
    assert!(parts.iter().all(|part| part.text.len() <= LINE_MAX));
    assert_eq!(parts.iter().map(|part| part.text.len()).sum::<usize>(), 100_000);
    // From within the parts, which share one time, nothing is lost or doubled either.
    let at = lines.iter().position(|line| line.text.starts_with(b"xxx")).expect("a part") + 3;
    let rest = rig.read_until(&instance, Some(cursor(&lines[..at])), "long over").await;
    assert_eq!(texts(&rest), texts(&lines[at..]));
}

#[tokio::test]
async fn a_terminals_output_comes_line_by_line() {
    let rig = Rig::new();
    let mut spec = spec();
    spec.run.docker.tty = true;
    let instance = rig.start(&spec).await;
    rig.read_until(&instance, None, "up").await;
    rig.driver.write_line(&instance, "colour").await.expect("it takes a line");
    let lines = rig.read_until(&instance, None, "said: colour").await;
    assert!(texts(&lines).contains(&"up and running".to_owned()), "{lines:?}");
    assert!(texts(&lines).contains(&"\u{1}\u{2} red".to_owned()), "{lines:?}");
    let rest = rig.read_until(&instance, Some(cursor(&lines[..2])), "said: colour").await;
    assert_eq!(texts(&rest), texts(&lines[2..]));
}

#[tokio::test]
async fn the_log_of_a_dead_game_ends() {
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.driver.write_line(&instance, "quit").await.expect("it takes a line");
    let mut output = rig.driver.output(&instance, None).await.expect("its log");
    let mut lines = Vec::new();
    let read = async {
        while let Some(batch) = output.next().await {
            lines.extend(batch.expect("a batch").lines);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("it ends");
    assert_eq!(texts(&lines).iter().filter(|text| *text == "bye").count(), 1);
    let again = rig.driver.output(&instance, Some(cursor(&lines))).await.expect("its log");
    assert_eq!(again.collect::<Vec<_>>().await.len(), 0);
    rig.driver.remove(&instance).await.expect("it is removed");
    assert!(rig.driver.output(&instance, None).await.is_err());
}

/// `cargo nextest run --run-ignored only -p manman-worker read_back_rate`
#[tokio::test]
#[ignore = "a measurement of half a minute"]
async fn read_back_rate() {
    const LINES: usize = 1_000_000;
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.driver.write_line(&instance, &format!("seq {LINES}")).await.expect("it takes a line");
    rig.read_until(&instance, None, "seq over").await;
    let id = super::super::container_of(&instance).expect("a container").to_owned();
    // A dead game's log has an end, with `--follow`, too.
    rig.driver.stop(&instance, &[], StopMode::Kill, no_rungs()).await.expect("it is killed");
    for _ in 0..3 {
        let begun = Instant::now();
        let mut output = rig.driver.output(&instance, None).await.expect("its log");
        let mut lines = 0usize;
        while lines < LINES + 3 {
            lines += output.next().await.expect("it is all there").expect("a batch").lines.len();
        }
        let ours = begun.elapsed();
        let begun = Instant::now();
        let script = format!("docker logs --follow --timestamps {id} 2>&1 | wc -l");
        let counted = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let raw = begun.elapsed();
        eprintln!(
            "ours {:.0} lines/s, docker logs --follow {:.0} lines/s ({})",
            LINES as f64 / ours.as_secs_f64(),
            LINES as f64 / raw.as_secs_f64(),
            String::from_utf8_lossy(&counted.stdout).trim()
        );
    }
}

/// `cargo nextest run --run-ignored only -p manman-worker a_flood_over_rotations`
#[tokio::test]
#[ignore = "a minute of a million lines, over two rotations of the engine's log"]
async fn a_flood_over_rotations_is_whole() {
    flood(false).await;
}

/// `cargo nextest run --run-ignored only -p manman-worker a_flood_by_the_engines_api`
#[tokio::test]
#[ignore = "as above, without the engine's files"]
async fn a_flood_by_the_engines_api_is_whole() {
    flood(true).await;
}

async fn flood(by_api: bool) {
    const LINES: usize = 1_000_000;
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.read_until(&instance, None, "up").await;
    let mut output = if by_api {
        let id = super::super::container_of(&instance).expect("a container").to_owned();
        let engine = rig.driver.engine.clone();
        super::super::follow::by_api(engine, id, super::super::frames::Framing::Heads, super::super::resume::Resume::new(None)).await
    } else {
        rig.driver.output(&instance, None).await
    }
    .expect("its log");
    rig.driver.write_line(&instance, &format!("flood {LINES}")).await.expect("it takes a line");
    let begun = Instant::now();
    let (mut expected, mut lost, mut doubled, mut notes) = (1usize, 0usize, 0usize, Vec::new());
    'reading: loop {
        for line in output.next().await.expect("it runs").expect("a batch").lines {
            if line.stream == LogStream::Manager {
                notes.push(line.text.clone());
            }
            if line.text == "flood over" {
                break 'reading;
            }
            let Some(number) =
                line.text.strip_prefix(b"number ").and_then(|rest| std::str::from_utf8(&rest[..7]).ok()?.parse::<usize>().ok())
            else {
                continue;
            };
            if number < expected {
                doubled += 1;
            } else {
                lost += number - expected;
                expected = number + 1;
            }
        }
    }
    eprintln!("{:.0} lines/s, api {by_api}, {lost} lost, {doubled} doubled, {notes:?}", LINES as f64 / begun.elapsed().as_secs_f64());
    assert_eq!((lost, doubled, expected), (0, 0, LINES + 1));
}
