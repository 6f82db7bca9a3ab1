//! Requests to a worker's own routes: over its link, else to its own listener.

use std::sync::Arc;
use std::time::Duration;

use manman_common::link::{Call, Reply};
use manman_common::logs::LogQuery;
use manman_common::{Kind, Problem, ServerId, WorkerId, WorkerStatus};

use super::Fleet;
use super::link::{CallError, LogFeed};
use super::machine::Machine;

/// The longest that anybody waits for a worker.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest answer that is read from a worker's listener.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

impl Fleet {
    /// A request to the worker's own routes, over its link or its own listener; an error is a
    /// problem fit to be answered with (`not-alive`, `timeout`). It is sent at most once.
    pub async fn call(&self, worker: WorkerId, call: Call) -> Result<Reply, Problem> {
        let machine = self.machine(worker).ok_or_else(|| Problem::not_found("worker", worker))?;
        self.stats.calls.add(1);
        let answer = self.call_machine(&machine, call).await;
        if answer.is_err() {
            self.stats.calls_failed.add(1);
        }
        answer
    }

    async fn call_machine(&self, machine: &Arc<Machine>, call: Call) -> Result<Reply, Problem> {
        let within = Duration::from_millis(call.ttl_ms.into()).min(WAIT_MAX);
        if let Some(link) = machine.link() {
            return link.call(call, within).await.map_err(|error| call_problem(machine, error));
        }
        let (status, url, token) = {
            let state = machine.lock();
            (state.status, state.api_url.clone(), state.api_token.clone())
        };
        match (status, url, token) {
            // It beats and has no link: where it gave an address and a token of its own, that is
            // the way in.
            (WorkerStatus::Alive | WorkerStatus::Frozen, Some(url), Some(token)) => {
                self.call_listener(machine, &url, &token, call, within).await
            }
            _ => Err(absence(machine)),
        }
    }

    async fn call_listener(&self, machine: &Machine, url: &str, token: &str, call: Call, within: Duration) -> Result<Reply, Problem> {
        let unreachable =
            || Problem::new(Kind::NotAlive, format!("worker `{}` beats, and its listener can not be reached", machine.lock().name));
        let Ok(method) = call.method.parse::<reqwest::Method>() else { return Err(Problem::new(Kind::Internal, "no such method")) };
        let client = self.http().map_err(|error| {
            tracing::error!(%error, "no HTTP client could be made");
            unreachable()
        })?;
        let mut request = client.request(method, format!("{}{}", url.trim_end_matches('/'), call.path)).bearer_auth(token).timeout(within);
        if !call.body.is_null() {
            request = request.json(&call.body);
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                unreachable()
            } else if error.is_timeout() {
                call_problem(machine, CallError::Timeout)
            } else {
                call_problem(machine, CallError::Lost)
            }
        })?;
        let status = response.status().as_u16();
        let text = text_of(response).await.map_err(|_| call_problem(machine, CallError::Lost))?;
        let Some(text) = text else { return Err(Problem::new(Kind::BadGateway, "the worker's answer is too large")) };
        let body = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
        Ok(Reply { status, body })
    }

    /// Opens a stream of a server's log at its worker.
    pub(crate) fn open_log(&self, worker: WorkerId, server: ServerId, query: LogQuery) -> Result<LogFeed, Problem> {
        let machine = self.machine(worker).ok_or_else(|| Problem::not_found("worker", worker))?;
        let link = machine.link().ok_or_else(|| absence(&machine))?;
        link.open_log(server, query).ok_or_else(|| {
            if link.is_closed() {
                absence(&machine)
            } else {
                Problem::new(Kind::TooManyRequests, "too many logs of this worker's servers are being read").retry_after(5)
            }
        })
    }

    /// Whether the worker can be asked anything right now; the problem says why not.
    pub(crate) fn reachable(&self, worker: WorkerId) -> Result<(), Problem> {
        let machine = self.machine(worker).ok_or_else(|| Problem::not_found("worker", worker))?;
        if machine.link().is_some() {
            return Ok(());
        }
        let state = machine.lock();
        let beats = matches!(state.status, WorkerStatus::Alive | WorkerStatus::Frozen);
        let listens = state.api_url.is_some() && state.api_token.is_some();
        drop(state);
        if beats && listens { Ok(()) } else { Err(absence(&machine)) }
    }
}

/// `None` where it is longer than is read: one that names no length may have no end.
async fn text_of(mut response: reqwest::Response) -> Result<Option<String>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > ANSWER_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Why a worker can not be asked anything.
fn absence(machine: &Machine) -> Problem {
    let state = machine.lock();
    let name = &state.name;
    let since = state.heard_at.map_or_else(|| "since the host's start".to_owned(), |at| format!("since {at}"));
    match state.status {
        WorkerStatus::Pending => {
            Problem::new(Kind::NotAlive, format!("worker `{name}` has not been accepted")).hint(format!("manman worker accept {name}"))
        }
        WorkerStatus::Shutdown => Problem::new(Kind::NotAlive, format!("worker `{name}` has shut down")),
        WorkerStatus::Unknown => Problem::new(Kind::NotAlive, format!("worker `{name}` is unknown: nothing has been heard of it {since}")),
        WorkerStatus::Alive | WorkerStatus::Frozen => {
            Problem::new(Kind::NotAlive, format!("worker `{name}` has no link to this host at the moment")).retry_after(2)
        }
    }
}

fn call_problem(machine: &Machine, error: CallError) -> Problem {
    let name = machine.lock().name.clone();
    match error {
        CallError::Busy => Problem::new(Kind::TooManyRequests, format!("worker `{name}` has too many requests to answer")).retry_after(1),
        CallError::NotSent => absence(machine),
        CallError::Lost => Problem::new(Kind::Timeout, format!("indeterminate: the link to worker `{name}` broke before it answered"))
            .hint("it may or may not have been carried out; look before trying again"),
        CallError::Timeout => Problem::new(Kind::Timeout, format!("indeterminate: worker `{name}` did not answer in time"))
            .hint("it may or may not have been carried out; look before trying again"),
    }
}
