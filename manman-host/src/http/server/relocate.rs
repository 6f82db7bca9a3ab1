//! A server goes to another worker: only once the one that it is on can not run it any more.

use std::sync::Arc;
use std::time::Duration;

use manman_common::wire::PatchServer;
use manman_common::{DesiredState, Kind, Phase, Problem, Revision, WorkerId, WorkerStatus};

use super::create::{check_still_there, choose_worker, need_of, port_problem};
use super::{fresh, lease};
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::port::port_taken;
use crate::db::server::{Relocation, Server, revision_bump, server_get, server_relocate, server_told};
use crate::db::violated;
use crate::db::worker::{Admission, WorkerRow, worker_all, worker_find};
use crate::domain::ports::{DEFAULT_RANGE, PortWish, Want, allocate};
use crate::fleet::machine::Machine;
use crate::games::{Place, port_wishes, resolve_run};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};

/// The host's own uncertainty of when a lease began.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

pub(super) async fn relocate(app: &AppRef, caller: &Caller, server: Server, patch: PatchServer) -> ApiResult<Server> {
    // Whoever may run one server does not choose machines.
    caller.require(Permission::CreateServer)?;
    let PatchServer { worker, desired, generation: _, name, variables, env, limits, restart, actions, lease_seconds } = patch;
    let wanted = worker.unwrap_or_default();
    let alone = name.is_none() && limits.is_none() && restart.is_none() && lease_seconds.is_none();
    if !alone || !variables.is_empty() || !env.is_empty() || !actions.is_empty() {
        return Err(Problem::invalid("worker", "a server is moved by itself").hint("send the other changes before or after it").into());
    }
    let desired = desired.unwrap_or(server.desired);
    if desired == DesiredState::Deleted {
        return Err(Problem::invalid("desired", "a server is `running` or `stopped`").hint("send DELETE to delete it").into());
    }
    let definition = app.games.find(&server.game_id);
    let workers = worker_all(&mut *app.db.acquire().await?).await?;
    let here = workers.iter().find(|worker| worker.id == server.worker_id);
    if here.is_some_and(|here| here.id.to_string() == wanted || here.name.as_str().eq_ignore_ascii_case(&wanted)) {
        return Ok(server);
    }
    let to = choose_worker(app, workers, Some(&wanted), need_of(definition, &server.request)).map_err(|mut error| {
        error.problem.field = Some("worker".to_owned());
        error
    })?;

    let now = clock::now();
    let mut tx = app.db.begin().await?;
    // Both are locked, always in the same order.
    let first = revision_bump(&mut tx, server.worker_id.min(to.id)).await?;
    let second = revision_bump(&mut tx, server.worker_id.max(to.id)).await?;
    let (from_revision, to_revision) = if server.worker_id < to.id { (first, second) } else { (second, first) };
    check_still_there(&mut tx, to.id).await?;
    let seen = server.generation;
    let server = server_get(&mut tx, server.id).await?.ok_or_else(|| Problem::not_found("server", server.id))?;
    let server = fresh(app, server);
    if server.generation != seen {
        return Err(Problem::new(Kind::PreconditionFailed, "the server was changed at the same moment").retry_after(1).into());
    }
    let from = worker_find(&mut tx, server.worker_id).await?.ok_or_else(|| ApiError::internal("a server's worker is not there"))?;
    // From the moment that is looked at its silence on, no beat begins a lease: one that comes between
    // the look and the commit would.
    let hold = Hold::of(app, &from, from_revision);
    let proof = let_go(app, &server, &from)?;
    let told = server_told(&mut tx, server.id).await?;
    let elsewhere = told_elsewhere(app, &server, &from, to.id, &worker_all(&mut tx).await?)?;

    let mut wishes = port_wishes(definition, &server.request)?;
    wishes.iter_mut().for_each(|wish| stay(wish, &server));
    let taken = port_taken(&mut tx, to.id).await?;
    let range = to.capabilities.port_range.unwrap_or(DEFAULT_RANGE);
    let ports = allocate(&wishes, &taken, range).map_err(|error| port_problem(&error, Some(&format!("on `{}`", to.name))))?;
    let place = Place { id: server.id, name: &server.name, ip: &to.address };
    let run = resolve_run(definition, &server.request, place, ports)?;
    lease::check(&server.request, &run)?;
    let relocation = Relocation {
        server: server.id,
        from: from.id,
        from_revision,
        to: to.id,
        to_revision,
        epoch: told.epoch.max(elsewhere) + 1,
        generation: server.generation,
        told: told.generation,
        request: &server.request,
        run: &run,
        desired,
    };
    let moved = server_relocate(&mut tx, &relocation, now).await.map_err(|error| match violated(&error) {
        Some("server_port_taken") => Problem::new(Kind::PortTaken, "a port was just taken by another server").retry_after(1).into(),
        _ => ApiError::from(error),
    })?;
    if !moved {
        return Err(Problem::new(Kind::PreconditionFailed, "the server was changed at the same moment").retry_after(1).into());
    }
    let event = NewEvent {
        actor: caller.actor(),
        kind: "server.moved",
        worker_id: Some(to.id),
        server_id: Some(server.id),
        message: format!(
            "server `{}` was moved from `{}` to `{}`: {proof}. Its files stay on `{}`",
            server.name, from.name, to.name, from.name
        ),
        data: caller.audit(
            serde_json::json!({ "worker": from.name, "worker_id": from.id, "epoch": server.epoch, "desired": server.desired }),
            serde_json::json!({ "worker": to.name, "worker_id": to.id, "epoch": relocation.epoch, "desired": desired, "proof": proof }),
        ),
    };
    event_insert(&mut tx, now, &event).await?;
    let after = server_get(&mut tx, server.id).await?.ok_or_else(|| ApiError::internal("the server just moved is not there"))?;
    tx.commit().await?;
    hold.keep();
    app.fleet.event_recorded();
    app.fleet.server_moved(server.id, to.id);
    app.fleet.desired_changed(app, from.id);
    app.fleet.desired_changed(app, to.id);
    app.fleet.server_changed(server.id);
    tracing::info!(server.id = %server.id, worker.id = %to.id, from = %from.id, epoch = relocation.epoch, "a server was moved");
    Ok(fresh(app, after))
}

