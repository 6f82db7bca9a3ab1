//! The front: a request is found its route, checked, given an id, and answered by its process.

mod gate;
mod inject;
mod lot;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use uuid::Uuid;

use self::gate::{Gate, Permit};
pub(crate) use self::lot::{Lot, Parked};
use crate::back::{collect, internal};
use crate::clock;
use crate::config::{LogStdout, Mode, Route, Site, Verb};
use crate::engine::{Answer, Engine, Failure, Reply, Usage, procfs};
use crate::metrics::Gauges;
use crate::openapi;
use crate::pool::{Pool, Pools, head};
use crate::problem::{Body, Problem, empty};
use crate::template::Params;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const STATS: HeaderName = HeaderName::from_static("urocket-stats");

/// A stage as it is served: the engine, and the routes of the file as last read.
pub(crate) struct Front {
    pub(crate) engine: Engine,
    serving: RwLock<Arc<Serving>>,
    pub(crate) draining: AtomicBool,
}

pub(crate) struct Serving {
    pub(crate) site: Site,
    gate: Gate,
    routes: HashMap<String, RouteState>,
}

struct RouteState {
    gate: Option<Gate>,
    pool: Option<Arc<Pool>>,
}

impl Serving {
    pub(crate) fn start(site: Site, engine: &Engine) -> Self {
        let state = |route: &Arc<Route>| RouteState {
            gate: route.max_inflight.map(|most| Gate::new(most, route.queue)),
            pool: (route.mode == Mode::Pool).then(|| Pools::start(engine, route)),
        };
        let routes = site.routes.iter().flat_map(|(_, verbs)| verbs.values()).map(|route| (label(route), state(route))).collect();
        Self { gate: Gate::new(site.max_inflight, site.queue), routes, site }
    }
}

impl Serving {
    /// What a request needs that comes just now, if it need not wait for it.
    fn try_enter(&self, label: &str) -> Option<Permits> {
        let own = match self.routes.get(label).and_then(|state| state.gate.as_ref()) {
            Some(gate) => Some(gate.try_enter()?),
            None => None,
        };
        Some((own, self.gate.try_enter()?))
    }

    /// Whether the gate that it would wait at takes no more.
    fn turns_away(&self, label: &str) -> bool {
        let own = self.routes.get(label).and_then(|state| state.gate.as_ref()).filter(|gate| !gate.is_open());
        own.unwrap_or(&self.gate).is_full()
    }

    /// The same, in its turn.
    async fn enter(&self, label: &str, within: Duration) -> Option<Permits> {
        let own = match self.routes.get(label).and_then(|state| state.gate.as_ref()) {
            Some(gate) => Some(gate.enter(within).await?),
            None => None,
        };
        Some((own, self.gate.enter(within).await?))
    }

    /// Requests that wait for their turn, at the stage's gate or at a route's.
    fn waiting(&self) -> usize {
        self.gate.waiting() + self.routes.values().filter_map(|state| state.gate.as_ref()).map(Gate::waiting).sum::<usize>()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        for state in self.routes.values() {
            if let Some(pool) = &state.pool {
                pool.stop.cancel();
            }
        }
    }
}

