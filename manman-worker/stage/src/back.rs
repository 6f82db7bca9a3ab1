//! The socket at the back: where scripts answer, and where pool processes fetch.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::engine::{Delivery, Engine, Inner, OpenError, Policy, Reply, procfs};
use crate::problem::{Body, Problem, empty, json};

const CONNECTIONS: usize = 8192;
/// To send a body that has begun.
const BODY_WITHIN: Duration = Duration::from_secs(30);
const PROGRESS_MAX: usize = 64 << 10;
const HEADER_PREFIX: &str = "x-urocket-header-";

/// Binds without ever taking a socket on which somebody answers.
pub(crate) fn listen(path: &Path, users: bool) -> Result<UnixListener, OpenError> {
    let failed = |source| OpenError::Socket { path: path.to_owned(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(OpenError::NotASocket(path.to_owned())),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(OpenError::InUse(path.to_owned())),
            // A full backlog answers "try again": somebody is there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(OpenError::InUse(path.to_owned())),
            Err(error) => return Err(failed(error)),
        },
    }
    // Under a name of its own until nobody but the owner may connect.
    let own = path.with_extension(format!("{}", std::process::id()));
    let _ = std::fs::remove_file(&own);
    let bound = std::os::unix::net::UnixListener::bind(&own).and_then(|listener| {
        // Other users may connect where they are to answer; each request says who it is from.
        std::fs::set_permissions(&own, Permissions::from_mode(if users { 0o666 } else { 0o600 }))?;
        std::fs::rename(&own, path)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    bound.map_err(|error| {
        let _ = std::fs::remove_file(&own);
        failed(error)
    })
}

pub(crate) async fn serve(engine: Engine, listener: UnixListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        // Cancel-safe: accept is.
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: there will be some again.
                    tracing::warn!(%error, "a connection at the socket could not be taken");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = engine.inner.closed.cancelled() => return,
        };
        let connection = connection(engine.clone(), stream);
        tokio::spawn(async move {
            connection.await;
            drop(slot);
        });
    }
}

/// Counted as soon as it is made, which is before the next one is accepted.
fn connection(engine: Engine, stream: UnixStream) -> impl Future<Output = ()> {
    // Who cannot be named is nobody that may answer.
    let peer = stream.peer_cred().ok();
    let closed = engine.inner.closed.clone();
    // From here on something may be arriving, until the first request is seen to be something else.
    let first = Mutex::new(Some(Arriving::count(&engine)));
    let line = Line(stream.as_fd().try_clone_to_owned().ok().map(Arc::new));
    let service = service_fn(move |request| {
        let arriving = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (engine, line) = (engine.clone(), line.clone());
        async move { Ok::<_, std::convert::Infallible>(handle(&engine, peer, request, arriving, line).await) }
    });
    let mut builder = http1::Builder::new();
    // A script may write its answer and be gone at once; what it has written counts.
    builder.timer(TokioTimer::new()).header_read_timeout(None).half_close(true);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    async move {
        // Cancel-safe: the connection is dropped whole.
        tokio::select! {
            _ = connection => {}
            () = closed.cancelled() => {}
        }
    }
}

