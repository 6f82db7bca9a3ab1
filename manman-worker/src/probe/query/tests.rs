//! Each protocol against a small peer that answers as its games do.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use super::*;

/// Answers datagrams until nobody asks any more.
fn udp(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let port = socket.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            for part in answer(&buffer[..count]) {
                let _ = socket.send_to(&part, from);
            }
        }
    });
    port
}

/// Reads a request, answers it, hangs up.
fn tcp(answer: impl Fn() -> Vec<u8> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    port
}

async fn ask(protocol: &str, port: u16) -> Result<Answer, QueryError> {
    let mut asker = Asker::new(&QuerySpec { protocol: protocol.to_owned(), port }).expect("a known protocol");
    asker.ask().await
}

fn players(online: u32, max: u32, names: &[&str]) -> Players {
    Players { online, max, names: names.iter().map(|name| (*name).to_owned()).collect() }
}

#[test]
fn the_names_of_protocols_are_known() {
    for name in [
        "quake1",
        "quake2",
        "quake3",
        "valve",
        "source",
        "goldsrc",
        "minecraft",
        "minecraft-java",
        "minecraft-bedrock",
        "minecraftjava",
        "minecraftbedrock",
        "gamespy1",
        "gamespy2",
        "gamespy3",
        "unreal2",
        "eco",
        "mindustry",
        "valheim",
    ] {
        assert!(how(name).is_some(), "{name}");
    }
    assert!(how("telepathy").is_none());
}

#[tokio::test]
async fn silence_is_an_error_soon() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = silent.local_addr().expect("its address").port();
    for protocol in ["quake1", "quake2", "quake3", "valve", "goldsrc", "unreal2", "gamespy1", "gamespy2", "gamespy3", "minecraftbedrock"] {
        let asked = tokio::time::timeout(Duration::from_secs(6), ask(protocol, port)).await;
        assert!(asked.expect("in time").is_err(), "{protocol}");
    }
}

/// `\xff\xff\xff\xffI` with what Source answers to it, once it has its own number back.
fn valve(names: bool) -> u16 {
    let text = |text: &str| [text.as_bytes(), &[0]].concat();
    udp(move |request| {
        const NUMBER: &[u8] = &[1, 2, 3, 4];
        let knows = request.ends_with(NUMBER);
        match request.get(4) {
            Some(b'T' | b'U') if !knows => vec![[b"\xff\xff\xff\xffA", NUMBER].concat()],
            Some(b'T') => {
                let head =
                    [&b"\xff\xff\xff\xffI\x11"[..], &text("A server"), &text("cs_office"), &text("cstrike"), &text("Counter-Strike")];
                let numbers = [&[240, 0, 2, 16, 1][..], b"dl", &[0, 0], &text("1.0"), &[0]];
                vec![[head.concat(), numbers.concat()].concat()]
            }
            Some(b'U') if names => {
                let player = |name: &str| [&[0][..], &text(name), &7i32.to_le_bytes(), &9f32.to_le_bytes()].concat();
                vec![[&b"\xff\xff\xff\xffD\x02"[..], &player("Ada\u{202e}"), &player("Bob")].concat()]
            }
            _ => Vec::new(),
        }
    })
}

#[tokio::test]
async fn valve_tells_players_with_and_without_their_names() {
    let answer = ask("valve", valve(true)).await.expect("an answer");
    assert_eq!(answer.players, players(2, 16, &["Ada", "Bob"]));
    assert_eq!(answer.extra.get("map"), Some(&Value::from("cs_office")));
    let answer = ask("valve", valve(false)).await.expect("an answer all the same");
    assert_eq!(answer.players, players(2, 16, &[]));
    // One of its games, by its own name.
    assert_eq!(ask("counterstrike", valve(true)).await.map(|answer| answer.players.online).ok(), Some(2));
}

