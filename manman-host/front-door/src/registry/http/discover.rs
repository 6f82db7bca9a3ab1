//! `/discover`: who is alive, at once or when it changes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use manman_common::Problem;
use manman_common::wire::registry::{Located, Service, ServiceEvent};
use serde::{Deserialize, Deserializer};

use super::super::Registry;
use super::register::no_service;
use super::{Refusal, listen};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// Adds expiry, status, tags and meta.
    #[serde(deserialize_with = "flag")]
    verbose: bool,
    /// Those that do not answer, too.
    #[serde(deserialize_with = "flag")]
    all: bool,
    /// Waits so long for a change after `index`, such as `30s`; at most five minutes.
    wait: Option<String>,
    /// The `X-Index` of the answer that the caller has; without it, a wait is for the next change.
    index: Option<u64>,
}

const WAIT_MAX: Duration = Duration::from_secs(300);

/// `?all`, `?all=1` and `?all=true` are yes.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" | "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        other => Err(serde::de::Error::custom(format!("`{}` is neither 1 nor 0", other.chars().take(20).collect::<String>()))),
    }
}

/// `30s`, `500ms`, `5m`, `30`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

impl Question {
    fn wait(&self) -> Result<Option<Duration>, Refusal> {
        let Some(text) = &self.wait else { return Ok(None) };
        let wait = duration(text).ok_or_else(|| Problem::invalid("wait", "a time is written as in `30s`"))?;
        Ok(Some(wait.min(WAIT_MAX)))
    }
}

type Asked = Result<Query<Question>, axum::extract::rejection::QueryRejection>;

fn question(asked: Asked) -> Result<Question, Refusal> {
    let Query(question) = asked.map_err(|rejection| {
        let words = rejection.body_text();
        Problem::new(manman_common::Kind::Invalid, words.trim_start_matches("Failed to deserialize query string: "))
    })?;
    Ok(question)
}

const INDEX: HeaderName = HeaderName::from_static("x-index");

/// Where all services are: `{"name": {"ip": …, "port": …}}`, sorted by name.
///
/// With `Accept: text/event-stream` it is the stream of what changes, after a first event
/// `services` with the whole map.
#[utoipa::path(
    get,
    path = "/discover",
    tag = "registry",
    security(()),
    params(Question),
    responses(
        (status = 200, body = std::collections::BTreeMap<String, Located>, headers(("x-index" = u64), ("etag" = String))),
        (status = 200, body = ServiceEvent, content_type = "text/event-stream"),
        (status = 304, description = "nothing has changed since `If-None-Match`")
    )
)]
pub(super) async fn discover(State(registry): State<Registry>, headers: HeaderMap, asked: Asked) -> Result<Response, Refusal> {
    let question = question(asked)?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/event-stream") {
        return listen::listen(&registry);
    }
    if let Some(wait) = question.wait()? {
        let known = question.index.unwrap_or_else(|| registry.with(|state, _| state.index()));
        changed(&registry, known, wait).await;
    }
    if question.verbose {
        let (index, services) = registry.with(|state, now| (state.index(), state.services(now, question.all)));
        return Ok(([(INDEX, HeaderValue::from(index))], axum::Json(services)).into_response());
    }
    let (index, list) = registry.with(|state, now| (state.index(), state.list(now, question.all)));
    Ok(tagged(&headers, index, if question.all { "a" } else { "" }, list))
}

/// The same: the end of a path without a name.
#[utoipa::path(get, path = "/discover/", tag = "registry", security(()), params(Question), responses((status = 200)))]
pub(super) async fn discover_all(registry: State<Registry>, headers: HeaderMap, asked: Asked) -> Result<Response, Refusal> {
    discover(registry, headers, asked).await
}

/// Where one service is.
#[utoipa::path(
    get,
    path = "/discover/{name}",
    tag = "registry",
    security(()),
    params(("name" = String, Path), Question),
    responses((status = 200, body = Located), (status = 304), (status = 404, body = Problem))
)]
pub(super) async fn discover_one(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refusal> {
    let question = question(asked)?;
    if let Some(wait) = question.wait()? {
        wait_for_one(&registry, &name, &question, wait).await;
    }
    let (index, found) = registry.with(|state, now| {
        let service: Option<Service> = if question.verbose { state.service(now, &name) } else { None };
        let located = state.locate(now, &name, question.all);
        let modified = state.get(now, &name).map_or(state.index(), |lease| lease.value.modified);
        (modified, located.map(|located| (located, service)))
    });
    match found {
        Some((_, Some(service))) => Ok(([(INDEX, HeaderValue::from(index))], axum::Json(service)).into_response()),
        Some((located, None)) => {
            let body = Bytes::from(serde_json::to_vec(&located).unwrap_or_default());
            Ok(tagged(&headers, index, "", body))
        }
        None => {
            let mut response = no_service(&name).into_response();
            response.headers_mut().insert(INDEX, HeaderValue::from(index));
            Ok(response)
        }
    }
}

/// Waits until this one service is other than the caller knows it.
async fn wait_for_one(registry: &Registry, name: &str, question: &Question, wait: Duration) {
    let look = |registry: &Registry| {
        registry.with(|state, now| {
            let modified = state.get(now, name).map(|lease| lease.value.modified);
            (state.index(), modified, state.locate(now, name, question.all))
        })
    };
    let (mut index, modified, before) = look(registry);
    if let Some(known) = question.index
        && (modified.is_some_and(|modified| modified > known) || known > index || modified.is_none() && known < index)
    {
        return;
    }
    let waited = async {
        loop {
            if !changed(registry, index, WAIT_MAX).await {
                return;
            }
            let (newer, _, after) = look(registry);
            if after != before {
                return;
            }
            index = newer;
        }
    };
    // The answer says what is, whether or not that is news.
    let _ = tokio::time::timeout(wait, waited).await;
}

/// Waits until the registry's index is another one than `known`; whether it is.
async fn changed(registry: &Registry, known: u64, wait: Duration) -> bool {
    let Ok(_place) = registry.0.waiters.try_acquire() else { return false };
    let mut index = registry.0.index.subscribe();
    // Larger than ours is one of another registry's: such a caller is to see at once what is.
    tokio::time::timeout(wait, index.wait_for(|index| *index != known)).await.is_ok()
}

/// An answer that the caller may already have.
fn tagged(headers: &HeaderMap, index: u64, kind: &str, body: Bytes) -> Response {
    let tag = format!("\"{index}{kind}\"");
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let has_it = asked.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if has_it { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(body).into_response() };
    let out = response.headers_mut();
    if !has_it {
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(INDEX, HeaderValue::from(index));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!((duration("5m"), duration("30")), (Some(Duration::from_secs(300)), Some(Duration::from_secs(30))));
        for bad in ["", "s", "-1s", "1h", "99999999999999999999s", "1 s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
