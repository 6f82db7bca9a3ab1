//! The console's own files, which the binary carries. They answer without a token: the login is
//! one of them.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use manman_common::{Kind, Problem};

use super::error::ApiError;
use crate::app::AppRef;

/// A file of `web/`, as `build.rs` pressed it.
struct File {
    path: &'static str,
    /// A hash of its content.
    tag: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// A year: such a path never gets another content.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// May be kept, and is asked about each time.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) fn routes() -> Router<AppRef> {
    Router::new().route("/", get(index)).route("/assets/{*path}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    answer("index.html", ASK, &headers).await
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // A page of before an update asks beneath the hash of then: it gets what there is now.
    let (name, cache) = match path.split_once('/') {
        Some((HASH, name)) => (name, FOR_EVER),
        Some((hash, name)) if is_hash(hash) => (name, ASK),
        _ => (path.as_str(), ASK),
    };
    answer(&format!("assets/{name}"), cache, &headers).await
}

fn is_hash(segment: &str) -> bool {
    segment.len() == HASH.len() && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn answer(path: &str, cache: HeaderValue, headers: &HeaderMap) -> Response {
    #[cfg(debug_assertions)]
    if let Some(folder) = std::env::var_os("MANMAN_WEB_DIR") {
        return match on_disk::read(folder.as_ref(), path).await {
            Some(content) => ([(header::CONTENT_TYPE, kind_of(path)), (header::CACHE_CONTROL, "no-store")], content).into_response(),
            None => missing(),
        };
    }
    let Some(file) = FILES.iter().find(|file| file.path == path) else { return missing() };
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content, encoding) = match (file.brotli, file.gzip) {
        (Some(content), _) if accepts(accepted, "br") => (content, Some("br")),
        (_, Some(content)) if accepts(accepted, "gzip") => (content, Some("gzip")),
        _ => (file.plain, None),
    };
    // Strong means byte by byte, so each encoding has its own.
    let tag = format!("\"{}{}\"", file.tag, encoding.map_or_else(String::new, |encoding| format!("-{encoding}")));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| knows(known, &tag));
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    let into = response.headers_mut();
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind_of(path)));
    into.insert(header::CACHE_CONTROL, cache);
    into.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        into.insert(header::ETAG, tag);
    }
    if let Some(encoding) = encoding {
        into.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

fn missing() -> Response {
    ApiError::from(Problem::new(Kind::NotFound, "the console has no such file")).into_response()
}

/// Whether `accept-encoding` names this encoding, and does not refuse it (`br;q=0`).
fn accepts(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|quality| quality.trim().parse::<f32>().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

fn knows(known: &str, tag: &str) -> bool {
    known.split(',').any(|one| one.trim() == "*" || one.trim().trim_start_matches("W/") == tag)
}

/// Only kinds that the console has; a module of any other would not be run.
fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

/// For quick work on the console: its files as they are now, in debug builds only.
#[cfg(debug_assertions)]
mod on_disk {
    use std::path::{Component, Path};

    pub(super) async fn read(folder: &Path, path: &str) -> Option<Vec<u8>> {
        let path = Path::new(path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        // A link may lead out of the folder; what it leads to decides.
        let folder = tokio::fs::canonicalize(folder).await.ok()?;
        let file = tokio::fs::canonicalize(folder.join(path)).await.ok()?;
        if !file.starts_with(&folder) {
            return None;
        }
        tokio::fs::read(file).await.ok()
    }

    #[cfg(test)]
    mod tests {
        #[tokio::test]
        async fn nothing_outside_of_the_folder_is_read() {
            let place = tempfile::tempdir().expect("a directory");
            let folder = place.path().join("web");
            std::fs::create_dir(&folder).expect("made");
            std::fs::write(folder.join("a.js"), "a").expect("written");
            std::fs::write(place.path().join("secret"), "s").expect("written");
            std::os::unix::fs::symlink(place.path().join("secret"), folder.join("link")).expect("linked");
            assert_eq!(super::read(&folder, "a.js").await.as_deref(), Some(b"a".as_slice()));
            for path in ["../secret", "/etc/passwd", "x/../../secret", "link", ".", ""] {
                assert_eq!(super::read(&folder, path).await, None, "{path}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::TestHost;

    #[test]
    fn an_encoding_is_used_only_where_it_is_accepted() {
        assert!(accepts("gzip, deflate, br", "br") && accepts("BR;q=0.5", "br") && accepts("gzip;q=1", "gzip"));
        assert!(!accepts("", "br") && !accepts("br;q=0", "br") && !accepts("br; q=0.0, gzip", "br") && !accepts("brx", "br"));
        assert!(knows("\"a\", W/\"b\"", "\"b\"") && !knows("\"a\"", "\"b\""));
    }

    #[tokio::test]
    async fn the_console_is_kept_by_a_browser_and_asked_about_by_one_name() {
        let host = TestHost::start().await;
        let index = host.send("GET", "/", &[], Value::Null).await;
        assert_eq!(index.status, 200);
        assert_eq!(index.headers["cache-control"], "no-cache");
        assert_eq!(index.headers["content-type"], "text/html; charset=utf-8");
        let policy = index.headers["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.contains("script-src 'self';") && policy.contains("style-src 'self';") && !policy.contains("unsafe"), "{policy}");
        let tag = index.headers["etag"].to_str().expect("text").to_owned();
        let again = host.send("GET", "/", &[("if-none-match", &tag)], Value::Null).await;
        assert_eq!((again.status.as_u16(), again.body), (304, Value::Null));
        // What the page names is there, under the hash, for ever.
        let Value::String(text) = index.body else { panic!("text") };
        let named: Vec<&str> = text.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for name in named {
            let path = format!("/assets/{name}");
            for encoding in ["br", "gzip", "identity"] {
                let file = host.send("GET", &path, &[("accept-encoding", encoding)], Value::Null).await;
                assert_eq!(file.status, 200, "{path}");
                assert!(file.headers["cache-control"].to_str().is_ok_and(|cache| cache.contains("immutable")), "{path}");
                let told = file.headers.get("content-encoding").map(|value| value.to_str().expect("text"));
                assert!(told.is_none_or(|told| told == encoding), "{path}: {told:?} for {encoding}");
            }
            let (hash, rest) = name.split_once('/').expect("beneath a hash");
            assert_eq!(hash, HASH);
            for path in [format!("/assets/{rest}"), format!("/assets/{}/{rest}", "0".repeat(HASH.len()))] {
                assert_eq!(host.send("GET", &path, &[], Value::Null).await.headers["cache-control"], "no-cache", "{path}");
            }
        }
        for path in ["/assets/../index.html", "/assets/%2e%2e/index.html", "/assets/nothing.js", "/assets/", "/index.html"] {
            host.send("GET", path, &[], Value::Null).await.problem(404, "not-found");
        }
    }
}
