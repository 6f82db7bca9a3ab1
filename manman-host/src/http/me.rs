//! `/me`: who somebody is to this host.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{ChangePassword, Me, MyHost};
use manman_common::{Kind, Problem};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Client, Presented, tokens_revoked};
use super::error::{ApiError, ApiResult};
use super::extract::Json;
use super::login::{password_failed, too_many};
use crate::app::{App, AppRef};
use crate::db::account::{account_change, account_get, account_get_for_update};
use crate::db::event::{NewEvent, event_insert};
use crate::db::token::{Ends, token_revoke_of_account};
use crate::{clock, password};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(me)).routes(routes!(change_password))
}

/// Whose session or token this is, and what the host tells everybody who is signed in; 204 where
/// there is neither.
///
/// A page has no other way to learn whether its browser holds a session, and asking is no error.
#[utoipa::path(
    get, path = "/me", tag = "person", security((), ("token" = []), ("session" = [])),
    responses((status = 200, body = Me), (status = 204, description = "nobody is signed in"), (status = 401, body = Problem), (status = 403, body = Problem))
)]
async fn me(State(app): State<AppRef>, presented: Presented, caller: ApiResult<Caller>) -> ApiResult<Response> {
    if matches!(presented, Presented::Nothing) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let caller = caller?;
    let role = caller.role()?;
    let account = match caller.person() {
        Some(id) => account_get(&mut *app.db.acquire().await?, id).await?,
        None => None,
    };
    Ok(axum::Json(Me {
        name: caller.actor(),
        role,
        server_id: caller.server_id,
        session_id: caller.token_id,
        account_id: caller.person(),
        has_password: account.is_some_and(|account| account.password_hash.is_some()),
        expires_at: caller.expires_at,
        host: host(&app),
    })
    .into_response())
}

fn host(app: &App) -> MyHost {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let bound = app.bound.get();
    MyHost {
        api_version: version.clone(),
        version,
        public_url: bound.map_or_else(String::new, |bound| bound.public_url.clone()),
        join_url: bound.filter(|bound| !bound.public.ip().is_loopback()).map(|bound| bound.join_url()),
        mdns: app.config.mdns,
    }
}

/// Sets the account's own password. All other sessions of the account end; its tokens stay.
#[utoipa::path(
    put, path = "/me/password", tag = "person",
    request_body = ChangePassword,
    responses((status = 204), (status = 400, body = Problem), (status = 403, body = Problem), (status = 429, body = Problem))
)]
async fn change_password(State(app): State<AppRef>, caller: Caller, client: Client, change: Json<ChangePassword>) -> ApiResult<StatusCode> {
    let Some(id) = caller.person() else {
        let problem = Problem::new(Kind::Forbidden, "only who is signed in to an account has a password");
        return Err(problem.hint("an admin makes accounts: POST /account, or `manman account add`").into());
    };
    let ChangePassword { old, new } = change.read()?;
    let gone = || ApiError::from(Problem::new(Kind::Unauthenticated, "this account is no longer"));
    let account = account_get(&mut *app.db.acquire().await?, id).await?.ok_or_else(gone)?;
    if let Some(why) = password::weakness(&new, account.name.as_str()) {
        return Err(Problem::invalid("new", why).into());
    }
    if let Some(hash) = &account.password_hash {
        let old = old.ok_or_else(|| Problem::invalid("old", "the password until now is wanted, too"))?;
        // Somebody at a browser that was left open may guess as little as anybody else.
        let attempt = app.attempts.begin(client.peer, account.name.as_str(), clock::instant()).map_err(|wait| too_many(client, wait))?;
        match password::verify(&old, Some(hash)).await {
            Ok(true) => app.attempts.right(attempt),
            Ok(false) => return Err(Problem::invalid("old", "this is not the password until now").into()),
            Err(error) => {
                app.attempts.undecided(attempt);
                return Err(password_failed(error));
            }
        }
    }
    let hash = password::hash(&new).await.map_err(password_failed)?;
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let mut present = account_get_for_update(&mut tx, id).await?.filter(|account| !account.disabled).ok_or_else(gone)?;
    if present.password_hash != account.password_hash {
        return Err(Problem::new(Kind::Conflict, "the password was changed at the same moment").into());
    }
    let had = present.password_hash.replace(hash).is_some();
    account_change(&mut tx, &present, now).await?;
    let ended = token_revoke_of_account(&mut tx, id, Ends::SessionsBut(Some(caller.token_id)), now).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "account.password",
        message: format!("`{}` has a new password", present.name),
        data: caller.audit(json!({ "password": had.then_some("•••") }), json!({ "password": "•••" })),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &ended);
    Ok(StatusCode::NO_CONTENT)
}
