use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{AccountView, LoginLink, PutAccount};
use manman_common::{AccountId, Problem};
use serde_json::{Value, json};

use super::create::LINK_LIFE;
use super::{check_server, id_of, name_taken, rights_changed, told, unknown};
use crate::app::AppRef;
use crate::db::account::{account_change, account_get, account_get_for_update};
use crate::db::event::{NewEvent, event_insert};
use crate::db::session::grant_of_account;
use crate::db::token::{Ends, token_revoke_of_account};
use crate::http::auth::{Caller, Permission, account_renamed, tokens_revoked};
use crate::http::error::ApiResult;
use crate::http::extract::{Json, Path};
use crate::http::login::{login_link, password_failed};
use crate::{clock, password};

/// Changes what the body names; the rest stays as it is.
///
/// With another role, another server or `disabled` everything ends that anybody holds of the
/// account, at once: sessions, tokens, open sockets. With another password its sessions end.
#[utoipa::path(
    put, path = "/account/{id}", tag = "person",
    params(("id" = AccountId, Path)),
    request_body = PutAccount,
    responses(
        (status = 200, body = AccountView), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)
    )
)]
pub(super) async fn put(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    wish: Json<PutAccount>,
) -> ApiResult<axum::Json<AccountView>> {
    caller.require(Permission::ManagePeople)?;
    let id = id_of(&key)?;
    let PutAccount { name, role, server_id, password, disabled } = wish.read()?;
    let named = account_get(&mut *app.db.acquire().await?, id).await?.ok_or_else(|| unknown(&key))?;
    let new_hash = match &password {
        Some(password) => {
            if let Some(why) = password::weakness(password, name.as_ref().unwrap_or(&named.name).as_str()) {
                return Err(Problem::invalid("password", why).into());
            }
            Some(password::hash(password).await.map_err(password_failed)?)
        }
        None => None,
    };
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let before = account_get_for_update(&mut tx, id).await?.ok_or_else(|| unknown(&key))?;
    let mut after = before.clone();
    after.name = name.unwrap_or(after.name);
    after.role = role.unwrap_or(after.role);
    after.server_id = server_id.unwrap_or(after.server_id);
    after.disabled = disabled.unwrap_or(after.disabled);
    let new_password = new_hash.is_some();
    after.password_hash = new_hash.or(after.password_hash);
    check_server(&mut tx, after.role, after.server_id).await?;
    account_change(&mut tx, &after, now).await.map_err(|error| name_taken(error, &after.name))?;
    let ended = if rights_changed(&before, &after) {
        token_revoke_of_account(&mut tx, id, Ends::All, now).await?
    } else if new_password {
        // Who sets their own here stays signed in where they are.
        let own = caller.person().filter(|person| *person == id).map(|_| caller.token_id);
        token_revoke_of_account(&mut tx, id, Ends::SessionsBut(own), now).await?
    } else {
        Vec::new()
    };
    let view = after.view();
    let mut told_after = told(&view);
    if new_password {
        told_after["password"] = json!("••• (a new one)");
    }
    let event = NewEvent {
        actor: caller.actor(),
        kind: "account.changed",
        message: format!("the account of `{}` was changed", before.name),
        data: caller.audit(told(&before.view()), told_after),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &ended);
    if before.name != after.name {
        account_renamed(&app, id);
    }
    Ok(axum::Json(view))
}

/// Makes a link for the person of an account who has forgotten the password, good for once and for
/// three days. Nothing else changes.
#[utoipa::path(
    post, path = "/account/{id}/login-link", tag = "person",
    params(("id" = AccountId, Path)),
    responses((status = 201, body = LoginLink), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn link(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<Response> {
    caller.require(Permission::ManagePeople)?;
    let id = id_of(&key)?;
    let mut tx = app.db.begin().await?;
    let account = account_get(&mut tx, id).await?.ok_or_else(|| unknown(&key))?;
    let grant = grant_of_account(&mut tx, id).await?;
    let grant =
        grant.ok_or_else(|| Problem::new(manman_common::Kind::Conflict, format!("the account of `{}` is disabled", account.name)))?;
    let link = login_link(&app, &mut tx, &grant, LINK_LIFE).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "login.link",
        message: format!("a login link was made for `{}`", account.name),
        data: caller.audit(Value::Null, json!({ "account_id": id, "expires_at": link.expires_at })),
        ..NewEvent::default()
    };
    event_insert(&mut tx, clock::now(), &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(link)).into_response())
}
