use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use manman_common::wire::{PasswordSignIn, SignIn, TokenSignIn};
use manman_common::{Kind, Problem};
use sqlx::{PgConnection, PgTransaction};

use super::set_cookie;
use crate::app::AppRef;
use crate::clock;
use crate::db::account::{Account, account_get_by_name};
use crate::db::session::{Grant, grant_of_account, grant_of_token};
use crate::db::token::token_revoke;
use crate::http::auth::{Client, Presented, identify, tokens_revoked, user_agent};
use crate::http::error::{ApiError, ApiResult, WithCause as _};
use crate::http::extract::Json;
use crate::http::session::open;
use crate::password::{self, PasswordError};

/// Signs a browser in by an account's name and password, or by a token: sets the session's cookie.
///
/// Who has guessed wrong too often is told how long to wait; others, and the account's owner at
/// another address, are not in the least affected.
#[utoipa::path(
    post, path = "/login", tag = "person", security(()),
    request_body = SignIn,
    responses(
        (status = 204, description = "signed in"),
        (status = 401, body = Problem, description = "the name, the password or the token is wrong; which, nobody is told"),
        (status = 429, body = Problem, description = "too many wrong tries from there; see Retry-After")
    )
)]
pub(super) async fn sign_in(
    State(app): State<AppRef>,
    client: Client,
    presented: Presented,
    headers: HeaderMap,
    body: Json<SignIn>,
) -> ApiResult<Response> {
    let body = body.read()?;
    let name = match &body {
        SignIn::Password(typed) => typed.name.trim(),
        // Nobody's name is empty: tokens have a brake of their own.
        SignIn::Token(_) => "",
    };
    let attempt = app.attempts.begin(client.peer, name, clock::instant()).map_err(|wait| too_many(client, wait))?;
    let looked = match &body {
        SignIn::Password(typed) => by_password(&app, typed).await,
        SignIn::Token(typed) => by_token(&app, typed).await,
    };
    let (mut tx, grant) = match looked {
        Ok(found) => {
            app.attempts.right(attempt);
            found
        }
        Err(error) if error.kind() == Kind::Unauthenticated => {
            tracing::info!(peer = %client.peer, "somebody could not sign in");
            return Err(error);
        }
        Err(error) => {
            app.attempts.undecided(attempt);
            return Err(error);
        }
    };
    let way = if grant.account_id.is_some() { "a password" } else { "a token" };
    let opened = open(&mut tx, grant, client, user_agent(&headers), way).await?;
    let before = end_former(&mut tx, &presented).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    tokens_revoked(&app, &opened.ended);
    tokens_revoked(&app, &before);
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(client, &mut response, &opened.secret, opened.life);
    Ok(response)
}

/// The transaction holds what the grant rests on.
type Granted = (PgTransaction<'static>, Grant);

async fn by_password(app: &AppRef, typed: &PasswordSignIn) -> ApiResult<Granted> {
    let wrong = || {
        ApiError::from(
            Problem::new(Kind::Unauthenticated, "the name or the password is wrong")
                .hint("`manman login` on the host's machine makes a link that signs in without either"),
        )
    };
    let account = account_get_by_name(&mut *app.db.acquire().await?, typed.name.trim()).await?;
    // Without an account, or without its password, the same work is done for nothing: how long the
    // answer takes tells nothing.
    let hash = account.as_ref().and_then(|account| account.password_hash.clone());
    let right = password::verify(&typed.password, hash.as_deref()).await.map_err(password_failed)?;
    let Some(account) = account.filter(|_| right) else { return Err(wrong()) };
    let mut tx = app.db.begin().await?;
    let grant = grant_of_account(&mut tx, account.id).await?.ok_or_else(wrong)?;
    // Somebody may have changed it in the meantime, and then the old one opens nothing any more.
    let same = account_password(&mut tx, &account).await?;
    if same { Ok((tx, grant)) } else { Err(wrong()) }
}

async fn account_password(conn: &mut PgConnection, seen: &Account) -> ApiResult<bool> {
    let now = crate::db::account::account_get(conn, seen.id).await?;
    Ok(now.is_some_and(|now| now.password_hash == seen.password_hash))
}

async fn by_token(app: &AppRef, typed: &TokenSignIn) -> ApiResult<Granted> {
    let wrong =
        || ApiError::from(Problem::new(Kind::Unauthenticated, "this token signs nobody in: it is unknown, too old, or a machine's"));
    // A session's own secret is for its cookie: it begins no other.
    let caller = identify(app, typed.token.as_str().trim()).await?.filter(|caller| !caller.session).ok_or_else(wrong)?;
    let mut tx = app.db.begin().await?;
    let grant = grant_of_token(&mut tx, caller.token_id, clock::now()).await?.ok_or_else(wrong)?;
    Ok((tx, grant))
}

/// Who signs in anew in the same browser leaves the session that it had.
async fn end_former(conn: &mut PgConnection, presented: &Presented) -> ApiResult<Vec<manman_common::TokenId>> {
    let Some(former) = presented.caller().filter(|caller| caller.session) else { return Ok(Vec::new()) };
    Ok(token_revoke(conn, former.token_id, true, clock::now()).await?.map_or_else(Vec::new, |revoked| revoked.ids))
}

pub(crate) fn too_many(client: Client, wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
    tracing::warn!(peer = %client.peer, seconds, "too many wrong tries to sign in; that address has to wait");
    Problem::new(Kind::TooManyRequests, format!("too many wrong tries from there; the next is looked at in {seconds} s"))
        .hint("`manman login` on the host's machine makes a link that signs in at once")
        .retry_after(seconds)
}

pub(crate) fn password_failed(error: PasswordError) -> ApiError {
    match error {
        PasswordError::Busy => Problem::new(Kind::Unavailable, "too many people sign in at this moment").retry_after(2).with_cause(error),
        PasswordError::Hash(_) | PasswordError::Format | PasswordError::CutShort => ApiError::internal(error),
    }
}
