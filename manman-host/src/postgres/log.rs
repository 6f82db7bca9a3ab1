//! Postgres's own log: a file in the data directory that cannot grow without bound.
//!
//! It is a file and not a pipe through the host, so that Postgres can still say why it stopped
//! when its host was killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PostgresError;

/// Months of a quiet Postgres; with its predecessor, 16 MiB are all that it may take.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// Long enough to cost nothing, short enough that a talkative minute is no harm.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// What an error carries: enough for the reason, little enough to be read.
const TAIL_BYTES: u64 = 4 * 1024;
const TAIL_LINES: usize = 12;

#[derive(Debug, Clone)]
pub(super) struct LogFile {
    path: PathBuf,
    /// Where this run begins: the words of an earlier run explain nothing.
    begins: u64,
}

impl LogFile {
    pub(super) fn open(data_dir: &Path) -> Result<Self, PostgresError> {
        let path = data_dir.join("postgres.log");
        let size = fs::metadata(&path).map_or(0, |it| it.len());
        if size <= MOST_BYTES {
            return Ok(Self { path, begins: size });
        }
        fs::rename(&path, predecessor(&path)).map_err(PostgresError::io("move away the full log", &path))?;
        Ok(Self { path, begins: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appending, so that the file can be emptied under a running Postgres.
    pub(super) fn writer(&self) -> Result<File, PostgresError> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).map_err(PostgresError::io("open the log", &self.path))
    }

    /// The last lines of this run; empty if there are none or they cannot be read.
    pub(super) fn tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let size = file.metadata()?.len();
            // After a trim in mid-run the file is shorter than where the run began.
            let begins = if size < self.begins { 0 } else { self.begins };
            file.seek(SeekFrom::Start(begins.max(size.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        last_lines(&read().unwrap_or_default())
    }

    pub(super) fn keep_trimmed(&self) -> tokio::task::AbortHandle {
        let path = self.path.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_EVERY).await;
                if let Err(error) = trim(&path) {
                    tracing::warn!(%error, path = %path.display(), "could not trim the log of PostgreSQL");
                }
            }
        });
        task.abort_handle()
    }
}

/// The last lines of what a program said, without trailing space.
pub(super) fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Postgres holds the file open: it is copied and emptied, not renamed.
fn trim(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() > MOST_BYTES {
        fs::copy(path, predecessor(path))?;
        file.set_len(0)?;
    }
    Ok(())
}

fn predecessor(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_log_is_bounded_and_its_tail_is_of_this_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("postgres.log");
        fs::write(&path, "an earlier run\n").expect("write");
        let log = LogFile::open(dir.path()).expect("open");
        assert_eq!(log.tail(), "");
        io::Write::write_all(&mut log.writer().expect("writer"), b"this run\n").expect("append");
        assert_eq!(log.tail(), "this run");

        let full = File::options().write(true).open(&path).expect("reopen");
        full.set_len(MOST_BYTES + 1).expect("grow");
        trim(&path).expect("trim");
        assert_eq!(fs::metadata(&path).expect("metadata").len(), 0);
        assert!(predecessor(&path).exists());

        full.set_len(MOST_BYTES + 1).expect("grow");
        LogFile::open(dir.path()).expect("open").writer().expect("writer");
        assert_eq!(fs::metadata(&path).expect("metadata").len(), 0);
    }
}
