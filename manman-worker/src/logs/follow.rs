//! Takes what an instance prints over into its server's log, without a line lost or doubled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use manman_common::logs::{LogRecord, records};
use manman_worker_core::Instance;

use super::book::LogBook;
use super::reader::{LogReader, Read};
use crate::driver::{Driver, DriverError, DriverErrorKind, OutputBatch, OutputLine};

/// Between two attempts at an engine or a disk that refuses.
const AGAIN: Duration = Duration::from_secs(1);

/// A batch of a few lines goes into the page cache at once; a thread of its own for it would add
/// more to a line's way to its readers than the write takes.
const SMALL: usize = 4096;

/// Bytes of a log that another process writes, heard in one go; and how many such chunks before its
/// readers are told of more.
const HEARD_AT_ONCE: usize = 256 * 1024;
const BATCHES_MAX: usize = 64;

/// What happens while a log is taken over, for whoever watches the instance.
pub trait Listener: Send + Sync {
    /// These lines are in the log now.
    fn lines(&self, batch: &OutputBatch);
    /// It can not go on for now; `None` when it goes on again.
    fn trouble(&self, trouble: Option<Trouble>);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `DiskFull` or `LogLost`.
    pub kind: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

/// Runs until the instance is dead and all that it printed is in the log. Whatever fails is tried
/// again: the lines wait in the engine meanwhile.
pub async fn follow(book: &LogBook, driver: &dyn Driver, instance: &Instance, listener: &dyn Listener) {
    let mut troubled = false;
    let mut report = |trouble: Option<Trouble>| {
        if troubled || trouble.is_some() {
            troubled = trouble.is_some();
            listener.trouble(trouble);
        }
    };
    loop {
        match driver.written(instance, book).await {
            Ok(None) => {}
            Ok(Some(more)) => return elsewhere(book, instance, more, listener).await,
            Err(error) if error.kind == DriverErrorKind::Gone => return,
            Err(error) => {
                report(Some(log_trouble(&error)));
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        }
        let after = {
            let (book, id) = (book.clone(), instance.id);
            tokio::task::spawn_blocking(move || book.begin_instance(id)).await
        };
        let after = match after {
            Ok(Ok(after)) => after,
            Ok(Err(error)) => {
                report(Some(disk_trouble(&error)));
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            // The runtime goes down.
            Err(_) => return,
        };
        match driver.output(instance, Some(after)).await {
            Ok(mut output) => loop {
                match output.next().await {
                    Some(Ok(batch)) => {
                        let batch = Arc::new(batch);
                        while let Err(error) = append(book, &batch).await {
                            report(Some(disk_trouble(&error)));
                            tokio::time::sleep(AGAIN).await;
                        }
                        report(None);
                        listener.lines(&batch);
                    }
                    Some(Err(error)) => {
                        report(Some(log_trouble(&error)));
                        break;
                    }
                    None => {
                        report(None);
                        return;
                    }
                }
            },
            Err(error) if error.kind == DriverErrorKind::Gone => return,
            Err(error) => report(Some(log_trouble(&error))),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The log of an instance that another process writes: shown to its readers, and heard.
async fn elsewhere(book: &LogBook, instance: &Instance, mut more: BoxStream<'static, Result<(), DriverError>>, listener: &dyn Listener) {
    let mut reader = LogReader::new(book, book.last_seq().next());
    while let Some(tick) = more.next().await {
        if let Err(error) = tick {
            listener.trouble(Some(log_trouble(&error)));
            continue;
        }
        let behind = book.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut batches = Vec::new();
            let read = behind.catch_up().and_then(|()| {
                loop {
                    match reader.read(HEARD_AT_ONCE)? {
                        Read::Chunk(chunk) => batches.push(heard(&chunk)),
                        Read::Gap(_) => {}
                        Read::End => return Ok(()),
                    }
                    if batches.len() >= BATCHES_MAX {
                        return Ok(());
                    }
                }
            });
            (reader, batches, read)
        });
        let Ok((back, batches, read)) = read.await else { return };
        reader = back;
        for batch in batches.iter().filter(|batch| !batch.lines.is_empty()) {
            listener.lines(batch);
        }
        if let Err(error) = read {
            tracing::warn!(server.id = %instance.server, %error, "a server's log can not be read");
            listener.trouble(Some(disk_trouble(&error)));
        }
    }
}

fn heard(chunk: &Bytes) -> OutputBatch {
    let line =
        |record: LogRecord<'_>| OutputLine { stream: record.stream, time: record.time.to_owned(), text: chunk.slice_ref(record.text) };
    OutputBatch { lines: records(chunk).map(line).collect() }
}

async fn append(book: &LogBook, batch: &Arc<OutputBatch>) -> std::io::Result<()> {
    let bytes: usize = batch.lines.iter().map(|line| line.text.len()).sum();
    if bytes <= SMALL {
        return book.append(&batch.lines);
    }
    let (book, batch) = (book.clone(), Arc::clone(batch));
    tokio::task::spawn_blocking(move || book.append(&batch.lines)).await.map_err(std::io::Error::other)?
}

fn disk_trouble(error: &std::io::Error) -> Trouble {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    Trouble {
        kind: if full { "DiskFull" } else { "LogLost" },
        message: format!("what the game prints can not be written to its log: {error}"),
        hint: full.then(|| "make room on the disk; the lines wait for up to 192 MB of them".to_owned()),
    }
}

fn log_trouble(error: &crate::driver::DriverError) -> Trouble {
    Trouble { kind: "LogLost", message: format!("what the game prints can not be read at the moment: {error}"), hint: error.hint.clone() }
}
