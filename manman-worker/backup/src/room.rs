use std::path::Path;

use rustix::fs;

use crate::error::{BackupError, Result};

/// What is left free beside: a full disk stops the games on it.
const SPARE: u64 = 16 * 1024 * 1024;

/// Refuses what would not fit, before anything is written. Data counts as if it could not be pressed.
pub(crate) fn check(place: &Path, bytes: u64) -> Result<()> {
    let there = fs::statvfs(place).map_err(BackupError::errno("ask for the free room of", place.display()))?;
    let free = there.f_bavail.saturating_mul(there.f_frsize);
    // On a small file system a share of it, so that its last part can be used at all.
    let spare = SPARE.min(there.f_blocks.saturating_mul(there.f_frsize) / 100);
    let needed = bytes.saturating_add(spare);
    if needed > free { Err(BackupError::NoRoom { place: place.to_owned(), needed, free }) } else { Ok(()) }
}
