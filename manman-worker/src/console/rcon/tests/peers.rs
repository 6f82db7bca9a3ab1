//! Small servers that speak as the games do.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

pub(crate) const SECRET: &str = "hunter2";

/// How a Source server behaves.
#[derive(Clone, Copy)]
pub(crate) struct Manners {
    /// Byte by byte.
    pub(crate) drip: bool,
    /// Sends an empty packet back, as Valve's does.
    pub(crate) mirrors: bool,
    /// Players' words between the packets of a reply.
    pub(crate) chats: bool,
    /// Hangs up before the login.
    pub(crate) shuts_door: bool,
    pub(crate) floods: bool,
    /// Hangs up after so many lines.
    pub(crate) lines_each: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self { drip: false, mirrors: true, chats: false, shuts_door: false, floods: false, lines_each: usize::MAX }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<[AtomicUsize; 3]>);

impl Counts {
    pub(crate) fn made(&self) -> usize {
        self.0[0].load(Ordering::SeqCst)
    }
    pub(crate) fn open(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }
    pub(crate) fn lines(&self) -> usize {
        self.0[2].load(Ordering::SeqCst)
    }
}

/// Listens, and lets `serve` have each connection.
async fn tcp<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

pub(crate) fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    listener.local_addr().expect("its address").port()
}

pub(crate) fn nobody_udp() -> u16 {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.local_addr().expect("its address").port()
}

