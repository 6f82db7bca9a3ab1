//! Asks a game, by its own protocol, how it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gamedig::games::minecraft::Server;
use gamedig::protocols::gamespy::GameSpyVersion;
use gamedig::protocols::quake::QuakeVersion;
use gamedig::protocols::types::{ExtraRequestSettings, GatherToggle, ProprietaryProtocol, Protocol, TimeoutSettings};
use gamedig::protocols::valve::Engine;
use gamedig::{GAMES, Game};
use manman_common::spec::QuerySpec;
use manman_common::status::Players;
use serde_json::Value;

use super::quake3;

/// A game on this machine answers within one of its frames; one that loads a map answers nothing.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Longest text that is taken over from a game.
const TEXT_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) players: Players,
    pub(super) extra: BTreeMap<String, Value>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("`{0}` is not a query protocol that is known here")]
    UnknownProtocol(String),
    #[error("no answer to a query of `{protocol}` on port {port}")]
    NoAnswer { protocol: String, port: u16, source: Box<dyn std::error::Error + Send + Sync> },
}

/// A protocol's own name, or that of a game in gamedig's list.
fn game(protocol: &str) -> Option<Game> {
    let protocol = match protocol {
        "quake1" => Protocol::Quake(QuakeVersion::One),
        "quake2" => Protocol::Quake(QuakeVersion::Two),
        "valve" | "source" | "a2s" => Protocol::Valve(Engine::Source(None)),
        "goldsrc" => Protocol::Valve(Engine::GoldSrc(false)),
        "minecraft" | "minecraft-java" => Protocol::PROPRIETARY(ProprietaryProtocol::Minecraft(Some(Server::Java))),
        "minecraft-bedrock" => Protocol::PROPRIETARY(ProprietaryProtocol::Minecraft(Some(Server::Bedrock))),
        "gamespy1" => Protocol::Gamespy(GameSpyVersion::One),
        "gamespy2" => Protocol::Gamespy(GameSpyVersion::Two),
        "gamespy3" => Protocol::Gamespy(GameSpyVersion::Three),
        "unreal2" => Protocol::Unreal2,
        other => return GAMES.get(other).cloned(),
    };
    Some(Game { name: "", default_port: 0, protocol, request_settings: ExtraRequestSettings::default() })
}

pub(super) async fn ask(query: &QuerySpec) -> Result<Answer, QueryError> {
    if query.protocol == "quake3" {
        return ask_quake3(query).await;
    }
    let Some(game) = game(&query.protocol) else { return Err(QueryError::UnknownProtocol(query.protocol.clone())) };
    let no_answer = |source: Box<dyn std::error::Error + Send + Sync>| QueryError::NoAnswer {
        protocol: query.protocol.clone(),
        port: query.port,
        source,
    };
    let port = query.port;
    // gamedig reads its sockets in the caller's thread.
    let asked = tokio::task::spawn_blocking(move || ask_blocking(&game, port)).await;
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(no_answer(error.into())),
        Err(error) => Err(no_answer(error.into())),
    }
}

async fn ask_quake3(query: &QuerySpec) -> Result<Answer, QueryError> {
    let status = quake3::ask(query.port, TIMEOUT).await.map_err(|source| QueryError::NoAnswer {
        protocol: query.protocol.clone(),
        port: query.port,
        source: source.into(),
    })?;
    let mut extra = BTreeMap::from([("bots".to_owned(), Value::from(status.bots))]);
    for (key, name) in [("map", "mapname"), ("version", "version"), ("mode", "g_gametype"), ("title", "sv_hostname")] {
        if let Some(value) = status.settings.get(name).filter(|value| !value.is_empty()) {
            extra.insert(key.to_owned(), plain(value));
        }
    }
    Ok(Answer { players: status.players, extra })
}

/// A game's text, short and without control characters.
fn plain(text: &str) -> Value {
    Value::from(text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect::<String>())
}

fn ask_blocking(game: &Game, port: u16) -> Result<Answer, gamedig::GDError> {
    let timeouts = TimeoutSettings::new(Some(TIMEOUT), Some(TIMEOUT), Some(TIMEOUT), 0)?;
    // Names of players and rules are further requests, which some games refuse.
    let extra =
        ExtraRequestSettings::default().set_check_app_id(false).set_gather_players(GatherToggle::Skip).set_gather_rules(GatherToggle::Skip);
    let extra = extra.set_protocol_version(-1).set_hostname("127.0.0.1".to_owned());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let answer = gamedig::query_with_timeout_and_extra_settings(game, &address, Some(port), Some(timeouts), Some(extra))?;
    let mut told = BTreeMap::new();
    for (key, value) in [("map", answer.map()), ("version", answer.game_version()), ("mode", answer.game_mode()), ("title", answer.name())]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            told.insert(key.to_owned(), plain(value));
        }
    }
    if let Some(bots) = answer.players_bots() {
        told.insert("bots".to_owned(), Value::from(bots));
    }
    Ok(Answer { players: Players { online: answer.players_online(), max: answer.players_maximum() }, extra: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_protocols_are_known() {
        for name in [
            "quake1",
            "quake2",
            "valve",
            "source",
            "minecraft",
            "minecraft-java",
            "minecraft-bedrock",
            "gamespy1",
            "gamespy2",
            "gamespy3",
            "unreal2",
            "mindustry",
        ] {
            assert!(game(name).is_some(), "{name}");
        }
        assert!(game("telepathy").is_none());
    }

    #[tokio::test]
    async fn silence_is_an_error_soon() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = silent.local_addr().expect("its address").port();
        let asked = tokio::time::timeout(Duration::from_secs(5), ask(&QuerySpec { protocol: "quake3".to_owned(), port })).await;
        assert!(matches!(asked.expect("in time"), Err(QueryError::NoAnswer { .. })));
    }
}
