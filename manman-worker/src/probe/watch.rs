//! The watch over one instance: its output, its readiness, its players, its use of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manman_common::logs::{LogStream, records};
use manman_common::spec::QuerySpec;
use manman_worker_core::InstanceState;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, MissedTickBehavior};

use super::query::{self, QueryError};
use super::ready::{Readiness, Rule, Verdict};
use crate::driver::{DriverError, OutputBatch};
use crate::logs::{self, Listener, LogBook, LogBooks, LogReader, Read, Trouble};
use crate::reconcile::signals::{Observed, Signal, SignalSender, Watched};

/// How often a game is looked at that is not ready yet.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two queries of a ready game, and between two looks at what it uses.
const QUERY_TICKS: u32 = 10;
const USAGE_TICKS: u32 = 10;

/// Size of a compiled ready rule.
const PATTERN_SIZE: usize = 1 << 20;

/// News of the log that wait for the watch.
const NEWS_MAX: usize = 64;

const CHUNK: usize = 256 * 1024;

pub(super) async fn run(books: LogBooks, signals: SignalSender, watched: channel::Receiver<Watched>, drained: channel::Sender<bool>) {
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
    let ears = Ears { pattern: pattern.clone().and_then(Result::ok), matched: Arc::clone(&matched), news };
    let follow = async {
        logs::follow(&opened, &*first.driver, &first.instance, &ears).await;
        // Whoever waits may have gone.
        let _ = drained.send(true);
    };
    let probe = Probe { book: opened.clone(), signals, watched: watched.clone(), heard, pattern, matched };
    tokio::join!(follow, probe.run());
}

fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
    compiled.map(Arc::new).map_err(|error| error.to_string())
}

#[derive(Debug)]
enum News {
    Printed,
    Matched,
    Trouble(Option<Trouble>),
}

/// Hears every line as it goes into the log.
struct Ears {
    pattern: Option<Arc<Regex>>,
    /// A line has matched, whether or not there was room for the news of it.
    matched: Arc<AtomicBool>,
    news: mpsc::Sender<News>,
}

impl Listener for Ears {
    fn lines(&self, batch: &OutputBatch) {
        let pattern = self.pattern.as_ref();
        let matched =
            pattern.is_some_and(|pattern| batch.lines.iter().any(|line| line.stream != LogStream::Manager && pattern.is_match(&line.text)));
        if matched {
            self.matched.store(true, Ordering::Relaxed);
        }
        let news = if matched { News::Matched } else { News::Printed };
        match self.news.try_send(news) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            // The watch is busy, and will hear enough of it.
            Err(mpsc::error::TrySendError::Full(_)) => {}
        }
    }

    fn trouble(&self, trouble: Option<Trouble>) {
        // Told again with the next attempt.
        let _ = self.news.try_send(News::Trouble(trouble));
    }
}

