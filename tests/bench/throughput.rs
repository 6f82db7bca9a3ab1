//! A million lines from a container to a client, and the same through `docker logs --follow`.

use std::process::Stdio;
use std::time::Instant;

use futures_util::StreamExt;
use manman_common::LogSeq;
use manman_common::wire::{CommandRequest, LineCommand};
use manman_e2e::{Context, Home, Result, containers_of_server, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use crate::row;

const LINES: u64 = 1_000_000;

pub(crate) async fn measure(home: &Home) -> Result<()> {
    let server = home.printer("flood", &[]).await?;
    let id = server["id"].as_str().context("an id")?.to_owned();
    home.manman(&["server", "start", "flood", "--wait=60s"]).await?.success()?;
    let client = home.client()?;

    // Ours: from the burst's begin until the client has the last line.
    let mut socket = client.websocket(&format!("/server/{id}/log/stream?tail=0&format=chunk")).await?;
    let start = Instant::now();
    let begin = LineCommand { command: format!("burst {LINES}"), answer_ms: Some(0) };
    client.server_command("flood", &CommandRequest::Line(begin)).await?;
    let (mut lines, mut next) = (0, None);
    'reading: loop {
        let Message::Binary(chunk) = socket.next().await.context("the stream ended")?? else { continue };
        for record in manman_common::logs::records(&chunk) {
            ensure!(next.is_none_or(|next: LogSeq| next == record.seq), "{} where {next:?} belongs", record.seq);
            next = Some(record.seq.next());
            if record.text.starts_with(b"line ") {
                lines += 1;
            } else if record.text.starts_with(b"burst of") {
                break 'reading;
            }
        }
    }
    let ours = start.elapsed().as_secs_f64();
    ensure!(lines == LINES, "{lines} lines of {LINES}");
    drop(socket);

    // Docker's own tool, on a container of the same image.
    let raw = raw_follow(&id).await?;
    let rate = |seconds: f64| LINES as f64 / seconds / 1e3;
    let beside = format!("docker logs --follow: {:.0} k lines/s; ratio {:.2}", rate(raw), raw / ours);
    row("1,000,000 lines, Docker to a client of the host", &format!("{:.0} k lines/s, none lost or doubled", rate(ours)), &beside);

    // The same lines read back, without Docker: what host and link alone can carry.
    let mut socket = client.websocket(&format!("/server/{id}/log/stream?since_seq=0&format=chunk")).await?;
    let start = Instant::now();
    let (mut lines, mut bytes) = (0, 0);
    while lines < LINES {
        let Message::Binary(chunk) = socket.next().await.context("the stream ended")?? else { continue };
        bytes += chunk.len();
        lines += manman_common::logs::records(&chunk).filter(|record| record.text.starts_with(b"line ")).count() as u64;
    }
    let relayed = start.elapsed().as_secs_f64();
    let pipe = bare_pipe(bytes).await?;
    row(
        "1,000,000 lines, worker's log to a client of the host",
        &format!("{:.0} k lines/s", rate(relayed)),
        &format!("a bare pipe, same bytes: ratio {:.2}", pipe / relayed),
    );
    home.manman(&["server", "delete", "flood", "--force", "--purge"]).await?.success()?;
    Ok(())
}

async fn raw_follow(server: &str) -> Result<f64> {
    let container = containers_of_server(server).await?.remove(0).id;
    let mut raw =
        Command::new("docker").args(["logs", "--follow", "--tail", "0", &container]).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::with_capacity(1 << 16, raw.stdout.take().context("stdout")?);
    let mut attach = Command::new("docker");
    attach.args(["attach", "--sig-proxy=false", &container]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut typing = attach.kill_on_drop(true).spawn()?;
    let start = Instant::now();
    let mut stdin = typing.stdin.take().context("stdin")?;
    tokio::io::AsyncWriteExt::write_all(&mut stdin, format!("burst {LINES}\n").as_bytes()).await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        ensure!(lines.read_until(b'\n', &mut line).await? > 0, "docker logs ended");
        if line.starts_with(b"burst of") {
            return Ok(start.elapsed().as_secs_f64());
        }
    }
}

/// Seconds that so many bytes take through a pipe.
async fn bare_pipe(bytes: usize) -> Result<f64> {
    let mut source = Command::new("head").args(["-c", &bytes.to_string(), "/dev/zero"]).stdout(Stdio::piped()).spawn()?;
    let mut pipe = source.stdout.take().context("stdout")?;
    let start = Instant::now();
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(start.elapsed().as_secs_f64())
}
