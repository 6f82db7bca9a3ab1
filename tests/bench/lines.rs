//! How old a printed line is when a WebSocket client of the host has it.

use std::process::Stdio;

use futures_util::StreamExt;
use manman_common::wire::{CommandRequest, LineCommand};
use manman_e2e::{Context, Home, Result, containers_of_server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use crate::row;
use crate::stats::{latency, percentile, wall_clock};

const SAMPLES: usize = 400;

pub(crate) async fn measure(home: &Home) -> Result<()> {
    let server = home.printer("stamps", &[]).await?;
    let id = server["id"].as_str().context("an id")?.to_owned();
    home.manman(&["server", "start", "stamps", "--wait=60s"]).await?.success()?;
    let container = containers_of_server(&id).await?.remove(0).id;

    let mut raw =
        Command::new("docker").args(["logs", "--follow", "--tail", "0", &container]).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut raw_lines = BufReader::new(raw.stdout.take().context("stdout")?).lines();
    let reference = tokio::spawn(async move {
        let mut ages = Vec::new();
        while let Ok(Some(line)) = raw_lines.next_line().await {
            ages.extend(age(&line));
            if ages.len() == SAMPLES {
                break;
            }
        }
        ages
    });

    let client = home.client()?;
    let mut socket = client.websocket(&format!("/server/{id}/log/stream?tail=0&format=chunk")).await?;
    // Without waiting for an answer, which would come before the first look at the socket.
    let begin = LineCommand { command: format!("stamp 20 {SAMPLES}"), answer_ms: Some(0) };
    client.server_command("stamps", &CommandRequest::Line(begin)).await?;
    let mut ages = Vec::new();
    while ages.len() < SAMPLES {
        let message = socket.next().await.context("the stream ended")??;
        if let Message::Binary(chunk) = message {
            ages.extend(manman_common::logs::records(&chunk).filter_map(|record| age(&record.text_lossy())));
        }
    }
    let mut reference = reference.await?;
    let ratio = percentile(&mut ages, 50.0) / percentile(&mut reference, 50.0);
    row(
        "a printed line to a WebSocket client, 20 a second",
        &latency(&mut ages),
        &format!("docker logs --follow: {}; ratio {ratio:.2}", latency(&mut reference)),
    );
    home.manman(&["server", "delete", "stamps", "--force", "--purge"]).await?.success()?;
    Ok(())
}

fn age(line: &str) -> Option<f64> {
    let moment: f64 = line.strip_prefix("stamp ")?.split(' ').next()?.parse().ok()?;
    Some(wall_clock() - moment)
}
