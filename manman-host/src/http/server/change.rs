//! `PATCH` and `PUT /server/{id}`: a JSON merge patch on the wish.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use manman_common::spec::{Limits, StopMode};
use manman_common::wire::{CreateServer, PatchLimits, PatchServer, Scope, ServerView};
use manman_common::{DesiredState, Kind, Problem, RunSpec};

use super::create::name_taken;
use super::relocate::relocate;
use super::{audit, check_if_match, etag, find_server, lease, view};
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::{Server, Wish, revision_bump, server_change};
use crate::db::violated;
use crate::games::{Place, ensure_console_secret, resolve_run};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Json, Path};

/// Changes what the server should be: a merge patch (RFC 7396), `null` in a map brings back the
/// default.
///
/// A running game is not touched: `pending_restart` shows that it still runs as it was. `If-Match`
/// with the generation refuses a lost update.
///
/// `worker` moves the server there, without its files, where the worker that it is on has let go of
/// it: reported it stopped, was fenced, or has been silent for longer than the server's lease.
#[utoipa::path(
    patch, path = "/server/{id}", tag = "server",
    request_body = PatchServer,
    params(("id" = String, Path, description = "id or name"), ("If-Match" = Option<String>, Header, description = "the generation that you have seen, as \"3\"")),
    responses(
        (status = 200, body = ServerView),
        (status = 400, body = Problem, description = "a value is wrong; `field` names it"),
        (status = 409, body = Problem, description = "a generation that is not the next (`stale-generation`), a name in use"),
        (status = 412, body = Problem, description = "somebody else has changed it since")
    )
)]
pub(super) async fn patch(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    patch: Json<PatchServer>,
) -> ApiResult<Response> {
    change(app, caller, key, headers, patch).await
}

/// The same as `PATCH`.
#[utoipa::path(
    put, path = "/server/{id}", tag = "server",
    request_body = PatchServer,
    params(("id" = String, Path, description = "id or name"), ("If-Match" = Option<String>, Header, description = "the generation that you have seen, as \"3\"")),
    responses((status = 200, body = ServerView), (status = 400, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem))
)]
pub(super) async fn put(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    patch: Json<PatchServer>,
) -> ApiResult<Response> {
    change(app, caller, key, headers, patch).await
}

async fn change(app: AppRef, caller: Caller, key: String, headers: HeaderMap, patch: Json<PatchServer>) -> ApiResult<Response> {
    let mut tx = app.db.begin().await?;
    let server = find_server(&app, &mut tx, &caller, &key).await?;
    caller.require(Permission::RunServer { server: server.id })?;
    let patch = patch.read()?;
    check_if_match(&headers, server.generation)?;
    if server.desired == DesiredState::Deleted {
        return Err(Problem::new(Kind::Conflict, format!("server `{}` is being deleted", server.name)).into());
    }
    if let Some(generation) = patch.generation.filter(|generation| *generation != server.generation.next()) {
        return Err(Problem::new(
            Kind::StaleGeneration,
            format!("generation {generation} does not follow {}, which the server is at", server.generation),
        )
        .field("generation")
        .into());
    }
    require_for_actions(&caller, !patch.actions.is_empty())?;
    if patch.worker.is_some() {
        drop(tx);
        let after = relocate(&app, &caller, server, patch).await?;
        return Ok(([(header::ETAG, etag(after.generation))], axum::Json(view(&app, after))).into_response());
    }
    let wish = merged(&app, &server, patch)?;
    if !differs(&server, &wish) {
        let tag = etag(server.generation);
        return Ok(([(header::ETAG, tag)], axum::Json(view(&app, server))).into_response());
    }
    let now = clock::now();
    let revision = revision_bump(&mut tx, server.worker_id).await?;
    match server_change(&mut tx, server.id, server.generation, &wish, revision, now).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            return Err(Problem::new(Kind::PreconditionFailed, "the server was changed at the same moment").retry_after(1).into());
        }
        Err(error) if violated(&error) == Some("server_name_key") => return Err(name_taken(&wish.name)),
        Err(error) => return Err(error.into()),
    }
    let sight = |name, desired, request| audit::Sight { name, desired, request };
    let (was, has_become) = audit::change(
        &sight(&server.name, server.desired, &server.request),
        &sight(&wish.name, wish.desired, &wish.request),
        app.games.find(&server.game_id),
    );
    let event = NewEvent {
        actor: caller.actor(),
        kind: "server.changed",
        worker_id: Some(server.worker_id),
        server_id: Some(server.id),
        message: format!("server `{}` was changed: {}", server.name, what_changed(&server, &wish).join(", ")),
        data: caller.audit(was, has_become),
    };
    event_insert(&mut tx, now, &event).await?;
    let after = find_server(&app, &mut tx, &caller, &server.id.to_string()).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    app.fleet.desired_changed(&app, server.worker_id);
    app.fleet.server_changed(server.id);
    Ok(([(header::ETAG, etag(after.generation))], axum::Json(view(&app, after))).into_response())
}

