//! The link between worker and host: frames over a WebSocket that the worker dials, or over a long
//! poll where WebSockets are blocked.
//!
//! ```text
//! worker                          host
//! Hello {have_revision, …}   →
//!                            ←    Welcome {event_seq}
//!                            ←    Index {revision, server: (generation, hash)}
//! Pull {servers that differ} →
//!                            ←    Specs {from_revision, revision, specs}
//! Ack {revision}             →         once both are in SQLite, in one transaction
//! ```
//!
//! From then on every change is a `Specs` frame whose `from_revision` is what the worker has; a
//! frame that does not fit is answered with `Hello` again. A server missing from an index is never
//! a delete: only a spec that says `deleted` is.
//!
//! Text messages are JSON frames. A binary message carries log records: 8 bytes of stream number
//! (big endian), then a [chunk](crate::logs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::GoneReason;
use crate::logs::{LogEnd, LogGap, LogQuery};
use crate::wire::WorkerEvent;
use crate::{CommandId, Generation, InstanceId, LogSeq, Phase, Problem, Revision, RunId, ServerId, ServerSpec, ServerStatus, SessionEpoch};

/// Longest JSON frame, in bytes.
pub const FRAME_MAX: usize = 4 * 1024 * 1024;

/// Log bytes that a worker may send on a stream before the host grants more.
pub const LOG_WINDOW: u64 = 1024 * 1024;

/// From the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ToHost {
    Hello(Hello),
    /// Asks for the specs that differ.
    Pull {
        servers: Vec<ServerId>,
    },
    /// Everything up to this revision is stored.
    Ack {
        revision: Revision,
    },
    /// Servers whose status has changed.
    Status {
        servers: Vec<ServerStatus>,
    },
    Events {
        events: Vec<WorkerEvent>,
    },
    /// The answer to a [`ToWorker::Call`].
    Reply {
        id: CommandId,
        reply: Reply,
    },
    /// The log stream is open; the numbers are those of the whole log.
    LogOpened {
        stream: u64,
        first_seq: LogSeq,
        last_seq: LogSeq,
    },
    LogGap {
        stream: u64,
        gap: LogGap,
    },
    LogEnded {
        stream: u64,
        end: LogEnd,
    },
    /// A chunk of records where binary messages do not pass; bytes that are no UTF-8 are lost.
    LogChunk {
        stream: u64,
        chunk: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub session_epoch: SessionEpoch,
    pub run_id: RunId,
    pub boot_id: String,
    pub have_revision: Revision,
    pub inventory: Vec<InventoryItem>,
}

/// A server that the worker knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InventoryItem {
    pub server: ServerId,
    pub generation: Generation,
    pub phase: Phase,
    pub instance: Option<InstanceId>,
    /// [`ServerSpec::epoch`] of the spec that the worker has.
    #[serde(default)]
    pub epoch: u64,
}

/// From the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ToWorker {
    Welcome {
        /// The last of the worker's events that the host has.
        event_seq: u64,
        heartbeat_seconds: u32,
    },
    Index {
        revision: Revision,
        servers: BTreeMap<ServerId, IndexEntry>,
    },
    Specs {
        from_revision: Revision,
        revision: Revision,
        specs: Vec<ServerSpec>,
    },
    /// The host has stored the worker's events up to this one.
    EventsStored {
        up_to: u64,
    },
    /// The host has these replies: the worker need not keep them for a duplicate.
    RepliesStored {
        ids: Vec<CommandId>,
    },
    /// A request to the worker's own routes, answered with [`ToHost::Reply`].
    Call(Call),
    LogOpen {
        stream: u64,
        server: ServerId,
        query: LogQuery,
    },
    /// The reader has taken this many bytes; so many more may be sent.
    LogCredit {
        stream: u64,
        bytes: u64,
    },
    LogClose {
        stream: u64,
    },
    /// The host closes the link for good.
    Goodbye {
        reason: GoneReason,
        detail: String,
    },
}

/// What an index says of a server: enough to know whether to ask for its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    pub generation: Generation,
    /// [`spec_hash`] of the spec.
    pub hash: u64,
}

/// An HTTP request to the worker's router, over the link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The same id is carried out once, however often it comes.
    pub id: CommandId,
    pub method: String,
    /// Path and query.
    pub path: String,
    #[serde(default)]
    pub body: serde_json::Value,
    /// Milliseconds from receipt, on the worker's own clock, after which it must not be begun.
    pub ttl_ms: u32,
    /// With an instance, the call is for that one alone: a late one does not hit its successor.
    #[serde(default)]
    pub expect_instance: Option<InstanceId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub status: u16,
    /// JSON, or a string where the route answered text.
    pub body: serde_json::Value,
}

impl Reply {
    #[must_use]
    pub fn problem(problem: &Problem) -> Self {
        Self { status: problem.status, body: serde_json::to_value(problem).unwrap_or_default() }
    }
}

/// One round of the long poll: `POST /worker/{id}/link`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PollRequest {
    pub session_epoch: SessionEpoch,
    /// Counts rounds from 1; a round that is repeated is answered with what it was answered before.
    pub round: u64,
    pub frames: Vec<ToHost>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PollAnswer {
    pub frames: Vec<ToWorker>,
}

/// FNV-1a over the spec's JSON, whose maps are sorted: the same on every machine and in every
/// version. It tells equal from unequal; it protects against nobody.
#[must_use]
pub fn spec_hash(spec: &ServerSpec) -> u64 {
    fnv1a(&serde_json::to_vec(spec).unwrap_or_default())
}

/// FNV-1a, 64 bits (offset basis and prime as published by its authors).
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A binary message: stream number and chunk.
#[must_use]
pub fn encode_log_chunk(stream: u64, chunk: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(8 + chunk.len());
    message.extend_from_slice(&stream.to_be_bytes());
    message.extend_from_slice(chunk);
    message
}

/// The stream number of a binary message; the chunk is what follows its 8 bytes.
#[must_use]
pub fn decode_log_chunk(message: &[u8]) -> Option<(u64, &[u8])> {
    let (stream, chunk) = message.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*stream), chunk))
}
