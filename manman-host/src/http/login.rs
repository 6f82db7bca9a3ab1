//! How a browser signs in: by a password, a token, or a link that works once; and how it leaves.
//! What it gets is a cookie that scripts can not read.

mod attempts;
mod link;
mod sign_in;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use manman_common::{Kind, Problem};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{COOKIE, Caller, Client, tokens_revoked};
use super::error::ApiResult;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::token::token_revoke;

pub use attempts::Attempts;
pub use link::login_link;
pub(crate) use sign_in::{password_failed, too_many};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(link::make)).routes(routes!(link::follow, sign_in::sign_in)).routes(routes!(logout))
}

/// Ends the browser's session at once: its open sockets are closed, too.
#[utoipa::path(post, path = "/logout", tag = "person", responses((status = 204), (status = 403, body = Problem, description = "it is a token, no session")))]
async fn logout(State(app): State<AppRef>, caller: Caller, client: Client) -> ApiResult<Response> {
    if !caller.session {
        // A token handed to somebody outlives its holder's logout.
        return Err(Problem::new(Kind::Forbidden, "this is a token and no session; it ends when an admin revokes it").into());
    }
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let revoked = token_revoke(&mut tx, caller.token_id, true, now).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "logout",
        message: "a browser signed out".to_owned(),
        data: caller.audit(Value::Null, Value::Null),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    if let Some(revoked) = revoked {
        tokens_revoked(&app, &revoked.ids);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(client, &mut response, "", Duration::ZERO);
    Ok(response)
}

/// The session's cookie, for as long as the session may last.
fn set_cookie(client: Client, response: &mut Response, secret: &str, life: Duration) {
    // Behind a proxy of somebody's own that we are not told of we do not see TLS; then SameSite and
    // HttpOnly must do.
    let secure = if client.https { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", life.as_secs());
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A small page of ours.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · manman</title></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    (status, [(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

#[cfg(test)]
pub(crate) mod tests;