/// Comes back when whatever was sent to the socket before has been looked at: connections are taken in
/// the order of their coming.
pub(crate) async fn settle(engine: &Inner) {
    let own = async {
        let mut stream = UnixStream::connect(&engine.options.socket).await?;
        stream.write_all(b"GET /_/health HTTP/1.1\r\nhost: stage\r\nconnection: close\r\n\r\n").await?;
        stream.read_u8().await
    };
    let _ = own.await;
    while engine.arriving.load(Ordering::Acquire) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn handle(
    engine: &Engine,
    peer: Option<UCred>,
    request: Request<Incoming>,
    arriving: Option<Arriving>,
    line: Line,
) -> Response<Body> {
    let policy = engine.policy();
    let own = rustix::process::geteuid().as_raw();
    let is_guest = |uid| engine.inner.options.users && engine.inner.users.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&uid);
    let Some(peer) = peer.filter(|peer| peer.uid() == own || Some(peer.uid()) == policy.reply_uid || is_guest(peer.uid())) else {
        return Problem::new(StatusCode::FORBIDDEN, "this user may not answer here").response();
    };
    let path = request.uri().path();
    let guest = peer.uid() != own && Some(peer.uid()) != policy.reply_uid;
    if let Some(rest) = path.strip_prefix("/_/").filter(|rest| !guest || *rest == "health") {
        return internal(engine, rest);
    }
    if path == "/next" || path.starts_with("/next/") {
        drop(arriving);
        return next(engine, peer, &request, line).await;
    }
    match request.method() {
        &Method::POST | &Method::PUT => {}
        _ => {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "an answer is a POST or a PUT");
            return problem.header(ALLOW, HeaderValue::from_static("POST, PUT")).response();
        }
    }
    let _arriving = arriving.unwrap_or_else(|| Arriving::count(engine));
    match answer(engine, &policy, (peer, guest), request).await {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(problem) => problem.response(),
    }
}

/// What the stage tells of itself; also at the front, to this machine.
pub(crate) fn internal(engine: &Engine, rest: &str) -> Response<Body> {
    if rest == "health" {
        return empty(StatusCode::NO_CONTENT);
    }
    let record = rest.strip_prefix("requests/").and_then(|id| Uuid::try_parse(id).ok()).and_then(|id| engine.record(id));
    match record {
        Some(record) => json(&record),
        None => Problem::new(StatusCode::NOT_FOUND, "no such request, or it is more than a minute ago").response(),
    }
}

/// A second handle of a connection, to see whether somebody is still at its other end.
#[derive(Clone)]
pub(crate) struct Line(Option<Arc<OwnedFd>>);

impl Line {
    pub(crate) fn is_cut(&self) -> bool {
        let Some(descriptor) = &self.0 else { return false };
        let looked = recv(descriptor, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(looked, Ok((1.., _)) | Err(Errno::AGAIN))
    }
}

struct Arriving(Engine);

impl Arriving {
    fn count(engine: &Engine) -> Self {
        engine.inner.arriving.fetch_add(1, Ordering::AcqRel);
        Self(engine.clone())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.inner.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Reply,
    Error,
    Progress,
}

async fn answer(engine: &Engine, policy: &Policy, (peer, guest): (UCred, bool), request: Request<Incoming>) -> Result<(), Problem> {
    let (head, body) = request.into_parts();
    let pid = peer.pid();
    let belongs = |root| pid.is_some_and(|pid| procfs::belongs(pid, root));
    let (id, word) = whom(head.uri.path(), &head.headers);
    // No id at all: then it is the request whose process speaks.
    let id = id.or_else(|| engine.inner.arbiter.of_process(belongs));
    let id = id.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no request is named, by /uri/{id} or X-Request-Id"))?;
    let limit = if word == Word::Progress { PROGRESS_MAX } else { policy.max_body };
    let body = collect(body, limit).await?;
    // A guest speaks for requests of its own user alone, whatever id it knows.
    if guest && engine.inner.arbiter.user_of(id) != Some(peer.uid()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "only the request's own processes may answer it"));
    }
    if word == Word::Progress {
        let text = String::from_utf8_lossy(&body).into_owned();
        return engine.inner.arbiter.progress(id, text).then_some(()).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no such request"));
    }
    let reply = reply(&head.headers, policy, body, word == Word::Error)?;
    let delivery = engine.inner.arbiter.deliver(id, reply, |root| !policy.strict_peer || belongs(root));
    engine.inner.pools.answered(id, delivery);
    engine.inner.metrics.delivered(delivery);
    let (status, detail) = match delivery {
        Delivery::Delivered => return Ok(()),
        Delivery::Unknown => (StatusCode::NOT_FOUND, "no such request"),
        Delivery::Late => (StatusCode::GONE, "the request is over"),
        Delivery::Second => (StatusCode::CONFLICT, "the request has been answered"),
        Delivery::Stranger => (StatusCode::FORBIDDEN, "only the request's own processes may answer it"),
    };
    Err(Problem::new(status, detail).with("request_id", id.to_string()))
}

