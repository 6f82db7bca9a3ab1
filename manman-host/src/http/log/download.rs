use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use manman_common::logs::LogQuery;
use manman_common::{LogSeq, Problem};
use serde::Deserialize;

use super::body;
use crate::app::AppRef;
use crate::clock;
use crate::fleet::readers::Tenure;
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};
use crate::http::server::find_server;

/// What the file is to hold.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    /// `text` (where it is absent): the lines as the game printed them; `json`: an object a line, with
    /// number and time; `records`: as the worker stores them.
    format: Option<String>,
    /// Puts its time before each line of text.
    timestamps: bool,
    /// Only lines after this one.
    since_seq: Option<LogSeq>,
    /// Only lines up to this one, itself included.
    until_seq: Option<LogSeq>,
}

/// All that is kept of a server's log, as a file.
///
/// It ends where the log ended when it was asked for. A download that breaks off before that is
/// broken off for the client, too: what arrives whole is whole.
#[utoipa::path(
    get,
    path = "/server/{id}/log/download",
    tag = "log",
    params(("id" = String, Path, description = "id or name"), DownloadQuery),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem))
)]
pub(super) async fn download(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<DownloadQuery>,
) -> ApiResult<Response> {
    let DownloadQuery { format, timestamps, since_seq, until_seq } = query;
    let (shape, extension) = match format.as_deref() {
        None | Some("text") => (body::Shape::Plain { times: timestamps }, "log"),
        Some("json") => (body::Shape::Lines, "ndjson"),
        Some("records") => (body::Shape::Records, "records"),
        Some(other) => {
            let other: String = other.chars().take(20).collect();
            return Err(Problem::invalid("format", format!("`{other}` is none of `text`, `json` and `records`")).into());
        }
    };
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    let tenure = Tenure::begin(&app, &caller, Some(server.id))?;
    let query = LogQuery { since_seq, until_seq, follow: Some(false), ..LogQuery::default() };
    let feed = app.fleet.open_log(server.worker_id, server.id, query)?;
    let mut response = body::respond(feed, tenure, shape, &server).await?;
    // A server's name is letters, digits, dots, dashes and underscores.
    let day = clock::now().to_chrono().format("%Y-%m-%d").to_string();
    let name = format!("attachment; filename=\"{}-{day}.{extension}\"", server.name);
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
