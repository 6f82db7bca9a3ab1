use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{LoginLink, Role};
use manman_common::{Kind, Problem};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::{page, set_cookie};
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::session::{Grant, grant_of_account, grant_of_token, login_insert, login_redeem};
use crate::http::auth::{Caller, Client, new_secret, secret_hash, tokens_revoked, user_agent};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::Query;
use crate::http::session::open;

/// A link is meant to be opened at once.
const LINK_LIFE: Duration = Duration::from_secs(10 * 60);

/// Makes a link that signs a browser in once, within ten minutes, as whoever asks for it.
///
/// With an account's session it is that account's. What a token's link opens ends with the token.
#[utoipa::path(post, path = "/login-link", tag = "person", responses((status = 201, body = LoginLink), (status = 403, body = Problem)))]
pub(super) async fn make(State(app): State<AppRef>, caller: Caller) -> ApiResult<Response> {
    let role = caller.role()?;
    if role == Role::Viewer && !caller.session {
        return Err(Problem::new(Kind::Forbidden, "a viewer's token makes no links")
            .hint("sign in with the token itself, in the console or by POST /login")
            .into());
    }
    let mut tx = app.db.begin().await?;
    let grant = grant_of(&mut tx, &caller, role).await?;
    let link = login_link(&app, &mut tx, &grant, LINK_LIFE).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "login.link",
        message: "a login link was made".to_owned(),
        data: caller.audit(Value::Null, serde_json::json!({ "expires_at": link.expires_at })),
        ..NewEvent::default()
    };
    event_insert(&mut tx, clock::now(), &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(link)).into_response())
}

async fn grant_of(conn: &mut PgConnection, caller: &Caller, role: Role) -> ApiResult<Grant> {
    let ended = || ApiError::from(Problem::new(Kind::Unauthenticated, "this session is over"));
    if let Some(account) = caller.person() {
        return grant_of_account(conn, account).await?.ok_or_else(ended);
    }
    let parent = if caller.session { caller.parent_id } else { Some(caller.token_id) };
    match parent {
        Some(parent) => grant_of_token(conn, parent, clock::now()).await?.ok_or_else(ended),
        // A session by the first start's link.
        None => Ok(Grant {
            role,
            label: caller.label.clone(),
            server_id: caller.server_id,
            account_id: None,
            parent_id: None,
            until: caller.expires_at,
        }),
    }
}

/// A fresh link with these rights.
pub async fn login_link(app: &App, conn: &mut PgConnection, grant: &Grant, life: Duration) -> ApiResult<LoginLink> {
    let now = clock::now();
    let expires_at = grant.until.map_or(now.plus(life), |until| until.min(now.plus(life)));
    let secret = new_secret("login");
    login_insert(conn, clock::new_token_id(), &secret_hash(&secret), grant, now, expires_at).await?;
    let base = app.bound.get().map_or("", |bound| bound.public_url.as_str());
    Ok(LoginLink { url: format!("{base}/login?code={secret}"), expires_at })
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct LoginQuery {
    /// The secret of the link.
    code: Option<String>,
}

/// Redeems a link: sets the session's cookie and leads to the console.
#[utoipa::path(
    get, path = "/login", tag = "person", params(LoginQuery), security(()),
    responses((status = 303, description = "signed in"), (status = 200, description = "how to get a link"), (status = 401, description = "the link is used or too old"))
)]
pub(super) async fn follow(
    State(app): State<AppRef>,
    client: Client,
    headers: HeaderMap,
    Query(query): Query<LoginQuery>,
) -> ApiResult<Response> {
    let Some(code) = query.code else { return Ok(page(StatusCode::OK, "Sign in", HOW)) };
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let Some(grant) = login_redeem(&mut tx, &secret_hash(&code), now).await? else {
        return Ok(page(StatusCode::UNAUTHORIZED, "This link has been used, or is too old", HOW));
    };
    let opened = open(&mut tx, grant, client, user_agent(&headers), "a link").await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &opened.ended);
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
    set_cookie(client, &mut response, &opened.secret, opened.life);
    Ok(response)
}

const HOW: &str = "<p><a href=\"/\">Sign in</a> with a name and a password or with a token, or open the console by a link \
                   that works once. Get one on the host's machine:</p><pre>manman login</pre>";
