//! The ports of a game: as its definition has them, and as a request changes that.

use manman_common::Problem;
use manman_common::game_id::GameId;
use manman_common::spec::Protocol;
use manman_common::wire::{CreateServer, PortRequest};

use super::Definition;
use super::resolve::broken;
use crate::domain::ports::{PortWish, Want};
use crate::domain::template::{PortDefault, TemplateError, port_default};

/// More than any game has.
const PORTS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortFault {
    #[error(transparent)]
    Default(TemplateError),
    #[error("there is no port `{0}`")]
    Missing(String),
    #[error("the ports {} stand beside each other in a circle", .0.join(", "))]
    Circle(Vec<String>),
    #[error("{0} is no port; that is 1 to 65535")]
    Range(i32),
}

/// The port beside which `name` stands at last, that one's number, and how far away it is.
pub(super) fn base_of<'a>(definition: &'a Definition, name: &'a str) -> Result<(&'a str, u16, i32), PortFault> {
    let mut way: Vec<&str> = Vec::new();
    let mut at = name;
    let mut total: i32 = 0;
    loop {
        if let Some(begin) = way.iter().position(|before| *before == at) {
            return Err(PortFault::Circle(way[begin..].iter().map(|name| (*name).to_owned()).collect()));
        }
        let (key, port) = definition.ports.get_key_value(at).ok_or_else(|| PortFault::Missing(at.to_owned()))?;
        way.push(key);
        match port_default(&port.default).map_err(PortFault::Default)? {
            PortDefault::Number(number) => return Ok((key, number, total)),
            PortDefault::Beside { port, offset } => {
                total = total.saturating_add(offset);
                at = definition.ports.get_key_value(&port).map(|(key, _)| key.as_str()).ok_or(PortFault::Missing(port))?;
            }
        }
    }
}

/// The number that a port has where nothing is taken.
pub(super) fn number_of(definition: &Definition, name: &str) -> Result<u16, PortFault> {
    let (_, number, offset) = base_of(definition, name)?;
    let number = i32::from(number).saturating_add(offset);
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or(PortFault::Range(number))
}

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
            Some(place) => override_port(&mut wishes[place], asked, index, matches!(request.game_id, GameId::Steamcmd(_)))?,
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
            // The allocator knows one step, so a port beside a port beside another stands beside that.
            let (base, number, offset) = base_of(definition, name).map_err(|fault| broken(&fault))?;
            let want = if base == name { Want::Near(number) } else { Want::Beside { port: base.to_owned(), offset } };
            Ok(PortWish { name: name.clone(), protocols: port.protocol.protocols(), want, container_port: port.container, index: None })
        })
        .collect()
}

fn override_port(wish: &mut PortWish, asked: &PortRequest, index: usize, by_process: bool) -> Result<(), Problem> {
    if let Some(protocol) = asked.protocol.filter(|protocol| !wish.protocols.contains(protocol)) {
        return Err(Problem::invalid(
            format!("ports[{index}].protocol"),
            format!("port `{}` of this game is not {}", wish.name, protocol.as_str()),
        ));
    }
    if let Some(container) = asked.container_port {
        if by_process {
            return Err(Problem::invalid(format!("ports[{index}].container_port"), "the game runs in no container"));
        }
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
