//! A blocking client of a shim's socket, every call of it bounded in time.
//!
//! A worker calls it off its async threads, or speaks [`proto`] itself over a socket of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    socket_with,
};

use crate::clock;
use crate::files;
use crate::proto::{self, Answer, FRAME_MAX, Frame, Notice, Request, VERSION};

/// Notices kept for a caller that is waiting for an answer; the oldest go first.
const NOTICES_MAX: usize = 256;
/// Frames and reads without any news in them, before the other side is no shim of ours.
const PASSED_OVER_MAX: usize = 4096;
/// A game's input, output and errors.
const DESCRIPTORS_MAX: usize = 3;

#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    notices: VecDeque<(u8, Vec<u8>)>,
    next_id: u32,
    timeout: Duration,
    /// Version that the shim speaks.
    pub version: u16,
}

/// An answer that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Welcome(u16),
    Done,
    Refused(String),
    Taken(u32),
    Status(Vec<u8>),
    Descriptors(u8),
    Appended(u64),
}

/// A notice that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    LastSeq(u64),
    Rung { index: u16, text: String },
    Exit(Vec<u8>),
    State(Vec<u8>),
}

impl Client {
    /// Connects and says the nonce. `timeout` bounds this and each later call.
    pub fn connect(run_dir: &Path, nonce: &str, timeout: Duration) -> io::Result<Self> {
        // A socket's path is at most 107 bytes long and a data directory's is not: the way over the
        // directory's own descriptor is always short.
        let dir = File::open(run_dir)?;
        // The directory may be the game's. A link in it could name any socket of this machine, and
        // would be followed with the worker's rights.
        let socket = openat(&dir, files::SOCKET, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(io::Error::other(format!("{} is no socket", run_dir.join(files::SOCKET).display())));
        }
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before it connects: a listener that takes nobody would be waited for for ever.
        set_socket_timeout(&stream, Timeout::Send, Some(timeout))?;
        set_socket_timeout(&stream, Timeout::Recv, Some(timeout))?;
        connect(&stream, &SocketAddrUnix::new(format!("/proc/self/fd/{}", socket.as_raw_fd()))?)?;
        let stream = UnixStream::from(stream);
        let (buffer, descriptors, notices) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut client = Self { stream, buffer, descriptors, notices, next_id: 1, timeout, version: 0 };
        match client.ask(&Request::Hello { version: VERSION, nonce: nonce.as_bytes() })? {
            Reply::Welcome(version) => client.version = version,
            other => return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the shim answered {other:?}"))),
        }
        Ok(client)
    }

    /// For a client that is told when there is something to read: [`news`](Self::news) then never
    /// waits. Nothing may be asked any more.
    pub fn only_news(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.timeout = timeout;
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))
    }

    /// Asks and waits for the answer; notices that come first are kept.
    pub fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply> {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut bytes = Vec::new();
        request.encode(id, &mut bytes);
        // Whoever answers may be the game: what it says besides does not make the wait longer.
        let deadline = clock::instant() + self.timeout;
        self.stream.write_all(&bytes)?;
        loop {
            if clock::instant() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if let Some((kind, answered, body)) = self.take_frame()? {
                if Notice::is_kind(kind) {
                    self.keep(kind, body);
                } else if answered == id {
                    let frame = Frame { kind, id, body: &body };
                    return Answer::decode(&frame).map(Reply::from).map_err(invalid);
                }
                continue;
            }
            self.receive()?;
        }
    }

    /// Asks for something whose only good answer is [`Reply::Done`].
    pub fn tell(&mut self, request: &Request<'_>) -> io::Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            Reply::Refused(why) => Err(io::Error::other(why)),
            other => Err(invalid(format!("the shim answered {other:?}"))),
        }
    }

    /// Writes to the game's console; returns how many bytes there was room for.
    pub fn type_in(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(FRAME_MAX / 2);
        match self.ask(&Request::Stdin(&bytes[..most]))? {
            Reply::Taken(count) => Ok(count as usize),
            Reply::Refused(why) => Err(io::Error::new(io::ErrorKind::BrokenPipe, why)),
            other => Err(invalid(format!("the shim answered {other:?}"))),
        }
    }

    /// Copies of the game's terminal or pipes; while they are held, the shim's death is not the game's.
    pub fn descriptors(&mut self) -> io::Result<Vec<OwnedFd>> {
        match self.ask(&Request::Descriptors)? {
            Reply::Descriptors(_) => Ok(std::mem::take(&mut self.descriptors)),
            Reply::Refused(why) => Err(io::Error::other(why)),
            other => Err(invalid(format!("the shim answered {other:?}"))),
        }
    }

    /// The next notice; `None` when the timeout is over, an error of kind `UnexpectedEof` when the
    /// shim has closed the connection.
    pub fn news(&mut self) -> io::Result<Option<News>> {
        for _ in 0..PASSED_OVER_MAX {
            if let Some((kind, body)) = self.notices.pop_front() {
                match Notice::decode(&Frame { kind, id: 0, body: &body }) {
                    Ok(notice) => return Ok(Some(News::from(notice))),
                    // Of a later version.
                    Err(_) => continue,
                }
            }
            if let Some((kind, _, body)) = self.take_frame()? {
                if Notice::is_kind(kind) {
                    self.keep(kind, body);
                }
                continue;
            }
            match self.receive() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(invalid("it says much, and no news"))
    }

    fn keep(&mut self, kind: u8, body: Vec<u8>) {
        if self.notices.len() >= NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back((kind, body));
    }

    fn take_frame(&mut self) -> io::Result<Option<(u8, u32, Vec<u8>)>> {
        let Some((frame, used)) = proto::split(&self.buffer).map_err(invalid)? else { return Ok(None) };
        let taken = (frame.kind, frame.id, frame.body.to_vec());
        self.buffer.drain(..used);
        Ok(Some(taken))
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // What is left over is closed.
                self.descriptors.extend(descriptors.take(DESCRIPTORS_MAX.saturating_sub(self.descriptors.len())));
            }
        }
        if received.bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shim closed the connection"));
        }
        self.buffer.extend_from_slice(&chunk[..received.bytes]);
        Ok(())
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl From<Answer<'_>> for Reply {
    fn from(answer: Answer<'_>) -> Self {
        match answer {
            Answer::Welcome { version } => Self::Welcome(version),
            Answer::Done => Self::Done,
            Answer::Refused(why) => Self::Refused(why.to_owned()),
            Answer::Taken(count) => Self::Taken(count),
            Answer::Status(text) => Self::Status(text.to_owned()),
            Answer::Descriptors(count) => Self::Descriptors(count),
            Answer::Appended(seq) => Self::Appended(seq),
        }
    }
}

impl From<Notice<'_>> for News {
    fn from(notice: Notice<'_>) -> Self {
        match notice {
            Notice::LastSeq(seq) => Self::LastSeq(seq),
            Notice::Rung { index, text } => Self::Rung { index, text: text.to_owned() },
            Notice::Exit(record) => Self::Exit(record.to_owned()),
            Notice::State(record) => Self::State(record.to_owned()),
        }
    }
}
