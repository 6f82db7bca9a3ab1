use axum::extract::State;
use manman_common::Problem;
use manman_common::wire::{AccountView, Page};
use serde::Deserialize;

use crate::app::AppRef;
use crate::db::account::account_page;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::Query;
use crate::http::paging::Paging;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// All accounts, in the order in which they were made.
#[utoipa::path(
    get, path = "/account", tag = "person", params(ListQuery),
    responses((status = 200, body = Page<AccountView>), (status = 403, body = Problem))
)]
pub(super) async fn list(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<axum::Json<Page<AccountView>>> {
    caller.require(Permission::ManagePeople)?;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let accounts = account_page(&mut *app.db.acquire().await?, paging.after, paging.rows()).await?;
    Ok(axum::Json(paging.page(accounts, |account| account.id).map(|account| account.view())))
}
