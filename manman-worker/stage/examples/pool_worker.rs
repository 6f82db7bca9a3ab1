//! A process of a pool in Rust, with nothing but std: what the benchmark of `mode: pool` runs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

fn main() -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(std::io::Error::other);
    let (socket, next) = (variable("UROCKET_SOCKET")?, variable("UROCKET_NEXT")?);
    let mut stream = UnixStream::connect(socket)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let fetch = format!("GET {next} HTTP/1.1\r\nhost: stage\r\n\r\n");
    stream.write_all(fetch.as_bytes())?;
    loop {
        let Some((id, payload)) = read(&mut reader)? else { return Ok(()) };
        let id = id.unwrap_or_default();
        let mut answer = format!(
            "POST /uri/{id} HTTP/1.1\r\nhost: stage\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            payload.len()
        )
        .into_bytes();
        answer.extend_from_slice(&payload);
        // The next one is asked for in the same breath: one write for two requests.
        answer.extend_from_slice(fetch.as_bytes());
        stream.write_all(&answer)?;
        if read(&mut reader)?.is_none() {
            return Ok(());
        }
    }
}

/// One response: whose id it carries, and its body.
fn read(reader: &mut BufReader<UnixStream>) -> std::io::Result<Option<(Option<String>, Vec<u8>)>> {
    let (mut id, mut length, mut line) = (None, 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(": ") {
            match name {
                "x-request-id" => id = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((id, body)))
}
