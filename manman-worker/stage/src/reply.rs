//! `manman-worker reply`: for scripts that have no HTTP client.
//!
//! Reads `REQUEST_ID` and `UROCKET_SOCKET` from the environment. No runtime: it is to start fast.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: jq -n '{pets: []}' | manman-worker reply\n         manman-worker reply --status 404 '{\"error\": \"no such pet\"}'"
)]
pub struct ReplyArgs {
    /// The answer [default: what stdin says]
    body: Option<String>,
    /// The status of the answer, 200 to 599
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: String,
    /// A header of the answer; may be given again
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Say that it has failed: the caller hears 502 with this body
    #[arg(long, conflicts_with = "progress")]
    error: bool,
    /// Say how far it is; the answer is still to come
    #[arg(long)]
    progress: bool,
    #[arg(long, env = "REQUEST_ID", value_name = "ID")]
    request_id: String,
    #[arg(long, env = "UROCKET_SOCKET", value_name = "PATH")]
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    #[error("`{0}` is no header such as `X-Name: value`")]
    Header(String),
    #[error("the answer can not be read from stdin")]
    Stdin(#[source] io::Error),
    #[error("nobody answers on `{}`", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the answer could not be delivered")]
    Send(#[source] io::Error),
    #[error("the stage refused the answer with {status}: {detail}")]
    Refused { status: u16, detail: String },
}

impl ReplyArgs {
    pub fn run(self) -> Result<ExitCode, ReplyError> {
        let mut body = Vec::new();
        match &self.body {
            Some(text) => body.extend_from_slice(text.as_bytes()),
            None => drop(io::stdin().read_to_end(&mut body).map_err(ReplyError::Stdin)?),
        }
        let head = self.head(body.len())?;
        let mut stream = UnixStream::connect(&self.socket).map_err(|source| ReplyError::Connect { path: self.socket.clone(), source })?;
        let (status, detail) = exchange(&mut stream, &head, &body).map_err(ReplyError::Send)?;
        if status == 204 { Ok(ExitCode::SUCCESS) } else { Err(ReplyError::Refused { status, detail }) }
    }

    fn head(&self, length: usize) -> Result<String, ReplyError> {
        let is_plain = |text: &str| !text.contains(['\r', '\n', '\0']);
        let word = match (self.error, self.progress) {
            (true, _) => "/error",
            (_, true) => "/progress",
            (false, false) => "",
        };
        let id = Some(self.request_id.as_str()).filter(|id| id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
        let id = id.ok_or_else(|| ReplyError::Header(self.request_id.clone()))?;
        let mut head = format!("POST /uri/{id}{word} HTTP/1.1\r\nHost: stage\r\nConnection: close\r\nContent-Length: {length}\r\n");
        let kind = Some(&self.content_type).filter(|kind| is_plain(kind)).ok_or_else(|| ReplyError::Header(self.content_type.clone()))?;
        head.push_str(&format!("Content-Type: {kind}\r\n"));
        if let Some(status) = self.status {
            head.push_str(&format!("X-URocket-Status: {status}\r\n"));
        }
        for header in &self.headers {
            let pair = header.split_once(':').filter(|(name, _)| is_plain(header) && !name.trim().is_empty());
            let (name, value) = pair.ok_or_else(|| ReplyError::Header(header.clone()))?;
            head.push_str(&format!("X-URocket-Header-{}: {}\r\n", name.trim(), value.trim()));
        }
        head.push_str("\r\n");
        Ok(head)
    }
}

fn exchange(stream: &mut UnixStream, head: &str, body: &[u8]) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.write_all(head.as_bytes())?;
    // A stage that refuses may do so before it has read everything; its answer is still to be heard.
    let sent = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(status) = line.split(' ').nth(1).and_then(|code| code.parse().ok()) else {
        sent?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no answer came back"));
    };
    let mut rest = String::new();
    reader.take(64 << 10).read_to_string(&mut rest)?;
    let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let detail = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
    Ok((status, detail.unwrap_or_else(|| body.to_owned())))
}
