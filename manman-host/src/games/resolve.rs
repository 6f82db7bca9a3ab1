//! From a definition and a person's wishes to what a worker runs: no template is left in it.

use std::collections::BTreeMap;

use manman_common::game_id::GameId;
use manman_common::spec::Limits;
use manman_common::spec::{ConsoleKind, DockerSpec, PortSpec, Protocol, QuerySpec, ReadyRule, StopRung, StopStep};
use manman_common::wire::{CreateServer, PortRequest};
use manman_common::{Name, Problem, RunSpec, ServerId};

use super::Definition;
use crate::domain::ports::{PortWish, Want};
use crate::domain::template::{PortDefault, TemplateError, Words, expand, port_default};
use crate::domain::variables;

/// Where and as what a server is to run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub id: ServerId,
    pub name: &'a Name,
    pub ip: &'a str,
}

/// More than any game has.
const PORTS_MAX: usize = 32;
const ENV_MAX: usize = 256;
const MOUNTS_MAX: usize = 32;

/// The ports that the request and the definition together ask for.
pub fn port_wishes(definition: Option<&Definition>, request: &CreateServer) -> Result<Vec<PortWish>, Problem> {
    if request.ports.len() > PORTS_MAX {
        return Err(Problem::invalid("ports", format!("a server has at most {PORTS_MAX} ports")));
    }
    let mut wishes = match definition {
        Some(definition) => defined(definition)?,
        None => Vec::new(),
    };
    for (index, asked) in request.ports.iter().enumerate() {
        let place = match (&asked.name, definition) {
            (Some(name), _) => wishes.iter().position(|wish| wish.name == *name),
            (None, Some(_)) if wishes.len() == 1 => Some(0),
            (None, Some(definition)) => {
                let names: Vec<&str> = definition.ports.keys().map(String::as_str).collect();
                return Err(Problem::invalid(format!("ports[{index}].name"), "the game has several ports, so a name is needed")
                    .hint(format!("there are {}", names.join(", "))));
            }
            (None, None) => None,
        };
        match place {
            Some(place) if wishes[place].index.is_some() => {
                return Err(Problem::invalid(format!("ports[{index}].name"), "this port is named twice"));
            }
            Some(place) => override_port(&mut wishes[place], asked, index)?,
            None => wishes.push(bare_port(asked, index, wishes.len())?),
        }
    }
    Ok(wishes)
}

fn defined(definition: &Definition) -> Result<Vec<PortWish>, Problem> {
    definition
        .ports
        .iter()
        .map(|(name, port)| {
            let want = match port_default(&port.default).map_err(broken)? {
                PortDefault::Number(number) => Want::Near(number),
                PortDefault::Beside { port, offset } => Want::Beside { port, offset },
            };
            Ok(PortWish { name: name.clone(), protocols: port.protocol.protocols(), want, container_port: port.container, index: None })
        })
        .collect()
}

fn override_port(wish: &mut PortWish, asked: &PortRequest, index: usize) -> Result<(), Problem> {
    if let Some(protocol) = asked.protocol.filter(|protocol| !wish.protocols.contains(protocol)) {
        return Err(Problem::invalid(
            format!("ports[{index}].protocol"),
            format!("port `{}` of this game is not {}", wish.name, protocol.as_str()),
        ));
    }
    if let Some(container) = asked.container_port {
        wish.container_port = Some(port_number(container, &format!("ports[{index}].container_port"))?);
    }
    if asked.port != 0 {
        wish.want = Want::Exactly(port_number(asked.port, &format!("ports[{index}].port"))?);
    }
    wish.index = Some(index);
    Ok(())
}

