//! `/game`: the catalogue.

use axum::extract::State;
use manman_common::wire::{GameView, PAGE_MAX, Page};
use manman_common::{GameId, Problem};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Caller;
use super::error::ApiResult;
use super::extract::{Path, Query};
use crate::app::AppRef;
use crate::games::Definition;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// 1 to 200; all that fit on a page of 200 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only games whose name, id or tags hold it.
    word: Option<String>,
}

/// The games that have a definition, in the order of their ids.
#[utoipa::path(get, path = "/game", tag = "game", params(ListQuery), responses((status = 200, body = Page<GameView>)))]
async fn list(State(app): State<AppRef>, _caller: Caller, Query(query): Query<ListQuery>) -> ApiResult<axum::Json<Page<GameView>>> {
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")).into());
    }
    let after = |text: &String| text.parse::<GameId>().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"));
    let after = query.cursor.as_ref().map(after).transpose()?;
    let word = query.word.unwrap_or_default().to_lowercase();
    let holds = |game: &Definition| {
        let id = game.game.to_string();
        [&game.name, &game.short, &id].into_iter().chain(&game.tags).any(|text| text.to_lowercase().contains(&word))
    };
    let mut games = app.games.iter().filter(|game| holds(game)).filter(|game| after.as_ref().is_none_or(|after| game.game > *after));
    let items: Vec<GameView> = games.by_ref().take(limit as usize).map(|game| game.view()).collect();
    let next = if games.next().is_some() { items.last().map(|game| game.game_id.to_string()) } else { None };
    Ok(axum::Json(Page { items, next }))
}

/// One game: its variables with their rules, its ports and actions.
#[utoipa::path(
    get, path = "/game/{*game_id}", tag = "game",
    params(("game_id" = String, Path, description = "such as `docker:manman/openarena` (slashes may stand as they are), or its short name, `openarena`")),
    responses((status = 200, body = GameView), (status = 404, body = Problem))
)]
async fn get(State(app): State<AppRef>, _caller: Caller, Path(text): Path<String>) -> ApiResult<axum::Json<GameView>> {
    if let Some(game) = app.games.find_short(&text) {
        return Ok(axum::Json(game.view()));
    }
    let id: GameId = text.parse().map_err(|error: manman_common::game_id::GameIdError| Problem::invalid("game_id", error.to_string()))?;
    let game = app
        .games
        .find(&id)
        .ok_or_else(|| Problem::not_found("definition of", &id).hint("`GET /game?word=…` lists those that there are"))?;
    Ok(axum::Json(game.view()))
}

#[cfg(test)]
mod tests;
