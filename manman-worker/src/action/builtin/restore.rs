//! `restore`: an archive is read to its end before anything is touched, and swapped in whole.

use std::path::Path;
use std::sync::Arc;

use manman_backup::{Recovered, RestoreRequest};
use manman_common::{Kind, Problem};
use serde_json::json;

use super::super::{Begun, Failed, Outcome};
use super::backup::{is_live, tell};
use super::held::Hold;
use super::{Shelf, blocking};
use crate::app::Worker;

pub(super) async fn restore(worker: &Arc<Worker>, begun: &Begun) -> Outcome {
    let shelf = Shelf::of(worker, begun.spec.id);
    let name = begun.inputs.get("backup").cloned().unwrap_or_default();
    let archive = shelf.backups.join(&name);
    // Its pattern lets no slash pass, and a link is not followed.
    if !archive.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        let problem = Problem::new(Kind::NotFound, format!("server `{}` has no backup `{name}`", begun.spec.name)).field("inputs.backup");
        return Err(Failed::refused(problem.hint("`backups` lists them")));
    }
    let running = is_live(worker, begun);
    if running && begun.inputs.get("stop").is_none_or(|stop| stop != "true") {
        let problem = Problem::new(Kind::Conflict, format!("server `{}` is running", begun.spec.name));
        return Err(Failed::refused(problem.hint("stop it first, or say `stop=true`: then it is stopped and started again")));
    }
    begun.teller.say(Some(0), "reading the whole archive");
    // While the game still runs: a damaged one does not even stop it.
    let whole = archive.clone();
    blocking(move |cancel| manman_backup::verify(&whole, cancel)).await?;
    begun.teller.say(None, if running { "stopping the game" } else { "keeping the game from starting" });
    let hold = Hold::take(worker, begun).await?;
    crate::failpoint::reach("restore.held");
    let (teller, server) = (begun.teller.clone(), begun.spec.id);
    let restored = blocking(move |cancel| {
        let request = RestoreRequest { archive, root: shelf.data, server: Some(server), owner: None };
        manman_backup::restore(&request, |progress| tell(&teller, "unpacking", &progress), cancel)
    })
    .await;
    let released = hold.release().await;
    let restored = restored?;
    released?;
    Ok(json!({
        "backup": name,
        "made_at": restored.head.made_at,
        "files": restored.head.files,
        "before": restored.before.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy()),
        "taken_away": restored.taken_away.len(),
        "starts_again": running,
    }))
}

/// Ends restores that the end of an earlier worker has interrupted. Before any server is started.
pub(crate) fn recover(data_dir: &Path) -> std::io::Result<()> {
    let servers = match std::fs::read_dir(data_dir.join("servers")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        servers => servers?,
    };
    for server in servers {
        let data = server?.path().join("data");
        if !data.is_dir() {
            continue;
        }
        match manman_backup::recover(&data) {
            Ok(Recovered::Nothing) => {}
            Ok(Recovered::Finished { .. }) => tracing::warn!(data = %data.display(), "an interrupted restore was brought to its end"),
            Ok(Recovered::RolledBack) => {
                tracing::warn!(data = %data.display(), "an interrupted restore was taken back; nothing has changed")
            }
            Err(error) => {
                tracing::error!(data = %data.display(), error = crate::api::error_chain(&error), "an interrupted restore could not be ended");
            }
        }
    }
    Ok(())
}
