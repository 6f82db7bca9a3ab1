//! What is known of requests: of those that run, and for a minute of those that have ended.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::{Answer, Ended};
use crate::clock;

const KEPT: Duration = Duration::from_secs(60);
const KEPT_RECORDS: usize = 4096;
const KEPT_BYTES: usize = 16 << 20;

/// One request, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub request_id: Uuid,
    pub label: String,
    /// Milliseconds since 1970.
    pub started: u64,
    /// `running`, `answered`, or what went wrong.
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// While it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Sample>,
    /// The last 64 KiB of each.
    pub stdout: String,
    pub stderr: String,
    /// Bytes that were printed before those.
    pub stdout_dropped: u64,
    pub stderr_dropped: u64,
}

/// What a process uses at the moment, by procfs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    pub pid: i32,
    pub cpu_ms: u64,
    pub rss: u64,
}

impl Record {
    pub(crate) fn running(id: Uuid, label: &str, started: u64) -> Self {
        Self {
            request_id: id,
            label: label.to_owned(),
            started,
            outcome: "running".to_owned(),
            status: None,
            exit: None,
            signal: None,
            stats: None,
            now: None,
            stdout: String::new(),
            stderr: String::new(),
            stdout_dropped: 0,
            stderr_dropped: 0,
        }
    }

    pub(crate) fn end(&mut self, answer: Option<(&'static str, Option<u16>)>, ended: Option<&Ended>) {
        let (outcome, status) = answer.unwrap_or(("caller gone", None));
        outcome.clone_into(&mut self.outcome);
        self.status = status;
        self.now = None;
        if let Some(ended) = ended {
            (self.exit, self.signal, self.stats) = (ended.code, ended.signal, Some(ended.usage.to_string()));
        }
    }

    fn size(&self) -> usize {
        self.stdout.len() + self.stderr.len() + self.label.len() + 256
    }
}

/// An answer in two words.
pub(crate) fn outcome(answer: &Answer) -> (&'static str, Option<u16>) {
    use super::Failure;
    match answer {
        Answer::Reply(reply) if reply.is_error => ("error", Some(reply.status)),
        Answer::Reply(reply) => ("answered", Some(reply.status)),
        Answer::Failed(Failure::Timeout) => ("timeout", None),
        Answer::Failed(Failure::Exited { out_of_memory: true, .. }) => ("out of memory", None),
        Answer::Failed(Failure::Exited { .. }) => ("exited without answer", None),
        Answer::Failed(Failure::Spawn(_)) => ("not started", None),
        Answer::Failed(Failure::BadOutput(_)) => ("bad output", None),
        Answer::Failed(Failure::Stopping) => ("stopped", None),
    }
}

impl std::fmt::Display for super::Usage {
    /// As the header `urocket-stats` has it: seconds, and bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [user, system, wall] = [self.user, self.system, self.wall].map(|time| time.as_secs_f64());
        write!(f, "utime={user:.6};stime={system:.6};maxrss={};wall={wall:.6}", self.max_rss)
    }
}

#[derive(Default)]
pub(crate) struct History {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<(Instant, Record)>,
    bytes: usize,
}

impl History {
    pub(crate) fn add(&self, record: Record) {
        let now = clock::instant();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += record.size();
        kept.records.push_back((now, record));
        while kept.records.len() > KEPT_RECORDS
            || kept.bytes > KEPT_BYTES
            || kept.records.front().is_some_and(|(at, _)| now.duration_since(*at) > KEPT)
        {
            let Some((_, old)) = kept.records.pop_front() else { break };
            kept.bytes -= old.size();
        }
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Record> {
        let now = clock::instant();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.records.iter().rev().find(|(at, record)| record.request_id == id && now.duration_since(*at) <= KEPT);
        found.map(|(_, record)| record.clone())
    }
}
