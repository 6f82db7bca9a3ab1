//! Which ports a server gets on its machine.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::spec::{PortSpec, Protocol};

/// A port of some protocol on one machine.
pub type Socket = (Protocol, u16);

/// The ports of a worker that names no range of its own.
pub const DEFAULT_RANGE: (u16, u16) = (1, u16::MAX);

/// One port that a server wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortWish {
    pub name: String,
    /// One or both; both get the same number.
    pub protocols: Vec<Protocol>,
    pub want: Want,
    pub container_port: Option<u16>,
    /// Its place in the request, for the field of a refusal.
    pub index: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// This one and no other.
    Exactly(u16),
    /// This one, or the next that is free.
    Near(u16),
    /// So far from another port of the same server.
    Beside { port: String, offset: i32 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("port {port}/{} is taken", .protocol.as_str())]
    Taken { index: Option<usize>, name: String, protocol: Protocol, port: u16 },
    #[error("port {port} is outside of the worker's ports {} to {}", .range.0, .range.1)]
    OutOfRange { index: Option<usize>, name: String, port: u16, range: (u16, u16) },
    #[error("two ports of the server are both {port}/{}", .protocol.as_str())]
    Twice { index: Option<usize>, protocol: Protocol, port: u16 },
    #[error("port `{name}` stands beside `{beside}`, which is not a port of its own")]
    Beside { name: String, beside: String },
    #[error("no free port is left for `{name}`")]
    Exhausted { name: String },
}

/// Chooses a number for every wish, none of them taken and no two of them the same.
pub fn allocate(wishes: &[PortWish], taken: &BTreeSet<Socket>, range: (u16, u16)) -> Result<Vec<PortSpec>, PortError> {
    let mut mine = BTreeSet::new();
    let mut numbers: BTreeMap<usize, u16> = BTreeMap::new();
    for (at, wish) in wishes.iter().enumerate() {
        let Want::Exactly(port) = wish.want else { continue };
        check_exact(wish, port, taken, &mine, range)?;
        occupy(wish, port, &mut mine);
        numbers.insert(at, port);
    }
    // A free port near the wish is one at which those that stand beside it fit, too.
    for (at, wish) in wishes.iter().enumerate() {
        let Want::Near(near) = wish.want else { continue };
        let group = group_of(wishes, at);
        let fits = |base: u16| group_numbers(&group, base).is_some_and(|numbers| all_free(&numbers, taken, &mine, range));
        let base = candidates(near, range).find(|base| fits(*base)).ok_or_else(|| PortError::Exhausted { name: wish.name.clone() })?;
        for (member, port) in group_numbers(&group, base).unwrap_or_default() {
            occupy(member, port, &mut mine);
            if let Some(place) = wishes.iter().position(|other| std::ptr::eq(other, member)) {
                numbers.insert(place, port);
            }
        }
    }
    // What stands beside an exact port has no choice either.
    for (at, wish) in wishes.iter().enumerate() {
        if numbers.contains_key(&at) {
            continue;
        }
        let Want::Beside { port: beside, offset } = &wish.want else { continue };
        let base = wishes.iter().position(|other| other.name == *beside && !matches!(other.want, Want::Beside { .. }));
        let base = base
            .and_then(|place| numbers.get(&place))
            .ok_or_else(|| PortError::Beside { name: wish.name.clone(), beside: beside.clone() })?;
        let port = shifted(*base, *offset).ok_or_else(|| PortError::Exhausted { name: wish.name.clone() })?;
        check_exact(wish, port, taken, &mine, range)?;
        occupy(wish, port, &mut mine);
        numbers.insert(at, port);
    }
    let spec = |(at, wish): (usize, &PortWish)| {
        let port = numbers.get(&at).copied().unwrap_or_default();
        wish.protocols
            .iter()
            .map(|protocol| PortSpec { name: wish.name.clone(), protocol: *protocol, port, container_port: wish.container_port })
            .collect::<Vec<_>>()
    };
    Ok(wishes.iter().enumerate().flat_map(spec).collect())
}

fn check_exact(wish: &PortWish, port: u16, taken: &BTreeSet<Socket>, mine: &BTreeSet<Socket>, range: (u16, u16)) -> Result<(), PortError> {
    if port < range.0 || port > range.1 {
        return Err(PortError::OutOfRange { index: wish.index, name: wish.name.clone(), port, range });
    }
    for protocol in &wish.protocols {
        if mine.contains(&(*protocol, port)) {
            return Err(PortError::Twice { index: wish.index, protocol: *protocol, port });
        }
        if taken.contains(&(*protocol, port)) {
            return Err(PortError::Taken { index: wish.index, name: wish.name.clone(), protocol: *protocol, port });
        }
    }
    Ok(())
}

fn occupy(wish: &PortWish, port: u16, mine: &mut BTreeSet<Socket>) {
    mine.extend(wish.protocols.iter().map(|protocol| (*protocol, port)));
}

/// A wish with a number of its own, and all that stand beside it.
fn group_of(wishes: &[PortWish], at: usize) -> Vec<(&PortWish, i32)> {
    let base = &wishes[at];
    let beside = wishes.iter().filter_map(|wish| match &wish.want {
        Want::Beside { port, offset } if *port == base.name => Some((wish, *offset)),
        Want::Beside { .. } | Want::Exactly(_) | Want::Near(_) => None,
    });
    std::iter::once((base, 0)).chain(beside).collect()
}

fn group_numbers<'a>(group: &[(&'a PortWish, i32)], base: u16) -> Option<Vec<(&'a PortWish, u16)>> {
    group.iter().map(|(wish, offset)| shifted(base, *offset).map(|port| (*wish, port))).collect()
}

fn all_free(numbers: &[(&PortWish, u16)], taken: &BTreeSet<Socket>, mine: &BTreeSet<Socket>, range: (u16, u16)) -> bool {
    let mut seen = mine.clone();
    numbers.iter().all(|(wish, port)| {
        let free = check_exact(wish, *port, taken, &seen, range).is_ok();
        occupy(wish, *port, &mut seen);
        free
    })
}

fn shifted(port: u16, offset: i32) -> Option<u16> {
    u16::try_from(i32::from(port) + offset).ok().filter(|port| *port != 0)
}

/// From `near` to the end of the range, then from its beginning.
fn candidates(near: u16, range: (u16, u16)) -> impl Iterator<Item = u16> {
    let near = near.clamp(range.0, range.1);
    (near..=range.1).chain(range.0..near)
}

#[cfg(test)]
mod tests;
