//! Asks a game, by its own protocol, how it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gamedig::games::minecraft::Server;
use gamedig::protocols::gamespy::GameSpyVersion;
use gamedig::protocols::quake::QuakeVersion;
use gamedig::protocols::types::{ExtraRequestSettings, GatherToggle, ProprietaryProtocol, Protocol, TimeoutSettings};
use gamedig::protocols::valve::Engine;
use gamedig::{GAMES, GDError, GDErrorKind, Game};
use manman_common::spec::QuerySpec;
use manman_common::status::Players;
use rustix::io::Errno;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{quake, roster};

/// A game on this machine answers within one of its frames; one that loads a map answers nothing.
const TIMEOUT: Duration = Duration::from_millis(800);

/// For all requests of one query, each of which has that time.
const QUERY_WITHIN: Duration = Duration::from_secs(5);

/// Longest text that is taken over from a game.
const TEXT_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) players: Players,
    pub(super) extra: BTreeMap<String, Value>,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a query protocol that is known here")]
pub(super) struct UnknownProtocol(String);

#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("no answer to a query of `{protocol}` on port {port}")]
    NoAnswer { protocol: String, port: u16, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("could not query `{protocol}` on port {port}")]
    CouldNotAsk { protocol: String, port: u16, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the query of `{protocol}` on port {port} before this one has not ended")]
    Busy { protocol: String, port: u16 },
}

/// Asks one game, again and again.
pub(super) struct Asker {
    query: QuerySpec,
    how: How,
    /// A query whose time ran out: its thread may wait on, and no second one is begun beside it.
    under_way: Option<JoinHandle<Result<Answer, GDError>>>,
}

enum How {
    Quake(quake::Version),
    Gamedig(Box<Game>),
}

/// A protocol's own name, or that of a game in gamedig's list.
fn how(protocol: &str) -> Option<How> {
    let protocol = match protocol {
        "quake1" => Protocol::Quake(QuakeVersion::One),
        "quake2" => Protocol::Quake(QuakeVersion::Two),
        "quake3" => Protocol::Quake(QuakeVersion::Three),
        "valve" | "source" | "a2s" => Protocol::Valve(Engine::Source(None)),
        "goldsrc" => Protocol::Valve(Engine::GoldSrc(false)),
        "minecraft" | "minecraft-java" => Protocol::PROPRIETARY(ProprietaryProtocol::Minecraft(Some(Server::Java))),
        "minecraft-bedrock" => Protocol::PROPRIETARY(ProprietaryProtocol::Minecraft(Some(Server::Bedrock))),
        "gamespy1" => Protocol::Gamespy(GameSpyVersion::One),
        "gamespy2" => Protocol::Gamespy(GameSpyVersion::Two),
        "gamespy3" => Protocol::Gamespy(GameSpyVersion::Three),
        "unreal2" => Protocol::Unreal2,
        other => return GAMES.get(other).cloned().map(How::of),
    };
    Some(How::of(Game { name: "", default_port: 0, protocol, request_settings: ExtraRequestSettings::default() }))
}

impl How {
    fn of(game: Game) -> Self {
        match game.protocol {
            Protocol::Quake(QuakeVersion::One) => Self::Quake(quake::Version::One),
            Protocol::Quake(QuakeVersion::Two) => Self::Quake(quake::Version::Two),
            Protocol::Quake(QuakeVersion::Three) => Self::Quake(quake::Version::Three),
            _ => Self::Gamedig(Box::new(game)),
        }
    }
}

impl Asker {
    pub(super) fn new(query: &QuerySpec) -> Result<Self, UnknownProtocol> {
        let how = how(&query.protocol).ok_or_else(|| UnknownProtocol(query.protocol.clone()))?;
        Ok(Self { query: query.clone(), how, under_way: None })
    }

    pub(super) async fn ask(&mut self) -> Result<Answer, QueryError> {
        let QuerySpec { protocol, port } = self.query.clone();
        if self.under_way.as_ref().is_some_and(|before| !before.is_finished()) {
            return Err(QueryError::Busy { protocol, port });
        }
        let no_answer = |source: Box<dyn std::error::Error + Send + Sync>| {
            if is_ours(&*source) {
                QueryError::CouldNotAsk { protocol, port, source }
            } else {
                QueryError::NoAnswer { protocol, port, source }
            }
        };
        match &self.how {
            How::Quake(version) => ask_quake(*version, port).await.map_err(|error| no_answer(error.into())),
            How::Gamedig(game) => {
                let game = (**game).clone();
                // gamedig reads its sockets in the caller's thread.
                let mut asked = tokio::task::spawn_blocking(move || ask_blocking(&game, port));
                match tokio::time::timeout(QUERY_WITHIN, &mut asked).await {
                    Ok(Ok(Ok(answer))) => Ok(answer),
                    Ok(Ok(Err(error))) => Err(no_answer(error.into())),
                    Ok(Err(error)) => Err(no_answer(error.into())),
                    Err(error) => {
                        self.under_way = Some(asked);
                        Err(no_answer(error.into()))
                    }
                }
            }
        }
    }
}

/// Whether this machine had no socket to ask with, which says nothing of the game.
pub(super) fn is_ours(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
        if io.is_some() && ours.contains(&io) || error.downcast_ref::<GDError>().is_some_and(|error| error.kind == GDErrorKind::SocketBind)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

async fn ask_quake(version: quake::Version, port: u16) -> std::io::Result<Answer> {
    let status = quake::ask(version, port, TIMEOUT).await?;
    let mut extra = BTreeMap::new();
    if version == quake::Version::Three {
        extra.insert("bots".to_owned(), Value::from(status.bots));
    }
    let known = [
        ("map", "mapname"),
        ("map", "map"),
        ("version", "version"),
        ("version", "*version"),
        ("mode", "g_gametype"),
        ("title", "sv_hostname"),
        ("title", "hostname"),
    ];
    for (key, name) in known {
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

fn ask_blocking(game: &Game, port: u16) -> Result<Answer, GDError> {
    let timeouts = TimeoutSettings::new(Some(TIMEOUT), Some(TIMEOUT), Some(TIMEOUT), 0)?;
    // The names are a further request, which some games leave unanswered; rules are one that nobody reads.
    let extra = game.request_settings.clone().set_gather_players(GatherToggle::Try).set_gather_rules(GatherToggle::Skip);
    let extra = extra.set_check_app_id(false).set_protocol_version(-1).set_hostname("127.0.0.1".to_owned());
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
    let names = roster::shown_all(answer.players().unwrap_or_default().into_iter().map(|player| player.name()));
    Ok(Answer { players: Players { online: answer.players_online(), max: answer.players_maximum(), names }, extra: told })
}

#[cfg(test)]
mod tests;
