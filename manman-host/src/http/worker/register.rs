use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use manman_common::session::Memory;
use manman_common::wire::{RegisterWorker, Registered, Scope};
use manman_common::{Kind, Name, Problem, WorkerId};
use manman_link::admission::{Admitted, Ledger, NO_TOKEN, Rival, admit, may_begin};

use super::{Peer, address, conflict, gone, missing};
use crate::app::AppRef;
use crate::clock;
use crate::config::HEARTBEAT_SECONDS;
use crate::db::event::{NewEvent, event_insert};
use crate::db::token::{NewToken, token_insert};
use crate::db::violated;
use crate::db::worker::trust::{First, worker_first};
use crate::db::worker::{
    Admission, NextResume, NextSession, SessionFacts, TrustFacts, WorkerRow, worker_begin_session, worker_find, worker_insert,
    worker_named, worker_pending_count,
};
use crate::fleet::machine::Machine;
use crate::fleet::trust::quarantined_event;
use crate::http::auth::{Caller, Presented, is_secret, new_secret, secret_hash};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, parse};
use crate::http::link::storable_bytes;

/// Machines that may wait for a person at one time; strangers can ask without a token.
const PENDING_MAX: i64 = 100;
/// Labels, and drivers: what a registration brings is kept, so it is bounded.
const LABELS_MAX: usize = 64;

/// Registers a worker: 201 the first time, 200 when it begins a further session.
///
/// `id` comes from `POST /worker`. With a join token the worker is admitted at once; without one
/// it waits as `pending` for a person. A worker that is registered needs its own token. Only
/// `worker-name` has to be there; the address is the socket's peer where it is absent.
#[utoipa::path(
    post,
    path = "/worker/{id}",
    tag = "worker",
    params(("id" = WorkerId, Path)),
    request_body = RegisterWorker,
    responses(
        (status = 201, body = Registered), (status = 200, body = Registered), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem)
    )
)]
pub(super) async fn register(
    State(app): State<AppRef>,
    presented: Presented,
    Peer(peer): Peer,
    Path(key): Path<String>,
    body: Bytes,
) -> ApiResult<Response> {
    let id: WorkerId = key.parse().map_err(|_| Problem::not_found("worker", &key).hint("POST /worker hands out an id to register with"))?;
    if matches!(presented, Presented::Unknown) {
        return Err(Problem::new(Kind::Unauthenticated, "this token is not known here, or no longer valid")
            .hint("without a token the machine asks to join, and a person accepts it")
            .into());
    }
    let request: RegisterWorker = parse(&storable_bytes(&body))?;
    let name = request.worker_name.clone();
    let own_token = request.own_token.clone();
    let (facts, memory) = facts(request, peer)?;
    let caller = presented.caller();
    if let Some(machine) = app.fleet.machine(id) {
        if !caller.is_some_and(|caller| caller.scope == Scope::Worker && caller.worker_id == Some(id)) {
            refused(&app, &machine, &name, peer).await?;
            return Err(Problem::new(Kind::Forbidden, "this worker is registered: only its own token begins another session")
                .hint("a new machine asks with POST /worker for an id of its own")
                .into());
        }
        return Ok((StatusCode::OK, axum::Json(begin_session(&app, &machine, &facts, memory.as_ref(), peer).await?)).into_response());
    }
    if !app.fleet.lock_reservations().redeem(id) {
        return Err(missing(&app, id).await);
    }
    match join(&app, id, &name, &facts, memory.as_ref(), own_token, caller).await {
        Ok(registered) => {
            let location = HeaderValue::from_str(&format!("/worker/{id}")).unwrap_or(HeaderValue::from_static("/worker"));
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(registered)).into_response())
        }
        Err(error) => {
            app.fleet.lock_reservations().give_back(id, peer);
            Err(error)
        }
    }
}