/// `/uri/{id}`, `/urhttp/{id}`, `/{id}`, and whatever else an outtake says: the segment that is an id.
fn whom(path: &str, headers: &HeaderMap) -> (Option<Uuid>, Word) {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let id = segments.by_ref().find_map(parse_id);
    let word = match segments.next_back().or_else(|| path.rsplit('/').next().filter(|_| id.is_none())) {
        Some("error") => Word::Error,
        Some("progress") => Word::Progress,
        _ => Word::Reply,
    };
    (id.or_else(|| parse_id(headers.get("x-request-id")?.to_str().ok()?)), word)
}

/// As it was given out, with its dashes: 32 digits might be somebody's file name.
fn parse_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn reply(headers: &HeaderMap, policy: &Policy, body: Bytes, is_error: bool) -> Result<Reply, Problem> {
    let mut reply = Reply { status: if is_error { 502 } else { 200 }, content_type: None, headers: Vec::new(), body, is_error };
    if let Some(status) = headers.get("x-urocket-status").filter(|_| !is_error) {
        let code = status.to_str().ok().and_then(|text| text.parse().ok()).filter(|code| (200..=599).contains(code));
        reply.status = code.ok_or_else(|| Problem::bad_request("X-URocket-Status is a number from 200 to 599"))?;
    }
    reply.content_type = headers.get(CONTENT_TYPE).cloned();
    for (name, value) in headers {
        let Some(own) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        if !is_allowed(policy, own) {
            return Err(Problem::bad_request(format!("the header `{own}` is not a script's to set")));
        }
        let own = HeaderName::from_bytes(own.as_bytes()).map_err(|_| Problem::bad_request(format!("`{own}` is no name of a header")))?;
        reply.headers.push((own, value.clone()));
    }
    Ok(reply)
}

/// `X-…` is anybody's, but for what the stage itself says.
fn is_allowed(policy: &Policy, name: &str) -> bool {
    let own = name == "x-request-id" || name.starts_with("x-urocket");
    !own && (policy.reply_headers.contains(name) || (name.starts_with("x-") && name.len() > 2))
}

pub(crate) async fn collect(body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has {limit} bytes at most")))
        }
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

async fn next(engine: &Engine, peer: UCred, request: &Request<Incoming>, line: Line) -> Response<Body> {
    if request.method() != Method::GET {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the next request is fetched by GET")
            .header(ALLOW, HeaderValue::from_static("GET"))
            .response();
    }
    let named = request.uri().path().strip_prefix("/next/").and_then(parse_id);
    match engine.inner.pools.next(&engine.inner, named, peer.pid(), line).await {
        Some(response) => response,
        None => Problem::new(StatusCode::NOT_FOUND, "this process is none of a pool").response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_in_any_of_these_ways() {
        let id = "0b54cd0e-32a5-4a0c-9c4b-0a1ddc9ba5ed";
        let uuid = Uuid::try_parse(id).expect("an id");
        let mut none = HeaderMap::new();
        for path in ["/uri/ID", "/urhttp/ID", "/ID", "/a/b/ID", "/uri/ID/response"] {
            assert!(whom(&path.replace("ID", id), &none) == (Some(uuid), Word::Reply), "{path}");
        }
        assert!(whom(&format!("/uri/{id}/error"), &none) == (Some(uuid), Word::Error));
        assert!(whom(&format!("/uri/{id}/progress"), &none) == (Some(uuid), Word::Progress));
        assert!(whom("/uri/0b54cd0e32a54a0c9c4b0a1ddc9ba5ed", &none).0.is_none());
        none.insert("x-request-id", HeaderValue::from_static("0b54cd0e-32a5-4a0c-9c4b-0a1ddc9ba5ed"));
        assert!(whom("/anything", &none) == (Some(uuid), Word::Reply));
        assert!(whom("/error", &none) == (Some(uuid), Word::Error));
    }
}
