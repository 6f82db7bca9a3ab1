//! Quake 3's rcon: one datagram per line with the password in it, answered by some.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use manman_common::spec::ConsoleAccess;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Collected, End, Fault, Patience, secret};

/// Four bytes of ones begin every message that belongs to no connection.
const HEAD: &[u8] = b"\xff\xff\xff\xff";
const PRINT: &[u8] = b"\xff\xff\xff\xffprint\n";
const DATAGRAM_MAX: usize = 65_536;
const DATAGRAMS_MAX: usize = 4096;

/// The engine takes ten of these messages at once from one address and one more each second, drops
/// others without a word, and counts status queries among them.
const BURST: u32 = 7;
const REFILL: Duration = Duration::from_secs(1);

const REACH_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Session {
    port: u16,
    secret: String,
    /// What the engine counts, by our reckoning, and when it was reckoned.
    level: u32,
    since: Instant,
}

impl Session {
    pub(super) fn open(access: &ConsoleAccess) -> Result<Self, Fault> {
        let secret = secret(access).ok_or(Fault::NoSecret)?;
        // The engine splits the message at blanks, and reads no quotes in this place.
        if !secret.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b';' | b'%')) {
            return Err(Fault::BadSecret("the game takes it without blanks, quotes, `;` and `%`, and in plain ASCII"));
        }
        Ok(Self { port: access.port, secret: secret.to_owned(), level: 0, since: Instant::now() })
    }

    pub(super) async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, Fault> {
        self.take_turn(patience.deadline).await?;
        // A socket of its own: late words to an earlier line do not come here.
        let socket = socket(self.port).await.map_err(Fault::Unreachable)?;
        let message = [HEAD, b"rcon ", self.secret.as_bytes(), b" ", line.as_bytes()].concat();
        socket.send(&message).await.map_err(Fault::Unreachable)?;
        let mut heard = false;
        let mut datagram = vec![0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_MAX {
            let limit = patience.next(heard);
            if Instant::now() >= patience.deadline {
                return Ok(if heard { End::Quiet } else { End::Mute });
            }
            let count = match tokio::time::timeout_at(limit, socket.recv(&mut datagram)).await {
                Ok(Ok(count)) => count,
                // Nobody listens: the kernel says so by itself.
                Ok(Err(error)) if heard => return Err(Fault::Lost(error)),
                Ok(Err(error)) => return Err(Fault::Unreachable(error)),
                Err(_) => return Ok(if heard { End::Quiet } else { End::Mute }),
            };
            let Some(text) = print(&datagram[..count]) else { continue };
            if !heard {
                match text.trim_ascii() {
                    b"Bad rconpassword." | b"Invalid password." => return Err(Fault::Refused),
                    b"No rconpassword set on the server." => return Err(Fault::NoSecretThere),
                    _ => {}
                }
            }
            heard = true;
            if !into.push(text) {
                return Ok(End::Cut);
            }
            if patience.until.is_some_and(|pattern| into.matches(pattern)) {
                return Ok(End::Whole);
            }
        }
        if heard { Ok(End::Cut) } else { Err(Fault::Garbled(format!("{DATAGRAMS_MAX} datagrams, none of which answers the line"))) }
    }

    /// Whether a game of this family answers at all: a line that ends it gets no reply.
    pub(super) async fn reach(&self) -> Result<(), Fault> {
        let asked = async {
            let socket = socket(self.port).await?;
            socket.send(b"\xff\xff\xff\xffgetinfo manman").await?;
            socket.recv(&mut [0; 2048]).await
        };
        let asked = tokio::time::timeout(REACH_WITHIN, asked).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(drop).map_err(Fault::Unreachable)
    }

    async fn take_turn(&mut self, deadline: Instant) -> Result<(), Fault> {
        let gone = u32::try_from(self.since.elapsed().as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        self.level = self.level.saturating_sub(gone);
        self.since += REFILL * gone;
        if self.level == 0 {
            self.since = Instant::now();
        }
        if self.level >= BURST {
            let turn = self.since + REFILL;
            if turn >= deadline {
                return Err(Fault::Busy);
            }
            tokio::time::sleep_until(turn).await;
            self.level -= 1;
            self.since = turn;
        }
        self.level += 1;
        Ok(())
    }
}

/// The text of a datagram that prints something.
pub(super) fn print(datagram: &[u8]) -> Option<&[u8]> {
    datagram.strip_prefix(PRINT)
}

async fn socket(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    // From nobody else: a stranger's datagram is not heard.
    socket.connect((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(socket)
}
