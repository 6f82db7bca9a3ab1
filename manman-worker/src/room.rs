//! Whether the disk of the data directory has room for anything to begin. Old log is given up before
//! a game has to do without; what runs goes on whatever happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::{logs, machine};

/// What has to be free: enough for the saves of what runs, and for what this worker itself writes
/// down. Of a small disk, a twentieth.
const LEAST: u64 = 256 << 20;
const LEAST_PART: u64 = 20;
/// A disk fills within seconds where a game floods its log; a look is one call into the system.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A disk as one look found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    free: u64,
    least: u64,
}

impl Room {
    fn of(dir: &Path) -> Option<Self> {
        let free = machine::disk_free(dir)?;
        let least = machine::disk(dir)?.total.checked_div(LEAST_PART)?.min(LEAST);
        Some(Self { free, least })
    }

    /// Room that has come back has to be more than what was missed, or it would come and go.
    fn is_short(self, was_short: bool) -> bool {
        self.free < if was_short { self.least + self.least / 4 } else { self.least }
    }
}

/// Looks at the disk for as long as it is polled, sheds log where it fills, and tells whether there
/// is no room.
pub(crate) async fn watch(data_dir: PathBuf, told: watch::Sender<bool>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (dir, was_short) = (data_dir.clone(), *told.borrow());
        let looked = tokio::task::spawn_blocking(move || look(&dir, was_short)).await;
        let Ok(Some(short)) = looked else { continue };
        if short != was_short {
            if short {
                tracing::error!(data = %data_dir.display(), "the disk is almost full: what runs goes on, and nothing is installed or started");
            } else {
                tracing::info!(data = %data_dir.display(), "the disk has room again");
            }
            told.send_replace(short);
        }
    }
}

fn look(dir: &Path, was_short: bool) -> Option<bool> {
    let room = Room::of(dir)?;
    if !room.is_short(was_short) {
        return Some(false);
    }
    // Twice what is needed, so that the next minute does not end up here again.
    let enough = || Room::of(dir).is_none_or(|room| room.free >= 2 * room.least);
    let shed = logs::shed(&dir.join("servers"), enough);
    if shed > 0 {
        tracing::warn!(bytes = shed, "old lines of servers' logs were deleted to make room on the disk");
    }
    Some(Room::of(dir)?.is_short(was_short))
}

/// What a worker that looked now would say.
pub(crate) fn has_room(dir: &Path) -> bool {
    Room::of(dir).is_none_or(|room| !room.is_short(false))
}

/// Whether even a worker that has found the disk full before would say so.
pub(crate) fn has_ample_room(dir: &Path) -> bool {
    Room::of(dir).is_none_or(|room| !room.is_short(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_below_its_least_until_there_is_more_than_that() {
        let room = |free| Room { free, least: 100 };
        assert!(!room(100).is_short(false) && room(99).is_short(false));
        assert!(room(124).is_short(true) && !room(125).is_short(true));
    }

    #[test]
    fn a_disk_with_room_is_none_to_tell_of() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(has_room(dir.path()) && look(dir.path(), false) == Some(false));
        assert!(has_room(&dir.path().join("nowhere")), "what can not be looked at holds nobody back");
    }
}
