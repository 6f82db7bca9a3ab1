//! The public reverse proxy.
//!
//! One request goes: host and path are read once and normalised, the route is found, headers are put
//! right both ways, bodies stream through untouched. What is not a waifu's is handed back to whoever
//! asked, so that an unknown name, an internal path and a mistyped one look alike.

mod body;
mod deadline;
mod headers;
mod link;
mod listener;
mod opening;
mod rewrite;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod trusted;
mod upgrade;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Body as _;
use manman_common::{Kind, Problem};

use crate::clock;
use crate::orchestrator::{Health, Orchestrator, Route, chain, respond};
use crate::path::normalise;
use body::{Answer, Guarded};
pub(crate) use link::Pool;
use link::{Link, Unanswered};
pub use listener::{ListenError, Listener};
pub use opening::Opening;
use rewrite::Mapping;
pub use tls::{CertificateError, Certificates};
pub use trusted::{Network, NetworkError};
pub(crate) use upstream::{AskError, Connector};
pub use upstream::{ConnectError, OwnListeners};

/// How the front door forwards.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Proxies in front of us, whose word on the client is believed.
    pub trusted: Vec<Network>,
    /// Names of cookies that are the front door's own: no waifu sees or sets them.
    pub own_cookies: Vec<String>,
    /// Beginnings of bearer tokens that are the front door's own.
    pub own_tokens: Vec<String>,
    /// A waifu that has not begun to answer by then is answered for.
    pub answer_within: Duration,
    /// Nothing in a body for so long ends it; streams of events may be silent.
    pub body_idle: Duration,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            own_cookies: Vec::new(),
            own_tokens: Vec::new(),
            answer_within: Duration::from_secs(60),
            body_idle: Duration::from_secs(300),
        }
    }
}

/// The public side of an orchestrator.
#[derive(Clone)]
pub struct FrontDoor {
    orchestrator: Arc<Orchestrator>,
    config: Arc<ProxyConfig>,
}

/// What becomes of a request.
pub enum Outcome {
    Answer(Response<Body>),
    /// No waifu's, or one that must look so.
    NotMine(Request<Body>),
}

/// Where a request goes.
struct Way {
    route: Arc<Route>,
    /// The path for the waifu, base included, with the query.
    path: PathAndQuery,
    mapping: Mapping,
}

/// Who asks, and for which host.
struct Asked {
    client: IpAddr,
    /// The chain of clients that a trusted proxy told of.
    before: Option<String>,
    https: bool,
    authority: Authority,
}

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// More proxies of our make in a row are a circle.
const HOPS_MAX: usize = 8;
const VIA: &str = "1.1 manman";

impl FrontDoor {
    #[must_use]
    pub fn new(orchestrator: Arc<Orchestrator>, config: ProxyConfig) -> Self {
        Self { orchestrator, config: Arc::new(config) }
    }

    #[must_use]
    pub fn orchestrator(&self) -> &Arc<Orchestrator> {
        &self.orchestrator
    }

    /// Answers a request for a waifu; hands back any other.
    pub async fn handle(&self, mut request: Request<Body>, peer: SocketAddr, https: bool) -> Outcome {
        let asked = match self.asked(&request, peer.ip().to_canonical(), https) {
            Ok(asked) => asked,
            Err(problem) => return Outcome::Answer(refuse(&problem)),
        };
        let found = match self.find(&request, &asked) {
            Ok(Found::Way(way)) => way,
            Ok(Found::Redirect(to)) => return Outcome::Answer(redirect(&to)),
            Ok(Found::Nothing) => return Outcome::NotMine(request),
            Err(problem) => return Outcome::Answer(refuse(&problem)),
        };
        let route = Arc::clone(&found.route);
        route.requests.fetch_add(1, Ordering::Relaxed);
        let method = request.method().clone();
        let answer = self.forward(&mut request, found, &asked).await;
        let response = answer.unwrap_or_else(|problem| {
            route.refused.fetch_add(1, Ordering::Relaxed);
            respond(&problem)
        });
        tracing::debug!(waifu.name = %route.name, client = %asked.client, %method, status = response.status().as_u16(), "forwarded");
        Outcome::Answer(response)
    }

