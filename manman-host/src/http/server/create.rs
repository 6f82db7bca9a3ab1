//! `POST /server`: a place, a name, ports, and all of it in one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manman_common::link::Call;
use manman_common::spec::{Platform, PortSpec, Protocol};
use manman_common::wire::{CreateServer, ServerView};
use manman_common::{DesiredState, Kind, Name, Problem, ServerId, WorkerId, WorkerStatus};
use sqlx::PgConnection;

use super::change::require_for_actions;
use super::idempotency::Key;
use super::{audit, etag, lease, view};
use crate::app::{App, AppRef};
use crate::db::event::{NewEvent, event_insert};
use crate::db::port::{port_holder, port_taken};
use crate::db::server::{NewServer, revision_bump, server_get, server_insert};
use crate::db::violated;
use crate::db::worker::{Admission, WorkerRow, worker_all, worker_find};
use crate::domain::placement::{Candidate, Need, Unfit, fitness, place};
use crate::domain::ports::{DEFAULT_RANGE, PortError, PortWish, Socket, Want, allocate};
use crate::games::{Definition, Place, ensure_console_secret, port_wishes, resolve_run};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::HashedJson;
use crate::{clock, db};

/// Makes a server: places it, takes its ports, and tells its worker.
///
/// Without `worker_id` the host chooses a worker that can run the game, has the memory, and has the
/// fewest servers. Ports that nobody named are chosen next to the game's own. With the header
/// `Idempotency-Key` a request sent twice makes one server.
#[utoipa::path(
    post,
    path = "/server",
    tag = "server",
    request_body = CreateServer,
    params(("Idempotency-Key" = Option<String>, Header, description = "any text that is fresh for each thing you want done")),
    responses(
        (status = 201, body = ServerView, headers(("Location" = String), ("ETag" = String))),
        (status = 400, body = Problem, description = "a value is wrong; `field` names it"),
        (status = 409, body = Problem, description = "a port is taken (`port-taken`), the worker is frozen, silent or unfit, the name is in use")
    )
)]
pub(super) async fn create(
    State(app): State<AppRef>,
    caller: Caller,
    headers: HeaderMap,
    body: HashedJson<CreateServer>,
) -> ApiResult<Response> {
    caller.require(Permission::CreateServer)?;
    let (request, hash) = body.read()?;
    require_for_actions(&caller, !request.actions.is_empty())?;
    let key = Key::of(&headers, caller.token_id, hash)?;
    let mut conn = app.db.acquire().await?;
    if let Some(key) = &key
        && let Some(response) = key.replay(&mut conn).await?
    {
        return Ok(response);
    }
    let plan = Plan::of(&app, &mut conn, request).await?;
    drop(conn);
    // The whole attempt is made again where somebody else took a name that we had made up.
    for _ in 0..NAME_TRIES {
        let busy = busy_on_machine(&app, &plan).await?;
        match plan.carry_out(&app, &caller, key.as_ref(), &busy).await? {
            Outcome::Made(response) => return Ok(response),
            Outcome::NameTaken => {}
        }
    }
    Err(Problem::new(Kind::Conflict, "no free name was found").field("name").hint("name the server yourself").into())
}

const NAME_TRIES: u32 = 5;

/// A request that has passed every check that needs no lock.
struct Plan {
    request: CreateServer,
    /// The name that was asked for; without one, what a name is made from.
    name: Result<Name, String>,
    definition: Option<Definition>,
    wishes: Vec<PortWish>,
    worker: WorkerId,
    worker_name: Name,
    address: String,
    range: (u16, u16),
    desired: DesiredState,
}

enum Outcome {
    Made(Response),
    NameTaken,
}

