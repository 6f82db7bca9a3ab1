//! `/metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use manman_common::{ServerId, WorkerStatus};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::ApiResult;
use crate::app::{App, AppRef};
use crate::clock;
use crate::fleet::stats::BUCKETS_US;

/// Servers with a series of their own: what a home's Prometheus takes without a thought.
const SERVERS_MAX: usize = 1000;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// The layer that counts requests and how long they took.
pub(crate) async fn count(State(app): State<AppRef>, request: Request, next: Next) -> Response {
    let began = clock::instant();
    let response = next.run(request).await;
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    app.fleet.stats.requests.count(response.status().as_u16(), micros);
    response
}

/// Counters and gauges of this host and its fleet.
#[utoipa::path(get, path = "/metrics", tag = "host", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<AppRef>, caller: Caller) -> ApiResult<Response> {
    caller.require(Permission::SeeFleet)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], page(&app)).into_response())
}

fn page(app: &App) -> String {
    let mut page = Page(String::new());
    let fleet = &app.fleet;
    let stats = &fleet.stats;

    let all = [WorkerStatus::Pending, WorkerStatus::Alive, WorkerStatus::Frozen, WorkerStatus::Shutdown, WorkerStatus::Unknown];
    let mut statuses: BTreeMap<&str, u64> = all.map(|status| (status.as_str(), 0)).into();
    let (mut linked, mut streams) = (0, 0);
    for machine in fleet.machines() {
        *statuses.entry(machine.lock().status.as_str()).or_default() += 1;
        if let Some(link) = machine.link() {
            linked += 1;
            streams += link.streams() as u64;
        }
    }
    page.labelled("manman_workers", "gauge", "Workers by status.", "status", &statuses);
    page.plain("manman_links", "gauge", "Workers whose link is open.", linked);
    let (phases, players) = fleet.server_counts();
    let phases: BTreeMap<String, u64> = phases.into_iter().map(|(phase, count)| (format!("{phase:?}"), count)).collect();
    page.labelled("manman_servers", "gauge", "Servers by phase, as their workers last said.", "phase", &phases);
    page.plain("manman_players", "gauge", "Players on all servers.", players.values().sum());
    let (told, left_out) = fullest(&players);
    page.labelled("manman_server_players", "gauge", "Players by server, of those that tell.", "server", &told);
    page.plain("manman_server_players_left_out", "gauge", "Servers that tell their players and are too many to be listed.", left_out);
    page.plain("manman_log_streams", "gauge", "Streams of logs open at workers.", streams);
    page.plain("manman_readers", "gauge", "Streams of logs and events open at this host.", fleet.readers.count() as u64);
    page.plain("manman_settling_seconds", "gauge", "Time left in which the host calls nobody stale.", fleet.settling_seconds().into());
    page.plain("manman_beats_total", "counter", "Beats of workers.", stats.beats.get());
    page.plain("manman_link_frames_received_total", "counter", "Frames from workers.", stats.frames_from_workers.get());
    page.plain(
        "manman_link_frames_sent_total",
        "counter",
        "Frames to workers, calls and credit not counted.",
        stats.frames_to_workers.get(),
    );
    page.plain("manman_log_bytes_total", "counter", "Bytes of logs passed on.", stats.log_bytes.get());
    page.plain("manman_log_gap_lines_total", "counter", "Lines that readers were too slow for.", stats.log_gaps.get());
    page.plain("manman_calls_total", "counter", "Requests passed on to workers.", stats.calls.get());
    page.plain("manman_calls_failed_total", "counter", "Of these, those that no worker answered.", stats.calls_failed.get());
    page.plain("manman_kill_attempts_total", "counter", "Tries to kill a silent worker.", stats.kill_attempts.get());

    let classes: BTreeMap<&str, u64> =
        ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(stats.requests.by_class.iter().map(|class| class.get())).collect();
    page.labelled("manman_http_requests_total", "counter", "Requests by class of their answer.", "status", &classes);
    page.latency(app);
    if let Some(door) = app.front_door.get() {
        let counts = door.orchestrator().counts();
        page.labelled("manman_waifus", "gauge", "Waifus by their health.", "health", &counts.waifus);
        page.labelled("manman_waifu_requests_total", "counter", "Requests forwarded to a waifu.", "waifu", &counts.requests);
        page.plain("manman_waifu_refused_total", "counter", "Of these, those that the waifu did not answer.", counts.refused);
        page.plain("manman_incidents_total", "counter", "Wrong secrets that somebody has shown.", counts.incidents);
    }
    page.plain("manman_database_connections", "gauge", "Connections to the database.", app.db.size().into());
    page.plain("manman_database_connections_idle", "gauge", "Of these, those that are idle.", app.db.num_idle() as u64);
    page.0
}

/// One series each for the fullest servers, and how many others there are.
fn fullest(players: &BTreeMap<ServerId, u64>) -> (BTreeMap<String, u64>, u64) {
    let mut servers: Vec<_> = players.iter().collect();
    // The ids break ties, so that the same ones are listed each time.
    servers.sort_by_key(|(id, online)| (std::cmp::Reverse(**online), **id));
    let left_out = servers.len().saturating_sub(SERVERS_MAX) as u64;
    (servers.into_iter().take(SERVERS_MAX).map(|(id, online)| (id.to_string(), *online)).collect(), left_out)
}

struct Page(String);

impl Page {
    // Writing into a String can not fail, so the results below say nothing.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn plain(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled<K: AsRef<str>>(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &BTreeMap<K, u64>) {
        self.head(name, kind, help);
        for (key, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", key.as_ref());
        }
    }

    fn latency(&mut self, app: &App) {
        let requests = &app.fleet.stats.requests;
        let name = "manman_http_request_seconds";
        self.head(name, "histogram", "Time to the head of the answer.");
        let mut below = 0;
        for (bound, count) in BUCKETS_US.iter().zip(&requests.by_latency) {
            below += count.get();
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{}\"}} {below}", seconds(*bound));
        }
        let total: u64 = requests.by_class.iter().map(|class| class.get()).sum();
        let _ = writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(self.0, "{name}_sum {}\n{name}_count {total}", seconds(requests.micros.get()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric of whole microseconds may round beyond 2^53 of them")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_servers_are_listed_and_the_rest_is_counted() {
        let id = |n: u64| ServerId::from_uuid(uuid::Uuid::from_u128(u128::from(n)));
        let players = (0..1500).map(|n| (id(n), n % 10)).collect();
        let (told, left_out) = fullest(&players);
        assert_eq!((told.len(), left_out), (SERVERS_MAX, 500));
        assert_eq!(told.values().sum::<u64>(), (4..10).map(|n| n * 150).sum::<u64>() + 3 * 100);
    }
}
