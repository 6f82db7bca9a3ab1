//! The look at a server's lock before anything is written into its data: one world never runs twice.
//!
//! Where a shim holds the game, it takes the lock itself and keeps it until nothing of the game lives.
//! A container whose log is followed has no process of ours in it: its start is made under the lock,
//! which writes the epoch down, and while it runs the engine's own list keeps a second one away.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use manman_common::{DesiredState, ServerSpec};
use manman_shim::exit_code;
use manman_shim::journal::{Event, JournalPlace, Writer};
use manman_shim::lock::{self, Held, Refusal, Stops};
use manman_shim::record::Exit;

use super::rundir::{JOURNAL, LOCK, data_lock};
use super::{refusal, retry};
use crate::driver::DriverError;

/// Has every later start by this wish or an earlier one refused by the data itself, whatever this worker's database
/// says by then. Blocks on the disk.
pub(crate) fn let_go(server_dir: &Path, spec: &ServerSpec) -> Result<(), DriverError> {
    // What is stopped may not have been installed yet; what has gone leaves nothing new behind.
    if spec.desired == DesiredState::Deleted && !server_dir.exists() {
        return Ok(());
    }
    make(server_dir)?;
    lock::let_go(&data_lock(server_dir.join(LOCK), spec))
        .map_err(|refused| retry("could not note that a world is not to run here", std::io::Error::other(refused.reason)))
}

/// Somebody wants a start by this wish who knows of these stops: they no longer count. Blocks on the disk.
pub(crate) fn take_up(server_dir: &Path, spec: &ServerSpec, stops: Stops) -> Result<(), DriverError> {
    match lock::take_up(&data_lock(server_dir.join(LOCK), spec), stops) {
        // The start says why there can be none.
        Ok(()) | Err(Refusal { code: exit_code::LOCKED, .. }) => Ok(()),
        Err(refused) => Err(retry("could not note that a world is to run again", std::io::Error::other(refused.reason))),
    }
}

fn make(server_dir: &Path) -> Result<(), DriverError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(server_dir);
    made.map_err(|error| retry(format!("could not make {}", server_dir.display()), error))
}

/// Holds the lock as long as what it returns. Blocks on the disk.
pub(crate) fn hold(server_dir: &Path, spec: &ServerSpec, instance: &str) -> Result<Held, DriverError> {
    make(server_dir)?;
    let lock = data_lock(server_dir.join(LOCK), spec);
    lock::take(&lock).map_err(|refused| {
        let place = JournalPlace { dir: server_dir.join(JOURNAL), server: spec.id.to_string() };
        Writer::open(&place, instance, Some(lock.epoch), 0).note(&Event::Refused { code: refused.code });
        refusal::of(&Exit { refused: Some(refused.code), reason: Some(refused.reason), ..Exit::default() })
    })
}
