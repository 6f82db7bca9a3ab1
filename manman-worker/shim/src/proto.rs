//! The frames on a shim's socket.
//!
//! ```text
//! length  u32 LE, of all that follows, at most FRAME_MAX
//! kind    u8
//! id      u32 LE: chosen by the client, repeated in the answer; 0 in a notice
//! body    by kind; integers are little-endian
//! ```
//!
//! Rules of change: kinds and bodies only grow. A body longer than expected is read as far as it is
//! known; a kind that the shim does not know is answered with `Refused`; a notice of an unknown kind
//! is passed over by the client. So a worker may talk to shims older and newer than itself.
//!
//! The first request must be `Hello`; before it, and with a wrong nonce, the connection is closed.
//! Every request has exactly one answer, in order. A client that does not read is dropped once
//! [`PENDING_MAX`] bytes wait for it; at most [`CLIENTS_MAX`] are kept, the longest silent one goes.

use std::fmt;

/// Version of what is written here: 2 knows [`Request::Lease`]. A worker talks to all of them.
pub const VERSION: u16 = 2;
/// The first version that holds a lease.
pub const VERSION_LEASE: u16 = 2;
/// Longest frame, its length not counted.
pub const FRAME_MAX: usize = 64 * 1024;
/// Bytes that may wait for a client.
pub const PENDING_MAX: usize = 64 * 1024;
pub const CLIENTS_MAX: usize = 8;
/// Bytes of console input that may wait for the game.
pub const STDIN_MAX: usize = 64 * 1024;

