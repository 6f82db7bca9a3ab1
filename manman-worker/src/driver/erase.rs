//! Deletes a server's directory, and nothing that a link in it points to.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use super::DriverError;
use super::shim::retry;

/// Whoever swaps names about in there loses within milliseconds, if we only go on.
const GO_ON_FOR: Duration = Duration::from_secs(30);

/// The standard library walks by directory handles and never follows a link, the directory's own
/// name included; but it gives up where a name turns out to be something else than it was a moment
/// ago. What it deleted until then is gone, so each walk begins with less.
///
/// Blocks for up to half a minute.
pub(super) fn erase(dir: &Path) -> Result<(), DriverError> {
    walk_until_gone(dir).map_err(|error| retry(format!("the directory {} can not be deleted", dir.display()), error))
}

fn walk_until_gone(dir: &Path) -> io::Result<()> {
    let since = Instant::now();
    loop {
        match std::fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            // Of the directory itself, or of a name in it that was there a moment ago.
            Err(error) if error.kind() == ErrorKind::NotFound && is_gone(dir) => return Ok(()),
            Err(error) if is_of_a_race(&error) && since.elapsed() < GO_ON_FOR => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_gone(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn is_of_a_race(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY | Errno::LOOP))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, Mode, OFlags, RenameFlags, openat, renameat_with};

    use super::*;

    #[test]
    fn a_folder_that_becomes_a_link_and_back_all_the_while_goes_and_what_it_leads_to_stays() {
        let outer = tempfile::tempdir().expect("a directory");
        let (dir, elsewhere) = (outer.path().join("data"), outer.path().join("elsewhere"));
        std::fs::create_dir_all(elsewhere.join("deep")).expect("a directory");
        for folder in 0..300 {
            std::fs::create_dir_all(dir.join(format!("real/{folder}/deeper"))).expect("a directory");
        }
        std::os::unix::fs::symlink(&elsewhere, dir.join("link")).expect("a link");
        let (over, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let held = openat(CWD, &dir, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).expect("the directory");
                while !over.load(Ordering::Relaxed) {
                    if renameat_with(&held, "real", &held, "link", RenameFlags::EXCHANGE).is_err() {
                        break;
                    }
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            while swaps.load(Ordering::Relaxed) < 100 {
                std::thread::yield_now();
            }
            let erased = erase(&dir);
            over.store(true, Ordering::Relaxed);
            erased.expect("it goes");
        });
        assert!(is_gone(&dir));
        assert!(elsewhere.join("deep").is_dir());
    }

    #[test]
    fn what_is_not_there_is_erased_and_what_is_no_directory_is_not() {
        let outer = tempfile::tempdir().expect("a directory");
        erase(&outer.path().join("never")).expect("nothing to do");
        let (elsewhere, link) = (outer.path().join("elsewhere"), outer.path().join("link"));
        std::fs::create_dir(&elsewhere).expect("a directory");
        std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
        erase(&link).expect("the link goes");
        assert!(is_gone(&link) && elsewhere.is_dir());
    }
}
