//! What a container prints, by asking the engine for its log: where its files can not be read.
//!
//! The request is written by hand, as HTTP/1.0 over the engine's socket: the engine then sends the
//! log as it is, to the end of the connection, and each read gives whatever is ready. Through the
//! client's chunks and per-frame buffers the same log came at less than half the rate.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use manman_common::logs::LogStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::engine::{Engine, short};
use super::error;
use super::frames::{self, Framing, Time};
use super::output::LOST;
use super::resume::{Resume, Verdict, since_parameter};
use crate::clock;
use crate::driver::{DriverError, DriverErrorKind, OutputBatch, OutputLine};

/// Room for one read. Bigger ones gain nothing: the socket holds about 200 KiB.
const READ: usize = 256 * 1024;

/// Longest head of an answer, or text of an error, that is read.
const HEAD_MAX: usize = 16 * 1024;

/// After so much of a log in one go there is surely more by now.
const CLOSE: usize = 8 << 20;

/// Of a rotation's 64 MB; the rest is for what comes while the engine looks for its place again.
const FOLLOWED_MAX: usize = 32 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For the engine to begin its answer; it looks through all of a log of 192 MB for `since` first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) async fn by_api(
    engine: Engine,
    container: String,
    framing: Framing,
    resume: Resume,
) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
    let since = resume.since();
    let mut follower =
        Follower { engine, container, framing, resume, source: None, buffer: BytesMut::new(), stage: Stage::Following, taken: 0 };
    // What is there already comes without `follow`: that reads all of the files there are.
    follower.stage = Stage::CatchingUp;
    follower.open(since, false).await?;
    Ok(stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Follower {
    engine: Engine,
    container: String,
    framing: Framing,
    resume: Resume,
    source: Option<UnixStream>,
    buffer: BytesMut,
    stage: Stage,
    /// Bytes since the log was last asked for.
    taken: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reads what there is, over all files, and then follows.
    CatchingUp,
    /// The engine's follower skips a file if two rotations happen while it reads one. So it is left
    /// as soon as much has come, or its lines are old.
    Following,
    /// The container has ended: what it printed last is read once more, should the follower of the
    /// engine have left too early.
    Rest,
}

impl Follower {
    /// The next lines; `None` once the container has ended and all of it has been given out.
    async fn next(&mut self) -> Result<Option<OutputBatch>, DriverError> {
        loop {
            let batch = self.decode().await?;
            if let Some(last) = batch.lines.last() {
                if self.stage == Stage::Following && (self.taken > FOLLOWED_MAX || self.taken > CLOSE && is_old(&last.time)) {
                    self.stage = Stage::CatchingUp;
                    self.resume.begin_again();
                    self.open(self.resume.since(), false).await?;
                }
                return Ok(Some(batch));
            }
            if self.read().await? > 0 {
                continue;
            }
            match self.stage {
                Stage::Rest => return Ok(None),
                Stage::CatchingUp => {
                    let more = self.taken > CLOSE;
                    self.stage = if more { Stage::CatchingUp } else { Stage::Following };
                    self.resume.begin_again();
                    self.open(self.resume.since(), !more).await?;
                }
                Stage::Following => match self.engine.is_running(&self.container).await {
                    Ok(true) => {
                        let what = format!("the log of container {} has ended while it runs", short(&self.container));
                        return Err(error::retry_because(what));
                    }
                    Ok(false) => {
                        self.stage = Stage::Rest;
                        self.resume.begin_again();
                        self.open(self.resume.since(), false).await?;
                    }
                    Err(error) if error.kind == DriverErrorKind::Gone => return Ok(None),
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Bytes read; 0 at the end.
    async fn read(&mut self) -> Result<usize, DriverError> {
        self.buffer.reserve(READ);
        let Some(source) = &mut self.source else { return Ok(0) };
        let read = source.read_buf(&mut self.buffer).await;
        let read = read.map_err(|source| error::retry(format!("the log of container {} breaks off", short(&self.container)), source))?;
        self.taken += read;
        Ok(read)
    }

    /// All whole records that have been read.
    async fn decode(&mut self) -> Result<OutputBatch, DriverError> {
        let mut lines = Vec::new();
        loop {
            let record = frames::next(&mut self.buffer, self.framing);
            let record = record
                .map_err(|source| error::retry(format!("the log of container {} can not be read", short(&self.container)), source))?;
            let Some(record) = record else { break };
            // The engine's times are ASCII; what is not, is no time of its.
            let time = String::from_utf8_lossy(&record.time).into_owned();
            match self.resume.judge(&record) {
                Verdict::Take => {}
                Verdict::Pass => continue,
                Verdict::TakeAfterGap => {
                    let text = Bytes::from_static(LOST.as_bytes());
                    lines.push(OutputLine { stream: LogStream::Manager, time: time.clone(), text });
                }
                Verdict::Rewind { since } => {
                    self.resume.begin_again();
                    let since = self.resume.since().map_or(since, |floor| floor.min(since));
                    self.open(Some(since), self.stage == Stage::Following).await?;
                    break;
                }
            }
            lines.push(OutputLine { stream: record.stream, time, text: record.text });
        }
        Ok(OutputBatch { lines })
    }

    /// Asks for the log anew; what was read and not decoded of an earlier one is dropped.
    async fn open(&mut self, since: Option<Time>, follow: bool) -> Result<(), DriverError> {
        let since = since.and_then(since_parameter).unwrap_or_else(|| "0".to_owned());
        let id = &self.container;
        let request = format!(
            "GET /containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&since={since} HTTP/1.0\r\nHost: docker\r\n\r\n",
            u8::from(follow)
        );
        let what = || format!("the log of container {} is not to be had", short(id));
        let connect = async {
            let mut socket = UnixStream::connect(self.engine.socket()).await?;
            socket.write_all(request.as_bytes()).await?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|source| error::retry(what(), source))?;
        let mut socket = socket.map_err(|source| error::retry(what(), source))?;
        let mut buffer = BytesMut::with_capacity(READ);
        let head = tokio::time::timeout(ANSWER_TIMEOUT, read_head(&mut socket, &mut buffer)).await;
        let status = head.map_err(|source| error::retry(what(), source))?.map_err(|source| error::retry(what(), source))?;
        match status {
            200 => {}
            404 => return Err(error::gone(what())),
            status => {
                let mut said = buffer.to_vec();
                // Whatever of it arrives; the status alone would do.
                let _ = tokio::time::timeout(CONNECT_TIMEOUT, (&mut socket).take(HEAD_MAX as u64).read_to_end(&mut said)).await;
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                return Err(error::retry_because(format!("{}: the engine answers {status} {said}", what())));
            }
        }
        self.source = Some(socket);
        self.taken = buffer.len();
        self.buffer = buffer;
        Ok(())
    }
}

/// Whether a line was printed a while ago. A clock that is wrong makes this a matter of speed only.
fn is_old(time: &str) -> bool {
    const OLD: Duration = Duration::from_secs(1);
    time.parse().is_ok_and(|time| clock::now().since(time) > OLD)
}

/// Reads up to the empty line; what follows it stays in the buffer. Returns the status.
async fn read_head(socket: &mut UnixStream, buffer: &mut BytesMut) -> std::io::Result<u16> {
    let wrong = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > HEAD_MAX {
            return Err(wrong("the head of the engine's answer is too long"));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = buffer.split_to(end + 4);
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| wrong("the engine's answer has no status"))
}
