use axum::extract::State;
use manman_common::Problem;
use manman_common::wire::{Page, SessionView};
use serde::Deserialize;

use crate::app::AppRef;
use crate::clock;
use crate::db::session::{SessionFilter, session_page};
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::Query;
use crate::http::paging::Paging;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Those of everybody; for admins.
    all: bool,
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The browsers that are signed in as the caller, or all of them.
#[utoipa::path(
    get, path = "/session", tag = "person", params(ListQuery),
    responses((status = 200, body = Page<SessionView>), (status = 403, body = Problem))
)]
pub(super) async fn list(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<axum::Json<Page<SessionView>>> {
    caller.role()?;
    let filter = if query.all {
        caller.require(Permission::ManagePeople)?;
        SessionFilter::default()
    } else if let Some(account) = caller.person() {
        SessionFilter { account: Some(account), ..SessionFilter::default() }
    } else {
        match if caller.session { caller.parent_id } else { Some(caller.token_id) } {
            Some(parent) => SessionFilter { parent: Some(parent), ..SessionFilter::default() },
            None => SessionFilter { id: Some(caller.token_id), ..SessionFilter::default() },
        }
    };
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let sessions = session_page(&mut *app.db.acquire().await?, filter, paging.after, paging.rows(), clock::now()).await?;
    Ok(axum::Json(paging.page(sessions, |session| session.id).map(|session| SessionView {
        current: session.id == caller.token_id,
        id: session.id,
        name: session.name,
        role: session.role,
        account_id: session.account_id,
        user_agent: session.user_agent,
        peer: session.peer,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
        expires_at: session.expires_at,
    })))
}