/// The same bytes to everybody, whatever they say, and then silence.
pub(crate) async fn says(bytes: Vec<u8>) -> u16 {
    tcp(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await
}

pub(crate) async fn source(manners: Manners) -> u16 {
    counted_source(manners).await.0
}

pub(crate) async fn counted_source(manners: Manners) -> (u16, Counts) {
    let counts = Counts::default();
    let seen = counts.clone();
    let port = tcp(move |stream| {
        let counts = counts.clone();
        async move {
            counts.0[0].fetch_add(1, Ordering::SeqCst);
            counts.0[1].fetch_add(1, Ordering::SeqCst);
            let _ = source_connection(stream, manners, &counts).await;
            counts.0[1].fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    (port, seen)
}

async fn source_connection(mut stream: TcpStream, manners: Manners, counts: &Counts) -> std::io::Result<()> {
    if manners.shuts_door {
        return Ok(());
    }
    let mut lines = 0;
    loop {
        let (id, kind, body) = read_packet(&mut stream).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match kind {
            3 => {
                // Valve's sends an empty reply first.
                send(&mut stream, manners, id, 0, b"").await?;
                send(&mut stream, manners, if text == SECRET { id } else { -1 }, 2, b"").await?;
            }
            2 => {
                lines += 1;
                counts.0[2].fetch_add(1, Ordering::SeqCst);
                if manners.chats {
                    send(&mut stream, manners, 0, 1, b"somebody: hi all").await?;
                }
                if text == "quit" {
                    return Ok(());
                }
                if text == "save" {
                    send(&mut stream, manners, id, 0, b"saving\n").await?;
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    send(&mut stream, manners, id, 0, b"World saved\n").await?;
                } else if manners.floods {
                    loop {
                        send(&mut stream, manners, id, 0, b"flood\nflood\nflood\n").await?;
                    }
                } else {
                    let reply = reply(&text);
                    for piece in pieces(reply.as_bytes(), 4086) {
                        send(&mut stream, manners, id, 0, piece).await?;
                    }
                }
            }
            0 if manners.mirrors => {
                send(&mut stream, manners, id, 0, &body).await?;
                send(&mut stream, manners, id, 0, &[0, 1, 0, 0]).await?;
                if lines >= manners.lines_each {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// What the peers answer to a line.
fn reply(line: &str) -> String {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "echo" => format!("{rest}\n"),
        "many" => {
            let count: usize = rest.parse().unwrap_or(0);
            (0..count).map(|n| format!("line {n} of {count}\n")).collect()
        }
        "wide" => "ä".repeat(rest.parse().unwrap_or(0)),
        "nothing" => String::new(),
        _ => format!("Unknown command \"{verb}\"\n"),
    }
}

/// At least one, as every game sends.
fn pieces(reply: &[u8], size: usize) -> Vec<&[u8]> {
    if reply.is_empty() { vec![b""] } else { reply.chunks(size).collect() }
}

async fn read_packet(stream: &mut TcpStream) -> std::io::Result<(i32, i32, Vec<u8>)> {
    let size = stream.read_i32_le().await?;
    let id = stream.read_i32_le().await?;
    let kind = stream.read_i32_le().await?;
    let mut body = vec![0; usize::try_from(size - 8).map_err(std::io::Error::other)?];
    stream.read_exact(&mut body).await?;
    body.truncate(body.len() - 2);
    Ok((id, kind, body))
}

fn packet(id: i32, kind: i32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 10).expect("it is small");
    [&size.to_le_bytes()[..], &id.to_le_bytes(), &kind.to_le_bytes(), body, &[0, 0]].concat()
}

async fn send(stream: &mut TcpStream, manners: Manners, id: i32, kind: i32, body: &[u8]) -> std::io::Result<()> {
    let bytes = packet(id, kind, body);
    if !manners.drip {
        return stream.write_all(&bytes).await;
    }
    for byte in bytes {
        stream.write_all(&[byte]).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Minecraft's reads up to 1460 bytes and looks at the first packet of them alone, splits a reply
/// at 4096 characters, and names the type of a packet that it does not know.
pub(crate) async fn minecraft() -> u16 {
    tcp(|mut stream| async move {
        let mut known = false;
        let mut buffer = [0; 1460];
        while let Ok(count) = stream.read(&mut buffer).await {
            if count < 14 {
                return;
            }
            let number = |at: usize| i32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
            let (size, id, kind) = (number(0), number(4), number(8));
            let Ok(end) = usize::try_from(size + 4 - 2) else { return };
            if end + 2 > count {
                return;
            }
            let text = String::from_utf8_lossy(&buffer[12..end]).into_owned();
            let answers = match kind {
                3 => {
                    known = text == SECRET;
                    vec![packet(if known { id } else { -1 }, 2, b"")]
                }
                2 if known => {
                    let reply: Vec<char> = reply(&text).chars().collect();
                    let mut pieces: Vec<_> =
                        reply.chunks(4096).map(|piece| packet(id, 0, piece.iter().collect::<String>().as_bytes())).collect();
                    if pieces.is_empty() {
                        pieces.push(packet(id, 0, b""));
                    }
                    pieces
                }
                2 => vec![packet(-1, 2, b"")],
                kind => vec![packet(id, 0, format!("Unknown request {kind:x}").as_bytes())],
            };
            for answer in answers {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// ioquake3's `SVC_RemoteCommand`: ten messages at once and one more each second, others are
/// dropped; a reply is one datagram or more of at most 1008 bytes.
pub(crate) async fn quake3() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let port = socket.local_addr().expect("its address").port();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        let (mut level, mut since) = (0u64, Instant::now());
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let leaked = since.elapsed().as_secs();
            level = level.saturating_sub(leaked);
            since += Duration::from_secs(leaked);
            if level >= 10 {
                continue;
            }
            level += 1;
            let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let Some((_, message)) = message.split_once("rcon ") else { continue };
            let (secret, line) = message.split_once(' ').unwrap_or((message, ""));
            if line == "quit" && secret == SECRET {
                continue;
            }
            let text = if secret == SECRET { reply(line) } else { "Bad rconpassword.\n".to_owned() };
            for piece in pieces(text.as_bytes(), 1008) {
                let _ = socket.send_to(&[b"\xff\xff\xff\xffprint\n", piece].concat(), from).await;
            }
        }
    });
    port
}

/// 7 Days to Die's, which writes its log to whoever listens; without a password a plain echo.
pub(crate) async fn telnet(secret: Option<&'static str>) -> u16 {
    tcp(move |stream| async move {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        if let Some(secret) = secret {
            let _ = writer.write_all(b"\xff\xfb\x01Please enter password:\r\n").await;
            loop {
                let Ok(Some(word)) = lines.next_line().await else { return };
                if word == secret {
                    break;
                }
                let _ = writer.write_all(b"Password incorrect, please enter password:\r\n").await;
            }
            let _ =
                writer.write_all(b"Logon successful.\r\n\r\n*** Connected with 7DTD server.\r\nPress 'exit' to end session.\r\n\r\n").await;
        } else {
            let _ = writer.write_all(b"Hello!\r\n").await;
        }
        while let Ok(Some(line)) = lines.next_line().await {
            if secret.is_none() {
                let _ = writer.write_all(format!("said: {line}\r\n").as_bytes()).await;
                continue;
            }
            let _ = writer.write_all(format!("INF Executing command '{line}' by Telnet\r\n").as_bytes()).await;
            match line.as_str() {
                "listplayers" => {
                    tokio::time::sleep(Duration::from_millis(120)).await;
                    let _ = writer.write_all(b"Total of 0 in the game\r\n").await;
                }
                "saveworld" => {
                    tokio::time::sleep(Duration::from_millis(900)).await;
                    let _ = writer.write_all(b"World saved\r\n").await;
                }
                _ => {}
            }
        }
    })
    .await
}

pub(crate) async fn floods_telnet() -> u16 {
    tcp(|mut stream| async move {
        let flood = b"flood\r\n".repeat(1000);
        let _ = stream.write_all(b"Please enter password:\r\n").await;
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"Logon successful.\r\n").await;
        let _ = stream.read(&mut [0; 64]).await;
        while stream.write_all(&flood).await.is_ok() {}
    })
    .await
}

/// Rust's: the path is the password, a wrong one is let in and thrown out; log and chat have other numbers.
pub(crate) async fn web() -> u16 {
    tcp(|stream| async move {
        let mut path = String::new();
        let read_path = |request: &Request, response: Response| {
            path = request.uri().path().to_owned();
            Ok(response)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, read_path).await else { return };
        if path != format!("/{SECRET}") {
            let _ = socket.close(None).await;
            return;
        }
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let request: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
            let line = request["Message"].as_str().unwrap_or_default();
            for (number, text) in [(0, "[chat] hi"), (-1, "some log")] {
                let frame = serde_json::json!({"Message": text, "Identifier": number, "Type": "Chat", "Stacktrace": ""});
                let _ = socket.send(Message::text(frame.to_string())).await;
            }
            let _ = socket.send(Message::text("no json")).await;
            if line != "silent" {
                let frame =
                    serde_json::json!({"Message": reply(line), "Identifier": request["Identifier"], "Type": "Generic", "Stacktrace": ""});
                let _ = socket.send(Message::text(frame.to_string())).await;
            }
        }
    })
    .await
}
