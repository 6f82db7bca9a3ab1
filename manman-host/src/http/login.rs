//! How a browser signs in: by a link that works once, and a cookie that scripts can not read.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use manman_common::wire::{LoginLink, Scope};
use manman_common::{Kind, Problem};
use serde::Deserialize;
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{COOKIE, Caller, new_secret, secret_hash, tokens_revoked};
use super::error::ApiResult;
use super::extract::Query;
use crate::app::{App, AppRef};
use crate::clock;
use crate::config::Tls;
use crate::db::event::{NewEvent, event_insert};
use crate::db::token::{Login, NewToken, login_insert, login_redeem, scope_text, token_insert, token_revoke};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(make_link)).routes(routes!(login)).routes(routes!(logout))
}

/// A link is meant to be opened at once.
const LINK_LIFE: Duration = Duration::from_secs(10 * 60);
const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes a link that signs a browser in once, within ten minutes, with the caller's own rights.
#[utoipa::path(post, path = "/login-link", tag = "token", responses((status = 201, body = LoginLink), (status = 403, body = Problem)))]
async fn make_link(State(app): State<AppRef>, caller: Caller) -> ApiResult<Response> {
    if !matches!(caller.scope, Scope::Admin | Scope::Operator | Scope::Viewer) {
        return Err(Problem::new(Kind::Forbidden, "a worker has no use for the console").into());
    }
    let login = Login { grants: caller.scope, label: caller.label.clone(), server_id: caller.server_id };
    let link = login_link(&app, &mut *app.db.acquire().await?, &login).await?;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(link)).into_response())
}

/// A fresh link with these rights.
pub async fn login_link(app: &App, conn: &mut PgConnection, login: &Login) -> ApiResult<LoginLink> {
    let now = clock::now();
    let expires_at = now.plus(LINK_LIFE);
    let secret = new_secret("login");
    login_insert(conn, clock::new_token_id(), &secret_hash(&secret), login, now, expires_at).await?;
    let base = app.bound.get().map_or("", |bound| bound.public_url.as_str());
    Ok(LoginLink { url: format!("{base}/login?code={secret}"), expires_at })
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct LoginQuery {
    /// The secret of the link.
    code: Option<String>,
}

/// Redeems a link: sets the session's cookie and leads to the console.
#[utoipa::path(
    get, path = "/login", tag = "token", params(LoginQuery), security(()),
    responses((status = 303, description = "signed in"), (status = 200, description = "how to get a link"), (status = 401, description = "the link is used or too old"))
)]
async fn login(State(app): State<AppRef>, Query(query): Query<LoginQuery>) -> ApiResult<Response> {
    let Some(code) = query.code else { return Ok(page(StatusCode::OK, "Sign in", HOW)) };
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let Some(login) = login_redeem(&mut tx, &secret_hash(&code), now).await? else {
        return Ok(page(StatusCode::UNAUTHORIZED, "This link has been used, or is too old", HOW));
    };
    let secret = new_secret(scope_text(login.grants));
    let token = NewToken {
        id: clock::new_token_id(),
        secret_hash: secret_hash(&secret),
        scope: login.grants,
        label: login.label,
        worker_id: None,
        server_id: login.server_id,
        session: true,
        created_at: now,
        expires_at: Some(now.plus(SESSION_LIFE)),
    };
    token_insert(&mut tx, &token).await?;
    let event = NewEvent {
        actor: if token.label.is_empty() { scope_text(token.scope).to_owned() } else { token.label },
        kind: "login",
        message: "a browser signed in".to_owned(),
        data: serde_json::json!({ "token_id": token.id }),
        ..NewEvent::default()
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/"), (header::CACHE_CONTROL, "no-store")]).into_response();
    set_cookie(&app, &mut response, &secret, SESSION_LIFE);
    Ok(response)
}

/// Ends the browser's session.
#[utoipa::path(post, path = "/logout", tag = "token", responses((status = 204)))]
async fn logout(State(app): State<AppRef>, caller: Caller) -> ApiResult<Response> {
    // A token handed to somebody outlives its holder's logout: only sessions end here.
    let now = clock::now();
    let mut conn = app.db.acquire().await?;
    if crate::db::token::token_is_session(&mut conn, caller.token_id).await? {
        token_revoke(&mut conn, caller.token_id, now).await?;
        tokens_revoked(&app, &[caller.token_id]);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, &mut response, "", Duration::ZERO);
    Ok(response)
}

fn set_cookie(app: &App, response: &mut Response, secret: &str, life: Duration) {
    // Behind a proxy of somebody's own we do not see TLS; then SameSite and HttpOnly must do.
    let secure = if app.config.tls == Tls::Off { "" } else { "; Secure" };
    let cookie = format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", life.as_secs());
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

const HOW: &str = "<p>The console is opened by a link that works once. Get one on the host's machine:</p><pre>manman login</pre>";

/// A small page of ours.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · manman</title></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    (status, [(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}
