use axum::extract::State;
use axum::http::StatusCode;
use manman_common::{AccountId, Problem};
use serde_json::Value;

use super::{id_of, told, unknown};
use crate::app::AppRef;
use crate::clock;
use crate::db::account::{account_delete, account_get_for_update};
use crate::db::event::{NewEvent, event_insert};
use crate::db::token::{Ends, token_revoke_of_account};
use crate::http::auth::{Caller, Permission, tokens_revoked};
use crate::http::error::ApiResult;
use crate::http::extract::Path;

/// Deletes an account. Everything that anybody holds of it ends at once: sessions, tokens, login
/// links, open sockets.
///
/// The last admin's may go, too: who owns the machine has `manman login`.
#[utoipa::path(
    delete, path = "/account/{id}", tag = "person",
    params(("id" = AccountId, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn delete(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<StatusCode> {
    caller.require(Permission::ManagePeople)?;
    let id = id_of(&key)?;
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let account = account_get_for_update(&mut tx, id).await?.ok_or_else(|| unknown(&key))?;
    account_delete(&mut tx, id, now).await?;
    let ended = token_revoke_of_account(&mut tx, id, Ends::All, now).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "account.deleted",
        message: format!("the account of `{}` was deleted", account.name),
        data: caller.audit(told(&account.view()), Value::Null),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &ended);
    Ok(StatusCode::NO_CONTENT)
}
