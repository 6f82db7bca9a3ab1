//! Asks a game of the Quake family for its status, answered by one datagram.
//!
//! gamedig 0.9.0 reads the rest of these answers and never their players: its loop asks for
//! `!length == 0`. So the few lines are read here.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use manman_common::status::Players;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::roster;

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
    Three,
}

impl Version {
    /// Four bytes of ones begin every message that belongs to no connection.
    const fn request(self) -> &'static [u8] {
        match self {
            Self::One | Self::Two => b"\xff\xff\xff\xffstatus\n",
            Self::Three => b"\xff\xff\xff\xffgetstatus\n",
        }
    }

    const fn answer(self) -> &'static [u8] {
        match self {
            Self::One => b"\xff\xff\xff\xffn",
            Self::Two => b"\xff\xff\xff\xffprint\n",
            Self::Three => b"\xff\xff\xff\xffstatusResponse\n",
        }
    }

    /// Where a player's ping and name stand: `id score time ping "name" …`, or `score ping "name"`.
    const fn columns(self) -> (usize, usize) {
        match self {
            Self::One => (3, 4),
            Self::Two | Self::Three => (1, 2),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) players: Players,
    /// Players without a ping, in Quake 3's: they sit in the server itself.
    pub(super) bots: u32,
    /// `mapname`, `sv_hostname`, …
    pub(super) settings: BTreeMap<String, String>,
}

pub(super) async fn ask(version: Version, port: u16, within: Duration) -> io::Result<Status> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut answer = vec![0; DATAGRAM_MAX];
    let asking = async {
        socket.send(version.request()).await?;
        socket.recv(&mut answer).await
    };
    let length = timeout(within, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    parse(version, &answer[..length]).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no status of a Quake server"))
}

/// `\key\value\key\value`, a line feed, and a line for each player.
fn parse(version: Version, answer: &[u8]) -> Option<Status> {
    let text = String::from_utf8_lossy(answer.strip_prefix(version.answer())?);
    let mut lines = text.lines();
    let mut words = lines.next()?.split('\\').skip(1);
    let mut settings = BTreeMap::new();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        settings.insert(key.to_lowercase(), value.to_owned());
    }
    let max = settings.get("sv_maxclients").or(settings.get("maxclients")).and_then(|max| max.parse().ok())?;
    let players: Vec<(i32, String)> = lines.filter_map(|line| player(version, line)).collect();
    let count = |players: usize| u32::try_from(players).unwrap_or(u32::MAX);
    let bots = count(players.iter().filter(|(ping, _)| version == Version::Three && *ping == 0).count());
    let names = roster::shown_all(players.iter().map(|(_, name)| name.as_str()));
    Some(Status { players: Players { online: count(players.len()), max, names }, bots, settings })
}

/// Ping and name; a name without its colours, each a `^` and a character.
fn player(version: Version, line: &str) -> Option<(i32, String)> {
    let (ping, name) = version.columns();
    let mut words = line.splitn(name + 1, ' ');
    let ping = words.nth(ping)?.parse().ok()?;
    let name = words.next().unwrap_or_default();
    let name = name.strip_prefix('"').and_then(|name| name.split('"').next()).unwrap_or(name);
    let mut plain = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.peek() {
            Some(colour) if letter == '^' && colour.is_ascii_alphanumeric() => drop(letters.next()),
            Some(_) | None => plain.push(letter),
        }
    }
    Some((ping, plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn players_and_map_are_read() {
        let answer = b"\xff\xff\xff\xffstatusResponse\n\\sv_maxclients\\8\\mapname\\oa_dm1\\sv_hostname\\Friday\n3 0 \"^1Sor^7ceress\"\n12 48 \"a person\"\n";
        let status = parse(Version::Three, answer).expect("a status");
        let names = vec!["Sorceress".to_owned(), "a person".to_owned()];
        assert_eq!(status.players, Players { online: 2, max: 8, names });
        assert_eq!(status.bots, 1);
        assert_eq!(status.settings.get("mapname").map(String::as_str), Some("oa_dm1"));
    }

    #[test]
    fn anything_else_is_no_status() {
        for answer in [&b""[..], b"\xff\xff\xff\xffdisconnect", b"\xff\xff\xff\xffstatusResponse\n", b"\xff\xff\xff\xffstatusResponse\n\\a"]
        {
            assert_eq!(parse(Version::Three, answer), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_does_harm(version in prop_oneof![Just(Version::One), Just(Version::Two), Just(Version::Three)], tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(version, &[version.answer(), b"\\sv_maxclients\\8", &tail].concat());
        }
    }
}