impl Front {
    pub(crate) fn new(engine: Engine, site: Site) -> Self {
        let serving = Arc::new(Serving::start(site, &engine));
        Self { engine, serving: RwLock::new(serving), draining: AtomicBool::new(false) }
    }

    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests under way keep what they began with.
    pub(crate) fn replace(&self, site: Site) {
        let new = Arc::new(Serving::start(site, &self.engine));
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    pub(crate) async fn handle(self: Arc<Self>, peer: SocketAddr, lot: Arc<Lot>, request: Request<Incoming>) -> Response<Body> {
        let ticket = lot.take_ticket();
        let path = request.uri().path();
        if let Some(rest) = path.strip_prefix("/_/") {
            return self.own(peer, rest);
        }
        let serving = self.serving();
        let Some((_, verbs, params)) = serving.site.routes.find(path) else {
            if path == "/metrics" && request.method() == Method::GET {
                return self.metrics(&serving);
            }
            return Problem::new(StatusCode::NOT_FOUND, "no such path").response();
        };
        let route = match choose(verbs, request.method()) {
            Ok(route) => route.clone(),
            Err(answer) => return *answer,
        };
        let (id, started) = ticket.as_ref().map_or_else(|| (clock::request_id(), clock::instant()), |ticket| (ticket.id, ticket.started));
        let turn = ticket.map(|ticket| ticket.permit);
        let call = Call { front: &self, serving: &serving, route: &route, id, params };
        let mut response = match call.answer(request, (turn, started, &lot)).await {
            Ok(response) => response,
            Err(problem) => problem.with("request_id", id.to_string()).response(),
        };
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let label = label(&route);
        let (status, time) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(request.id = %id, route = %label, status, ms = time.as_millis() as u64, "a request was answered");
        self.engine.inner.metrics.answered(&label, status, time);
        response
    }

    fn own(&self, peer: SocketAddr, rest: &str) -> Response<Body> {
        match rest {
            "ready" if self.draining.load(Ordering::Relaxed) => empty(StatusCode::SERVICE_UNAVAILABLE),
            "ready" if self.serving().gate.is_full() => empty(StatusCode::TOO_MANY_REQUESTS),
            "ready" => empty(StatusCode::NO_CONTENT),
            // What a script has printed is this machine's business.
            _ if rest != "health" && !peer.ip().is_loopback() => Problem::new(StatusCode::NOT_FOUND, "no such path").response(),
            _ => internal(&self.engine, rest),
        }
    }

    fn metrics(&self, serving: &Serving) -> Response<Body> {
        let inner = &self.engine.inner;
        let samples: Vec<_> = inner.arbiter.roots().into_iter().filter_map(procfs::sample).collect();
        let gauges = Gauges {
            in_flight: inner.arbiter.len(),
            waiting: serving.waiting(),
            pool_processes: inner.pools.alive(),
            rss: samples.iter().map(|sample| sample.rss).sum(),
            cpu_ms: samples.iter().map(|sample| sample.cpu_ms).sum(),
        };
        let mut response = Response::new(Full::from(inner.metrics.to_text(&gauges)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        response
    }
}

/// The verb's route; HEAD is a GET whose body is not sent, and OPTIONS lists what there is.
fn choose<'a>(verbs: &'a BTreeMap<Verb, Arc<Route>>, method: &Method) -> Result<&'a Arc<Route>, Box<Response<Body>>> {
    let verb = method.as_str().parse::<Verb>().ok();
    let found = verb.and_then(|verb| verbs.get(&verb)).or_else(|| verbs.get(&Verb::Get).filter(|_| verb == Some(Verb::Head)));
    if let Some(route) = found {
        return Ok(route);
    }
    let mut allowed: Vec<&str> = verbs.keys().map(|verb| verb.as_str()).collect();
    for (verb, has) in [(Verb::Head, verbs.contains_key(&Verb::Get)), (Verb::Options, true)] {
        if has && !verbs.contains_key(&verb) {
            allowed.push(verb.as_str());
        }
    }
    let allowed = HeaderValue::from_str(&allowed.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"));
    Err(Box::new(if verb == Some(Verb::Options) {
        let mut response = empty(StatusCode::NO_CONTENT);
        response.headers_mut().insert(ALLOW, allowed);
        response
    } else {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that verb").header(ALLOW, allowed).response()
    }))
}

/// A route's name in logs and metrics.
fn label(route: &Route) -> String {
    format!("{} {}", route.verb, route.template)
}

/// Of the route, if it has a number of its own, and of the stage.
type Permits = (Option<Permit>, Permit);

/// One request on its way to one route.
struct Call<'a> {
    front: &'a Front,
    serving: &'a Arc<Serving>,
    route: &'a Arc<Route>,
    id: Uuid,
    params: Params,
}

impl Call<'_> {
    async fn answer(
        self,
        request: Request<Incoming>,
        (turn, started, lot): (Option<Option<Permits>>, Instant, &Lot),
    ) -> Result<Response<Body>, Problem> {
        let label = self.label();
        let state = self.serving.routes.get(&label);
        let timeout = inject::timeout(request.headers(), self.route.timeout)?;
        let permit = match turn {
            Some(permit) => permit,
            None if self.front.draining.load(Ordering::Relaxed) => {
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the stage is ending");
                return Err(problem.header(RETRY_AFTER, HeaderValue::from_static("1")));
            }
            None => match self.serving.try_enter(&label) {
                Some(permit) => Some(permit),
                None if self.serving.turns_away(&label) => None,
                None => match Parked::of(&request, self.serving, label, timeout, (self.id, started)) {
                    Some(parked) => {
                        lot.park(parked);
                        // Whoever holds the connection drops this.
                        return std::future::pending().await;
                    }
                    None => self.serving.enter(&self.label(), timeout).await,
                },
            },
        };
        let permit = permit.ok_or_else(|| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "as much is under way as may be").header(RETRY_AFTER, HeaderValue::from_static("1"))
        })?;
        // What comes now is larger than what waits, and many may wait: it is made when it is needed.
        Box::pin(self.run(request, state, permit, timeout)).await
    }

    async fn run(
        self,
        request: Request<Incoming>,
        state: Option<&RouteState>,
        permit: Permits,
        timeout: Duration,
    ) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        let payload = collect(body, self.serving.site.max_body).await?;
        inject::check(self.route, &payload, &self.params)?;
        if let Some(validator) = &self.route.validate_in {
            let incoming = openapi::Incoming {
                params: &self.params,
                query: head.uri.query().unwrap_or_default(),
                headers: &head.headers,
                body: &payload,
            };
            validator.incoming(&incoming).map_err(refused)?;
        }
        let values = inject::values(self.route, &head, &self.params);
        if let Some(pool) = state.and_then(|state| state.pool.as_ref()) {
            let deadline = clock::unix_millis() + timeout.as_millis() as u64;
            let fetched = self::head(self.id, deadline, head.headers.get(CONTENT_TYPE), &values);
            let answer = pool.ask(&self.front.engine, &self.label(), self.id, payload, fetched, timeout).await;
            drop(permit);
            return self.respond(answer, None);
        }
        let mut job = inject::job(self.route, self.label(), payload, values, timeout);
        job.hold = Some(Box::new(permit));
        job.log = match self.route.log {
            LogStdout::Yes => true,
            LogStdout::No => false,
            LogStdout::Header => head.headers.get("x-urocket-log").is_some_and(|value| value == "stdout"),
        };
        let mut running = self.front.engine.start_as(self.id, job);
        let answer = running.answer().await;
        let ended = if self.route.stats { running.ended().await } else { None };
        self.respond(answer, ended.map(|ended| ended.usage))
    }

    fn label(&self) -> String {
        label(self.route)
    }

    fn respond(&self, answer: Answer, usage: Option<Usage>) -> Result<Response<Body>, Problem> {
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Failed(failure) => return Err(self.failed(&failure)),
        };
        if let (Some(validator), false) = (&self.route.validate_out, reply.is_error) {
            let outgoing = openapi::Outgoing { status: reply.status, content_type: reply.content_type.as_ref(), body: &reply.body };
            validator.outgoing(&outgoing).map_err(|invalid| {
                tracing::warn!(request.id = %self.id, route = %self.label(), pointer = %invalid.pointer, detail = %invalid.detail,
                    "a reply is not what the OpenAPI file says");
                Problem::new(StatusCode::BAD_GATEWAY, format!("the reply is not what was agreed: {}", invalid.detail))
                    .with("pointer", invalid.pointer)
                    .with("errors", invalid.errors)
            })?;
        }
        let mut response = into_response(reply);
        if let Some(usage) = usage.and_then(|usage| HeaderValue::from_str(&usage.to_string()).ok()) {
            response.headers_mut().insert(STATS, usage);
        }
        Ok(response)
    }

    fn failed(&self, failure: &Failure) -> Problem {
        tracing::warn!(request.id = %self.id, route = %self.label(), "{failure}");
        let status = match failure {
            Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Failure::Exited { .. } | Failure::Spawn(_) | Failure::BadOutput(_) => StatusCode::BAD_GATEWAY,
            Failure::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Problem::new(status, failure.to_string());
        match failure {
            Failure::Exited { code, signal, out_of_memory, stderr_tail } => {
                let problem = problem.with("exit", *code).with("signal", *signal).with("stderr_tail", stderr_tail.as_str());
                if *out_of_memory { problem.with("reason", "oom") } else { problem }
            }
            Failure::Timeout | Failure::Spawn(_) | Failure::BadOutput(_) | Failure::Stopping => problem,
        }
    }
}

fn refused(invalid: openapi::Invalid) -> Problem {
    let status = StatusCode::from_u16(invalid.status).unwrap_or(StatusCode::BAD_REQUEST);
    Problem::new(status, invalid.detail).with("pointer", invalid.pointer).with("errors", invalid.errors)
}

fn into_response(reply: Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let mut response = Response::new(Full::new(if bodiless { Bytes::new() } else { reply.body }));
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value);
    }
    if !bodiless {
        let kind = reply.content_type.unwrap_or(HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