    /// Reads the one host that a request names, and who sent it.
    fn asked(&self, request: &Request<Body>, peer: IpAddr, https: bool) -> Result<Asked, Problem> {
        let wrong = |detail: &str| Problem::new(Kind::Invalid, detail);
        let headers = request.headers();
        // What a connection buffers is bounded, too, but not to the byte.
        let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if length + request.uri().path().len() > HEAD_MAX {
            let title = "Request header fields too large".to_owned();
            return Err(Problem { status: 431, title, ..wrong(&format!("the head of the request is longer than {HEAD_MAX} bytes")) });
        }
        if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
            return Err(wrong("a body has one length"));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let named = hosts.next();
        if hosts.next().is_some() {
            return Err(wrong("a request names one host"));
        }
        // The absolute form and HTTP/2 name it in the address, and that one counts.
        let authority = match (request.uri().authority(), named) {
            (Some(authority), _) => authority.clone(),
            (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| wrong("the host is not readable"))?,
            (None, None) => return Err(wrong("the request names no host")),
        };
        if authority.as_str().contains('@') {
            return Err(wrong("the host is not readable"));
        }
        let believed = self.config.trusted.iter().any(|network| network.contains(peer));
        if !believed {
            return Ok(Asked { client: peer, before: None, https, authority });
        }
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        Ok(Asked {
            client: peer,
            before: said("x-forwarded-for").map(str::to_owned),
            https: said("x-forwarded-proto").map_or(https, |scheme| scheme.eq_ignore_ascii_case("https")),
            authority: said("x-forwarded-host").and_then(|host| host.parse().ok()).unwrap_or(authority),
        })
    }