fn facts(request: RegisterWorker, peer: std::net::IpAddr) -> ApiResult<(SessionFacts, Option<Memory>)> {
    let RegisterWorker { worker_name: _, ip_address, api_url, api_port, api_token, capabilities, labels, process, memory, own_token: _ } =
        request;
    if labels.len() > LABELS_MAX {
        return Err(Problem::invalid("labels", format!("a worker has at most {LABELS_MAX} labels")).into());
    }
    let address = address::address(ip_address.as_deref(), peer)?;
    let api_url = address::api_url(api_url.as_deref(), api_port, &address)?;
    Ok((SessionFacts { address, api_url, api_token, labels, capabilities, process }, memory))
}

/// A machine that is new here.
async fn join(
    app: &AppRef,
    id: WorkerId,
    name: &Name,
    facts: &SessionFacts,
    memory: Option<&Memory>,
    own_token: Option<String>,
    caller: Option<&Caller>,
) -> ApiResult<Registered> {
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let invited = caller.is_some_and(|caller| matches!(caller.scope, Scope::Join | Scope::Admin));
    let taken = worker_named(&mut tx, name.as_str()).await?.iter().any(|other| other.admission == Admission::Accepted);
    // A name belongs to whoever registered it: even an invited machine waits for a person then.
    let admission = if invited && !taken { Admission::Accepted } else { Admission::Pending };
    if admission == Admission::Pending && worker_pending_count(&mut tx).await? >= PENDING_MAX {
        return Err(Problem::new(Kind::TooManyRequests, "too many machines wait to be accepted").retry_after(300).into());
    }
    worker_insert(&mut tx, id, name, admission, facts, now).await.map_err(|error| match violated(&error) {
        Some("worker_name_key") => conflict(format!("another machine has just registered as `{name}`")).retry_after(1).into(),
        _ => crate::http::error::ApiError::from(error),
    })?;
    let secret = match own_token {
        Some(own) if is_secret(&own, "worker") => own,
        Some(_) => return Err(Problem::invalid("own-token", "it is `mm_worker_` and 43 characters of base64url").into()),
        None => new_secret("worker"),
    };
    let token = NewToken {
        label: format!("worker {name}"),
        worker_id: Some(id),
        ..NewToken::new(clock::new_token_id(), secret_hash(&secret), Scope::Worker, now)
    };
    token_insert(&mut tx, &token).await.map_err(|error| match violated(&error) {
        Some("token_secret_key") => conflict("another worker has this token, or had it").into(),
        _ => crate::http::error::ApiError::from(error),
    })?;
    let resume = (admission == Admission::Accepted && memory.is_some()).then(|| new_secret("resume"));
    if let (Some(resume), Some(memory)) = (&resume, memory) {
        let first = First {
            token: secret_hash(resume),
            before: memory.resume_token.as_deref().map_or(NO_TOKEN, secret_hash),
            timeline: app.fleet.timeline(),
            machine: memory.machine.as_ref(),
            home: facts.process.as_ref().map(|process| process.home.as_str()),
            state_seq: memory.state_seq,
        };
        worker_first(&mut tx, id, first).await?;
    }
    let (kind, message) = match admission {
        Admission::Accepted => ("worker.joined", format!("`{name}` has joined from {}", facts.address)),
        Admission::Pending | Admission::Deleted => ("worker.pending", format!("`{name}` asks to join from {}", facts.address)),
    };
    let actor = caller.map_or_else(|| format!("worker {name}"), Caller::actor);
    let data = serde_json::json!({"address": facts.address, "name_taken": taken});
    event_insert(&mut tx, now, &NewEvent { actor, kind, worker_id: Some(id), server_id: None, message, data }).await?;
    let row =
        worker_find(&mut tx, id).await?.ok_or_else(|| crate::http::error::ApiError::internal("the worker just inserted is not there"))?;
    tx.commit().await?;
    app.fleet.event_recorded();
    let machine = Machine::of_row(row);
    let status = {
        let mut state = machine.lock();
        state.heard(None);
        state.status
    };
    app.fleet.add(Arc::clone(&machine));
    tracing::info!(worker.id = %id, worker.name = %name, address = facts.address, status = status.as_str(), "a worker has registered");
    Ok(registered(app, &machine, Some(secret), resume))
}