impl Plan {
    async fn of(app: &App, conn: &mut PgConnection, mut request: CreateServer) -> ApiResult<Self> {
        let desired = request.desired.unwrap_or(DesiredState::Running);
        if desired == DesiredState::Deleted {
            return Err(Problem::invalid("desired", "a server is made `running` or `stopped`").into());
        }
        let definition = app.games.find(&request.game_id).cloned();
        ensure_console_secret(definition.as_ref(), &mut request.variables);
        let wishes = port_wishes(definition.as_ref(), &request)?;
        let wanted_worker = request.worker_id.take();
        let name = request.name.take().ok_or_else(|| name_stem(definition.as_ref(), &request));
        // A dry run with the wished ports: what is wrong with the values is said before anything
        // is asked of a worker.
        let trial = allocate(&wishes, &BTreeSet::new(), DEFAULT_RANGE).map_err(|error| port_problem(&error, None))?;
        let stand_in = trial_name(&name);
        let place = Place { id: clock::new_server_id(), name: &stand_in, ip: "127.0.0.1" };
        lease::check(&request, &resolve_run(definition.as_ref(), &request, place, trial)?)?;

        let need = need_of(definition.as_ref(), &request);
        let workers = worker_all(conn).await?;
        let worker = choose_worker(app, workers, wanted_worker.as_deref(), need)?;
        Ok(Self {
            range: worker.capabilities.port_range.unwrap_or(DEFAULT_RANGE),
            worker: worker.id,
            worker_name: worker.name,
            address: worker.address,
            request,
            name,
            definition,
            wishes,
            desired,
        })
    }

    async fn carry_out(&self, app: &AppRef, caller: &Caller, key: Option<&Key>, busy: &BTreeSet<Socket>) -> ApiResult<Outcome> {
        let now = clock::now();
        let mut tx = app.db.begin().await?;
        if let Some(key) = key
            && !key.claim(&mut tx, now).await?
        {
            // Somebody else has just done it; its answer is ours.
            tx.rollback().await?;
            let response = key.replay(&mut *app.db.acquire().await?).await?;
            return response
                .map(Outcome::Made)
                .ok_or_else(|| Problem::new(Kind::Unavailable, "the same request is being carried out").retry_after(1).into());
        }
        // From here on nobody else gives away ports of this worker.
        let revision = revision_bump(&mut tx, self.worker).await?;
        check_still_there(&mut tx, self.worker).await?;
        let name = match &self.name {
            Ok(name) => name.clone(),
            Err(stem) => free_name(&mut tx, stem).await?,
        };
        let taken = port_taken(&mut tx, self.worker).await?;
        let ports = match allocate(&self.wishes, &taken.union(busy).copied().collect(), self.range) {
            Ok(ports) => ports,
            Err(error) => return Err(self.say_who_has_it(&mut tx, &error).await?),
        };
        let id = clock::new_server_id();
        let run = resolve_run(self.definition.as_ref(), &self.request, Place { id, name: &name, ip: &self.address }, ports)?;
        let server = NewServer {
            id,
            name: &name,
            worker_id: self.worker,
            game_id: &self.request.game_id,
            request: &self.request,
            run: &run,
            desired: self.desired,
            revision,
        };
        match server_insert(&mut tx, &server, now).await {
            Ok(()) => {}
            Err(error) => return self.insert_failed(error),
        }
        let event = NewEvent {
            actor: caller.actor(),
            kind: "server.created",
            worker_id: Some(self.worker),
            server_id: Some(id),
            message: format!("server `{name}` ({}) was made on `{}`", self.request.game_id, self.worker_name),
            data: caller.audit(
                serde_json::Value::Null,
                audit::whole(&audit::Sight { name: &name, desired: self.desired, request: &self.request }, self.definition.as_ref()),
            ),
        };
        event_insert(&mut tx, now, &event).await?;
        let response = answer(app, &mut tx, id, key).await?;
        tx.commit().await?;
        app.fleet.event_recorded();
        app.fleet.desired_changed(app, self.worker);
        app.fleet.server_changed(id);
        tracing::info!(server.id = %id, server.name = %name, worker.id = %self.worker, game = %self.request.game_id, "a server was made");
        Ok(Outcome::Made(response))
    }