#[tokio::test]
async fn quake3_tells_players_and_their_names() {
    let port =
        udp(|_| vec![b"\xff\xff\xff\xffstatusResponse\n\\sv_maxclients\\8\\mapname\\oa_dm1\n5 48 \"^2Ada\"\n0 0 \"^1B^7ot\"\n".to_vec()]);
    let answer = ask("quake3", port).await.expect("an answer");
    assert_eq!((answer.players, answer.extra["bots"].clone()), (players(2, 8, &["Ada", "Bot"]), Value::from(1)));
}

#[tokio::test]
async fn older_quakes_tell_players_and_their_names() {
    let port =
        udp(|_| vec![b"\xff\xff\xff\xffprint\n\\hostname\\Q2\\maxclients\\12\\mapname\\q2dm1\\version\\3.20\n3 25 \"Ada\"\n".to_vec()]);
    assert_eq!(ask("quake2", port).await.expect("an answer").players, players(1, 12, &["Ada"]));
    let port = udp(|_| {
        let settings = b"\xff\xff\xff\xffn\\hostname\\Q1\\maxclients\\16\\map\\dm4\\*version\\2.40";
        vec![[&settings[..], b"\n7 3 12 30 \"Ada\" \"base\" 4 11\n\0"].concat()]
    });
    assert_eq!(ask("quake1", port).await.expect("an answer").players, players(1, 16, &["Ada"]));
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

#[tokio::test]
async fn minecraft_tells_a_sample_of_its_players() {
    let port = tcp(|| {
        let status = serde_json::json!({
            "version": {"name": "1.21", "protocol": 767}, "description": "A world",
            "players": {"max": 20, "online": 3, "sample": [{"name": "Ada", "id": "0"}, {"name": "Bo\u{a7}b\n", "id": "1"}]},
        });
        let text = status.to_string();
        let body = [varint(0), varint(text.len()), text.into_bytes()].concat();
        [varint(body.len()), body].concat()
    });
    for protocol in ["minecraftjava", "minecraft"] {
        let answer = ask(protocol, port).await.expect("an answer");
        assert_eq!((answer.players, answer.extra["version"].clone()), (players(3, 20, &["Ada", "Bo\u{a7}b"]), Value::from("1.21")));
    }
}

#[tokio::test]
async fn bedrock_tells_how_many() {
    let port = udp(|ping| {
        let words = b"MCPE;A world;527;1.19.1;4;10;13253860892328930865;Bedrock level;Survival;1;19132;19133;";
        let length = u16::try_from(words.len()).expect("it is short").to_be_bytes();
        let magic = [0x00, 0xff, 0xff, 0x00, 0xfe, 0xfe, 0xfe, 0xfe, 0xfd, 0xfd, 0xfd, 0xfd, 0x12, 0x34, 0x56, 0x78];
        vec![[&[0x1c][..], &ping[1..9], &[0; 8], &magic, &length, words].concat()]
    });
    assert_eq!(ask("minecraftbedrock", port).await.expect("an answer").players, players(4, 10, &[]));
}

#[tokio::test]
async fn garbage_and_floods_are_no_answer_and_end_in_time() {
    let garbage = || udp(|request| vec![request.to_vec(), vec![0xff; 900], b"\xff\xff\xff\xff".to_vec(), Vec::new()]);
    for protocol in ["quake1", "quake2", "quake3", "valve", "goldsrc", "unreal2", "gamespy1", "gamespy2", "gamespy3", "minecraftbedrock"] {
        let asked = tokio::time::timeout(Duration::from_secs(6), ask(protocol, garbage())).await;
        assert!(asked.expect("in time").is_err(), "{protocol}");
    }
    for protocol in ["minecraftjava", "eco"] {
        let port = tcp(|| vec![0xff; 100_000]);
        let asked = tokio::time::timeout(Duration::from_secs(6), ask(protocol, port)).await;
        assert!(asked.expect("in time").is_err(), "{protocol}");
    }
}
