//! `/account`: the people of this host. Only admins come here.

mod change;
mod create;
mod delete;
mod list;

use manman_common::wire::{AccountView, Role};
use manman_common::{AccountId, Kind, Name, Problem, ServerId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, ApiResult};
use crate::app::AppRef;
use crate::db::account::Account;
use crate::db::server::server_get;
use crate::db::violated;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(change::put, delete::delete))
        .routes(routes!(change::link))
}

fn unknown(key: &str) -> Problem {
    Problem::not_found("account", key)
}

fn id_of(key: &str) -> Result<AccountId, Problem> {
    key.parse().map_err(|_| unknown(key))
}

/// Only an operator or a viewer can be confined, and only to a server that there is.
async fn check_server(conn: &mut PgConnection, role: Role, server: Option<ServerId>) -> ApiResult<()> {
    let Some(id) = server else { return Ok(()) };
    if role == Role::Admin {
        return Err(Problem::invalid("server_id", "only an operator or a viewer can be confined to one server").into());
    }
    match server_get(conn, id).await? {
        Some(_) => Ok(()),
        None => Err(Problem::invalid("server_id", format!("there is no server `{id}`")).into()),
    }
}

fn name_taken(error: sqlx::Error, name: &Name) -> ApiError {
    match violated(&error) {
        Some("account_name_key") => Problem::new(Kind::Conflict, format!("another account is called `{name}`")).field("name").into(),
        _ => error.into(),
    }
}

/// What an event says of an account; never its password.
fn told(view: &AccountView) -> Value {
    let AccountView { id, name, role, server_id, has_password, disabled, created_at: _, last_seen_at: _ } = view;
    let password = has_password.then_some("•••");
    json!({ "id": id, "name": name, "role": role, "server_id": server_id, "password": password, "disabled": disabled })
}

/// Whether the change takes a right away, or hands out another: all that is held of it then ends.
fn rights_changed(before: &Account, after: &Account) -> bool {
    before.role != after.role || before.server_id != after.server_id || before.disabled != after.disabled
}

#[cfg(test)]
mod tests;
