//! A server as everybody sees it: the wish, the worker's last word on it, and how much that word is
//! worth now.

use std::collections::BTreeMap;

use manman_common::game_id::InstallMethod;
use manman_common::status::Condition;
use manman_common::wire::{PortView, ServerView};
use manman_common::{Generation, Phase, RunSpec, WorkerStatus};

use crate::app::App;
use crate::db::server::Server;
use crate::domain::template::{Words, expand};
use crate::games::{Definition, Place, variables_of};

pub(crate) fn view(app: &App, server: Server) -> ServerView {
    let definition = app.games.find(&server.game_id);
    let reported = server.reported_phase();
    let worker_silent = server.worker_status == WorkerStatus::Unknown;
    let unseen = worker_silent || app.fleet.server_is_silent(server.id);
    let status = server.status.as_ref();
    let mut conditions = status.map(|status| status.conditions.clone()).unwrap_or_default();
    if worker_silent {
        conditions.push(Condition {
            kind: "WorkerUnknown".to_owned(),
            message: format!("the worker `{}` has not been heard of; the game may well be running", server.worker_name),
            hint: Some("look whether that machine and its worker are on and reach this host".to_owned()),
            since: server.worker_status_since,
        });
    }
    let applied = status.map_or(Generation::default(), |status| status.applied_generation);
    // The worker's word counts for what it has heard of; before that, an older run than the wish's.
    let pending_restart = status.is_some_and(|status| status.pending_restart) || (reported.is_live() && applied < server.run_generation);
    ServerView {
        phase: if unseen { Phase::Unknown } else { reported },
        last_phase: unseen.then_some(reported),
        generation: server.generation,
        applied_generation: applied,
        pending_restart,
        instance: status.and_then(|status| status.instance),
        restarts: status.map_or(0, |status| status.restarts),
        exit: status.and_then(|status| status.exit.clone()),
        players: status.and_then(|status| status.players.clone()),
        progress: status.and_then(|status| status.progress.clone()),
        backoff_until: status.and_then(|status| status.backoff_until),
        usage: status.and_then(|status| status.usage),
        url: url(definition, &server),
        conditions,
        ports: server.run.ports.iter().map(|port| port_view(&server, port)).collect(),
        variables: variables(definition, &server),
        limits: server.run.limits.clone(),
        actions: server.run.action_names().into_iter().map(str::to_owned).collect(),
        lease_seconds: server.request.lease_seconds,
        epoch: server.epoch,
        extra: status.map(|status| status.extra.clone()).unwrap_or_default(),
        id: server.id,
        name: server.name,
        worker_id: server.worker_id,
        worker_name: server.worker_name,
        game_id: server.game_id,
        desired: server.desired,
        created_at: server.created_at,
        updated_at: server.updated_at,
    }
}

fn port_view(server: &Server, port: &manman_common::spec::PortSpec) -> PortView {
    PortView { name: port.name.clone(), protocol: port.protocol, port: port.port, address: server.worker_address.clone() }
}

/// What to give to players.
fn url(definition: Option<&Definition>, server: &Server) -> Option<String> {
    let port = game_port(&server.run)?;
    if let Some(template) = definition.and_then(|definition| definition.url.as_ref()) {
        let none = BTreeMap::new();
        let id = server.id.to_string();
        let ports = server.run.ports.iter().map(|port| (port.name.clone(), port.port)).collect();
        let address = bracketed(&server.worker_address);
        let words = Words {
            variables: &none,
            ports: &ports,
            server_name: server.name.as_str(),
            server_id: &id,
            server_ip: &address,
            memory_mib: None,
        };
        return expand(template, &words).ok();
    }
    let address = format!("{}:{port}", bracketed(&server.worker_address));
    let by_steam = server.game_id.method() == InstallMethod::Steamcmd
        || server.run.query.as_ref().is_some_and(|query| matches!(query.protocol.as_str(), "valve" | "a2s" | "source" | "goldsrc"));
    let minecraft =
        server.run.query.as_ref().is_some_and(|query| matches!(query.protocol.as_str(), "minecraft" | "minecraft-java" | "minecraftjava"));
    Some(match (by_steam, minecraft) {
        (true, _) => format!("steam://connect/{address}"),
        (false, true) => format!("minecraft://{address}"),
        (false, false) => address,
    })
}

fn game_port(run: &RunSpec) -> Option<u16> {
    run.ports.iter().find(|port| port.name == "game").or(run.ports.first()).map(|port| port.port)
}

fn bracketed(address: &str) -> String {
    if address.contains(':') && !address.starts_with('[') { format!("[{address}]") } else { address.to_owned() }
}

/// Every variable of the game with its present value; those that are secret have none here.
fn variables(definition: Option<&Definition>, server: &Server) -> BTreeMap<String, Option<String>> {
    let Some(definition) = definition else { return BTreeMap::new() };
    let place = Place { id: server.id, name: &server.name, ip: &server.worker_address };
    let values = variables_of(definition, &server.request, place, &server.run.ports).unwrap_or_else(|_| server.request.variables.clone());
    definition
        .variables
        .iter()
        .map(|(name, spec)| (name.clone(), if spec.secret { None } else { Some(values.get(name).cloned().unwrap_or_default()) }))
        .collect()
}