/// Keeps a worker's beats from being acknowledged until it has let go, or until it turns out that it
/// need not.
struct Hold {
    machine: Option<Arc<Machine>>,
    before: Option<Revision>,
}

impl Hold {
    fn of(app: &App, worker: &WorkerRow, revision: Revision) -> Self {
        let machine = app.fleet.machine(worker.id);
        let before = machine.as_ref().and_then(|machine| {
            let mut state = machine.lock();
            let before = state.standing.must_let_go();
            state.standing.let_go_by(revision);
            before
        });
        Self { machine, before }
    }

    fn keep(mut self) {
        self.machine = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(machine) = &self.machine {
            machine.lock().standing.let_go_as(self.before);
        }
    }
}

/// Its own numbers, if they are free there; what somebody asked for stays asked for.
fn stay(wish: &mut PortWish, server: &Server) {
    if let Want::Near(near) = &mut wish.want
        && let Some(port) = server.run.ports.iter().find(|port| port.name == wish.name)
    {
        *near = port.port;
    }
}

/// Why the worker does not run it any more, and will not by itself; else what is missing for that.
fn let_go(app: &App, server: &Server, from: &WorkerRow) -> Result<&'static str, Problem> {
    if from.trust.fenced {
        return Ok("its worker is fenced");
    }
    let Some(machine) = app.fleet.machine(from.id) else { return Ok("its worker was removed") };
    let (status, silent_for) = {
        let state = machine.lock();
        (state.status, clock::instant().saturating_duration_since(state.last_seen))
    };
    let word = server.status.as_ref();
    let phase = word.map(|word| word.phase);
    let at_rest = matches!(phase, Some(Phase::Stopped | Phase::Crashed | Phase::Failed));
    let knows = word.is_some_and(|word| word.generation >= server.generation);
    let heard = matches!(status, WorkerStatus::Alive | WorkerStatus::Frozen) && !app.fleet.server_is_silent(server.id);
    // A copy of a worker knows nothing of the original's games, a table of yesterday nothing of today's.
    let believed = machine.lock().standing.quarantine.is_none() && app.fleet.server_word(server.id).is_some();
    let released = server.desired == DesiredState::Stopped && at_rest && knows && believed;
    if released && heard {
        return Ok("its worker has stopped it");
    }
    let refusal =
        |detail: String| Problem::new(Kind::Conflict, format!("server `{}` can not be moved yet: {detail}", server.name)).field("worker");
    let by_hand = format!("if that machine is off for good: manman worker fence {}", from.name);
    if heard {
        let detail = if server.desired == DesiredState::Stopped {
            format!("`{}` has not reported it stopped yet", from.name)
        } else {
            format!("it is to run on `{}`, which is alive", from.name)
        };
        return Err(refusal(detail).hint(format!("stop it first: manman server stop {} --wait", server.name)));
    }
    let name = &from.name;
    let Some(lease) = server.request.lease_seconds else {
        return Err(refusal(format!("`{name}` is silent and may well be running it, and it has no lease")).hint(by_hand));
    };
    // A lease that the instance was not started with, or that the worker never heard of, ends nothing.
    let live = phase.is_none_or(Phase::is_live);
    let in_force = word.is_some_and(|word| (if live { word.applied_generation } else { word.generation }) >= server.lease_generation);
    if !in_force {
        return Err(refusal(format!("`{name}` is silent, and has not heard of the server's lease of {lease} s")).hint(by_hand));
    }
    let ladder: u64 = server.run.stop.iter().map(|rung| u64::from(rung.wait_seconds)).sum();
    let over_after = Duration::from_secs(u64::from(lease).saturating_add(ladder)) + LEASE_MARGIN;
    if silent_for < over_after {
        let left = (over_after - silent_for).as_secs() + 1;
        let seconds = u32::try_from(left).unwrap_or(u32::MAX);
        return Err(refusal(format!("`{name}` is silent, and its lease, with the time to stop, is over in {left} s"))
            .hint(by_hand)
            .retry_after(seconds));
    }
    Ok("its worker has been silent for longer than the lease")
}

