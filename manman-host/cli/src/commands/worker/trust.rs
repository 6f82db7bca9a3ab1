//! What only a person knows: that a worker may be believed again, that a machine is off.

use manman_common::wire::{FenceRequest, RebaseEffect, RebaseRequest, RebaseServer, RebaseView, RebaseWish};

use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output;
use crate::table::Table;

pub(super) async fn rebase(app: &App, worker: &str, keep: bool, yes: Option<String>) -> Result<(), Failure> {
    let client = app.client()?;
    let worker = find::worker(&client, worker, Guess::Never).await?;
    let id = worker.id.to_string();
    let view = client.worker_rebase_view(&id).await;
    let view = view.map_err(|error| refused(format!("could not look at what `{}` would do", worker.name), error))?;
    let Some(reason) = &view.reason else {
        return app.output.done(&view, &format!("{} follows this host already", view.name));
    };
    let confirm = if app.output.json {
        yes
    } else {
        output::talk(&format!("{}: {reason}", view.name));
        if !view.servers.is_empty() {
            table(&view.servers, keep).render(false).lines().for_each(output::talk);
        }
        confirmed(&view, keep, yes)?
    };
    let done = client.worker_rebase(&id, &RebaseRequest { confirm, keep }).await;
    let done = done.map_err(|error| refused(format!("could not rebase `{}`", view.name), error))?;
    app.output.done(&done, &format!("{} follows this host again", done.name))
}

/// The worker's name as the person typed it, where that is needed.
fn confirmed(view: &RebaseView, keep: bool, yes: Option<String>) -> Result<Option<String>, Failure> {
    let grave = view.servers.iter().filter(|server| is_grave(server, keep)).count();
    if grave == 0 || yes.is_some() {
        return Ok(yes);
    }
    let ways = format!("say --yes {0}, or keep what runs: manman worker rebase {0} --keep", view.name);
    if !output::can_ask() {
        return Err(Failure::usage(format!("{grave} servers would be stopped or deleted, and there is nobody to ask")).hint(ways));
    }
    let typed = output::ask_for(&format!("type `{}` to stop or delete {grave} of them:", view.name));
    match typed {
        Some(typed) if typed == view.name.as_str() => Ok(Some(typed)),
        Some(_) | None => Err(Failure::new("nothing was done").why("the name was not typed").hint(ways)),
    }
}

fn is_grave(server: &RebaseServer, keep: bool) -> bool {
    let kept = keep && server.host != RebaseWish::Moved && server.machine.is_some_and(manman_common::Phase::is_live);
    server.effect.is_grave() && !kept
}

fn table(servers: &[RebaseServer], keep: bool) -> Table {
    let mut table = Table::new(&["SERVER", "HOST WANTS", "MACHINE HAS", "THEN IT"]);
    for server in servers {
        let host = match server.host {
            RebaseWish::Running => "running",
            RebaseWish::Stopped => "stopped",
            RebaseWish::Deleted => "deleted",
            RebaseWish::Moved => "moved away",
            RebaseWish::UnknownHere => "unknown here",
        };
        let then = match server.effect {
            effect if effect.is_grave() && !is_grave(server, keep) => "is kept",
            RebaseEffect::None => "stays",
            RebaseEffect::Starts => "starts",
            RebaseEffect::Stops => "STOPS",
            RebaseEffect::IsDeleted => "IS DELETED",
            RebaseEffect::IsForgotten => "runs on, on its own",
        };
        table.row(vec![
            server.name.as_ref().map_or_else(|| server.id.to_string(), ToString::to_string).into(),
            host.into(),
            server.machine.map_or_else(|| "-".to_owned(), |phase| format!("{phase:?}")).into(),
            then.into(),
        ]);
    }
    table
}

pub(super) async fn fence(app: &App, worker: &str, yes: Option<String>) -> Result<(), Failure> {
    let client = app.client()?;
    let worker = find::worker(&client, worker, Guess::Never).await?;
    let confirm = match yes {
        Some(yes) => yes,
        None if output::can_ask() => {
            output::talk(&format!(
                "only if the machine of `{0}` is off, or will never run its servers again: else a world runs twice",
                worker.name
            ));
            let typed = output::ask_for(&format!("type `{}` to fence it:", worker.name));
            typed.ok_or_else(|| Failure::new("nothing was done").why("the name was not typed"))?
        }
        None => {
            return Err(Failure::usage("there is nobody to ask whether that machine is off").hint(format!("say --yes {}", worker.name)));
        }
    };
    let fenced = client.worker_fence(&worker.id.to_string(), &FenceRequest { confirm }).await;
    let fenced = fenced.map_err(|error| refused(format!("could not fence `{}`", worker.name), error))?;
    app.output.done(&fenced, &format!("{} is fenced; its servers may be moved", fenced.name))?;
    if !app.output.json && fenced.servers > 0 {
        output::hint("move each with `manman server move SERVER WORKER`; its files stay on the old machine");
    }
    Ok(())
}