const LENGTH: usize = 4;
const HEAD: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// 1: `u16` version, then the nonce. Answer: [`Answer::Welcome`].
    Hello { version: u16, nonce: &'a [u8] },
    /// 2: bytes for the game's stdin. Answer: [`Answer::Taken`], as many as there was room for.
    Stdin(&'a [u8]),
    /// 3: `u16` rows, `u16` columns. Refused without a terminal.
    Resize { rows: u16, columns: u16 },
    /// 4. Answer: [`Answer::Status`].
    Status,
    /// 5: `u8` number, `u8` 0 for the game's process or 1 for its whole tree.
    Signal { number: u8, all: bool },
    /// 6: rungs as in a spec, one a line; none for the spec's own. Asked again, the ladder goes on.
    Stop { ladder: &'a [u8] },
    /// 7: SIGKILL to the whole tree now, whatever the ladder was doing.
    Kill,
    /// 8: `u8`, bit 0 for [`Notice::LastSeq`], bit 1 for the others.
    Subscribe { seqs: bool, events: bool },
    /// 9, answered by `Descriptors` with SCM_RIGHTS: the terminal's master, or stdin, stdout and stderr
    /// of the shim's side as far as they are open, so that they stay open if the shim dies.
    Descriptors,
    /// 10: a line of the manager's own for the log. Answer: [`Answer::Appended`].
    Note(&'a [u8]),
    /// 11: closes the game's stdin once what waits has been written. Refused with a terminal.
    CloseStdin,
    /// 12: `u64` when the stop ladder begins, `u64` when all is killed: milliseconds on CLOCK_BOOTTIME,
    /// two zeros for no lease. It takes the place of the one before. Refused once that has run out.
    Lease { until_ms: u64, kill_ms: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// 128: `u16` version of the shim.
    Welcome { version: u16 },
    /// 129
    Done,
    /// 130: why, as text.
    Refused(&'a str),
    /// 131: `u32`
    Taken(u32),
    /// 132: the state as in its file, and `last_seq`, `stdin_waiting`, `lost_lines`, `log_error`, `tree`.
    Status(&'a [u8]),
    /// 133: the descriptors come with this frame; `u8` their count.
    Descriptors(u8),
    /// 134: `u64` sequence number.
    Appended(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// 192: `u64`, the last line that is in the log's file; the newest only.
    LastSeq(u64),
    /// 193: `u16` index from 0, then the rung as text; it has been begun.
    Rung { index: u16, text: &'a str },
    /// 194: the exit record as in its file; sent for both of its writings.
    Exit(&'a [u8]),
    /// 195: the state as in its file, when its phase has changed.
    State(&'a [u8]),
}

/// One frame as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub id: u32,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoError {
    /// A length that no frame has.
    Length(u32),
    /// A kind that this version does not know.
    Unknown(u8),
    /// A body that is too short or not as its kind has it.
    Body(u8),
}

impl fmt::Display for ProtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a frame of {length} bytes"),
            Self::Unknown(kind) => write!(f, "kind {kind} is not known"),
            Self::Body(kind) => write!(f, "the body of kind {kind} is not as expected"),
        }
    }
}

impl std::error::Error for ProtoError {}

/// Splits the first frame off; `None` while it is not whole. Also returns how many bytes it took.
pub fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, ProtoError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    let size = length as usize;
    if !(HEAD..=FRAME_MAX).contains(&size) {
        return Err(ProtoError::Length(length));
    }
    let Some(frame) = rest.get(..size) else { return Ok(None) };
    let Some((&[kind, a, b, c, d], body)) = frame.split_first_chunk::<HEAD>() else { return Err(ProtoError::Length(length)) };
    Ok(Some((Frame { kind, id: u32::from_le_bytes([a, b, c, d]), body }, LENGTH + size)))
}

fn frame(out: &mut Vec<u8>, kind: u8, id: u32, parts: &[&[u8]]) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    // Every body of ours is far below FRAME_MAX but for stdin, which its sender cuts.
    let length = u32::try_from(HEAD + body).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&id.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

impl<'a> Request<'a> {
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        match self {
            Self::Hello { version, nonce } => frame(out, 1, id, &[&version.to_le_bytes(), nonce]),
            Self::Stdin(bytes) => frame(out, 2, id, &[bytes]),
            Self::Resize { rows, columns } => frame(out, 3, id, &[&rows.to_le_bytes(), &columns.to_le_bytes()]),
            Self::Status => frame(out, 4, id, &[]),
            Self::Signal { number, all } => frame(out, 5, id, &[&[*number, u8::from(*all)]]),
            Self::Stop { ladder } => frame(out, 6, id, &[ladder]),
            Self::Kill => frame(out, 7, id, &[]),
            Self::Subscribe { seqs, events } => frame(out, 8, id, &[&[u8::from(*seqs) | u8::from(*events) << 1]]),
            Self::Descriptors => frame(out, 9, id, &[]),
            Self::Note(text) => frame(out, 10, id, &[text]),
            Self::CloseStdin => frame(out, 11, id, &[]),
            Self::Lease { until_ms, kill_ms } => frame(out, 12, id, &[&until_ms.to_le_bytes(), &kill_ms.to_le_bytes()]),
        }
    }

    pub fn decode(frame: &Frame<'a>) -> Result<Self, ProtoError> {
        let bad = ProtoError::Body(frame.kind);
        let body = frame.body;
        Ok(match frame.kind {
            1 => {
                let (version, nonce) = body.split_first_chunk().ok_or(bad)?;
                Self::Hello { version: u16::from_le_bytes(*version), nonce }
            }
            2 => Self::Stdin(body),
            3 => {
                let (&[a, b, c, d], _) = body.split_first_chunk().ok_or(bad)?;
                Self::Resize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) }
            }
            4 => Self::Status,
            5 => {
                let (&[number, all], _) = body.split_first_chunk().ok_or(bad)?;
                Self::Signal { number, all: all == 1 }
            }
            6 => Self::Stop { ladder: body },
            7 => Self::Kill,
            8 => {
                let bits = body.first().ok_or(bad)?;
                Self::Subscribe { seqs: bits & 1 != 0, events: bits & 2 != 0 }
            }
            9 => Self::Descriptors,
            10 => Self::Note(body),
            11 => Self::CloseStdin,
            12 => {
                let (until, rest) = body.split_first_chunk().ok_or(bad)?;
                let kill = rest.first_chunk().ok_or(bad)?;
                Self::Lease { until_ms: u64::from_le_bytes(*until), kill_ms: u64::from_le_bytes(*kill) }
            }
            other => return Err(ProtoError::Unknown(other)),
        })
    }
}

impl<'a> Answer<'a> {
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        match self {
            Self::Welcome { version } => frame(out, 128, id, &[&version.to_le_bytes()]),
            Self::Done => frame(out, 129, id, &[]),
            Self::Refused(why) => frame(out, 130, id, &[why.as_bytes()]),
            Self::Taken(count) => frame(out, 131, id, &[&count.to_le_bytes()]),
            Self::Status(text) => frame(out, 132, id, &[text]),
            Self::Descriptors(count) => frame(out, 133, id, &[&[*count]]),
            Self::Appended(seq) => frame(out, 134, id, &[&seq.to_le_bytes()]),
        }
    }

    pub fn decode(frame: &Frame<'a>) -> Result<Self, ProtoError> {
        let bad = ProtoError::Body(frame.kind);
        let body = frame.body;
        Ok(match frame.kind {
            128 => Self::Welcome { version: u16::from_le_bytes(*body.first_chunk().ok_or(bad)?) },
            129 => Self::Done,
            130 => Self::Refused(std::str::from_utf8(body).map_err(|_| bad)?),
            131 => Self::Taken(u32::from_le_bytes(*body.first_chunk().ok_or(bad)?)),
            132 => Self::Status(body),
            133 => Self::Descriptors(*body.first().ok_or(bad)?),
            134 => Self::Appended(u64::from_le_bytes(*body.first_chunk().ok_or(bad)?)),
            other => return Err(ProtoError::Unknown(other)),
        })
    }
}

impl<'a> Notice<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::LastSeq(seq) => frame(out, 192, 0, &[&seq.to_le_bytes()]),
            Self::Rung { index, text } => frame(out, 193, 0, &[&index.to_le_bytes(), text.as_bytes()]),
            Self::Exit(record) => frame(out, 194, 0, &[record]),
            Self::State(record) => frame(out, 195, 0, &[record]),
        }
    }

    /// Whether a frame of this kind is a notice and not an answer, known or not.
    #[must_use]
    pub const fn is_kind(kind: u8) -> bool {
        kind >= 192
    }

    pub fn decode(frame: &Frame<'a>) -> Result<Self, ProtoError> {
        let bad = ProtoError::Body(frame.kind);
        let body = frame.body;
        Ok(match frame.kind {
            192 => Self::LastSeq(u64::from_le_bytes(*body.first_chunk().ok_or(bad)?)),
            193 => {
                let (index, text) = body.split_first_chunk().ok_or(bad)?;
                Self::Rung { index: u16::from_le_bytes(*index), text: std::str::from_utf8(text).map_err(|_| bad)? }
            }
            194 => Self::Exit(body),
            195 => Self::State(body),
            other => return Err(ProtoError::Unknown(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_and_may_grow() {
        let requests = [
            Request::Hello { version: 1, nonce: b"n" },
            Request::Stdin(b"say \n\0hi"),
            Request::Resize { rows: 3, columns: 400 },
            Request::Status,
            Request::Signal { number: 15, all: true },
            Request::Stop { ladder: b"1 signal TERM" },
            Request::Kill,
            Request::Subscribe { seqs: false, events: true },
            Request::Descriptors,
            Request::Note(b"n"),
            Request::CloseStdin,
            Request::Lease { until_ms: 1, kill_ms: u64::MAX },
        ];
        let mut bytes = Vec::new();
        for (id, request) in (1..).zip(&requests) {
            request.encode(id, &mut bytes);
        }
        let mut rest = bytes.as_slice();
        for (id, request) in (1..).zip(&requests) {
            let (frame, used) = split(rest).expect("a frame").expect("a whole one");
            assert_eq!((frame.id, Request::decode(&frame).as_ref()), (id, Ok(request)));
            rest = &rest[used..];
        }
        assert_eq!(rest, b"");
        let grown = Frame { kind: 3, id: 1, body: &[1, 0, 2, 0, 99] };
        assert_eq!(Request::decode(&grown), Ok(Request::Resize { rows: 1, columns: 2 }));
        assert_eq!(Request::decode(&Frame { kind: 77, id: 1, body: b"" }), Err(ProtoError::Unknown(77)));
        assert_eq!(Request::decode(&Frame { kind: 3, id: 1, body: b"" }), Err(ProtoError::Body(3)));
    }

    /// What a worker of the first version says, and what it was answered with, byte for byte.
    #[test]
    fn the_first_versions_frames_are_what_they_were() {
        let old = [
            (Request::Hello { version: 1, nonce: b"n" }, &[8, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, b'n'][..]),
            (Request::Resize { rows: 2, columns: 3 }, &[9, 0, 0, 0, 3, 1, 0, 0, 0, 2, 0, 3, 0]),
            (Request::Signal { number: 15, all: true }, &[7, 0, 0, 0, 5, 1, 0, 0, 0, 15, 1]),
            (Request::Stop { ladder: b"" }, &[5, 0, 0, 0, 6, 1, 0, 0, 0]),
            (Request::Kill, &[5, 0, 0, 0, 7, 1, 0, 0, 0]),
            (Request::Subscribe { seqs: true, events: true }, &[6, 0, 0, 0, 8, 1, 0, 0, 0, 3]),
        ];
        for (request, bytes) in old {
            let mut encoded = Vec::new();
            request.encode(1, &mut encoded);
            assert_eq!(encoded, bytes);
        }
        let mut answer = Vec::new();
        Answer::Taken(3).encode(1, &mut answer);
        assert_eq!(answer, [9, 0, 0, 0, 131, 1, 0, 0, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn half_a_frame_waits_and_a_monster_is_refused() {
        let mut bytes = Vec::new();
        Answer::Refused("no").encode(7, &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end]), Ok(None));
        }
        assert_eq!(split(&[255, 255, 255, 127]), Err(ProtoError::Length(0x7fff_ffff)));
        assert_eq!(split(&[0, 0, 0, 0]), Err(ProtoError::Length(0)));
    }
}