struct Probe {
    book: LogBook,
    signals: SignalSender,
    watched: channel::Receiver<Watched>,
    heard: mpsc::Receiver<News>,
    pattern: Option<Result<Arc<Regex>, String>>,
    matched: Arc<AtomicBool>,
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
        let mut query = first.spec.run.query.clone();
        let mut state = Readiness::new(rule, first.was_ready, Instant::now());
        let mut told: Option<BTreeMap<String, Value>> = None;
        let mut troubles = Vec::new();
        if first.was_ready && matches!(first.instance.state, InstanceState::Running { .. }) {
            self.tell(Observed::Ready).await;
        } else if rule.log && self.log_has_match(&first).await {
            // Taken over while it was starting: the line may have been printed before.
            let verdict = state.log_matched();
            self.verdict(verdict, &state).await;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                // Cancel-safe: a message stays in the channel until it is taken.
                news = self.heard.recv() => match news {
                    Some(News::Printed) => state.printed(Instant::now()),
                    Some(News::Matched) => {
                        let verdict = state.log_matched();
                        self.verdict(verdict, &state).await;
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
                    self.look(&watched, &mut state, &mut query, &mut told, count).await;
                    count = count.wrapping_add(1);
                }
            }
        }
    }

    async fn look(
        &mut self,
        watched: &Watched,
        state: &mut Readiness,
        query: &mut Option<QuerySpec>,
        told: &mut Option<BTreeMap<String, Value>>,
        count: u32,
    ) {
        if self.matched.swap(false, Ordering::Relaxed) {
            let verdict = state.log_matched();
            self.verdict(verdict, state).await;
        }
        if state.wants_ports() {
            let verdict = match watched.driver.ports_bound(&watched.instance, &watched.spec).await {
                Ok(true) => state.ports_bound(),
                Ok(false) => None,
                Err(error) => self.ports_unseen(&error, state).await,
            };
            self.verdict(verdict, state).await;
        }
        if let Some(asked) = query.clone()
            && (!state.is_ready() || count.is_multiple_of(QUERY_TICKS) || told.is_none())
        {
            let verdict = match query::ask(&asked).await {
                Ok(answer) => {
                    // Told again soon, so a full channel may drop them.
                    let _ = self.signals.try_send(self.signal(Observed::Players(answer.players)));
                    if told.as_ref() != Some(&answer.extra)
                        && self.signals.try_send(self.signal(Observed::Extra(answer.extra.clone()))).is_ok()
                    {
                        *told = Some(answer.extra);
                    }
                    state.query_answered()
                }
                Err(error @ QueryError::UnknownProtocol(_)) => {
                    *query = None;
                    self.condition(
                        "QueryUnknown",
                        error.to_string(),
                        Some("its ready rule goes without; name a protocol such as `valve`, `quake3` or `minecraft`".to_owned()),
                    )
                    .await;
                    state.query_answered()
                }
                Err(QueryError::NoAnswer { .. }) => state.query_failed(),
            };
            self.verdict(verdict, state).await;
        }
        if (count < 3 || count.is_multiple_of(USAGE_TICKS))
            && let Ok(usage) = watched.driver.usage(&watched.instance).await
        {
            let _ = self.signals.try_send(self.signal(Observed::Usage(usage)));
        }
        let late = state.tick(Instant::now());
        self.verdict(late, state).await;
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
        let search = move || -> std::io::Result<bool> {
            let Some(from) = book.begin_of(instance)? else { return Ok(false) };
            let mut reader = LogReader::new(&book, from);
            loop {
                match reader.read(CHUNK)? {
                    Read::Chunk(chunk) => {
                        let mut printed = records(&chunk).filter(|record| record.stream != LogStream::Manager);
                        if printed.any(|record| pattern.is_match(record.text)) {
                            return Ok(true);
                        }
                    }
                    Read::Gap(_) => {}
                    Read::End => return Ok(false),
                }
            }
        };
        matches!(tokio::task::spawn_blocking(search).await, Ok(Ok(true)))
    }

    async fn verdict(&self, verdict: Option<Verdict>, state: &Readiness) {
        match verdict {
            None => {}
            Some(Verdict::Ready) => {
                if state.was_late() {
                    self.tell(Observed::ConditionOver { kind: "ReadyLate".to_owned() }).await;
                }
                self.tell(Observed::Ready).await;
            }
            Some(Verdict::Unready) => self.tell(Observed::Unready { reason: "it no longer answers queries".to_owned() }).await,
            Some(Verdict::Late) => {
                let missing = match state.rule {
                    Rule { log: true, query: true, .. } => {
                        "the line that its ready rule names, and an answer to its query, have not both come"
                    }
                    Rule { log: true, .. } => "the line that its ready rule names has not come",
                    Rule { query: true, .. } => "it does not answer its query",
                    Rule { .. } => "it has not bound its ports",
                };
                let message = format!("not ready {} s after it last printed a line: {missing}", state.rule.within.as_secs());
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

    async fn condition(&self, kind: &str, message: String, hint: Option<String>) {
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
