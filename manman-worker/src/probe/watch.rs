//! The watch over one instance: its output, its readiness, its players, its use of the machine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manman_common::spec::HangRule;
use manman_common::status::Players;
use manman_worker_core::InstanceState;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, MissedTickBehavior};

use super::ears::{self, Ears, Heard, News};
use super::hang::{Pinger, Pulse, Silence};
use super::query::{Asker, QueryError};
use super::ready::{Readiness, Rule, Verdict};
use super::roster::{self, Allowance, Move, Roster};
use crate::console::Console;
use crate::driver::DriverError;
use crate::logs::{self, LogBook, LogBooks, Trouble};
use crate::metrics::Metrics;
use crate::reconcile::signals::{Observed, Signal, SignalSender, Watched};

/// How often a game is looked at that is not ready yet.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two queries of a ready game, and between two looks at what it uses.
const QUERY_TICKS: u32 = 10;
const USAGE_TICKS: u32 = 10;
/// Ticks between two queries of one that may hang.
const SUSPECT_TICKS: u32 = 3;

/// Size of a compiled ready rule.
const PATTERN_SIZE: usize = 1 << 20;

/// News of the log that wait for the watch.
const NEWS_MAX: usize = 64;

/// How to read the log for who plays, and who does; or why the rule for it is none.
type Roll = Result<(roster::Rule, Arc<Mutex<Heard>>), String>;

/// To whom a watch speaks.
pub(super) struct Ways {
    pub(super) console: Console,
    pub(super) signals: SignalSender,
    pub(super) metrics: Metrics,
}

pub(super) async fn run(books: LogBooks, ways: Ways, watched: channel::Receiver<Watched>, drained: channel::Sender<bool>) {
    let first = watched.borrow().clone();
    let server = first.instance.server;
    let opened = loop {
        let books = books.clone();
        match tokio::task::spawn_blocking(move || books.open(server)).await {
            Ok(Ok(book)) => break book,
            Ok(Err(error)) => {
                tracing::error!(server.id = %server, %error, "a server's log can not be opened");
                tokio::time::sleep(TICK).await;
            }
            // The runtime goes down.
            Err(_) => return,
        }
    };
    let (news, heard) = mpsc::channel(NEWS_MAX);
    let pattern = first.spec.run.ready.log.as_deref().map(compile);
    let matched = Arc::<AtomicBool>::default();
    let players = remembered(&opened, &first).await;
    let ears = Ears {
        pattern: pattern.clone().and_then(Result::ok),
        matched: Arc::clone(&matched),
        players: players.as_ref().and_then(|players| players.as_ref().ok()).cloned(),
        news,
    };
    let follow = async {
        logs::follow(&opened, &*first.driver, &first.instance, &ears).await;
        // Whoever waits may have gone.
        let _ = drained.send(true);
    };
    let Ways { console, signals, metrics } = ways;
    let probe = Probe { book: opened.clone(), console, signals, metrics, watched: watched.clone(), heard, pattern, matched, players };
    tokio::join!(follow, probe.run());
}

/// Who plays by the log of this instance so far; an error where its rule is none.
async fn remembered(book: &LogBook, watched: &Watched) -> Option<Roll> {
    let rule = match roster::Rule::compile(watched.spec.run.players.as_ref()?) {
        Ok(rule) => rule,
        Err(error) => return Some(Err(error)),
    };
    let (book, instance, reading) = (book.clone(), watched.instance.id, rule.clone());
    let roster = tokio::task::spawn_blocking(move || ears::remember(&book, instance, &reading)).await;
    let roster = match roster {
        Ok(Ok(roster)) => roster,
        Ok(Err(error)) => {
            tracing::warn!(server.id = %watched.instance.server, %error, "who plays could not be read from the log");
            Roster::default()
        }
        Err(_) => Roster::default(),
    };
    Some(Ok((rule, Arc::new(Mutex::new(Heard { changed: true, roster, moves: Vec::new() })))))
}

fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
    compiled.map(Arc::new).map_err(|error| error.to_string())
}

/// What is known of the game so far.
struct Sight {
    state: Readiness,
    query: Option<Asker>,
    /// What the query told last besides the players.
    told: Option<BTreeMap<String, Value>>,
    silence: Silence,
    pinger: Pinger,
    allowance: Allowance,
    /// Of ticks.
    count: u32,
}

pub(super) struct Probe {
    book: LogBook,
    pub(super) console: Console,
    signals: SignalSender,
    metrics: Metrics,
    watched: channel::Receiver<Watched>,
    heard: mpsc::Receiver<News>,
    pattern: Option<Result<Arc<Regex>, String>>,
    matched: Arc<AtomicBool>,
    /// Who plays by the log, where it tells.
    players: Option<Roll>,
}

impl Probe {
    async fn run(mut self) {
        let first = self.watched.borrow_and_update().clone();
        let mut rule = Rule::of(&first.spec.run);
        if let Some(Err(error)) = &self.pattern {
            self.condition("ReadyRule", format!("its ready rule is no regular expression, and its ports decide: {error}"), None).await;
            rule.log = false;
            rule.ports = !rule.query;
        }
        let mut query = None;
        if let Some(asked) = &first.spec.run.query {
            match Asker::new(asked) {
                Ok(asker) => query = Some(asker),
                Err(error) => {
                    let hint = "its ready rule goes without; name a protocol such as `valve`, `quake3` or `minecraftjava`";
                    self.condition("QueryUnknown", error.to_string(), Some(hint.to_owned())).await;
                    rule.query = false;
                    rule.ports = !rule.log;
                }
            }
        }
        if let Some(Err(error)) = &self.players {
            self.condition("PlayersRule", format!("its rule for players is none, and they are not counted by its log: {error}"), None)
                .await;
        }
        let now = Instant::now();
        let mut sight = Sight {
            state: Readiness::new(rule, first.was_ready, now),
            query,
            told: None,
            silence: Silence::new(first.was_ready, now),
            pinger: Pinger::default(),
            allowance: Allowance::new(now),
            count: 0,
        };
        let mut troubles = Vec::new();
        if first.was_ready && matches!(first.instance.state, InstanceState::Running { .. }) {
            self.tell(Observed::Ready).await;
        } else if rule.log && self.log_has_match(&first).await {
            // Taken over while it was starting: the line may have been printed before.
            let verdict = sight.state.log_matched();
            self.verdict(verdict, &mut sight).await;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Cancel-safe: a message stays in the channel until it is taken.
                news = self.heard.recv() => match news {
                    Some(News::Printed) => sight.state.printed(Instant::now()),
                    Some(News::Matched) => {
                        let verdict = sight.state.log_matched();
                        self.verdict(verdict, &mut sight).await;
                    }
                    Some(News::Trouble(trouble)) => self.trouble(trouble, &mut troubles).await,
                    None => return,
                },
                // Cancel-safe: nothing is lost by waiting anew.
                changed = self.watched.changed() => if changed.is_err() { return },
                _ = ticks.tick() => {
                    let watched = self.watched.borrow().clone();
                    match watched.instance.state {
                        InstanceState::Running { .. } => {}
                        // The dead have no players; their output is still taken over.
                        InstanceState::Created | InstanceState::Exited(_) => continue,
                    }
                    self.look(&watched, &mut sight).await;
                    self.tell_players(sight.query.is_some(), &mut sight.allowance);
                    sight.count = sight.count.wrapping_add(1);
                }
            }
        }
    }

    async fn look(&mut self, watched: &Watched, sight: &mut Sight) {
        if self.matched.swap(false, Ordering::Relaxed) {
            let verdict = sight.state.log_matched();
            self.verdict(verdict, sight).await;
        }
        if sight.state.wants_ports() {
            let verdict = match watched.driver.ports_bound(&watched.instance, &watched.spec).await {
                Ok(true) => sight.state.ports_bound(),
                Ok(false) => None,
                Err(error) => self.ports_unseen(&error, &mut sight.state).await,
            };
            self.verdict(verdict, sight).await;
        }
        let hang = watched.spec.run.hang;
        let suspect = hang.is_some_and(|rule| sight.silence.is_suspect(rule, Instant::now()));
        let due = sight.count.is_multiple_of(QUERY_TICKS) || suspect && sight.count.is_multiple_of(SUSPECT_TICKS);
        let mut pulse = None;
        if sight.query.is_some() && (due || !sight.state.is_ready() || sight.told.is_none()) {
            pulse = self.query(watched, sight).await;
        }
        if let Some(rule) = hang.filter(|_| due && sight.silence.was_ready()) {
            self.listen(watched, rule, pulse, sight).await;
        }
        if (sight.count < 3 || sight.count.is_multiple_of(USAGE_TICKS))
            && let Ok(usage) = watched.driver.usage(&watched.instance).await
        {
            self.metrics.note(watched.instance.server, watched.instance.id, usage);
            let _ = self.signals.try_send(self.signal(Observed::Usage(usage)));
        }
        let late = sight.state.tick(Instant::now());
        self.verdict(late, sight).await;
    }

    async fn query(&self, watched: &Watched, sight: &mut Sight) -> Option<Pulse> {
        let asked = sight.query.as_mut()?.ask().await;
        let (verdict, pulse) = match asked {
            Ok(mut answer) => {
                if answer.players.names.is_empty() && answer.players.online > 0 {
                    answer.players.names = self.names_by_log();
                }
                // Told again soon, so a full channel may drop them.
                let _ = self.signals.try_send(self.signal(Observed::Players(answer.players)));
                if sight.told.as_ref() != Some(&answer.extra)
                    && self.signals.try_send(self.signal(Observed::Extra(answer.extra.clone()))).is_ok()
                {
                    sight.told = Some(answer.extra);
                }
                (sight.state.query_answered(), Pulse::Felt)
            }
            Err(error) => {
                tracing::debug!(server.id = %watched.instance.server, %error, "a query failed");
                let pulse = match error {
                    QueryError::CouldNotAsk { .. } => Pulse::NotLooked,
                    QueryError::NoAnswer { .. } | QueryError::Busy { .. } => Pulse::None,
                };
                (sight.state.query_failed(), pulse)
            }
        };
        self.verdict(verdict, sight).await;
        Some(pulse)
    }

    /// Holds the game's silence against its rule: the query's word, and where that is none, the
    /// console's over the network.
    async fn listen(&self, watched: &Watched, rule: HangRule, asked: Option<Pulse>, sight: &mut Sight) {
        let pulse = match asked {
            Some(Pulse::Felt) => Pulse::Felt,
            Some(asked @ (Pulse::None | Pulse::NotLooked)) => sight.pinger.ping(self, watched).await.unwrap_or(asked),
            None => match sight.pinger.ping(self, watched).await {
                Some(pulse) => pulse,
                None => return sight.pinger.tell_nothing_to_ask(self, sight.query.is_some()).await,
            },
        };
        let now = Instant::now();
        match pulse {
            Pulse::Felt => {
                if sight.silence.answered(now) {
                    self.tell(Observed::Answers).await;
                }
            }
            Pulse::NotLooked => sight.silence.could_not_look(now),
            Pulse::None => {
                sight.silence.failed();
                if let Some(seconds) = sight.silence.verdict(rule, now) {
                    self.tell(Observed::Silent { seconds }).await;
                }
            }
        }
    }

    fn names_by_log(&self) -> Vec<String> {
        match &self.players {
            Some(Ok((_, heard))) => ears::lock(heard).roster.names(),
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// Tells who came and left since the last look, and how many there are where no query does.
    fn tell_players(&self, by_query: bool, allowance: &mut Allowance) {
        let Some(Ok((_, heard))) = &self.players else { return };
        let (moves, players) = {
            let mut heard = ears::lock(heard);
            let moves = std::mem::take(&mut heard.moves);
            let changed = std::mem::take(&mut heard.changed) && !by_query;
            // How many fit in is not in the log.
            let players = changed.then(|| Players { online: heard.roster.online(), max: 0, names: heard.roster.names() });
            (moves, players)
        };
        for step in moves {
            if allowance.take(Instant::now()) {
                let observed = match step {
                    Move::Joined(player) => Observed::Joined { player },
                    Move::Left(player) => Observed::Left { player },
                };
                let _ = self.signals.try_send(self.signal(observed));
            }
        }
        if let Some(players) = players
            && self.signals.try_send(self.signal(Observed::Players(players))).is_err()
        {
            ears::lock(heard).changed = true;
        }
    }

    /// Where the game's own network can not be looked into, that it runs has to do.
    async fn ports_unseen(&self, error: &DriverError, state: &mut Readiness) -> Option<Verdict> {
        // Gone or away: the loop learns of that by itself.
        error.hint.as_ref()?;
        self.condition("PortsUnseen", format!("{error}; it counts as ready since it runs"), error.hint.clone()).await;
        state.ports_bound()
    }

    async fn log_has_match(&self, watched: &Watched) -> bool {
        let Some(Ok(pattern)) = self.pattern.clone() else { return false };
        let (book, instance) = (self.book.clone(), watched.instance.id);
        let search = move || ears::search(&book, instance, |text| pattern.is_match(text));
        matches!(tokio::task::spawn_blocking(search).await, Ok(Ok(true)))
    }

    async fn verdict(&self, verdict: Option<Verdict>, sight: &mut Sight) {
        match verdict {
            None => {}
            Some(Verdict::Ready) => {
                if sight.state.was_late() {
                    self.tell(Observed::ConditionOver { kind: "ReadyLate".to_owned() }).await;
                }
                sight.silence.ready(Instant::now());
                self.tell(Observed::Ready).await;
            }
            Some(Verdict::Unready) => self.tell(Observed::Unready { reason: "it no longer answers queries".to_owned() }).await,
            Some(Verdict::Late) => {
                let missing = match sight.state.rule {
                    Rule { log: true, query: true, .. } => {
                        "the line that its ready rule names, and an answer to its query, have not both come"
                    }
                    Rule { log: true, .. } => "the line that its ready rule names has not come",
                    Rule { query: true, .. } => "it does not answer its query",
                    Rule { .. } => "it has not bound its ports",
                };
                let message = format!("not ready {} s after it last printed a line: {missing}", sight.state.rule.within.as_secs());
                self.condition("ReadyLate", message, Some("look at its log".to_owned())).await;
            }
        }
    }

    async fn trouble(&self, trouble: Option<Trouble>, told: &mut Vec<&'static str>) {
        match trouble {
            Some(trouble) => {
                if !told.contains(&trouble.kind) {
                    told.push(trouble.kind);
                }
                self.condition(trouble.kind, trouble.message, trouble.hint).await;
            }
            None => {
                for kind in told.drain(..) {
                    self.tell(Observed::ConditionOver { kind: kind.to_owned() }).await;
                }
            }
        }
    }

    pub(super) async fn condition(&self, kind: &str, message: String, hint: Option<String>) {
        self.tell(Observed::Condition { kind: kind.to_owned(), message, hint }).await;
    }

    async fn tell(&self, observed: Observed) {
        // A loop that has gone needs no news.
        let _ = self.signals.send(self.signal(observed)).await;
    }

    fn signal(&self, observed: Observed) -> Signal {
        let watched = self.watched.borrow();
        Signal { server: watched.instance.server, instance: watched.instance.id, observed }
    }
}
