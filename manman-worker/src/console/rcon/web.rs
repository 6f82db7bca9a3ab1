//! WebRCON, as Rust has it: JSON over a WebSocket whose path is the password. The game's log and its
//! players' chat come over it, too; replies are told apart by their number.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use manman_common::spec::ConsoleAccess;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Collected, End, Fault, Patience, connect, login_limit, secret};

/// A reply that is larger is cut off anyway.
const MESSAGE_MAX: usize = 1 << 20;
/// The head of an answer to the upgrade.
const HEAD_MAX: usize = 8 * 1024;
/// Frames that may pass before a reply; a busy game logs a few hundred lines a second.
const FRAMES_MAX: usize = 20_000;

/// For the game to shut the door again.
const DOOR: Duration = Duration::from_millis(100);

/// The log and the chat have 0 and -1.
const FIRST_NUMBER: i32 = 1001;

pub(super) struct Session {
    socket: WebSocketStream<TcpStream>,
    next: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Frame {
    #[serde(default)]
    pub(super) identifier: i64,
    #[serde(default)]
    pub(super) message: String,
}

impl Frame {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Session {
    pub(super) async fn open(access: &ConsoleAccess, deadline: Instant) -> Result<Self, Fault> {
        let word = secret(access).ok_or(Fault::NoSecret)?;
        let mut stream = connect(access.port, deadline).await?;
        let limit = login_limit(deadline);
        let rest = tokio::time::timeout_at(limit, upgrade(&mut stream, access.port, word)).await.map_err(|_| Fault::NoLogin)??;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let mut socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
        // A wrong password is answered by hanging up, and a line given to a closed door would count
        // as one whose fate is unknown.
        match tokio::time::timeout(DOOR, socket.next()).await {
            Err(_) | Ok(Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
            Ok(None | Some(Ok(Message::Close(_)) | Err(_))) => return Err(Fault::TurnedAway),
        }
        Ok(Self { socket, next: FIRST_NUMBER })
    }

    pub(super) async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, Fault> {
        let number = self.next;
        self.next = number.checked_add(1).unwrap_or(FIRST_NUMBER);
        let request = serde_json::json!({ "Identifier": number, "Message": line, "Name": "manman" });
        let sent = tokio::time::timeout(super::CONNECT_WITHIN, self.socket.send(Message::text(request.to_string()))).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Fault::TurnedAway),
            Err(_) => return Err(Fault::Lost(io::ErrorKind::TimedOut.into())),
        }
        // The log does not count as an answer, so it does not shorten the wait for one.
        let limit = patience.next(false);
        for _ in 0..FRAMES_MAX {
            let text = match tokio::time::timeout_at(limit, self.socket.next()).await {
                Err(_) => return Ok(End::Mute),
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
                Ok(None | Some(Ok(Message::Close(_)))) => return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(Some(Err(_))) => return Err(Fault::Lost(io::ErrorKind::InvalidData.into())),
            };
            if Instant::now() >= patience.deadline {
                return Ok(End::Mute);
            }
            let Some(frame) = Frame::parse(&text) else { continue };
            if frame.identifier == i64::from(number) {
                let whole = into.push(frame.message.as_bytes());
                if let Some(pattern) = patience.until {
                    into.matches(pattern);
                }
                return Ok(if whole { End::Whole } else { End::Cut });
            }
        }
        Ok(End::Mute)
    }
}

/// By hand, since the library writes the whole request, password and all, into its trace log.
async fn upgrade(stream: &mut TcpStream, port: u16, word: &str) -> Result<Vec<u8>, Fault> {
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path(word),
        generate_key(),
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| Fault::TurnedAway)?;
    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > HEAD_MAX {
            return Err(Fault::Garbled("no answer to a WebSocket's upgrade".to_owned()));
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => return Err(Fault::TurnedAway),
            Ok(_) => {}
        }
    };
    match status(&answer[..end]) {
        Some(101) => Ok(answer.split_off(end)),
        Some(401 | 403 | 404) => Err(Fault::Refused),
        Some(status) => Err(Fault::Garbled(format!("HTTP status {status} instead of a WebSocket"))),
        None => Err(Fault::Garbled("no HTTP".to_owned())),
    }
}

pub(super) fn status(head: &[u8]) -> Option<u16> {
    let head = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let mut words = head.split(' ');
    words.next()?.starts_with("HTTP/1.").then_some(())?;
    words.next()?.parse().ok()
}

/// The password as one segment of a path.
pub(super) fn path(word: &str) -> String {
    word.bytes().fold(String::with_capacity(word.len()), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
        path
    })
}
