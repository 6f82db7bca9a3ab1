//! Old log is the first that goes from a disk that fills.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::segment;

/// Deletes the oldest segments of all servers' logs, one by one until `enough` says so; gives the
/// bytes of those. The newest of each log stays: it is being written. A reader who wanted what is gone
/// hears of a counted gap. Blocks on the disk.
pub(crate) fn shed(servers_dir: &Path, enough: impl Fn() -> bool) -> u64 {
    let mut old: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
    for server in std::fs::read_dir(servers_dir).into_iter().flatten().flatten() {
        let dir = server.path().join("log");
        let Ok(mut found) = segment::scan(&dir) else { continue };
        let _ = found.pop();
        for path in found.into_iter().map(|first_seq| segment::path(&dir, first_seq)) {
            let Ok(about) = std::fs::symlink_metadata(&path) else { continue };
            old.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), path, about.len()));
        }
    }
    old.sort_unstable();
    let mut shed = 0;
    for (_, path, bytes) in old {
        if enough() {
            break;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => shed += bytes,
            Err(error) => tracing::warn!(path = %path.display(), %error, "an old log segment could not be deleted"),
        }
    }
    shed
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_oldest_goes_first_and_the_newest_of_each_log_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |server: &str, first_seq: u64, age: u64| {
            let log = dir.path().join(server).join("log");
            std::fs::create_dir_all(&log).expect("made");
            let path = segment::path(&log, first_seq);
            std::fs::write(&path, "ten bytes\n").expect("written");
            let file = std::fs::File::options().append(true).open(&path).expect("opens");
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age)).expect("set");
            path
        };
        let [first, second, newest] = [(1, 30), (5, 10), (9, 5)].map(|(seq, age)| write("one", seq, age));
        let [other, last] = [(1, 20), (4, 40)].map(|(seq, age)| write("two", seq, age));
        let asked = Cell::new(0);
        assert_eq!(shed(dir.path(), || asked.replace(asked.get() + 1) >= 2), 20);
        assert!(!first.exists() && !other.exists() && second.exists());
        assert_eq!(shed(dir.path(), || false), 10);
        assert!(newest.exists() && last.exists() && !second.exists());
        assert_eq!(shed(&dir.path().join("nowhere"), || false), 0);
    }
}
