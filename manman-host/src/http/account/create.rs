use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{CreateAccount, CreatedAccount};
use manman_common::{Kind, Problem};
use serde_json::Value;

use super::{check_server, name_taken, told};
use crate::app::AppRef;
use crate::db::account::{Account, account_count_locked, account_insert};
use crate::db::event::{NewEvent, event_insert};
use crate::db::session::grant_of_account;
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::Json;
use crate::http::login::{login_link, password_failed};
use crate::{clock, password};

/// More people than a home has, or a community that still knows each other.
const ACCOUNTS_MAX: i64 = 1_000;
/// Time for somebody to find the message with their link.
pub(super) const LINK_LIFE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Makes an account. Without a password the answer carries a link for its person, good for once
/// and for three days.
#[utoipa::path(
    post, path = "/account", tag = "person",
    request_body = CreateAccount,
    responses((status = 201, body = CreatedAccount), (status = 400, body = Problem), (status = 403, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn create(State(app): State<AppRef>, caller: Caller, wish: Json<CreateAccount>) -> ApiResult<Response> {
    caller.require(Permission::ManagePeople)?;
    let CreateAccount { name, role, server_id, password } = wish.read()?;
    if let Some(why) = password.as_ref().and_then(|password| password::weakness(password, name.as_str())) {
        return Err(Problem::invalid("password", why).into());
    }
    let password_hash = match &password {
        Some(password) => Some(password::hash(password).await.map_err(password_failed)?),
        None => None,
    };
    let now = clock::now();
    let account =
        Account { id: clock::new_account_id(), name, role, server_id, password_hash, disabled: false, created_at: now, last_seen_at: None };
    let mut tx = app.db.begin().await?;
    if account_count_locked(&mut tx).await? >= ACCOUNTS_MAX {
        return Err(Problem::new(Kind::Conflict, format!("there are {ACCOUNTS_MAX} accounts, and that is the limit")).into());
    }
    check_server(&mut tx, role, server_id).await?;
    account_insert(&mut tx, &account).await.map_err(|error| name_taken(error, &account.name))?;
    let link = match account.password_hash {
        Some(_) => None,
        None => {
            let grant = grant_of_account(&mut tx, account.id).await?;
            let grant = grant.ok_or_else(|| ApiError::internal("the account just made is not there"))?;
            Some(login_link(&app, &mut tx, &grant, LINK_LIFE).await?)
        }
    };
    let view = account.view();
    let event = NewEvent {
        actor: caller.actor(),
        kind: "account.created",
        message: format!("`{}` has an account, as {}", view.name, view.role.as_str()),
        data: caller.audit(Value::Null, told(&view)),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    let headers = [(header::CACHE_CONTROL, "no-store".to_owned()), (header::LOCATION, format!("/account/{}", view.id))];
    let (login_url, login_expires_at) = link.map(|link| (link.url, link.expires_at)).unzip();
    Ok((StatusCode::CREATED, headers, axum::Json(CreatedAccount { view, login_url, login_expires_at })).into_response())
}
