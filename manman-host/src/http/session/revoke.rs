use axum::extract::State;
use axum::http::StatusCode;
use manman_common::{Problem, TokenId};
use serde_json::{Value, json};

use super::is_own;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::session::{SessionFilter, session_page};
use crate::db::token::token_revoke;
use crate::http::auth::{Caller, Permission, tokens_revoked};
use crate::http::error::ApiResult;
use crate::http::extract::Path;

/// Ends a session at once: open sockets of that browser are closed, too.
#[utoipa::path(
    delete, path = "/session/{id}", tag = "person",
    params(("id" = TokenId, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn revoke(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<StatusCode> {
    caller.role()?;
    let unknown = || Problem::not_found("session", &key);
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let found = match key.parse::<TokenId>() {
        Ok(id) => session_page(&mut tx, SessionFilter { id: Some(id), ..SessionFilter::default() }, None, 1, now).await?.pop(),
        Err(_) => None,
    };
    // Whether somebody else's exists is not told either.
    if !found.as_ref().is_some_and(|session| is_own(&caller, session)) {
        caller.require(Permission::ManagePeople)?;
    }
    let session = found.ok_or_else(unknown)?;
    let revoked = token_revoke(&mut tx, session.id, true, now).await?.ok_or_else(unknown)?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "session.revoked",
        message: format!("a session of `{}` was ended", session.name),
        data: caller.audit(json!({ "id": session.id, "name": session.name, "peer": session.peer }), Value::Null),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &revoked.ids);
    Ok(StatusCode::NO_CONTENT)
}
