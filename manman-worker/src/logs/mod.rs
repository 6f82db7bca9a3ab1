//! One append-only log per server, on this machine: what its games printed, and the manager's own
//! words, each line with a number and a time.
//!
//! Segments of whole records lie in `<servers>/<server>/log/<first_seq>.log`. A writer never waits
//! for a reader: readers look at what is published, by position. A slow one simply lies behind on
//! disk, and hears of a counted gap when what it wanted is no longer kept.

mod backwards;
mod book;
mod cursor;
mod elsewhere;
mod follow;
mod grep;
mod moment;
mod reader;
mod search;
mod segment;
mod session;
mod shed;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use manman_common::ServerId;

pub use book::{LogBook, Pen, Retention};
pub use follow::{Listener, Trouble, follow};
pub use reader::{LogReader, Read};
pub use session::{LogItem, LogSession};
pub(crate) use shed::shed;

/// The logs of all servers of this worker, each opened when first asked for.
#[derive(Clone)]
pub struct LogBooks {
    inner: Arc<Inner>,
}

struct Inner {
    servers_dir: PathBuf,
    retention: Retention,
    open: Mutex<HashMap<ServerId, LogBook>>,
}

impl LogBooks {
    #[must_use]
    pub fn new(servers_dir: impl Into<PathBuf>, retention: Retention) -> Self {
        Self { inner: Arc::new(Inner { servers_dir: servers_dir.into(), retention, open: Mutex::default() }) }
    }

    /// The server's log, made if there is none. Reads the end of its newest segment the first time.
    pub fn open(&self, server: ServerId) -> io::Result<LogBook> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = open.get(&server) {
            return Ok(book.clone());
        }
        let book = LogBook::open(&self.dir(server), self.inner.retention)?;
        open.insert(server, book.clone());
        Ok(book)
    }

    /// The server's log, if it has one.
    pub fn get(&self, server: ServerId) -> io::Result<Option<LogBook>> {
        match self.dir(server).try_exists()? {
            true => self.open(server).map(Some),
            false => Ok(None),
        }
    }

    /// Ends the log's readers and deletes it. One that is not there is a success.
    pub fn purge(&self, server: ServerId) -> io::Result<()> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = open.remove(&server) {
            book.close();
        }
        match std::fs::remove_dir_all(self.dir(server)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn dir(&self, server: ServerId) -> PathBuf {
        self.inner.servers_dir.join(server.to_string()).join("log")
    }
}
