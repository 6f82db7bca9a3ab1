//! `/token`: who may come in, and who no longer.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use manman_common::wire::{CreateToken, CreatedToken, Page, Scope, TokenView};
use manman_common::{Kind, Problem, TokenId};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission, new_secret, secret_hash, tokens_revoked};
use super::error::ApiResult;
use super::extract::{Json, Path, Query};
use super::paging::Paging;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::server_get;
use crate::db::token::{ListedToken, NewToken, scope_text, token_count_locked, token_insert, token_list, token_revoke};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// Long enough to walk to the other machine.
const JOIN_LIFE: Duration = Duration::from_secs(60 * 60);
/// Ten years: longer is a slip of the keyboard.
const LIFE_MAX: u64 = 10 * 365 * 24 * 60 * 60;
const LABEL_MAX: usize = 64;
/// Tokens that are valid at one time: a slip in somebody's loop fills no table.
const TOKENS_MAX: i64 = 1_000;

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
        label: wish.label,
        server_id: wish.server_id,
        account_id: caller.account_id,
        expires_at: life.map(|life| now.plus(life)),
        ..NewToken::new(clock::new_token_id(), secret_hash(&secret), wish.scope, now)
    };
    let mut tx = app.db.begin().await?;
    if token_count_locked(&mut tx, now).await? >= TOKENS_MAX {
        let problem = Problem::new(Kind::Conflict, format!("there are {TOKENS_MAX} tokens, and that is the limit"));
        return Err(problem.hint("revoke some: `manman token list` tells when each was last used").into());
    }
    if let Some(server) = wish.server_id
        && server_get(&mut tx, server).await?.is_none()
    {
        return Err(Problem::invalid("server_id", format!("there is no server `{server}`")).into());
    }
    token_insert(&mut tx, &token).await?;
    let view = view(ListedToken {
        id: token.id,
        scope: token.scope,
        label: token.label,
        worker_id: None,
        server_id: token.server_id,
        account_id: token.account_id,
        created_at: now,
        expires_at: token.expires_at,
        last_used_at: None,
    });
    let event = NewEvent {
        actor: caller.actor(),
        kind: "token.created",
        server_id: view.server_id,
        message: format!("a token of the scope {} was made{}", scope_text(view.scope), named(&view.label)),
        data: caller.audit(Value::Null, json!(view)),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
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
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let tokens = token_list(&mut *app.db.acquire().await?, paging.after, paging.rows(), clock::now()).await?;
    Ok(axum::Json(paging.page(tokens, |token| token.id).map(view)))
}

fn view(token: ListedToken) -> TokenView {
    let ListedToken { id, scope, label, worker_id, server_id, account_id, created_at, expires_at, last_used_at } = token;
    TokenView { id, scope, label, server_id, worker_id, account_id, created_at, expires_at, last_used_at }
}

/// Revokes a token at once, and the sessions that were made from it: open sockets of its holder are
/// closed, too.
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
    let revoked = token_revoke(&mut tx, id, false, now).await?.ok_or_else(unknown)?;
    let (scope, label) = (scope_text(revoked.scope), &revoked.label);
    let event = NewEvent {
        actor: caller.actor(),
        kind: "token.revoked",
        message: format!("a token of the scope {scope} was revoked{}", named(label)),
        data: caller.audit(json!({ "id": id, "scope": scope, "label": label }), Value::Null),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &revoked.ids);
    Ok(StatusCode::NO_CONTENT)
}
