//! Consoles over the network: a line goes out, the game's own reply comes back.
//!
//! A line is sent at most once. What is unknown after it went out is said, never tried again. The
//! game's word is bounded in size, time and number of packets, whatever it claims about itself, and
//! its password is in no error, no log and no `Debug`.

mod collected;
mod fault;
mod packets;
mod quake3;
mod talk;
mod telnet;
mod web;

#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use manman_common::spec::{ConsoleAccess, ConsoleKind};
use regex::bytes::Regex;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use collected::Collected;
pub(crate) use fault::{Fault, RemoteError};
pub(crate) use talk::Remotes;

/// A listener on this machine is there or it is not.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Games look at a new connection once a frame, and some only once a second.
const LOGIN_WITHIN: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Source,
    Minecraft,
    Quake3,
    Telnet,
    Web,
}

impl Protocol {
    pub(crate) fn of(kind: ConsoleKind) -> Option<Self> {
        match kind {
            ConsoleKind::None | ConsoleKind::Stdin => None,
            ConsoleKind::SourceRcon => Some(Self::Source),
            ConsoleKind::MinecraftRcon => Some(Self::Minecraft),
            ConsoleKind::Quake3Rcon => Some(Self::Quake3),
            ConsoleKind::Telnet => Some(Self::Telnet),
            ConsoleKind::WebRcon => Some(Self::Web),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Source | Self::Minecraft => "RCON",
            Self::Quake3 => "rcon",
            Self::Telnet => "telnet console",
            Self::Web => "WebRCON",
        }
    }

    /// Longest line in bytes that reaches the game whole.
    pub(crate) const fn line_max(self) -> usize {
        match self {
            // A packet of 4096 bytes less id, type and two ends.
            Self::Source => 4086,
            // The game reads 1460 bytes at a time, 14 of which are not the line.
            Self::Minecraft => 1446,
            // What the engine keeps of a line, less some room for what it puts in front.
            Self::Quake3 => 1000,
            Self::Telnet | Self::Web => super::LINE_MAX,
        }
    }

    /// Whether every line that arrives is answered, be it by an empty reply.
    pub(crate) const fn always_answers(self) -> bool {
        match self {
            Self::Source | Self::Minecraft | Self::Quake3 => true,
            Self::Telnet | Self::Web => false,
        }
    }

    /// Whether a connection is kept for the next line. Minecraft prints two lines for each new one,
    /// and Quake 3's counts what the engine lets through. Telnet and WebRCON carry the game's log
    /// as well: nobody would read it between two lines, and a game must not wait for a reader.
    const fn is_kept(self) -> bool {
        match self {
            Self::Source | Self::Minecraft | Self::Quake3 => true,
            Self::Telnet | Self::Web => false,
        }
    }

    /// For a first word, and for more after it where nothing marks the end.
    pub(crate) const fn usual_waits(self) -> (Duration, Duration) {
        let (first, silence) = match self {
            Self::Source | Self::Minecraft => (4000, 300),
            Self::Quake3 => (1500, 150),
            Self::Telnet => (2000, 300),
            Self::Web => (2500, 0),
        };
        (Duration::from_millis(first), Duration::from_millis(silence))
    }
}

/// How long a reply may take, and what it is looked through for.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) first: Duration,
    pub(crate) silence: Duration,
    pub(crate) deadline: Instant,
    /// With this the reply goes on, silent or not, until a line of it matches.
    pub(crate) until: Option<&'a Regex>,
}

impl Patience<'_> {
    fn next(&self, heard: bool) -> Instant {
        if self.until.is_some() {
            return self.deadline;
        }
        let wait = if heard { self.silence } else { self.first };
        self.deadline.min(Instant::now() + wait)
    }
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The protocol marked its end, or the line that was looked for is in it.
    Whole,
    /// Nothing more came after it.
    Quiet,
    /// Nothing came at all.
    Mute,
    /// It went beyond what is taken.
    Cut,
    /// The game ended the connection after it.
    Closed,
}

impl End {
    /// Whether the connection is good for another line.
    const fn goes_on(self) -> bool {
        match self {
            Self::Whole | Self::Quiet | Self::Mute => true,
            Self::Cut | Self::Closed => false,
        }
    }
}

/// A way into one game's console.
enum Session {
    Packets(packets::Session),
    Quake3(quake3::Session),
    Telnet(telnet::Session),
    Web(Box<web::Session>),
}

impl Session {
    async fn open(protocol: Protocol, access: &ConsoleAccess, deadline: Instant) -> Result<Self, Fault> {
        match protocol {
            Protocol::Source => packets::Session::open(packets::Flavour::Source, access, deadline).await.map(Self::Packets),
            Protocol::Minecraft => packets::Session::open(packets::Flavour::Minecraft, access, deadline).await.map(Self::Packets),
            Protocol::Quake3 => quake3::Session::open(access).map(Self::Quake3),
            Protocol::Telnet => telnet::Session::open(access, deadline).await.map(Self::Telnet),
            Protocol::Web => web::Session::open(access, deadline).await.map(|session| Self::Web(Box::new(session))),
        }
    }

    async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, Fault> {
        match self {
            Self::Packets(session) => session.say(line, patience, into).await,
            Self::Quake3(session) => session.say(line, patience, into).await,
            Self::Telnet(session) => session.say(line, patience, into).await,
            Self::Web(session) => session.say(line, patience, into).await,
        }
    }

    /// Whether a kept connection still stands.
    fn stands(&mut self) -> bool {
        match self {
            Self::Packets(session) => session.stands(),
            Self::Quake3(_) => true,
            Self::Telnet(_) | Self::Web(_) => false,
        }
    }

    /// Asks without a connection whether anybody is there; the others know since they stand.
    async fn reach(&self) -> Result<(), Fault> {
        match self {
            Self::Quake3(session) => session.reach().await,
            Self::Packets(_) | Self::Telnet(_) | Self::Web(_) => Ok(()),
        }
    }
}

async fn connect(port: u16, deadline: Instant) -> Result<TcpStream, Fault> {
    let limit = deadline.min(Instant::now() + CONNECT_WITHIN);
    let connected = tokio::time::timeout_at(limit, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await;
    let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(Fault::Unreachable)?;
    // A line is one small segment that somebody waits for.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn login_limit(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + LOGIN_WITHIN)
}

fn secret(access: &ConsoleAccess) -> Option<&str> {
    access.secret.as_deref().filter(|secret| !secret.is_empty())
}
