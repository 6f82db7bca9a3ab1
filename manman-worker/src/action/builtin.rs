//! What a worker can do with every server.

mod backup;
mod held;
mod restore;
mod update;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manman_backup::BackupError;
use manman_common::spec::Builtin;
use manman_common::wire::ActionFailure;
use manman_common::{Kind, Problem, ServerId};

use super::{Begun, Failed, Outcome};
use crate::api::error_chain;
use crate::app::Worker;

pub(crate) use restore::recover;

pub(super) async fn run(worker: &Arc<Worker>, builtin: Builtin, begun: &Begun) -> Outcome {
    match builtin {
        Builtin::Backup => backup::make(worker, begun).await,
        Builtin::Backups => backup::list(worker, begun).await,
        Builtin::Restore => restore::restore(worker, begun).await,
        Builtin::Update => update::update(worker, begun).await,
    }
}

/// Where a server's files and its archives lie.
struct Shelf {
    data: PathBuf,
    backups: PathBuf,
}

impl Shelf {
    fn of(worker: &Worker, server: ServerId) -> Self {
        let server = worker.data_dir.join("servers").join(server.to_string());
        Self { data: server.join("data"), backups: server.join("backups") }
    }
}

/// Work that blocks on the disk, told to stop once nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> Result<T, BackupError> + Send + 'static) -> Result<T, Failed> {
    struct Leaving(Arc<AtomicBool>);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cancel = Arc::new(AtomicBool::new(false));
    let _leaving = Leaving(Arc::clone(&cancel));
    match tokio::task::spawn_blocking(move || work(&cancel)).await {
        Ok(done) => done.map_err(|error| not_done(&error)),
        Err(error) => {
            tracing::error!(%error, "an action broke off");
            Err(Failed::new(ActionFailure::Error, Problem::new(Kind::Internal, "the action broke off; the worker's own log says why")))
        }
    }
}

/// In words of which none is a path of the machine's.
fn not_done(error: &BackupError) -> Failed {
    let name = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |kind, detail: String| Failed::refused(Problem::new(kind, detail));
    match error {
        BackupError::Pattern { pattern, fault } => refused(Kind::Conflict, format!("the save path `{pattern}` can not be used: {fault}")),
        BackupError::NothingMatches { patterns, .. } => {
            let problem = Problem::new(Kind::Conflict, format!("none of the save paths ({}) matches a file", patterns.join(", ")));
            Failed::refused(problem.hint("has the game saved anything yet? `data.save` of its definition says what is kept"))
        }
        BackupError::TooMany { limit } => refused(Kind::Conflict, format!("there are more than {limit} files and folders to keep")),
        BackupError::NoRoom { needed, free, .. } => {
            let problem =
                Problem::new(Kind::Conflict, format!("the disk has {} MiB free, and {} MiB are needed", free >> 20, needed >> 20));
            Failed::refused(problem.hint("free some room, or remove old backups; nothing was changed"))
        }
        BackupError::NotABackup { archive, fault } => refused(Kind::Conflict, format!("`{}` is no backup: {fault}", name(archive))),
        BackupError::Newer { archive, version } => {
            refused(Kind::Conflict, format!("`{}` was made by a newer manman (format {version})", name(archive)))
        }
        BackupError::Damaged { archive, fault } => {
            let problem = Problem::new(Kind::Conflict, format!("`{}` is damaged: {fault}", name(archive)));
            Failed::refused(problem.hint("nothing was touched; `backups` lists the others"))
        }
        BackupError::Hostile { archive, path, fault } => {
            refused(Kind::Conflict, format!("`{}` is refused: `{path}` in it {fault}", name(archive)))
        }
        BackupError::OtherServer { archive, found, .. } => {
            refused(Kind::Conflict, format!("`{}` is of another server, {found}", name(archive)))
        }
        BackupError::Busy { .. } => refused(Kind::Conflict, "another restore of this server is under way".to_owned()),
        BackupError::InTheWay { path, fault } => refused(Kind::Conflict, format!("`{path}` can not be restored over: {fault}")),
        BackupError::Cancelled => Failed::interrupted(),
        BackupError::Io { doing, source, .. } => {
            tracing::error!(error = error_chain(error), "a backup or a restore failed");
            Failed::new(ActionFailure::Error, Problem::new(Kind::Unavailable, format!("could not {doing}: {source}")))
        }
        BackupError::Unfinished { .. } => {
            tracing::error!(error = error_chain(error), "a restore is half done");
            let problem = Problem::new(Kind::Internal, "the restore is half done; what was there before is kept beside the server's files");
            Failed::new(ActionFailure::Error, problem.hint("ask for the restore again, or restart the worker, which ends it"))
        }
    }
}
