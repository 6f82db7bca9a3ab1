//! What a client of the log stream receives, and whether anything is missing or doubled.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use manman_common::client::Client;
use manman_common::logs::{LogLine, LogMessage, LogStream};
use tokio_tungstenite::tungstenite::Message;

/// Lines in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    pub lines: Vec<LogLine>,
    pub missed: u64,
}

impl Transcript {
    /// What the game itself printed.
    pub fn printed(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|line| line.stream != LogStream::Manager).map(|line| line.text.as_str())
    }

    /// Fails unless the printer's lines `line 000000001 …` to the last are there, each once, in
    /// order, and the sequence numbers grow by one. Gives their count.
    pub fn whole(&self) -> Result<u64> {
        ensure!(self.missed == 0, "{} lines were reported as missed", self.missed);
        for pair in self.lines.windows(2) {
            ensure!(pair[1].seq == pair[0].seq.next(), "{:?} is followed by {:?}", pair[0], pair[1]);
        }
        let mut expected = 0;
        for text in self.printed() {
            let Some(number) = text.strip_prefix("line ").and_then(|rest| rest.get(..9)) else { continue };
            let number: u64 = number.parse()?;
            expected += 1;
            ensure!(number == expected, "line {number} stands where line {expected} belongs");
        }
        Ok(expected)
    }
}

/// Follows a log from `query` on until `enough` says so.
pub async fn follow(
    client: &Client,
    server: &str,
    query: &str,
    limit: Duration,
    mut enough: impl FnMut(&Transcript) -> bool,
) -> Result<Transcript> {
    let mut socket = client.websocket(&format!("/server/{server}/log/stream?{query}")).await?;
    let mut transcript = Transcript::default();
    let reading = async {
        while !enough(&transcript) {
            let message = socket.next().await.context("the stream ended")??;
            let Message::Text(text) = message else { continue };
            match serde_json::from_str(&text)? {
                LogMessage::Lines { items } => transcript.lines.extend(items),
                LogMessage::Gap(gap) => transcript.missed += gap.count,
                LogMessage::End { reason } => bail!("the stream ended: {reason:?}"),
            }
        }
        Ok(())
    };
    let read = tokio::time::timeout(limit, reading).await;
    match read {
        Ok(Ok(())) => Ok(transcript),
        Ok(Err(error)) => Err(error.context(tail(&transcript))),
        Err(_) => bail!("not within {} s; {}", limit.as_secs(), tail(&transcript)),
    }
}

fn tail(transcript: &Transcript) -> String {
    let last: Vec<_> = transcript.lines.iter().rev().take(5).map(|line| format!("{} {}", line.seq, line.text)).collect();
    format!("{} lines, the last: {last:?}", transcript.lines.len())
}
