use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use manman_common::spec::ConsoleAccess;
use regex::bytes::Regex;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use collected::Collected;
pub(crate) use fault::{Fault, RemoteError};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct Patience<'a> {
    pub(crate) first: Duration,
    pub(crate) silence: Duration,
    pub(crate) deadline: Instant,
    pub(crate) until: Option<&'a Regex>,
}

impl Patience<'_> {
    fn next(&self, _heard: bool) -> Instant {
        self.deadline
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Quiet,
    Mute,
    Cut,
    Closed,
}

async fn connect(port: u16, _deadline: Instant) -> Result<TcpStream, Fault> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(Fault::Unreachable)
}

fn login_limit(deadline: Instant) -> Instant {
    deadline
}

fn secret(access: &ConsoleAccess) -> Option<&str> {
    access.secret.as_deref()
}

/// The game's words, whatever they are and in whatever pieces they come.
pub fn reply(cut: usize, reply: &[u8]) {
    let cut = cut.min(reply.len());
    let mut buffer = BytesMut::from(&reply[..cut]);
    let mut found = Vec::new();
    let mut sound = true;
    for more in [&[][..], &reply[cut..]] {
        buffer.extend_from_slice(more);
        while sound {
            match packets::Packet::take(&mut buffer) {
                Ok(Some(packet)) => found.push(packet),
                Ok(None) => break,
                Err(_) => sound = false,
            }
        }
    }
    assert!(found.iter().map(|packet| packet.body.len() + 12).sum::<usize>() <= reply.len());
    for packet in found {
        let mut again = BytesMut::from(&packet.encode()[..]);
        assert_eq!(packets::Packet::take(&mut again).ok().flatten().as_ref(), Some(&packet), "a packet survives its bytes");
        assert!(again.is_empty());
    }

    let mut negotiation = telnet::Negotiation::default();
    let pieces = [negotiation.strip(&reply[..cut]), negotiation.strip(&reply[cut..])].concat();
    assert_eq!(telnet::Negotiation::default().strip(reply), pieces, "telnet's text is the same in any pieces");

    let mut collected = Collected::default();
    collected.push(&reply[..cut]);
    collected.push(&reply[cut..]);
    let lines = collected.lines(Some("hunter2"));
    assert!(lines.len() <= 1001);
    assert!(lines.iter().all(|line| !line.contains("hunter2") && !line.contains(|c: char| c.is_control() && c != '\t')));
    let _ = (collected.ends_with_prompt(), telnet::asks_for_password(reply), quake3::print(reply), web::status(reply));
    let _ = web::Frame::parse(&String::from_utf8_lossy(reply));
    let word = web::path(&String::from_utf8_lossy(reply));
    assert!(word.is_ascii() && !word.contains([' ', '\r', '\n']), "a password leaves its place in the request: {word:?}");
}
