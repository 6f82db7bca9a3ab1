//! What a container prints: from the engine's log file where it can be read, else by its API.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::WaitContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use manman_common::logs::LogStream;
use rustix::fs::inotify;
use tokio::net::unix::pipe::Receiver;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Engine, short};
use super::frames::Framing;
use super::jsonfile::Files;
use super::resume::{Resume, Verdict};
use super::{error, follow};
use crate::driver::{DriverError, DriverErrorKind, OutputBatch, OutputCursor, OutputLine};

pub(super) const LOST: &str = "lines are missing here: the engine's log was rotated before they were read";

/// Between two looks where the system tells of no changes.
const LOOK: Duration = Duration::from_millis(100);

/// Between two questions to an engine that does not answer.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn output(
    engine: Engine,
    container: String,
    after: Option<OutputCursor>,
) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
    let inspected = engine.inspect(&container).await?;
    let resume = Resume::new(after.as_ref());
    if let Some(path) = inspected.log_path.filter(|path| !path.is_empty()).map(PathBuf::from) {
        let since = resume.since();
        let wake = Wake::new(&path);
        let opened = tokio::task::spawn_blocking(move || Files::open(&path, since)).await;
        match opened {
            Ok(Ok(files)) => return Ok(Reader::new(engine, container, files, resume, wake).into_stream()),
            // Not root, or an engine in a machine of its own.
            Ok(Err(source)) => {
                tracing::debug!(error = %source, container.id = %container, "the engine's log file can not be read; its API will do")
            }
            Err(source) => return Err(error::retry(format!("the log of container {} is not to be had", short(&container)), source)),
        }
    }
    let tty = inspected.config.and_then(|config| config.tty).unwrap_or(false);
    let framing = if tty { Framing::Lines } else { Framing::Heads };
    follow::by_api(engine, container, framing, resume).await
}

struct Reader {
    container: String,
    files: Files,
    resume: Resume,
    wake: Wake,
    /// Ends with the container.
    ended: AbortOnDropHandle<()>,
    over: bool,
}

impl Reader {
    fn new(engine: Engine, container: String, files: Files, resume: Resume, wake: Wake) -> Self {
        let ended = AbortOnDropHandle::new(tokio::spawn(end_of(engine, container.clone())));
        Self { container, files, resume, wake, ended, over: false }
    }

    fn into_stream(self) -> BoxStream<'static, Result<OutputBatch, DriverError>> {
        let next = |reader: Option<Self>| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(reader))),
                Ok(None) => None,
                Err(source) => {
                    let what = format!("the log of container {} breaks off", short(&reader.container));
                    Some((Err(error::retry(what, source)), None))
                }
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    /// The next lines; `None` once the container has ended and all of it has been given out.
    async fn next(&mut self) -> std::io::Result<Option<OutputBatch>> {
        loop {
            let lines = self.decode();
            if !lines.is_empty() {
                return Ok(Some(OutputBatch { lines }));
            }
            // From the page cache, but for a backlog of a worker that was away.
            if self.files.read()? {
                continue;
            }
            if self.over {
                return Ok(None);
            }
            tokio::select! {
                // Cancel-safe: what has changed stays to be read.
                () = self.wake.changed() => {}
                // Cancel-safe: a task that has ended says so again. The engine has written all of a
                // container's output before it calls it ended; one more read takes that in.
                _ = &mut self.ended => self.over = true,
            }
        }
    }

    fn decode(&mut self) -> Vec<OutputLine> {
        let mut lines = Vec::new();
        while let Some(record) = self.files.next() {
            let verdict = match self.resume.judge(&record) {
                // A file is read once, so it is the machine's clock that went back: judged again, it
                // is taken.
                Verdict::Rewind { .. } => self.resume.judge(&record),
                verdict => verdict,
            };
            let lost = match verdict {
                Verdict::Pass => continue,
                Verdict::Take | Verdict::Rewind { .. } => std::mem::take(&mut self.files.gap),
                Verdict::TakeAfterGap => true,
            };
            let time = String::from_utf8_lossy(&record.time).into_owned();
            if lost {
                lines.push(OutputLine { stream: LogStream::Manager, time: time.clone(), text: Bytes::from_static(LOST.as_bytes()) });
            }
            lines.push(OutputLine { stream: record.stream, time, text: record.text });
        }
        lines
    }
}

/// Returns once the engine says that the container has ended.
async fn end_of(engine: Engine, container: String) {
    loop {
        match engine.is_running(&container).await {
            Ok(false) => return,
            Err(error) if error.kind == DriverErrorKind::Gone => return,
            Ok(true) => {
                if let Ok(docker) = engine.docker().await {
                    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
                    let waited = docker.wait_container(&container, Some(options)).boxed().next().await;
                    if matches!(waited, Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))) {
                        return;
                    }
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells when something in the log's directory has changed. To tokio an inotify descriptor is what
/// the reading end of a pipe is: it becomes readable, and is read.
struct Wake(Option<Receiver>);

impl Wake {
    /// The system has a limit on watches; beyond it, looking now and then has to do.
    fn new(path: &Path) -> Self {
        let watch = || -> std::io::Result<Receiver> {
            let dir = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
            let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, dir, changes)?;
            Receiver::from_file_unchecked(File::from(watch))
        };
        Self(watch().inspect_err(|error| tracing::debug!(%error, "no watch on the engine's log; it is looked at now and then")).ok())
    }

    async fn changed(&mut self) {
        let Some(watch) = &self.0 else { return tokio::time::sleep(LOOK).await };
        if watch.readable().await.is_err() {
            return tokio::time::sleep(LOOK).await;
        }
        // All that has happened is taken off at once: the reader reads to the end anyway.
        let mut events = [0; 4096];
        while watch.try_read(&mut events).is_ok_and(|read| read > 0) {}
    }
}