    fn find(&self, request: &Request<Body>, asked: &Asked) -> Result<Found, Problem> {
        let path = match normalise(request.uri().path()) {
            Ok(path) => path,
            // For the whole server, as in `OPTIONS *`: no waifu's.
            Err(crate::path::PathError::NoSlash) => return Ok(Found::Nothing),
            Err(error) => return Err(Problem::new(Kind::Invalid, error.to_string())),
        };
        if path.internal {
            return Ok(Found::Nothing);
        }
        let path = &*path.path;
        let query = request.uri().query();
        let table = self.orchestrator.table();
        let now = self.orchestrator.tick();
        let host = asked.authority.host().trim_end_matches('.').to_ascii_lowercase();
        let port = asked.authority.port_u16();
        if let Some((bind, route)) = table.by_host(&host, port, path, now) {
            let mapping = Mapping { public: bind.prefix.clone(), upstream: format!("{}{}", route.target.base, bind.path) };
            let rest = bind.rest(path).unwrap_or(path);
            return Ok(Found::Way(Way { path: target_path(&mapping.upstream, rest, query)?, route: Arc::clone(route), mapping }));
        }
        if table.is_bound(&host, port, now) || !self.orchestrator.main_domain().covers(&host) {
            return Ok(Found::Nothing);
        }
        let after = &path[1..];
        let (segment, rest) = after.find('/').map_or((after, ""), |at| after.split_at(at));
        let name = segment.to_ascii_lowercase();
        let Some(route) = table.by_name(&name, now) else { return Ok(Found::Nothing) };
        if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(Found::Redirect(match query {
                Some(query) => format!("/{segment}/?{query}"),
                None => format!("/{segment}/"),
            }));
        }
        let mapping = Mapping { public: format!("/{segment}"), upstream: route.target.base.clone() };
        Ok(Found::Way(Way { path: target_path(&mapping.upstream, rest, query)?, route: Arc::clone(route), mapping }))
    }

    /// Whether the host of a request is bound to a waifu, so that nothing of the front door's own is
    /// shown there.
    #[must_use]
    pub fn is_bound(&self, request: &Request<Body>) -> bool {
        let named = request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let Some(authority) = request.uri().authority().cloned().or(named) else { return false };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        self.orchestrator.table().is_bound(&host, authority.port_u16(), self.orchestrator.tick())
    }

    async fn forward(&self, request: &mut Request<Body>, way: Way, asked: &Asked) -> Result<Response<Body>, Problem> {
        let Way { route, path, mapping } = way;
        match route.health() {
            Health::Up => {}
            Health::Probation => return Err(unavailable(&route, "has not shown that it is there yet", 1)),
            Health::Down => return Err(unavailable(&route, "does not answer its health checks", 10)),
        }
        let Ok(permit) = Arc::clone(&route.in_flight).try_acquire_owned() else {
            return Err(unavailable(&route, "has too many requests under way", 1));
        };
        if headers::hops(request.headers()) >= HOPS_MAX {
            return Err(Problem::new(Kind::BadGateway, "the request goes round in a circle"));
        }
        let upgrade = upgrade::wanted(request);
        if request.method() == Method::CONNECT && upgrade.is_none() {
            return Err(Problem::new(Kind::MethodNotAllowed, "this is no proxy for the outside"));
        }
        let waiting = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut *request));
        let upstream = self.upstream_request(request, path, &mapping, asked, upgrade.as_ref())?;
        let (mut response, link) = self.ask(&route, upstream).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match (upgrade, waiting) {
                (Some(upgrade), Some(waiting)) => Ok(upgrade.join(response, (waiting, link), permit, headers::strip_hops)),
                _ => Err(Problem::new(Kind::BadGateway, format!("`{}` switches to a protocol that nobody asked for", route.name))),
            };
        }
        *response.version_mut() = Version::HTTP_11;
        headers::strip_hops(response.headers_mut());
        rewrite::answer(response.headers_mut(), &mapping, &route, asked, &self.config.own_cookies);
        let endless = is_event_stream(&response);
        let idle = (!endless).then_some(self.config.body_idle);
        Ok(response.map(|body| Body::new(Answer::new(body, link, route, permit, idle))))
    }

    fn upstream_request(
        &self,
        request: &mut Request<Body>,
        path: PathAndQuery,
        mapping: &Mapping,
        asked: &Asked,
        upgrade: Option<&upgrade::Upgrade>,
    ) -> Result<Request<Body>, Problem> {
        let mut fresh = Request::new(Body::empty());
        *fresh.method_mut() = if upgrade.is_some() { Method::GET } else { request.method().clone() };
        *fresh.uri_mut() = Uri::from(path);
        let mut headers = std::mem::take(request.headers_mut());
        headers::strip_hops(&mut headers);
        headers::say_who(&mut headers, asked, mapping)?;
        headers::keep_own(&mut headers, &self.config);
        if let Some(upgrade) = upgrade {
            upgrade.ask(&mut headers);
        } else {
            let body = std::mem::take(request.body_mut());
            // An end that is known stays known: without a body there is no `Transfer-Encoding`.
            *fresh.body_mut() = if body.is_end_stream() { Body::empty() } else { Body::new(Guarded::new(body, self.config.body_idle)) };
        }
        *fresh.headers_mut() = headers;
        Ok(fresh)
    }

    /// Sends it, by a connection that waits or by a fresh one.
    async fn ask(&self, route: &Route, request: Request<Body>) -> Result<(Response<hyper::body::Incoming>, Link), Problem> {
        let end = clock::instant() + self.config.answer_within;
        match self.answer(route, request, end).await {
            Ok(answered) => Ok(answered),
            Err(AskError::Slow) => {
                let detail = format!("`{}` has not answered within {} s", route.name, self.config.answer_within.as_secs());
                Err(Problem { title: "Gateway timeout".to_owned(), ..Problem::new(Kind::Timeout, detail) })
            }
            Err(error) => {
                tracing::debug!(waifu.name = %route.name, error = chain(&error), "a waifu could not be reached");
                let what = if matches!(error, AskError::Connect(_)) { "can not be reached" } else { "broke off before it answered" };
                Err(Problem { title: "Bad gateway".to_owned(), ..Problem::new(Kind::BadGateway, format!("`{}` {what}", route.name)) })
            }
        }
    }

    async fn answer(
        &self,
        route: &Route,
        mut request: Request<Body>,
        end: Instant,
    ) -> Result<(Response<hyper::body::Incoming>, Link), AskError> {
        let is_idempotent = request.method().is_idempotent();
        if let Some(mut link) = route.pool.take(clock::instant()) {
            // A waifu may close a connection at the very moment at which we use it again.
            let again = (request.body().is_end_stream() && is_idempotent)
                .then(|| (request.method().clone(), request.uri().clone(), request.headers().clone()));
            match (link.send(request, end).await, again) {
                (Ok(response), _) => return Ok((response, link)),
                (Err(Unanswered { error: AskError::Slow, .. }), _) => return Err(AskError::Slow),
                (Err(Unanswered { unsent: Some(unsent), .. }), _) => request = *unsent,
                (Err(_), Some((method, uri, headers))) => {
                    request = Request::new(Body::empty());
                    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
                }
                (Err(Unanswered { error, unsent: None }), None) => return Err(error),
            }
        }
        let connector = self.orchestrator.connector();
        let connecting = async {
            match connector.link(&route.target).await {
                Err(AskError::Connect(_)) if is_idempotent => connector.link(&route.target).await,
                connected => connected,
            }
        };
        let mut link = tokio::time::timeout_at(end.into(), connecting).await.map_err(|_| AskError::Slow)??;
        let response = link.send(request, end).await.map_err(|failed| failed.error)?;
        Ok((response, link))
    }
}

enum Found {
    Way(Way),
    Redirect(String),
    Nothing,
}

fn target_path(prefix: &str, rest: &str, query: Option<&str>) -> Result<PathAndQuery, Problem> {
    let mut path = String::with_capacity(prefix.len() + rest.len() + query.map_or(0, |query| query.len() + 1) + 1);
    path.push_str(prefix);
    path.push_str(rest);
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    PathAndQuery::try_from(path).map_err(|_| Problem::new(Kind::Invalid, "the path is not readable"))
}

fn unavailable(route: &Route, why: &str, seconds: u32) -> Problem {
    Problem::new(Kind::Unavailable, format!("`{}` {why}", route.name)).retry_after(seconds)
}

/// What is wrong with a request's framing may be meant for the next one: the connection ends.
fn refuse(problem: &Problem) -> Response<Body> {
    let mut response = respond(problem);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn is_event_stream(response: &Response<hyper::body::Incoming>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}
