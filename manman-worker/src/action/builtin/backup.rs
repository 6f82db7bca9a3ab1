//! `backup` and `backups`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use manman_backup::{CreateRequest, Summary};
use manman_common::game_id::InstallMethod;
use manman_common::spec::StopStep;
use manman_common::{Kind, Phase, Problem};
use serde_json::{Value, json};

use super::super::teller::Teller;
use super::super::{Begun, Failed, Outcome};
use super::{Shelf, blocking};
use crate::app::Worker;
use crate::console::Target;
use crate::reconcile::signals::Climbed;

/// Archives of one server; the oldest go.
const KEEP: NonZeroUsize = NonZeroUsize::new(10).expect("ten is not zero");
/// The action by which a game saves, where its definition has one.
const SAVE: &str = "save";
/// Large worlds take a minute to be written.
const SAVE_WITHIN: Duration = Duration::from_secs(120);

/// What is kept. A container's directory holds nothing but data; a game of Steam's lies among its own
/// program, of which nothing is worth keeping.
fn patterns(begun: &Begun) -> Result<Vec<String>, Failed> {
    let save = &begun.spec.run.data.save;
    match begun.spec.run.game_id.method() {
        _ if !save.is_empty() => Ok(save.clone()),
        InstallMethod::Docker => Ok(vec!["**".to_owned()]),
        InstallMethod::Steamcmd => {
            let problem = Problem::new(Kind::Conflict, "nothing says which files of this game are worth keeping");
            Err(Failed::refused(problem.hint("`data.save` of its definition names them")))
        }
    }
}

pub(super) async fn make(worker: &Arc<Worker>, begun: &Begun) -> Outcome {
    let patterns = patterns(begun)?;
    let shelf = Shelf::of(worker, begun.spec.id);
    if !shelf.data.is_dir() {
        return Err(Failed::refused(Problem::new(Kind::Conflict, format!("server `{}` has no files yet", begun.spec.name))));
    }
    let saved = save(worker, begun).await?;
    begun.teller.say(Some(0), "looking for what is to be kept");
    let request = CreateRequest {
        root: shelf.data,
        patterns,
        into: shelf.backups.clone(),
        server: begun.spec.id,
        game: begun.spec.run.game_id.clone(),
        note: begun.inputs.get("note").cloned().unwrap_or_default(),
    };
    let (teller, server) = (begun.teller.clone(), begun.spec.id);
    let (made, removed) = blocking(move |cancel| {
        let made = manman_backup::create(&request, |progress| tell(&teller, "packing", &progress), cancel)?;
        // That an old one could not be removed takes nothing from the new one.
        let removed = manman_backup::prune(&shelf.backups, server, KEEP).unwrap_or_else(|error| {
            tracing::warn!(server.id = %server, %error, "old backups could not be removed");
            Vec::new()
        });
        Ok((made, removed))
    })
    .await?;
    Ok(told(&made, saved, removed.len()))
}

pub(super) fn tell(teller: &Teller, doing: &str, progress: &manman_backup::Progress<'_>) {
    let (done, all) =
        if progress.of_bytes > 0 { (progress.bytes, progress.of_bytes) } else { (progress.entries, progress.of_entries.max(1)) };
    let percent = u8::try_from((done.saturating_mul(100) / all).min(100)).unwrap_or(100);
    teller.say(Some(percent), &format!("{doing} {} of {}", progress.entries, progress.of_entries));
}

fn told(made: &Summary, saved: &str, removed: usize) -> Value {
    let mut told = json!({
        "backup": made.path.file_name().unwrap_or_default().to_string_lossy(),
        "size": made.size,
        "files": made.files,
        "bytes": made.bytes,
        "made_at": made.made_at,
        "saved": saved,
    });
    if !made.changed.is_empty() {
        told["changed_meanwhile"] = made.changed.iter().map(|changed| changed.path.as_path().display().to_string()).collect();
    }
    if !made.unmatched.is_empty() {
        told["unmatched"] = json!(made.unmatched);
    }
    if removed > 0 {
        told["old_ones_removed"] = json!(removed);
    }
    told
}

/// Has a running game save first, and waits for its answer as its definition says.
async fn save(worker: &Arc<Worker>, begun: &Begun) -> Result<&'static str, Failed> {
    let Some(action) = begun.spec.run.actions.get(SAVE) else { return Ok("the game has no action `save`") };
    if action.disabled || !action.is_console() {
        return Ok("its action `save` is not a console line that can be typed");
    }
    let instance = worker.reconcile.instance(begun.spec.id).await.map_err(|error| super::held::of_the_loop(&error))?;
    let Some((instance, driver)) = instance else { return Ok("it does not run") };
    begun.teller.say(None, "the game saves");
    let target = Target { spec: &begun.spec, instance: &instance, driver: &*driver };
    match worker.console.climb(&target, &StopStep::Action(SAVE.to_owned()), SAVE_WITHIN).await {
        Ok(Climbed::Done | Climbed::Told) => Ok("the game has saved"),
        Ok(Climbed::Unanswered) => Ok("the game was told to save and has not said that it did"),
        // One that has just ended has saved as it ends.
        Err(problem) if problem.kind == Kind::NotAlive => Ok("it does not run"),
        Err(problem) => {
            let detail = format!("the game could not be told to save, so nothing was kept: {}", problem.detail);
            let hint = "stop the server and ask again: then its files are at rest";
            Err(Failed::refused(Problem::new(Kind::Conflict, detail).hint(hint)))
        }
    }
}

pub(super) async fn list(worker: &Arc<Worker>, begun: &Begun) -> Outcome {
    let shelf = Shelf::of(worker, begun.spec.id);
    let listed = blocking(move |_| manman_backup::list(&shelf.backups)).await?;
    let one = |listed: &manman_backup::Listed| {
        let name = listed.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match &listed.head {
            Ok(head) => json!({"backup": name, "made_at": head.made_at, "size": listed.size, "files": head.files, "note": head.note}),
            Err(error) => json!({"backup": name, "size": listed.size, "unusable": super::not_done(error).problem.detail}),
        }
    };
    Ok(listed.iter().map(one).collect())
}

/// Whether the game is up, by the loop's last word.
pub(super) fn is_live(worker: &Worker, begun: &Begun) -> bool {
    worker.statuses().get(&begun.spec.id).is_some_and(|status| Phase::is_live(status.phase))
}
