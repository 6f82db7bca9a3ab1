//! `/session`: the browsers that are signed in, and how one begins.

mod list;
mod revoke;

use std::time::Duration;

use manman_common::TokenId;
use manman_common::wire::Scope;
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Client, new_secret, secret_hash};
use super::error::ApiResult;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::session::{Grant, ListedSession, NewSession, session_insert};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(revoke::revoke))
}

const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A session that has begun, once the transaction is committed.
pub(crate) struct Opened {
    /// For the cookie.
    pub(crate) secret: String,
    pub(crate) life: Duration,
    /// Older ones that had to give way; to be told of after the commit.
    pub(crate) ended: Vec<TokenId>,
}

/// Begins a session, in the transaction that holds what its grant rests on.
pub(crate) async fn open(
    conn: &mut PgConnection,
    grant: Grant,
    client: Client,
    user_agent: Option<String>,
    way: &str,
) -> ApiResult<Opened> {
    let now = clock::now();
    let secret = new_secret("session");
    let expires_at = grant.until.map_or(now.plus(SESSION_LIFE), |until| until.min(now.plus(SESSION_LIFE)));
    let actor = if grant.label.is_empty() { crate::db::token::scope_text(Scope::from(grant.role)).to_owned() } else { grant.label.clone() };
    let session = NewSession {
        id: clock::new_token_id(),
        secret_hash: secret_hash(&secret),
        grant,
        user_agent,
        peer: Some(client.peer.to_string()),
        created_at: now,
        expires_at,
    };
    let ended = session_insert(conn, &session).await?;
    let event = NewEvent {
        actor,
        kind: "login",
        message: format!("a browser signed in by {way}"),
        data: serde_json::json!({
            "peer": client.peer, "token_id": session.id, "account_id": session.grant.account_id, "parent_id": session.grant.parent_id,
            "user_agent": session.user_agent, "before": null, "after": null,
        }),
        ..NewEvent::default()
    };
    event_insert(conn, now, &event).await?;
    Ok(Opened { secret, life: expires_at.since(now), ended })
}

/// Whether the session is the caller's own: itself, another of the same account, or one that was
/// made from the same token.
fn is_own(caller: &Caller, session: &ListedSession) -> bool {
    let same_account = caller.person().is_some_and(|account| session.account_id == Some(account));
    let from_token = if caller.session { caller.parent_id } else { Some(caller.token_id) };
    session.id == caller.token_id || same_account || from_token.is_some_and(|token| session.parent_id == Some(token))
}
