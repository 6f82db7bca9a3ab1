//! From a definition and a person's wishes to what a worker runs: no template is left in it.

use std::collections::BTreeMap;

use manman_common::game_id::GameId;
use manman_common::spec::{
    ConsoleAccess, ConsoleKind, FileEntry, FileFormat, FileSpec, FileValue, HangRule, InputKind, PlayersRule, PortSpec, ProcessSpec,
    Protocol, QuerySpec, ReadyRule, SteamSpec,
};
use manman_common::wire::CreateServer;
use manman_common::{Name, Problem, RunSpec, ServerId};

use super::Definition;
use super::bare::{check_env, check_limits, default_stop, resolve_bare};
use super::check::{has_types, sound_path};
use super::definition::{File, whole_seconds};
use super::values::SetValue;
use crate::domain::template::{Word, Words, expand, sole_word};
use crate::domain::variables::{self, VariableError};

/// Where and as what a server is to run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub id: ServerId,
    pub name: &'a Name,
    pub ip: &'a str,
}

/// All that the worker needs to run the game by itself, for ever.
pub fn resolve_run(
    definition: Option<&Definition>,
    request: &CreateServer,
    place: Place<'_>,
    ports: Vec<PortSpec>,
) -> Result<RunSpec, Problem> {
    check_limits(&request.limits)?;
    check_env(&request.env)?;
    let mut run = match definition {
        Some(definition) => resolve_defined(definition, request, place, ports)?,
        None => resolve_bare(request, ports)?,
    };
    super::action::check_own(&run, &request.actions)?;
    run.actions.extend(request.actions.clone());
    Ok(run)
}

fn resolve_defined(definition: &Definition, request: &CreateServer, place: Place<'_>, ports: Vec<PortSpec>) -> Result<RunSpec, Problem> {
    if request.start.is_some() {
        return Err(Problem::invalid("start", "the game has a definition, which says how it starts").hint("set its `variables` instead"));
    }
    if request.docker.is_some() {
        return Err(Problem::invalid("docker", "the game has a definition, which says how its container is made"));
    }
    let id = place.id.to_string();
    let numbers = numbers_of(&ports);
    let variables = variables_of(definition, request, place, &ports)?;
    let words = Words { variables: &variables, ..words_of(definition, request, place, &id, &numbers) };
    let fill = |text: &String| expand(text, &words).map_err(|error| broken(&error));

    let mut env = BTreeMap::new();
    for (name, value) in &definition.start.env {
        env.insert(name.clone(), fill(value)?);
    }
    env.extend(request.env.clone());
    let stop = definition.stop_ladder();
    let query = query_of(definition, &ports);
    Ok(RunSpec {
        steam: steam_of(definition),
        process: ProcessSpec { dir: definition.start.dir.clone(), tty: definition.start.tty },
        files: definition.files.iter().map(|file| file_of(definition, file, &words)).collect::<Result<_, _>>()?,
        console_access: console_access(definition, &variables, &ports),
        players: definition.players.as_ref().map(|rule| PlayersRule { join: rule.join.clone(), leave: rule.leave.clone() }),
        hang: definition.hang.map(|hang| HangRule { silent_seconds: whole_seconds(hang.silent) }),
        data: definition.data.clone(),
        update: definition.update.on,
        game_id: request.game_id.clone(),
        argv: definition.start.argv.iter().map(fill).collect::<Result<_, _>>()?,
        env,
        limits: request.limits.clone(),
        ready: ReadyRule {
            log: definition.ready.log.clone(),
            query: definition.ready.query.is_some() && query.is_some(),
            within_seconds: definition.ready.within.map_or(ReadyRule::default().within_seconds, whole_seconds),
        },
        stop: if stop.is_empty() { default_stop() } else { stop },
        query,
        console: definition.console.input,
        actions: definition.action_specs(),
        restart: request.restart.or(definition.restart).unwrap_or_default(),
        docker: definition.docker.clone().unwrap_or_default(),
        ports,
    })
}

fn query_of(definition: &Definition, ports: &[PortSpec]) -> Option<QuerySpec> {
    let (protocol, port) = match (&definition.query, &definition.ready.query) {
        (Some(query), _) => (&query.protocol, Some(query.port.as_str())),
        (None, Some(protocol)) => (protocol, None),
        (None, None) => return None,
    };
    let named = |name: &str| ports.iter().find(|port| port.name == name);
    let port = port.map_or_else(|| named("game").or(ports.first()), named)?;
    Some(QuerySpec { protocol: protocol.clone(), port: port.port })
}

