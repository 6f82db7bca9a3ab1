//! What goes through the proxy, cut where it may be cut: heads of HTTP, and messages of a WebSocket.

use anyhow::{Result, ensure};
use bytes::{Buf as _, BytesMut};

use super::Way;

/// Longest head that is waited for.
const HEAD_MAX: usize = 64 * 1024;

/// Where a direction of a connection stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A head of HTTP comes next.
    Head,
    /// So many bytes of a body.
    Body(usize),
    /// Bytes that nobody looks into.
    Raw,
    /// Messages of a WebSocket.
    Messages,
}

/// A piece that goes on in one.
#[derive(Debug)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    /// The head of a request.
    Asked {
        bytes: Vec<u8>,
        upgrade: bool,
        /// It is a worker's registration.
        registers: bool,
    },
    /// The host takes the WebSocket.
    Upgraded(Vec<u8>),
    /// A whole text message, and its text.
    Text {
        bytes: Vec<u8>,
        text: String,
    },
}

impl Mode {
    /// The next piece that is whole; `upgrade` is whether a WebSocket was asked for.
    pub(super) fn next(&mut self, buffer: &mut BytesMut, way: Way, upgrade: bool) -> Result<Option<Part>> {
        if buffer.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Raw => Ok(Some(Part::Bytes(take(buffer, buffer.len())))),
            Self::Body(left) => {
                let now = (*left).min(buffer.len());
                *left -= now;
                if *left == 0 {
                    *self = Self::Head;
                }
                Ok(Some(Part::Bytes(take(buffer, now))))
            }
            Self::Head => {
                let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                    ensure!(buffer.len() < HEAD_MAX, "a head without an end");
                    return Ok(None);
                };
                let bytes = take(buffer, end + 4);
                let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                Ok(Some(match way {
                    Way::ToHost => self.asked(bytes, &head),
                    Way::ToWorker => {
                        *self = Self::Raw;
                        if upgrade && head.contains(" 101 ") {
                            *self = Self::Messages;
                            Part::Upgraded(bytes)
                        } else {
                            Part::Bytes(bytes)
                        }
                    }
                }))
            }
            Self::Messages => message(buffer),
        }
    }

    fn asked(&mut self, bytes: Vec<u8>, head: &str) -> Part {
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
        let upgrade = field("upgrade:") == Some("websocket");
        let body = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        *self = match (upgrade, body) {
            (true, _) => Self::Messages,
            (false, 0) => Self::Head,
            (false, body) => Self::Body(body),
        };
        let path = head.strip_prefix("post /worker/").and_then(|rest| rest.split_once(' ')).map(|(id, _)| id);
        Part::Asked { bytes, upgrade, registers: path.is_some_and(|id| !id.contains('/')) }
    }
}

fn take(buffer: &mut BytesMut, length: usize) -> Vec<u8> {
    buffer.split_to(length).to_vec()
}

/// A frame of a WebSocket (RFC 6455, 5.2), if it is there in whole.
fn message(buffer: &mut BytesMut) -> Result<Option<Part>> {
    let mut head = &buffer[..];
    if head.len() < 2 {
        return Ok(None);
    }
    let (first, second) = (head.get_u8(), head.get_u8());
    let length = match second & 0x7f {
        126 if head.len() >= 2 => u64::from(head.get_u16()),
        127 if head.len() >= 8 => head.get_u64(),
        126 | 127 => return Ok(None),
        short => u64::from(short),
    };
    let mask = match second & 0x80 {
        0 => [0; 4],
        _ if head.len() < 4 => return Ok(None),
        _ => head.get_u32().to_be_bytes(),
    };
    let length = usize::try_from(length)?;
    if head.len() < length {
        return Ok(None);
    }
    let whole = buffer.len() - head.len() + length;
    // A last frame of text that is no continuation is a whole message.
    if first != 0x81 {
        return Ok(Some(Part::Bytes(take(buffer, whole))));
    }
    let text: Vec<u8> = head[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some(Part::Text { bytes: take(buffer, whole), text: String::from_utf8(text)? }))
}

/// A text message as a server writes it.
pub(super) fn text(text: &[u8]) -> Result<Vec<u8>> {
    let mut message = vec![0x81];
    match text.len() {
        short @ ..126 => message.push(u8::try_from(short)?),
        middle @ ..0x1_0000 => {
            message.push(126);
            message.extend_from_slice(&u16::try_from(middle)?.to_be_bytes());
        }
        long => {
            message.push(127);
            message.extend_from_slice(&u64::try_from(long)?.to_be_bytes());
        }
    }
    message.extend_from_slice(text);
    Ok(message)
}

/// Doubles messages and swaps neighbours: of a, b become b, a, b, a.
#[derive(Debug, Default)]
pub(super) struct Tangler {
    held: Option<Vec<u8>>,
}

impl Tangler {
    pub(super) const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// What was held back goes, twice.
    pub(super) fn let_go(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            out.extend_from_slice(&held);
            out.extend_from_slice(&held);
        }
    }

    pub(super) fn tangle(&mut self, message: Vec<u8>, text: &str, out: &mut Vec<u8>) {
        // Whoever does not begin with a greeting is hung up on; that is no test of what follows.
        if text.contains("\"frame\":\"hello\"") || text.contains("\"frame\":\"welcome\"") {
            self.let_go(out);
            out.extend_from_slice(&message);
            out.extend_from_slice(&message);
            return;
        }
        match self.held.take() {
            None => self.held = Some(message),
            Some(held) => {
                for one in [&message, &held, &message, &held] {
                    out.extend_from_slice(one);
                }
            }
        }
    }
}
