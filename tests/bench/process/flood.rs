//! A million lines of 80 bytes: into the log, beside a bare pipe, and to a client of the host.

use std::process::Stdio;
use std::time::Instant;

use futures_util::StreamExt;
use manman_common::LogSeq;
use manman_common::wire::{CommandRequest, LineCommand};
use manman_e2e::{Context, Home, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::{BOXED, GAME, Tools, create};
use crate::row;

const LINES: u64 = 1_000_000;

pub(super) async fn measure(tools: &Tools) -> Result<()> {
    let mut home = Home::empty()?;
    tools.up(&mut home, &[]).await?;
    for (kind, game) in [("process", GAME), ("Docker+shim", BOXED)] {
        let pipe = bare_pipe(tools).await?;
        let quiet = burst(&home, game, "alone", false).await?;
        row(
            &format!("1,000,000 lines, {kind}, into the log"),
            &format!("{:.0} k lines/s, none lost or doubled", rate(LINES, quiet.printed)),
            &format!("a bare pipe: {:.0} k lines/s; ratio {:.2}", rate(LINES, pipe), pipe / quiet.printed),
        );
        row(
            &format!("1,000,000 lines, {kind}, log to a client"),
            &format!("{:.0} k lines/s over the host", rate(LINES, quiet.received)),
            &format!("a bare pipe: ratio {:.2}; 500 k lines/s wanted", pipe / quiet.received),
        );
        let watched = burst(&home, game, "watched", true).await?;
        row(
            &format!("the same while they are printed, {kind}"),
            &format!("{:.0} k lines/s over the host", rate(watched.lines, watched.received)),
            &format!("{} told as a gap, since that many were printed 64 MiB ahead", watched.skipped),
        );
    }
    Ok(())
}

/// Thousands a second.
fn rate(lines: u64, seconds: f64) -> f64 {
    lines as f64 / seconds / 1e3
}

/// Seconds: what the game took to print, by its own clock, and what a client took to have it all.
struct Burst {
    printed: f64,
    received: f64,
    lines: u64,
    skipped: u64,
}

/// Has a server of its own print; a client listens meanwhile, or reads it all back afterwards.
async fn burst(home: &Home, game: &str, name: &str, watched: bool) -> Result<Burst> {
    let id = create(home, game, name).await?;
    home.manman(&["server", "start", name, "--wait=120s"]).await?.success()?;
    let client = home.client()?;
    let query = if watched { "tail=0" } else { "since_seq=0" };
    let stream = format!("/server/{id}/log/stream?{query}&format=chunk");
    let mut listening = if watched { Some(client.websocket(&stream).await?) } else { None };
    let mut start = Instant::now();
    // Without an answer, which would come before the lines.
    let begin = LineCommand { command: format!("burst {LINES}"), answer_ms: Some(0) };
    client.server_command(name, &CommandRequest::Line(begin)).await?;
    let mut socket = match listening.take() {
        Some(socket) => socket,
        None => {
            last_line(home, name).await?;
            start = Instant::now();
            client.websocket(&stream).await?
        }
    };
    let (mut lines, mut skipped, mut next) = (0, 0, None::<LogSeq>);
    let printed = 'reading: loop {
        let Message::Binary(chunk) = socket.next().await.context("the stream ended")?? else { continue };
        for record in manman_common::logs::records(&chunk) {
            if let Some(next) = next {
                // One that lags 64 MiB behind the newest line is told of a gap, unless it reads what is old.
                ensure!(next == record.seq || (watched && next < record.seq), "{} where {next} belongs", record.seq);
                skipped += record.seq.get() - next.get();
            }
            next = Some(record.seq.next());
            if let Some(number) = record.text.strip_prefix(b"line ") {
                lines += 1;
                let number: u64 = std::str::from_utf8(number.get(..9).context("a number")?)?.parse()?;
                ensure!(number == lines + skipped, "line {} is {:?}", lines + skipped, record.text_lossy());
            } else if let Some(seconds) = seconds(&record.text_lossy()) {
                break 'reading seconds;
            }
        }
    };
    let received = start.elapsed().as_secs_f64();
    ensure!(lines + skipped == LINES, "{lines} lines and {skipped} in gaps of {LINES}");
    drop(socket);
    home.manman(&["server", "delete", name, "--force", "--purge"]).await?.success()?;
    Ok(Burst { printed, received, lines, skipped })
}

/// Waits until the log ends with the printer's word that all is printed.
async fn last_line(home: &Home, name: &str) -> Result<()> {
    manman_e2e::eventually_within(super::SOON, "all is printed", async || {
        let shown = home.manman(&["logs", name, "--tail", "1"]).await.map_err(|error| format!("{error:#}"))?;
        if shown.stdout.contains("burst of") { Ok(()) } else { Err(shown.stdout + &shown.stderr) }
    })
    .await
}

/// Seconds that the printer takes when its output is a pipe, and that pipe is all there is.
async fn bare_pipe(tools: &Tools) -> Result<f64> {
    let mut printer =
        tokio::process::Command::new(tools.printer()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut stdin = printer.stdin.take().context("stdin")?;
    stdin.write_all(format!("burst {LINES}\n").as_bytes()).await?;
    let mut pipe = printer.stdout.take().context("stdout")?;
    let (mut chunk, mut end) = (vec![0; 1 << 16], Vec::new());
    loop {
        let read = pipe.read(&mut chunk).await?;
        ensure!(read > 0, "the printer ended");
        // Its last words may be in two reads.
        end.extend_from_slice(&chunk[..read]);
        end.drain(..end.len().saturating_sub(100));
        if let Some(seconds) = String::from_utf8_lossy(&end).lines().find_map(seconds) {
            return Ok(seconds);
        }
    }
}

/// `burst of 5 lines in 0.123 s`
fn seconds(line: &str) -> Option<f64> {
    line.trim_end().strip_prefix("burst of ")?.rsplit_once(" in ")?.1.strip_suffix(" s")?.parse().ok()
}