/// The highest epoch that any worker says the server has with it: a database that went back in time
/// may have forgotten who has it now. Refuses while somebody has not said, or has it by a later
/// assignment.
fn told_elsewhere(app: &App, server: &Server, from: &WorkerRow, to: WorkerId, workers: &[WorkerRow]) -> Result<u64, Problem> {
    let timeline = app.fleet.timeline();
    let refusal =
        |detail: String| Problem::new(Kind::Conflict, format!("server `{}` can not be moved yet: {detail}", server.name)).field("worker");
    let mut highest = 0;
    for worker in workers.iter().filter(|worker| worker.admission == Admission::Accepted) {
        let Some(machine) = app.fleet.machine(worker.id) else { continue };
        let inventory = machine.lock().standing.inventory.clone();
        let went_with_another = worker.trust.timeline.is_some_and(|its| its != timeline);
        let is_behind = went_with_another && worker.trust.rebased_timeline != Some(timeline);
        if is_behind && !worker.trust.fenced && inventory.is_none() {
            let name = &worker.name;
            return Err(refusal(format!("the host's database went back in time, and `{name}` has not said since then what it has"))
                .hint(format!("start it; or, if that machine is off for good: manman worker fence {name}")));
        }
        for item in inventory.iter().flatten().filter(|item| item.server == server.id) {
            let is_a_party = worker.id == from.id || worker.id == to;
            if !is_a_party && !worker.trust.fenced && item.epoch >= server.epoch && item.phase != Phase::Deleted {
                return Err(refusal(format!("`{}` has it, by an assignment that this host has forgotten", worker.name)));
            }
            highest = highest.max(item.epoch);
        }
    }
    Ok(highest)
}
