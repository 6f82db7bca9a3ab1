//! Asks a game of the Quake 3 family for its status: `getstatus`, answered by one datagram.
//!
//! gamedig 0.9.0 reads the rest of this answer and never its players, so the few lines are read here.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use manman_common::status::Players;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Four bytes of ones begin every message that belongs to no connection.
const REQUEST: &[u8] = b"\xff\xff\xff\xffgetstatus\n";
const ANSWER: &[u8] = b"\xff\xff\xff\xffstatusResponse\n";
/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) players: Players,
    /// Players without a ping: they sit in the server itself.
    pub(super) bots: u32,
    /// `mapname`, `sv_hostname`, …
    pub(super) settings: BTreeMap<String, String>,
}

pub(super) async fn ask(port: u16, within: Duration) -> io::Result<Status> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut answer = vec![0; DATAGRAM_MAX];
    let asking = async {
        socket.send(REQUEST).await?;
        socket.recv(&mut answer).await
    };
    let length = timeout(within, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    parse(&answer[..length]).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no status of a Quake 3 server"))
}

/// `\key\value\key\value`, a line feed, and a line `score ping "name"` for each player.
fn parse(answer: &[u8]) -> Option<Status> {
    let text = String::from_utf8_lossy(answer.strip_prefix(ANSWER)?);
    let mut lines = text.lines();
    let mut words = lines.next()?.split('\\').skip(1);
    let mut settings = BTreeMap::new();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        settings.insert(key.to_lowercase(), value.to_owned());
    }
    let max = settings.get("sv_maxclients").and_then(|max| max.parse().ok())?;
    let pings: Vec<i32> = lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
    let count = |pings: usize| u32::try_from(pings).unwrap_or(u32::MAX);
    let bots = count(pings.iter().filter(|ping| **ping == 0).count());
    Some(Status { players: Players { online: count(pings.len()), max }, bots, settings })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn players_and_map_are_read() {
        let answer = b"\xff\xff\xff\xffstatusResponse\n\\sv_maxclients\\8\\mapname\\oa_dm1\\sv_hostname\\Friday\n3 0 \"Sorceress\"\n12 48 \"a person\"\n";
        let status = parse(answer).expect("a status");
        assert_eq!(status.players, Players { online: 2, max: 8 });
        assert_eq!(status.bots, 1);
        assert_eq!(status.settings.get("mapname").map(String::as_str), Some("oa_dm1"));
    }

    #[test]
    fn anything_else_is_no_status() {
        for answer in [&b""[..], b"\xff\xff\xff\xffdisconnect", b"\xff\xff\xff\xffstatusResponse\n", b"\xff\xff\xff\xffstatusResponse\n\\a"]
        {
            assert_eq!(parse(answer), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_does_harm(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&[ANSWER, b"\\sv_maxclients\\8", &tail].concat());
        }
    }
}