    fn insert_failed(&self, error: sqlx::Error) -> ApiResult<Outcome> {
        match (violated(&error), &self.name) {
            (Some("server_name_key"), Err(_)) => Ok(Outcome::NameTaken),
            (Some("server_name_key"), Ok(name)) => Err(name_taken(name)),
            (Some("server_port_taken"), _) => {
                Err(Problem::new(Kind::PortTaken, "a port was just taken by another server").field("ports").into())
            }
            (Some(_) | None, _) => Err(error.into()),
        }
    }

    /// A taken port's problem names its holder.
    async fn say_who_has_it(&self, conn: &mut PgConnection, error: &PortError) -> ApiResult<ApiError> {
        let holder = match error {
            PortError::Taken { protocol, port, .. } => port_holder(conn, self.worker, *protocol, *port).await?,
            PortError::OutOfRange { .. } | PortError::Twice { .. } | PortError::Beside { .. } | PortError::Exhausted { .. } => None,
        };
        let by = match holder {
            Some((_, name)) => format!("by the server `{name}` on `{}`", self.worker_name),
            None => format!("by something else on the machine of `{}`", self.worker_name),
        };
        Ok(port_problem(error, Some(&by)).into())
    }
}

/// The answer is what is stored with the idempotency key, too, so it is made inside of the
/// transaction.
async fn answer(app: &App, conn: &mut PgConnection, id: ServerId, key: Option<&Key>) -> ApiResult<Response> {
    let server = server_get(conn, id).await?.ok_or_else(|| ApiError::internal("the server just made is not there"))?;
    let tag = etag(server.generation);
    let body = serde_json::to_value(view(app, server)).map_err(ApiError::internal)?;
    let location = format!("/server/{id}");
    if let Some(key) = key {
        key.keep(conn, StatusCode::CREATED, &body, &location).await?;
    }
    Ok((StatusCode::CREATED, [(header::LOCATION, location), (header::ETAG, tag.to_str().unwrap_or_default().to_owned())], axum::Json(body))
        .into_response())
}

/// What the registration looked like may have changed since the choice.
pub(super) async fn check_still_there(conn: &mut PgConnection, worker: WorkerId) -> ApiResult<()> {
    let row = worker_find(conn, worker).await?;
    match row {
        Some(row) if row.admission == Admission::Accepted && !row.frozen => Ok(()),
        Some(row) => {
            Err(Problem::new(Kind::NotAlive, format!("worker `{}` takes no servers any more", row.name)).field("worker_id").into())
        }
        None => Err(Problem::new(Kind::NotAlive, "the worker is gone").field("worker_id").into()),
    }
}

pub(super) fn need_of(definition: Option<&Definition>, request: &CreateServer) -> Need {
    Need {
        method: request.game_id.method(),
        proton: definition.is_some_and(|game| game.platform == Platform::WindowsProton),
        memory_bytes: request.limits.memory_bytes.or(definition.and_then(|game| game.resources.memory)).unwrap_or(0),
    }
}