fn bare_port(asked: &PortRequest, index: usize, ordinal: usize) -> Result<PortWish, Problem> {
    let container_port = asked.container_port.map(|port| port_number(port, &format!("ports[{index}].container_port"))).transpose()?;
    let want = match (asked.port, container_port) {
        // Numbers below 1024 are the machine's own services'; 80 becomes 8080, 443 8443.
        (0, Some(container @ ..1024)) => Want::Near(container + 8000),
        (0, Some(container)) => Want::Near(container),
        (0, None) => {
            return Err(Problem::invalid(format!("ports[{index}].port"), "a port's number is needed, or `container_port`")
                .hint("`port` is the number on the machine, `container_port` the one inside the container"));
        }
        (port, _) => Want::Exactly(port_number(port, &format!("ports[{index}].port"))?),
    };
    let name = match &asked.name {
        Some(name) => {
            let sound = !name.is_empty() && name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if !sound {
                return Err(Problem::invalid(format!("ports[{index}].name"), "a port's name has 1 to 32 letters, digits, `-` or `_`"));
            }
            name.clone()
        }
        None if ordinal == 0 => "game".to_owned(),
        None => format!("port{}", ordinal + 1),
    };
    // As Docker has it where nobody says which.
    let protocol = asked.protocol.unwrap_or(Protocol::Tcp);
    Ok(PortWish { name, protocols: vec![protocol], want, container_port, index: Some(index) })
}

fn port_number(port: u32, field: &str) -> Result<u16, Problem> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Problem::invalid(field, format!("{port} is not a port; that is 1 to 65535")))
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
    match definition {
        Some(definition) => resolve_defined(definition, request, place, ports),
        None => resolve_bare(request, ports),
    }
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
    let fill = |text: &String| expand(text, &words).map_err(broken);

    let mut env = BTreeMap::new();
    for (name, value) in &definition.start.env {
        env.insert(name.clone(), fill(value)?);
    }
    env.extend(request.env.clone());
    let stop = definition.stop_ladder().map_err(|error| Problem::new(manman_common::Kind::Internal, error.to_string()))?;
    let query = definition.query.as_ref().map(|query| (&query.protocol, Some(query.port.as_str())));
    let query = query.or_else(|| definition.ready.query.as_ref().map(|protocol| (protocol, None)));
    let query = query.and_then(|(protocol, port)| {
        let named = |name: &str| ports.iter().find(|port| port.name == name);
        let port = port.map_or_else(|| named("game").or(ports.first()), named)?;
        Some(QuerySpec { protocol: protocol.clone(), port: port.port })
    });
    Ok(RunSpec {
        steam: None,
        process: manman_common::spec::ProcessSpec::default(),
        files: Vec::new(),
        console_access: None,
        players: None,
        hang: None,
        data: manman_common::spec::DataSpec::default(),
        update: manman_common::spec::UpdatePolicy::default(),
        game_id: request.game_id.clone(),
        argv: definition.start.argv.iter().map(fill).collect::<Result<_, _>>()?,
        env,
        limits: request.limits.clone(),
        ready: ReadyRule {
            log: definition.ready.log.clone(),
            query: definition.ready.query.is_some() && query.is_some(),
            within_seconds: definition
                .ready
                .within
                .map_or(ReadyRule::default().within_seconds, |within| u32::try_from(within.as_secs()).unwrap_or(u32::MAX)),
        },
        stop: if stop.is_empty() { default_stop() } else { stop },
        query,
        console: definition.console.input,
        actions: definition.actions.clone(),
        restart: request.restart.or(definition.restart).unwrap_or_default(),
        docker: definition.docker.clone(),
        ports,
    })
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
    let defaults = definition
        .variables
        .iter()
        .filter_map(|(name, spec)| spec.default.as_ref().map(|default| (name, default)))
        .map(|(name, default)| Ok((name.clone(), expand(default, &words).map_err(broken)?)))
        .collect::<Result<BTreeMap<_, _>, Problem>>()?;
    variables::resolve(&definition.variables, &request.variables, &defaults)
}

