//! From a command's POST to the game that reads it.

use std::time::Instant;

use manman_common::wire::{CommandRequest, LineCommand};
use manman_e2e::{Home, Result, follow};

use crate::row;
use crate::stats::{latency, percentile, wall_clock};

const SAMPLES: usize = 300;

pub(crate) async fn measure(home: &Home) -> Result<()> {
    home.printer("echoes", &[]).await?;
    home.manman(&["server", "start", "echoes", "--wait=60s"]).await?.success()?;
    let client = home.client()?;
    let mut posted = Vec::new();
    let mut turnaround = Vec::new();
    for number in 0..SAMPLES {
        posted.push(wall_clock());
        let start = Instant::now();
        let command = LineCommand { command: format!("probe {number}"), answer_ms: Some(0) };
        client.server_command("echoes", &CommandRequest::Line(command)).await?;
        turnaround.push(start.elapsed().as_secs_f64());
    }
    let limit = std::time::Duration::from_secs(30);
    let transcript =
        follow(&client, "echoes", "since_seq=0", limit, |t| t.printed().filter(|text| text.starts_with("echo ")).count() == SAMPLES)
            .await?;
    // `echo 1795216883.639364 probe 7`
    let arrived = transcript.printed().filter_map(|text| text.strip_prefix("echo ")?.split(' ').next()?.parse::<f64>().ok());
    let mut took: Vec<f64> = arrived.zip(posted).map(|(arrived, posted)| arrived - posted).collect();

    let mut status = Vec::new();
    for _ in 0..SAMPLES {
        let start = Instant::now();
        client.server_show("echoes").await?;
        status.push(start.elapsed().as_secs_f64());
    }
    let ratio = percentile(&mut took, 50.0) / percentile(&mut status, 50.0);
    row(
        "command: POST to the game's stdin",
        &latency(&mut took),
        &format!("a GET of the server: {}; ratio {ratio:.2}", latency(&mut status)),
    );
    row("command: POST to its answer", &latency(&mut turnaround), "");
    home.manman(&["server", "delete", "echoes", "--force", "--purge"]).await?.success()?;
    Ok(())
}