/// A further session of a worker that has shown its own token.
async fn begin_session(
    app: &AppRef,
    machine: &Arc<Machine>,
    facts: &SessionFacts,
    memory: Option<&Memory>,
    peer: std::net::IpAddr,
) -> ApiResult<Registered> {
    let _storing = machine.storing.lock().await;
    let unknown_after = app.fleet.unknown_after();
    let (current, heard) = {
        let state = machine.lock();
        (state.current_session(), state.last_seen)
    };
    if let Err(rival) = may_begin(current.as_ref(), facts.process.as_ref(), unknown_after) {
        let process = current.and_then(|current| current.process);
        let (name, news) = {
            let mut state = machine.lock();
            (state.name.clone(), state.standing.note_refused(process.as_ref(), facts.process.as_ref(), heard))
        };
        tracing::warn!(worker.id = %machine.id, worker.name = %name, "a second process of a worker that is alive was refused");
        if news {
            app.fleet.note_refused_rival(app, machine, peer).await;
        }
        let home = process.map(|process| format!(" (pid {} in {})", process.pid, process.home));
        return Err(conflict(format!("worker `{name}` is alive in another process{}", home.unwrap_or_default()))
            .hint("a copy of a data directory or of a machine needs a directory of its own; a restarted worker gets in by itself")
            .retry_after(rival.retry_after)
            .into());
    }
    let Some(begun) = begin_stored(app, machine, facts, memory).await? else {
        if app.fleet.machine(machine.id).is_none() {
            return Err(missing(app, machine.id).await);
        }
        return Err(gone(manman_common::error::GoneReason::Superseded).into());
    };
    let changed = {
        let mut state = machine.lock();
        state.begin(begun.next.epoch, facts, &begun.trust);
        // What the host has counted anew may have the numbers of what it has forgotten.
        state.standing.lift_equal = state.standing.rebase_needed(app.fleet.timeline());
        state.stored != (state.status, state.frozen)
    };
    tracing::info!(worker.id = %machine.id, session_epoch = %begun.next.epoch, "a worker has begun a session");
    drop(_storing);
    app.fleet.event_recorded();
    if changed {
        app.fleet.store_status(app, machine).await?;
    }
    Ok(registered(app, machine, None, begun.resume))
}

/// A session that is in the table.
struct Begun {
    next: NextSession,
    trust: TrustFacts,
    resume: Option<String>,
}

/// Looks at what the worker remembers, and stores the session that follows from it; `None` where
/// another has begun meanwhile, or where the worker is no more.
async fn begin_stored(app: &AppRef, machine: &Machine, facts: &SessionFacts, memory: Option<&Memory>) -> ApiResult<Option<Begun>> {
    let Some(mut row) = worker_find(&mut *app.db.acquire().await?, machine.id).await? else { return Ok(None) };
    let (from, admitted) = judge(app, machine, &row, facts, memory);
    let admitted = admitted
        .map_err(|rival| conflict(format!("worker `{}` has registered again meanwhile", row.name)).retry_after(rival.retry_after))?;
    // A machine that nobody has let in is no witness: anybody may ask to join, and say what they like.
    if admitted.host_regressed && row.admission == Admission::Accepted {
        let why = format!("`{}` remembers more than the host's database, which went back in time", row.name);
        app.fleet.renew_timeline(app, from, &why, Some(machine.id)).await?;
    }
    let mut tx = app.db.begin().await?;
    row = match worker_find(&mut tx, machine.id).await? {
        Some(row) => row,
        None => return Ok(None),
    };
    let resume = (row.admission == Admission::Accepted && memory.is_some()).then(|| new_secret("resume"));
    let at_home = row.trust.home.is_some() && row.trust.home.as_ref() == facts.process.as_ref().map(|process| &process.home);
    let found = admitted.quarantine.filter(|found| row.trust.quarantine != Some(*found));
    let timeline = app.fleet.timeline();
    let next = NextSession {
        after: row.session_epoch,
        epoch: admitted.session_epoch.max(row.session_epoch.next()),
        desired_revision: admitted.desired_revision,
        state_seq: memory.map_or(row.trust.state_seq, |memory| memory.state_seq),
        resume: resume.as_deref().map(|resume| NextResume { token: secret_hash(resume), before: admitted.resume_before }),
        quarantine: admitted.quarantine,
        quarantine_at_home: if found.is_some() { at_home } else { row.trust.quarantine_at_home },
        timeline: match memory {
            // Whoever goes with none goes with this one from now on.
            Some(memory) => Some(memory.timeline.unwrap_or(timeline)),
            None => row.trust.timeline,
        },
        machine: memory.and_then(|memory| memory.machine.clone()),
    };
    if !worker_begin_session(&mut tx, machine.id, &next, facts).await? {
        return Ok(None);
    }
    let now = clock::now();
    if let Some(why) = found {
        event_insert(&mut tx, now, &quarantined_event(machine, why)).await?;
    }
    if row.trust.fenced {
        event_insert(&mut tx, now, &returned_event(&row)).await?;
    }
    let trust = match worker_find(&mut tx, machine.id).await? {
        Some(row) => row.trust,
        None => return Ok(None),
    };
    tx.commit().await?;
    Ok(Some(Begun { next, trust, resume }))
}

