//! Source RCON, and Minecraft's kind of it: packets with a size, an id and a type, over TCP.

use std::io;

use bytes::{Buf, BytesMut};
use manman_common::spec::ConsoleAccess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Collected, End, Fault, Patience, connect, login_limit, secret};

const LOGIN: i32 = 3;
const COMMAND: i32 = 2;
/// The answer to a login has the type of a command.
const LOGIN_ANSWER: i32 = 2;
const REPLY: i32 = 0;
const REFUSED: i32 = -1;

/// Valve's packets have 4096 bytes at most; other games send larger ones, and Minecraft counts
/// characters.
const PACKET_MAX: usize = 64 * 1024;
/// An id and a type.
const PACKET_MIN: usize = 8;

/// A reply of Minecraft's with as many bytes may be followed by a second packet.
const FRAGMENT: usize = 4096;

/// Packets of one reply, or of others before it.
const PACKETS_MAX: usize = 4096;
/// Packets before the answer to a login; Valve sends one.
const PACKETS_AT_LOGIN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Source,
    Minecraft,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) id: i32,
    pub(super) kind: i32,
    pub(super) body: Vec<u8>,
}

impl Packet {
    pub(super) fn encode(&self) -> Vec<u8> {
        let size = u32::try_from(self.body.len() + 10).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(self.body.len() + 14);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.body);
        out.extend_from_slice(&[0, 0]);
        out
    }

    /// The first packet of the buffer, if it is whole.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Fault> {
        let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
        let claimed = i32::from_le_bytes(*head);
        let size = usize::try_from(claimed).ok().filter(|size| (PACKET_MIN..=PACKET_MAX).contains(size));
        let Some(size) = size else { return Err(Fault::Garbled(format!("a packet that claims {claimed} bytes"))) };
        if buffer.len() < 4 + size {
            return Ok(None);
        }
        let mut packet = buffer.split_to(4 + size);
        packet.advance(4);
        let (id, kind) = (packet.get_i32_le(), packet.get_i32_le());
        // Two zeros by the book, one or none by some games.
        let end = packet.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        Ok(Some(Self { id, kind, body: packet[..end].to_vec() }))
    }
}

pub(super) struct Session {
    stream: TcpStream,
    buffer: BytesMut,
    flavour: Flavour,
    last_id: i32,
}

enum Heard {
    Packet(Packet),
    Silence,
    Closed,
}

impl Session {
    pub(super) async fn open(flavour: Flavour, access: &ConsoleAccess, deadline: Instant) -> Result<Self, Fault> {
        let word = secret(access).ok_or(Fault::NoSecret)?;
        let stream = connect(access.port, deadline).await?;
        let mut session = Self { stream, buffer: BytesMut::new(), flavour, last_id: 0 };
        let id = session.next_id();
        if session.write(&Packet { id, kind: LOGIN, body: word.as_bytes().to_vec() }).await.is_err() {
            return Err(Fault::TurnedAway);
        }
        let limit = login_limit(deadline);
        for _ in 0..PACKETS_AT_LOGIN {
            match session.hear(limit).await? {
                Heard::Packet(Packet { id: REFUSED, kind: LOGIN_ANSWER, .. }) => return Err(Fault::Refused),
                Heard::Packet(Packet { id: answered, kind: LOGIN_ANSWER, .. }) if answered == id => return Ok(session),
                Heard::Packet(_) => {}
                Heard::Silence => return Err(Fault::NoLogin),
                Heard::Closed => return Err(Fault::TurnedAway),
            }
        }
        Err(Fault::Garbled(format!("{PACKETS_AT_LOGIN} packets, none of which answers the login")))
    }

    pub(super) async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, Fault> {
        let id = self.next_id();
        self.write(&Packet { id, kind: COMMAND, body: line.as_bytes().to_vec() }).await.map_err(Fault::Lost)?;
        let mut heard = false;
        let mut mark = None;
        for _ in 0..PACKETS_MAX {
            // What is always there never lets a timer run out.
            if Instant::now() >= patience.deadline {
                return Ok(if heard { End::Quiet } else { End::Mute });
            }
            let packet = match self.hear(patience.next(heard)).await? {
                Heard::Packet(packet) => packet,
                Heard::Silence => return Ok(if heard { End::Quiet } else { End::Mute }),
                Heard::Closed if heard => return Ok(End::Closed),
                Heard::Closed => return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
            };
            if packet.id == id && packet.kind == REPLY {
                heard = true;
                let may_go_on = packet.body.len() >= FRAGMENT;
                if !into.push(&packet.body) {
                    return Ok(End::Cut);
                }
                if patience.until.is_some_and(|pattern| into.matches(pattern)) {
                    return Ok(End::Whole);
                }
                match (self.flavour, mark) {
                    (Flavour::Minecraft, None) if !may_go_on => return Ok(End::Whole),
                    // An empty packet comes back unchanged once all before it is answered. It goes
                    // out only now: games that read one packet at a time would lose the second.
                    (Flavour::Minecraft | Flavour::Source, None) => {
                        let next = self.next_id();
                        if self.write(&Packet { id: next, kind: REPLY, body: Vec::new() }).await.is_err() {
                            return Ok(End::Closed);
                        }
                        mark = Some(next);
                    }
                    (Flavour::Minecraft | Flavour::Source, Some(_)) => {}
                }
            } else if mark == Some(packet.id) {
                return Ok(End::Whole);
            } else if packet.id == REFUSED && packet.kind == LOGIN_ANSWER {
                return Err(Fault::Refused);
            }
            // Anything else is players' chat, or the rest of an earlier reply.
        }
        if heard { Ok(End::Cut) } else { Err(Fault::Garbled(format!("{PACKETS_MAX} packets, none of which answers the line"))) }
    }

    /// Nobody has hung up, and what has come in between fits the buffer.
    pub(super) fn stands(&mut self) -> bool {
        loop {
            let mut some = [0; 4096];
            match self.stream.try_read(&mut some) {
                Ok(0) => return false,
                Ok(count) if self.buffer.len() + count <= PACKET_MAX => self.buffer.extend_from_slice(&some[..count]),
                Ok(_) => return false,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    async fn hear(&mut self, limit: Instant) -> Result<Heard, Fault> {
        loop {
            if let Some(packet) = Packet::take(&mut self.buffer)? {
                return Ok(Heard::Packet(packet));
            }
            self.buffer.reserve(4096);
            match tokio::time::timeout_at(limit, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) if self.buffer.is_empty() => return Ok(Heard::Silence),
                Err(_) => return Err(Fault::Garbled("a packet that has fewer bytes than it claims".to_owned())),
                Ok(Ok(0) | Err(_)) => return Ok(Heard::Closed),
                Ok(Ok(_)) => {}
            }
        }
    }

    async fn write(&mut self, packet: &Packet) -> io::Result<()> {
        let bytes = packet.encode();
        let written = tokio::time::timeout(super::CONNECT_WITHIN, self.stream.write_all(&bytes)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Positive: a refused login has the id -1.
    fn next_id(&mut self) -> i32 {
        self.last_id = if self.last_id >= i32::MAX - 1 { 1 } else { self.last_id + 1 };
        self.last_id
    }
}