pub(super) fn choose_worker(app: &App, workers: Vec<WorkerRow>, wanted: Option<&str>, need: Need) -> ApiResult<WorkerRow> {
    let candidate = |row: &WorkerRow| Candidate {
        id: row.id,
        name: row.name.clone(),
        status: match row.admission {
            Admission::Pending => WorkerStatus::Pending,
            Admission::Deleted => WorkerStatus::Shutdown,
            Admission::Accepted => app.fleet.worker_status(row.id).unwrap_or(row.status),
        },
        frozen: row.frozen,
        capabilities: row.capabilities.clone(),
        memory_used_bytes: row.usage.map(|usage| usage.memory_used_bytes),
        servers: row.servers,
    };
    if let Some(wanted) = wanted {
        let by_id = wanted.parse::<WorkerId>().ok();
        let accepted_first = |row: &&WorkerRow| row.admission != Admission::Accepted;
        let row = workers
            .iter()
            .filter(|row| by_id.map_or_else(|| row.name.as_str().eq_ignore_ascii_case(wanted), |id| id == row.id))
            .min_by_key(accepted_first);
        let Some(row) = row else {
            let names: Vec<&str> = workers.iter().map(|row| row.name.as_str()).collect();
            let hint = if names.is_empty() { "no worker has joined yet".to_owned() } else { format!("there are {}", names.join(", ")) };
            return Err(Problem::invalid("worker_id", format!("there is no worker `{wanted}`")).hint(hint).into());
        };
        return match fitness(&candidate(row), need) {
            Ok(()) => Ok(row.clone()),
            Err(why) => Err(unfit_problem(&row.name, &why).into()),
        };
    }
    let candidates: Vec<Candidate> = workers.iter().map(candidate).collect();
    match place(&candidates, need) {
        Ok(id) => workers.into_iter().find(|row| row.id == id).ok_or_else(|| ApiError::internal("the chosen worker is not there")),
        Err(reasons) if reasons.is_empty() => Err(Problem::new(Kind::Conflict, "there is no worker to run it")
            .field("worker_id")
            .hint("start one with `manman-worker run --host …`, or run `manman up`")
            .into()),
        Err(reasons) => {
            let list: Vec<String> = reasons.iter().map(|(name, why)| format!("`{name}` {why}")).collect();
            Err(Problem::new(Kind::Conflict, format!("no worker can run it: {}", list.join("; "))).field("worker_id").into())
        }
    }
}

fn unfit_problem(name: &Name, why: &Unfit) -> Problem {
    let hint = match why {
        Unfit::Pending => format!("manman worker accept {name}"),
        Unfit::Frozen => format!("manman worker unfreeze {name}"),
        Unfit::Shutdown | Unfit::Unknown => "start the worker on that machine again, or choose another".to_owned(),
        Unfit::Driver { problem, .. } => problem.clone().unwrap_or_else(|| "choose another worker".to_owned()),
        Unfit::Proton => "Steam has only a Windows build of this game, which Proton runs on Linux".to_owned(),
        Unfit::Memory => "choose another worker, or a smaller `limits.memory_bytes`".to_owned(),
    };
    let kind = match why {
        Unfit::Pending | Unfit::Frozen | Unfit::Shutdown | Unfit::Unknown => Kind::NotAlive,
        Unfit::Driver { .. } | Unfit::Proton | Unfit::Memory => Kind::Conflict,
    };
    Problem::new(kind, format!("worker `{name}` {why}")).field("worker_id").hint(hint)
}

/// How long a worker is waited for: the answer only spares the game a failed start.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Which of the ports that the server would get something else on the machine has already.
async fn busy_on_machine(app: &AppRef, plan: &Plan) -> ApiResult<BTreeSet<Socket>> {
    let mut busy = BTreeSet::new();
    // Each round names at least one more busy port, or is the last.
    for _ in 0..4 {
        let taken = port_taken(&mut *app.db.acquire().await?, plan.worker).await?;
        let Ok(ports) = allocate(&plan.wishes, &taken.union(&busy).copied().collect(), plan.range) else { return Ok(busy) };
        if ports.is_empty() {
            return Ok(busy);
        }
        let found = ask_worker(app, plan.worker, &ports).await;
        if found.is_empty() {
            return Ok(busy);
        }
        busy.extend(found);
        if plan.wishes.iter().any(|wish| matches!(wish.want, Want::Exactly(_))) && allocate(&plan.wishes, &busy, plan.range).is_err() {
            return Ok(busy);
        }
    }
    Ok(busy)
}

#[derive(serde::Deserialize)]
struct BusyPorts {
    busy: Vec<BusyPort>,
}

#[derive(serde::Deserialize)]
struct BusyPort {
    protocol: Protocol,
    port: u16,
}

