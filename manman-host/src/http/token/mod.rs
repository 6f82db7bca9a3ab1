//! `/token`: who may come in, and who no longer.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use manman_common::wire::{CreateToken, CreatedToken, PAGE_DEFAULT, PAGE_MAX, Page, Scope, TokenView};
use manman_common::{Problem, TokenId};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission, new_secret, secret_hash, tokens_revoked};
use super::error::ApiResult;
use super::extract::{Json, Path, Query};
use crate::app::AppRef;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::server_get;
use crate::db::token::{NewToken, scope_text, token_insert, token_list, token_revoke};
use crate::{clock, db};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// Long enough to walk to the other machine.
const JOIN_LIFE: Duration = Duration::from_secs(60 * 60);
/// Ten years: longer is a slip of the keyboard.
const LIFE_MAX: u64 = 10 * 365 * 24 * 60 * 60;
const LABEL_MAX: usize = 64;

/// Makes a token. The answer is the only time that its secret is shown.
///
/// A `join` token admits new workers without a question and lives for an hour unless told otherwise.
#[utoipa::path(
    post, path = "/token", tag = "token",
    request_body = CreateToken,
    responses((status = 201, body = CreatedToken), (status = 400, body = Problem), (status = 403, body = Problem))
)]
async fn create(State(app): State<AppRef>, caller: Caller, wish: Json<CreateToken>) -> ApiResult<Response> {
    caller.require(Permission::ManageTokens)?;
    let wish = wish.read()?;
    if wish.scope == Scope::Worker {
        return Err(Problem::invalid("scope", "a worker is given its own token when it joins").hint("make a `join` token").into());
    }
    if wish.label.len() > LABEL_MAX || wish.label.chars().any(char::is_control) {
        return Err(Problem::invalid("label", format!("a label has at most {LABEL_MAX} bytes and no line break")).into());
    }
    if let Some(seconds) = wish.expires_in.filter(|seconds| !(1..=LIFE_MAX).contains(seconds)) {
        return Err(Problem::invalid("expires_in", format!("{seconds} is out of range: 1 second to ten years")).into());
    }
    if wish.server_id.is_some() && !matches!(wish.scope, Scope::Operator | Scope::Viewer) {
        return Err(Problem::invalid("server_id", "only an operator or a viewer can be confined to one server").into());
    }
    let now = clock::now();
    let life = wish.expires_in.map(Duration::from_secs).or((wish.scope == Scope::Join).then_some(JOIN_LIFE));
    let secret = new_secret(scope_text(wish.scope));
    let token = NewToken {
        id: clock::new_token_id(),
        secret_hash: secret_hash(&secret),
        scope: wish.scope,
        label: wish.label,
        worker_id: None,
        server_id: wish.server_id,
        session: false,
        created_at: now,
        expires_at: life.map(|life| now.plus(life)),
    };
    let mut tx = app.db.begin().await?;
    if let Some(server) = wish.server_id
        && server_get(&mut tx, server).await?.is_none()
    {
        return Err(Problem::invalid("server_id", format!("there is no server `{server}`")).into());
    }
    token_insert(&mut tx, &token).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "token.created",
        server_id: token.server_id,
        message: format!("a token of the scope {} was made{}", scope_text(token.scope), named(&token.label)),
        data: serde_json::json!({ "token_id": token.id }),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    let view = TokenView {
        id: token.id,
        scope: token.scope,
        label: token.label,
        server_id: token.server_id,
        worker_id: None,
        created_at: now,
        expires_at: token.expires_at,
        last_used_at: None,
    };
    let no_store = (header::CACHE_CONTROL, "no-store");
    Ok((StatusCode::CREATED, [no_store], axum::Json(CreatedToken { token: secret, view })).into_response())
}

fn named(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(" for `{label}`") }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// All valid tokens, without their secrets; workers' own are among them, browsers' sessions not.
#[utoipa::path(get, path = "/token", tag = "token", params(ListQuery), responses((status = 200, body = Page<TokenView>), (status = 403, body = Problem)))]
async fn list(State(app): State<AppRef>, caller: Caller, Query(query): Query<ListQuery>) -> ApiResult<axum::Json<Page<TokenView>>> {
    caller.require(Permission::ManageTokens)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")).into());
    }
    let after = match &query.cursor {
        Some(cursor) => Some(cursor.parse().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"))?),
        None => None,
    };
    let mut tokens = token_list(&mut *app.db.acquire().await?, after, limit + 1, clock::now()).await?;
    let more = tokens.len() > limit as usize;
    tokens.truncate(limit as usize);
    let next = if more { tokens.last().map(|listed| listed.token.id.to_string()) } else { None };
    let view = |listed: db::token::ListedToken| TokenView {
        id: listed.token.id,
        scope: listed.token.scope,
        label: listed.token.label,
        server_id: listed.token.server_id,
        worker_id: listed.token.worker_id,
        created_at: listed.created_at,
        expires_at: listed.token.expires_at,
        last_used_at: listed.last_used_at,
    };
    Ok(axum::Json(Page { items: tokens.into_iter().map(view).collect(), next }))
}

/// Revokes a token at once: open sockets of its holder are closed, too.
#[utoipa::path(
    delete, path = "/token/{id}", tag = "token",
    params(("id" = TokenId, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
async fn revoke(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<StatusCode> {
    caller.require(Permission::ManageTokens)?;
    let unknown = || Problem::not_found("token", &key);
    let id: TokenId = key.parse().map_err(|_| unknown())?;
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let (scope, label) = token_revoke(&mut tx, id, now).await?.ok_or_else(unknown)?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "token.revoked",
        message: format!("a token of the scope {} was revoked{}", scope_text(scope), named(&label)),
        data: serde_json::json!({ "token_id": id }),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &[id]);
    Ok(StatusCode::NO_CONTENT)
}