/// The timeline that was judged by, and the judgement.
fn judge(
    app: &AppRef,
    machine: &Machine,
    row: &WorkerRow,
    facts: &SessionFacts,
    memory: Option<&Memory>,
) -> (uuid::Uuid, Result<Admitted, Rival>) {
    let timeline = app.fleet.timeline();
    let (epoch, state_seq) = {
        let state = machine.lock();
        (state.epoch, state.standing.state_seq)
    };
    let trust = &row.trust;
    let ledger = Ledger {
        // Memory is ahead of the table where that was restored under the running host.
        session_epoch: row.session_epoch.max(epoch),
        resume: trust.resume,
        resume_before: trust.resume_before,
        resume_epoch: trust.resume_epoch,
        run_id: row.process.as_ref().map(|process| process.run_id),
        machine: trust.machine.clone(),
        state_seq: trust.state_seq.max(state_seq),
        desired_revision: row.desired_revision,
        event_seq: row.event_seq,
        timeline,
        rebased: trust.rebased_timeline == Some(timeline),
        quarantine: trust.quarantine,
    };
    let shown = memory.and_then(|memory| memory.resume_token.as_deref()).map(secret_hash);
    (timeline, admit(&ledger, memory, shown, facts.process.as_ref().map(|process| process.run_id)))
}

fn returned_event(row: &WorkerRow) -> NewEvent {
    NewEvent {
        actor: format!("worker {}", row.name),
        kind: "worker.fence_lifted",
        worker_id: Some(row.id),
        server_id: None,
        message: format!("`{}` was fenced and is here again: what was moved away from it is stopped there, its data stays", row.name),
        data: serde_json::Value::Null,
    }
}

fn registered(app: &AppRef, machine: &Machine, token: Option<String>, resume_token: Option<String>) -> Registered {
    let state = machine.lock();
    Registered {
        id: machine.id,
        status: state.status,
        session_epoch: state.epoch,
        token,
        host_id: app.host_id,
        heartbeat_seconds: HEARTBEAT_SECONDS,
        resume_token,
        terms: state.standing.terms(app.fleet.timeline()),
    }
}

async fn refused(app: &AppRef, machine: &Machine, asked: &Name, peer: std::net::IpAddr) -> ApiResult<()> {
    let name = {
        let mut state = machine.lock();
        if !state.note_impostor() {
            return Ok(());
        }
        state.name.clone()
    };
    let event = NewEvent {
        actor: peer.to_string(),
        kind: "worker.registration_refused",
        worker_id: Some(machine.id),
        server_id: None,
        message: format!("somebody at {peer} tried to register as `{name}` without its token"),
        data: serde_json::json!({"name": asked}),
    };
    event_insert(&mut *app.db.acquire().await?, clock::now(), &event).await?;
    app.fleet.event_recorded();
    Ok(())
}