/// A worker that does not answer is not waited for: it looks again before each start.
async fn ask_worker(app: &App, worker: WorkerId, ports: &[PortSpec]) -> Vec<Socket> {
    let asked: Vec<_> = ports.iter().map(|port| serde_json::json!({ "protocol": port.protocol, "port": port.port })).collect();
    let call = Call {
        id: clock::new_command_id(),
        method: "POST".to_owned(),
        path: "/ports/check".to_owned(),
        body: serde_json::json!({ "ports": asked }),
        ttl_ms: u32::try_from(CHECK_WITHIN.as_millis()).unwrap_or(u32::MAX),
        expect_instance: None,
    };
    let reply = match tokio::time::timeout(CHECK_WITHIN, app.fleet.call(worker, call)).await {
        Ok(Ok(reply)) if reply.status == 200 => reply,
        Ok(Ok(_) | Err(_)) | Err(_) => return Vec::new(),
    };
    let asked: BTreeSet<Socket> = ports.iter().map(|port| (port.protocol, port.port)).collect();
    let busy = serde_json::from_value::<BusyPorts>(reply.body).map(|answer| answer.busy).unwrap_or_default();
    busy.into_iter().map(|port| (port.protocol, port.port)).filter(|socket| asked.contains(socket)).collect()
}

pub(super) fn port_problem(error: &PortError, by: Option<&str>) -> Problem {
    let field = |index: &Option<usize>| index.map_or_else(|| "ports".to_owned(), |index| format!("ports[{index}].port"));
    match error {
        PortError::Taken { index, .. } => {
            let detail = by.map_or_else(|| error.to_string(), |by| format!("{error} {by}"));
            Problem::new(Kind::PortTaken, detail).field(field(index)).hint("leave the port out, and the host chooses one that is free")
        }
        PortError::OutOfRange { index, .. } | PortError::Twice { index, .. } => Problem::invalid(field(index), error.to_string()),
        PortError::Beside { .. } => Problem::invalid("game_id", error.to_string()),
        PortError::Exhausted { .. } => Problem::new(Kind::PortTaken, error.to_string()).field("ports"),
    }
}

pub(super) fn name_taken(name: &Name) -> ApiError {
    Problem::new(Kind::Conflict, format!("there is a server `{name}` already")).field("name").into()
}

fn trial_name(name: &Result<Name, String>) -> Name {
    match name {
        Ok(name) => name.clone(),
        Err(stem) => stem.parse().unwrap_or_else(|_| fallback_name()),
    }
}

fn fallback_name() -> Name {
    #[expect(clippy::expect_used, reason = "a literal that the parser takes; a test of Name says so")]
    "server".parse().expect("`server` is a name")
}

/// What a name is made from: the game's, else the image's last part.
fn name_stem(definition: Option<&Definition>, request: &CreateServer) -> String {
    let identifier = request.game_id.identifier();
    let last = identifier.rsplit('/').next().unwrap_or_default();
    let image = last.split([':', '@']).next().unwrap_or_default();
    let by_game = matches!(request.game_id, manman_common::GameId::Steamcmd(_));
    let text = match definition {
        Some(definition) if by_game => definition.name.as_str(),
        Some(_) | None => image,
    };
    let mut stem: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    stem.truncate(40);
    let stem = stem.trim_matches('-').to_owned();
    if stem.is_empty() { "server".to_owned() } else { stem }
}

/// The stem, or the stem with the first number at which it is free.
async fn free_name(conn: &mut PgConnection, stem: &str) -> ApiResult<Name> {
    for number in 1..10_000_u32 {
        let text = if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        if db::server::server_name_is_free(conn, &text).await? {
            return text.parse().map_err(|error| ApiError::internal(format!("the made-up name `{text}` is none: {error}")));
        }
    }
    Err(Problem::new(Kind::Conflict, format!("every name from `{stem}` on is in use")).field("name").into())
}