fn steam_of(definition: &Definition) -> Option<SteamSpec> {
    if !matches!(definition.game, GameId::Steamcmd(_)) {
        return None;
    }
    let steam = definition.steam.as_ref();
    Some(SteamSpec {
        platform: definition.platform,
        branch: steam.and_then(|steam| steam.branch.clone()),
        login: steam.map(|steam| steam.login).unwrap_or_default(),
        app_validate: steam.is_some_and(|steam| steam.app_validate),
        expect: definition.start.expect.clone(),
    })
}

/// Where the console listens on the machine, and what it asks for.
fn console_access(definition: &Definition, variables: &BTreeMap<String, String>, ports: &[PortSpec]) -> Option<ConsoleAccess> {
    let console = &definition.console;
    if !console.input.is_remote() {
        return None;
    }
    let protocol = if console.input == ConsoleKind::Quake3Rcon { Protocol::Udp } else { Protocol::Tcp };
    let name = console.port.as_ref()?;
    let port = ports.iter().find(|port| port.name == *name && port.protocol == protocol)?.port;
    let secret = console.secret.as_ref().and_then(|name| variables.get(name)).filter(|secret| !secret.is_empty());
    Some(ConsoleAccess { port, secret: secret.cloned() })
}

fn file_of(definition: &Definition, file: &File, words: &Words<'_>) -> Result<FileSpec, Problem> {
    let path = expand(&file.path, words).map_err(|error| broken(&error))?;
    // The definition's own text is sound; a value may still lead out of the directory.
    if !sound_path(&path) {
        return Err(Problem::invalid(
            "variables",
            format!("with these values the file `{path}` would lie outside of the server's directory"),
        ));
    }
    let entry = |(key, value): &(String, SetValue)| {
        let value = match value {
            SetValue::Truth(truth) => FileValue::Truth(*truth),
            SetValue::Integer(number) => FileValue::Integer(*number),
            SetValue::Text(text) => typed(definition, file.format, text, expand(text, words).map_err(|error| broken(&error))?),
        };
        Ok(FileEntry { key: key.clone(), value })
    };
    let set = file.set.iter().map(entry).collect::<Result<_, Problem>>()?;
    Ok(FileSpec { path, format: file.format, set, create: file.create })
}

/// Text that is nothing but a port or a variable has the type of that, where the format has types.
fn typed(definition: &Definition, format: FileFormat, template: &str, filled: String) -> FileValue {
    let kind = match sole_word(template).filter(|_| has_types(format)) {
        Some(Word::Port(_) | Word::Memory) => InputKind::Integer,
        Some(Word::Variable(name)) => definition.variables.get(name).map(|spec| spec.kind).unwrap_or_default(),
        Some(Word::ServerName | Word::ServerId | Word::ServerIp) | None => InputKind::Text,
    };
    let value = match kind {
        InputKind::Integer => filled.parse().ok().map(FileValue::Integer),
        InputKind::Boolean => filled.parse().ok().map(FileValue::Truth),
        InputKind::Text => None,
    };
    value.unwrap_or(FileValue::Text(filled))
}

/// Inside a container a game has the inner number.
fn numbers_of(ports: &[PortSpec]) -> BTreeMap<String, u16> {
    ports.iter().map(|port| (port.name.clone(), port.inner_port())).collect()
}

fn words_of<'a>(
    definition: &Definition,
    request: &CreateServer,
    place: Place<'a>,
    id: &'a str,
    ports: &'a BTreeMap<String, u16>,
) -> Words<'a> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    Words {
        variables: &NONE,
        ports,
        server_name: place.name.as_str(),
        server_id: id,
        server_ip: place.ip,
        memory_mib: request.limits.memory_bytes.or(definition.resources.memory).map(|bytes| bytes >> 20),
    }
}

/// The value of every variable of the game, checked.
pub fn variables_of(
    definition: &Definition,
    request: &CreateServer,
    place: Place<'_>,
    ports: &[PortSpec],
) -> Result<BTreeMap<String, String>, Problem> {
    let id = place.id.to_string();
    let numbers = numbers_of(ports);
    let words = words_of(definition, request, place, &id, &numbers);
    variables::resolve(&definition.variables, &request.variables, &words).map_err(|error| match error {
        VariableError::Value(problem) => *problem,
        VariableError::Circle(_) | VariableError::Default { .. } => broken(&error),
    })
}

/// A definition's own fault: nothing that the caller sent is wrong.
pub(super) fn broken(error: &dyn std::error::Error) -> Problem {
    Problem::invalid("game_id", format!("the game's definition is broken: {error}"))
}