fn resolve_bare(request: &CreateServer, ports: Vec<PortSpec>) -> Result<RunSpec, Problem> {
    if let Some(name) = request.variables.keys().next() {
        return Err(Problem::invalid(format!("variables.{name}"), "a game without a definition has no variables").hint("set `env` instead"));
    }
    let argv = request.start.as_ref().map(|start| start.argv.clone()).unwrap_or_default();
    match &request.game_id {
        GameId::Steamcmd(app) if argv.is_empty() => {
            return Err(Problem::invalid("game_id", format!("there is no definition for the Steam app {app}"))
                .hint("say what to run in `start.argv`, or put a definition into the data directory's `games` folder"));
        }
        GameId::Steamcmd(_) | GameId::Docker(_) => {}
    }
    if let Some(at) = argv.iter().position(|argument| argument.contains('\0')) {
        return Err(Problem::invalid(format!("start.argv[{at}]"), "an argument can not hold a zero byte"));
    }
    let docker = request.docker.clone().unwrap_or_default();
    check_docker(&docker)?;
    Ok(RunSpec {
        steam: None,
        process: manman_common::spec::ProcessSpec::default(),
        files: Vec::new(),
        console_access: None,
        players: None,
        hang: None,
        data: manman_common::spec::DataSpec::default(),
        update: manman_common::spec::UpdatePolicy::default(),
        game_id: request.game_id.clone(),
        argv,
        env: request.env.clone(),
        limits: request.limits.clone(),
        ready: ReadyRule::default(),
        stop: default_stop(),
        query: None,
        console: ConsoleKind::Stdin,
        actions: BTreeMap::new(),
        restart: request.restart.unwrap_or_default(),
        docker,
        ports,
    })
}

/// What `docker stop` does.
fn default_stop() -> Vec<StopRung> {
    vec![StopRung { step: StopStep::Signal("TERM".to_owned()), wait_seconds: 10 }]
}

/// Docker refuses less than 6 MiB.
const MEMORY_MIN: u64 = 6 << 20;

fn check_limits(limits: &Limits) -> Result<(), Problem> {
    if limits.memory_bytes.is_some_and(|memory| memory < MEMORY_MIN) {
        return Err(Problem::invalid("limits.memory_bytes", "less than 6 MiB of memory runs nothing"));
    }
    if limits.cpu_millis.is_some_and(|cpu| cpu < 10) {
        return Err(Problem::invalid("limits.cpu_millis", "it is in thousandths of a core, and 10 is the least"));
    }
    if limits.pids.is_some_and(|pids| pids < 2) {
        return Err(Problem::invalid("limits.pids", "a game needs at least 2 processes or threads"));
    }
    Ok(())
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), Problem> {
    if env.len() > ENV_MAX {
        return Err(Problem::invalid("env", format!("there may be at most {ENV_MAX} variables")));
    }
    for (name, value) in env {
        let mut bytes = name.bytes();
        let sound =
            bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !sound {
            return Err(Problem::invalid("env", format!("`{name}` is not the name of an environment variable")));
        }
        if value.contains('\0') || value.len() > variables::VALUE_MAX {
            return Err(Problem::invalid(format!("env.{name}"), "the value is too long or holds a zero byte"));
        }
    }
    Ok(())
}

fn check_docker(docker: &DockerSpec) -> Result<(), Problem> {
    if docker.build.is_some() {
        return Err(Problem::invalid("docker.build", "only definitions build images"));
    }
    if docker.mounts.len() > MOUNTS_MAX {
        return Err(Problem::invalid("docker.mounts", format!("there may be at most {MOUNTS_MAX}")));
    }
    let data = docker.data.iter().map(|path| ("docker.data".to_owned(), path));
    let mounts = docker.mounts.iter().enumerate().map(|(at, path)| (format!("docker.mounts[{at}]"), path));
    for (field, path) in data.chain(mounts) {
        let sound = path.len() > 1
            && path.starts_with('/')
            && !path.contains([':', '\0'])
            && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        if !sound {
            return Err(Problem::invalid(field, format!("`{path}` is not a path in the container such as `/data`"))
                .hint("what lies there is kept below the server's own directory; a directory of the machine can not be named"));
        }
    }
    Ok(())
}

/// A definition's own fault: nothing that the caller sent is wrong.
fn broken(error: TemplateError) -> Problem {
    Problem::invalid("game_id", format!("the game's definition is broken: {error}"))
}