fn merged(app: &App, server: &Server, patch: PatchServer) -> Result<Wish, ApiError> {
    let PatchServer { name, variables, env, limits, restart, actions, desired, lease_seconds, worker: _, generation: _ } = patch;
    let desired = desired.unwrap_or(server.desired);
    if desired == DesiredState::Deleted {
        return Err(Problem::invalid("desired", "a server is `running` or `stopped`").hint("send DELETE to delete it").into());
    }
    let mut request = server.request.clone();
    merge_map(&mut request.variables, variables);
    merge_map(&mut request.env, env);
    if let Some(limits) = limits {
        merge_limits(&mut request.limits, &limits);
    }
    for (name, action) in actions {
        match action {
            Some(action) => request.actions.insert(name, action),
            None => request.actions.remove(&name),
        };
    }
    if restart.is_some() {
        request.restart = restart;
    }
    if let Some(seconds) = lease_seconds {
        request.lease_seconds = seconds;
    }
    let name = name.unwrap_or_else(|| server.name.clone());
    let definition = app.games.find(&server.game_id);
    ensure_console_secret(definition, &mut request.variables);
    let place = Place { id: server.id, name: &name, ip: &server.worker_address };
    let run = resolve_run(definition, &request, place, server.run.ports.clone())?;
    lease::check(&request, &run)?;
    Ok(Wish {
        // A running game knows nothing of its actions.
        run_changed: RunSpec { actions: server.run.actions.clone(), ..run.clone() } != server.run,
        desired,
        stop_mode: if desired == server.desired { server.stop_mode } else { StopMode::Graceful },
        restart_seq: server.restart_seq,
        purge: server.purge,
        name,
        request,
        run,
    })
}

/// An action may be a script, which is code that runs on a machine of the house, with its files and
/// its network. Whoever may only run servers must not get that by way of one.
pub(super) fn require_for_actions(caller: &Caller, has_actions: bool) -> ApiResult<()> {
    if has_actions && caller.scope != Scope::Admin {
        let problem = Problem::new(Kind::Forbidden, "only an administrator gives a server actions: a script is code on the machine");
        return Err(problem.field("actions").into());
    }
    Ok(())
}

fn merge_map(map: &mut std::collections::BTreeMap<String, String>, patch: std::collections::BTreeMap<String, Option<String>>) {
    for (name, value) in patch {
        match value {
            Some(value) => map.insert(name, value),
            None => map.remove(&name),
        };
    }
}

fn merge_limits(limits: &mut Limits, patch: &PatchLimits) {
    let PatchLimits { memory_bytes, cpu_millis, pids } = patch;
    if let Some(memory) = memory_bytes {
        limits.memory_bytes = *memory;
    }
    if let Some(cpu) = cpu_millis {
        limits.cpu_millis = *cpu;
    }
    if let Some(pids) = pids {
        limits.pids = *pids;
    }
}

fn differs(server: &Server, wish: &Wish) -> bool {
    !what_changed(server, wish).is_empty()
}

/// Names of what is new, never values: they may be secret.
fn what_changed(server: &Server, wish: &Wish) -> Vec<String> {
    let CreateServer { variables, env, limits, restart, actions, lease_seconds, .. } = &server.request;
    let mut changed = Vec::new();
    if server.name != wish.name {
        changed.push(format!("name `{}`", wish.name));
    }
    if server.desired != wish.desired {
        changed.push("desired".to_owned());
    }
    changed.extend(changed_keys(variables, &wish.request.variables).map(|name| format!("variable {name}")));
    changed.extend(changed_keys(env, &wish.request.env).map(|name| format!("env {name}")));
    if *limits != wish.request.limits {
        changed.push("limits".to_owned());
    }
    if *restart != wish.request.restart {
        changed.push("restart policy".to_owned());
    }
    if *lease_seconds != wish.request.lease_seconds {
        changed.push("lease".to_owned());
    }
    let own = |actions: &std::collections::BTreeMap<_, _>| {
        actions.iter().map(|(name, action)| (String::clone(name), format!("{action:?}"))).collect()
    };
    let (old, new): (std::collections::BTreeMap<String, String>, _) = (own(actions), own(&wish.request.actions));
    changed.extend(changed_keys(&old, &new).map(|name| format!("action {name}")));
    if changed.is_empty() && (wish.run_changed || wish.run.actions != server.run.actions) {
        changed.push("the game's definition".to_owned());
    }
    changed
}

fn changed_keys<'a>(
    old: &'a std::collections::BTreeMap<String, String>,
    new: &'a std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = &'a String> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, _)| name).chain(gone)
}
