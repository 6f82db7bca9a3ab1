//! Lines over TCP, as 7 Days to Die has them: a password where it is asked for, then each line is
//! answered by some, among which the game's own log may stand. Nothing marks the end of a reply.

use std::io;
use std::time::Duration;

use manman_common::spec::ConsoleAccess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Collected, End, Fault, Patience, connect, login_limit, secret};

/// After the last word of a greeting.
const GREETING: Duration = Duration::from_millis(300);
/// What a greeting may have.
const GREETING_MAX: usize = 16 * 1024;

const CHUNK: usize = 4096;

pub(super) struct Session {
    stream: TcpStream,
    negotiation: Negotiation,
}

enum Heard {
    Text(Vec<u8>),
    Silence,
    Closed,
}

impl Session {
    pub(super) async fn open(access: &ConsoleAccess, deadline: Instant) -> Result<Self, Fault> {
        let word = secret(access);
        if word.is_some_and(|word| word.chars().any(char::is_control)) {
            return Err(Fault::BadSecret("it has a control character"));
        }
        let stream = connect(access.port, deadline).await?;
        let mut session = Self { stream, negotiation: Negotiation::default() };
        let limit = login_limit(deadline);
        let greeting = session.greeting(limit, word.is_some()).await?;
        match (asks_for_password(&greeting), word) {
            (false, _) => Ok(session),
            (true, None) => Err(Fault::NoSecret),
            (true, Some(word)) => {
                session.write(word).await.map_err(|_| Fault::TurnedAway)?;
                let answer = session.greeting(limit, true).await?;
                let answer = String::from_utf8_lossy(&answer).to_lowercase();
                let refused = ["incorrect", "wrong password", "invalid password", "failed login", "denied"];
                match answer {
                    answer if answer.is_empty() => Err(Fault::NoLogin),
                    answer if refused.iter().any(|word| answer.contains(word)) || asks_for_password(answer.as_bytes()) => {
                        Err(Fault::Refused)
                    }
                    _ => Ok(session),
                }
            }
        }
    }

    /// What it says by itself, until it waits for us.
    async fn greeting(&mut self, limit: Instant, must_speak: bool) -> Result<Vec<u8>, Fault> {
        let mut greeting = Vec::new();
        loop {
            let wait = if greeting.is_empty() && must_speak { limit } else { limit.min(Instant::now() + GREETING) };
            match self.hear(wait).await {
                Heard::Text(text) => greeting.extend_from_slice(&text),
                Heard::Silence => return Ok(greeting),
                Heard::Closed if is_refusal(&greeting) => return Err(Fault::Refused),
                Heard::Closed => return Err(Fault::TurnedAway),
            }
            // One that never stops talking has let us in.
            if asks_for_password(&greeting) || greeting.len() >= GREETING_MAX || Instant::now() >= limit {
                return Ok(greeting);
            }
        }
    }

    pub(super) async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, Fault> {
        self.write(line).await.map_err(Fault::Lost)?;
        let mut heard = false;
        let mut echo = Echo::of(line);
        loop {
            let limit = patience.next(heard);
            if Instant::now() >= patience.deadline {
                return Ok(if heard { End::Quiet } else { End::Mute });
            }
            match self.hear(limit).await {
                Heard::Text(text) => {
                    heard = true;
                    if !into.push(&echo.strip(text)) {
                        return Ok(End::Cut);
                    }
                    let found = match patience.until {
                        Some(pattern) => into.matches(pattern),
                        None => into.ends_with_prompt(),
                    };
                    if found {
                        return Ok(End::Whole);
                    }
                }
                Heard::Silence => return Ok(if heard { End::Quiet } else { End::Mute }),
                Heard::Closed if heard => return Ok(End::Closed),
                Heard::Closed => return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    async fn hear(&mut self, limit: Instant) -> Heard {
        let mut chunk = [0; CHUNK];
        loop {
            match tokio::time::timeout_at(limit, self.stream.read(&mut chunk)).await {
                Err(_) => return Heard::Silence,
                Ok(Ok(0) | Err(_)) => return Heard::Closed,
                Ok(Ok(count)) => {
                    let text = self.negotiation.strip(&chunk[..count]);
                    if !text.is_empty() {
                        return Heard::Text(text);
                    }
                    if Instant::now() >= limit {
                        return Heard::Silence;
                    }
                }
            }
        }
    }

    async fn write(&mut self, line: &str) -> io::Result<()> {
        let bytes = [line.as_bytes(), b"\r\n"].concat();
        let written = tokio::time::timeout(super::CONNECT_WITHIN, self.stream.write_all(&bytes)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A last line that ends in a question for it: `Please enter password:`.
pub(super) fn asks_for_password(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_end();
    last.contains("password") && (last.ends_with(':') || last.ends_with('>') || last.ends_with('?'))
}

fn is_refusal(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    ["incorrect", "too many", "denied"].iter().any(|word| text.contains(word))
}

/// Leaves out what a terminal would send back of the line itself.
struct Echo {
    line: Option<Vec<u8>>,
}

impl Echo {
    fn of(line: &str) -> Self {
        Self { line: Some(line.as_bytes().to_vec()) }
    }

    /// Only at the very beginning, and only where it comes in one piece.
    fn strip(&mut self, text: Vec<u8>) -> Vec<u8> {
        let Some(line) = self.line.take() else { return text };
        let rest = text.strip_prefix(line.as_slice()).and_then(|rest| rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")));
        rest.map_or_else(|| text.clone(), <[u8]>::to_vec)
    }
}

/// Telnet's own commands between the text: each begins with a byte of ones, and two of those are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Negotiation {
    #[default]
    Text,
    Command,
    Option,
    Sub,
    SubCommand,
}

impl Negotiation {
    pub(super) fn strip(&mut self, bytes: &[u8]) -> Vec<u8> {
        const IAC: u8 = 255;
        const SB: u8 = 250;
        const SE: u8 = 240;
        let mut text = Vec::with_capacity(bytes.len());
        for byte in bytes.iter().copied() {
            *self = match (*self, byte) {
                (Self::Text, IAC) => Self::Command,
                (Self::Text, _) => {
                    text.push(byte);
                    Self::Text
                }
                (Self::Command, IAC) => {
                    text.push(IAC);
                    Self::Text
                }
                (Self::Command, SB) => Self::Sub,
                (Self::Command, 251..=254) => Self::Option,
                (Self::Command | Self::Option, _) => Self::Text,
                (Self::Sub, IAC) => Self::SubCommand,
                (Self::Sub, _) => Self::Sub,
                (Self::SubCommand, SE) => Self::Text,
                (Self::SubCommand, _) => Self::Sub,
            };
        }
        text
    }
}
