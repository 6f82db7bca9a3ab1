//! One page of a log, or the newest hits of a search: read whole, then printed, oldest first.

use std::io::{self, Write};
use std::time::Duration;

use futures_util::StreamExt;
use manman_common::client::Client;
use manman_common::logs::{LogEnd, LogGap, LogMessage, LogQuery, LogStream, records};
use manman_common::{LogSeq, ServerId};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::{aside, ended};
use crate::commands::refused;
use crate::failure::Failure;
use crate::feed;
use crate::render::{self, Look};

/// A search ends by itself long before.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn print(client: &Client, server: ServerId, query: &LogQuery, look: Look) -> Result<(), Failure> {
    let late = |_| Failure::new("could not read the log to its end").why("the host did not answer in time").hint("try again");
    let (chunks, gap, end) = tokio::time::timeout(WITHIN, read(client, server, query)).await.map_err(late)??;
    let mut lines: Vec<_> = chunks.iter().flat_map(|chunk| records(chunk)).collect();
    lines.sort_by_key(|line| line.seq);
    let (mut stdout, mut out) = (io::stdout().lock(), Vec::new());
    for record in &lines {
        if record.stream == LogStream::Manager && !look.json {
            stdout.write_all(&out)?;
            out.clear();
            aside(&mut stdout, &render::manager_word(record))?;
        } else {
            look.record(record, &mut out);
        }
    }
    stdout.write_all(&out)?;
    let oldest = lines.first().map(|line| line.seq);
    if let Some(word) = more(query, lines.len(), oldest, gap) {
        aside(&mut stdout, &render::word(&word))?;
    }
    ended(end)
}

async fn read(client: &Client, server: ServerId, query: &LogQuery) -> Result<(Vec<Bytes>, Option<LogGap>, LogEnd), Failure> {
    let path = feed::path(&server.to_string(), query, query.since_seq);
    let mut socket = client.websocket(&path).await.map_err(|error| refused("could not read the log", error))?;
    let (mut chunks, mut gap) = (Vec::new(), None);
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(chunk))) => chunks.push(chunk),
            Some(Ok(Message::Text(json))) => match serde_json::from_str(&json) {
                Ok(LogMessage::Gap(found)) => gap = Some(found),
                Ok(LogMessage::End { reason }) => return Ok((chunks, gap, reason)),
                Ok(LogMessage::Lines { .. }) | Err(_) => {}
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            None | Some(Err(_)) | Some(Ok(Message::Close(_))) => {
                return Err(Failure::new("could not read the log to its end").why("the connection was lost").hint("try again"));
            }
        }
    }
}

/// How to go on, where there may be more.
fn more(query: &LogQuery, count: usize, oldest: Option<LogSeq>, gap: Option<LogGap>) -> Option<String> {
    if let Some(gap) = gap.filter(|_| query.grep.is_some()) {
        return Some(if query.from_the_end() {
            format!("{} older lines were not searched for lack of time; go on with --before {}", gap.count, gap.to_seq.next())
        } else {
            format!(
                "{} newer lines were not searched for lack of time; go on with --since-seq {}",
                gap.count,
                gap.from_seq.get().saturating_sub(1)
            )
        });
    }
    let full = query.limit.is_some_and(|limit| count as u64 >= limit);
    let oldest = oldest.filter(|oldest| full && query.from_the_end() && oldest.get() > 1)?;
    Some(format!("for older ones, --before {oldest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_go_on_is_said() {
        let query = LogQuery { limit: Some(2), grep: Some("x".to_owned()), ..LogQuery::default() };
        let gap = LogGap { from_seq: LogSeq::new(1), to_seq: LogSeq::new(9), count: 9 };
        assert!(more(&query, 0, None, Some(gap)).is_some_and(|word| word.contains("--before 10")));
        assert_eq!(more(&query, 2, Some(LogSeq::new(40)), None).as_deref(), Some("for older ones, --before 40"));
        assert_eq!(more(&query, 1, Some(LogSeq::new(40)), None), None);
        assert_eq!(more(&query, 2, Some(LogSeq::new(1)), None), None);
        let forward = LogQuery { since_seq: Some(LogSeq::new(0)), ..query };
        assert!(more(&forward, 0, None, Some(gap)).is_some_and(|word| word.contains("--since-seq 0")));
    }
}
