//! The conversation with one shim: it tells of lines, rungs and the end; it is asked on connections
//! of their own, so that no answer is ever mixed up with news.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use manman_common::InstanceId;
use manman_shim::client::{Client, News, Reply};
use manman_shim::launch::{Look, is_locked, look};
use manman_shim::lease::Lease;
use manman_shim::proto::Request;
use manman_shim::record::{Phase, State};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::rundir::RunDir;
use super::{blocking, gone, orphan, retry};
use crate::driver::DriverError;
use crate::logs::{LogBook, Pen};

/// What a shim may take for an answer; it waits for nothing but the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a shim that is on its way or does not take a connection.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For a game to take a line: it may be loading a world.
const LINE_WITHIN: Duration = Duration::from_secs(5);
const RUNGS_MAX: usize = 64;

/// What is known of an instance by listening to its shim.
pub(crate) struct Held {
    pub(crate) run: RunDir,
    /// Goes up whenever there may be more in the log; closed with the instance.
    lines: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    rungs: broadcast::Sender<usize>,
    /// Copies of the game's terminal or pipes: while they are open, the shim's death is not the game's.
    stdio: Mutex<Vec<OwnedFd>>,
    /// Whether the shim was spoken to once, and with that those copies are here.
    met: watch::Sender<bool>,
    /// What types into a game whose shim was killed.
    input: Mutex<Option<OwnedFd>>,
    /// What the shim's successor has to keep, should it die before its game.
    lease: watch::Sender<Option<Lease>>,
    /// Pids that have outlived SIGKILL, as the shim says.
    stuck: watch::Sender<Vec<i32>>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Held {
    fn start(run: RunDir, book: LogBook, changes: Arc<Notify>) -> Arc<Self> {
        let held = Arc::new(Self {
            run,
            lines: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            rungs: broadcast::Sender::new(RUNGS_MAX),
            stdio: Mutex::default(),
            met: watch::Sender::new(false),
            input: Mutex::default(),
            lease: watch::Sender::new(None),
            stuck: watch::Sender::new(Vec::new()),
            task: Mutex::default(),
        });
        let task = tokio::spawn(listen(Arc::downgrade(&held), held.run.clone(), book, changes));
        *lock(&held.task) = Some(AbortOnDropHandle::new(task));
        held
    }

    /// Asks the shim, on a connection of its own.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(&mut Client) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DriverError> {
        self.ask_within(ANSWER_WITHIN, what, question).await
    }

    pub(super) async fn ask_within<T: Send + 'static>(
        &self,
        limit: Duration,
        what: &'static str,
        question: impl FnOnce(&mut Client) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DriverError> {
        let run = self.run.clone();
        blocking(move || {
            let mut client = Client::connect(&run.path, &run.about.nonce, limit).map_err(|error| away(&run, what, error))?;
            question(&mut client).map_err(|error| away(&run, what, error))
        })
        .await
    }

    pub(crate) async fn type_line(&self, line: &str) -> Result<(), DriverError> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let input = lock(&self.input).as_ref().and_then(|input| input.try_clone().ok());
        match input {
            Some(input) => {
                let write = move |rest: &[u8]| match rustix::io::write(&input, rest) {
                    Ok(count) => Ok(count),
                    Err(rustix::io::Errno::AGAIN) => Ok(0),
                    Err(error) => Err(error.into()),
                };
                blocking(move || type_all(&bytes, write).map_err(|error| retry("could not type a line", error))).await
            }
            None => self.ask("type a line", move |client| type_all(&bytes, |rest| client.type_in(rest))).await,
        }
    }

    pub(crate) fn climbed(&self) -> broadcast::Receiver<usize> {
        self.rungs.subscribe()
    }

    /// Returns once nothing of the instance is heard any more; a look then says what became of it.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is this struct's own.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The pids of what outlives SIGKILL; returns only once there are any.
    pub(crate) async fn stuck(&self) -> Vec<i32> {
        let mut stuck = self.stuck.subscribe();
        // The sender is this struct's own.
        let _ = stuck.wait_for(|pids| !pids.is_empty()).await;
        stuck.borrow().clone()
    }

    fn take_state(&self, state: &State) {
        let stuck = if state.phase == Phase::Stuck { state.stuck.clone() } else { Vec::new() };
        self.stuck.send_if_modified(|before| std::mem::replace(before, stuck.clone()) != stuck);
        self.keep_lease(state.lease);
    }

    pub(super) fn keep_lease(&self, lease: Option<Lease>) {
        self.lease.send_if_modified(|before| std::mem::replace(before, lease) != lease);
    }

    pub(super) fn leased(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.subscribe()
    }

    /// An item whenever there may be more in the log; ends when all of it is there.
    pub(crate) fn written(&self) -> BoxStream<'static, Result<(), DriverError>> {
        let first = stream::once(async { Ok(()) });
        let later = stream::unfold(Some((self.lines.subscribe(), self.ended.subscribe())), |state| async move {
            let (mut lines, mut ended) = state?;
            if *ended.borrow() {
                return None;
            }
            // Cancel-safe: both wait on levels.
            tokio::select! {
                changed = lines.changed() => changed.ok()?,
                _ = ended.wait_for(|ended| *ended) => return Some((Ok(()), None)),
            }
            Some((Ok(()), Some((lines, ended))))
        });
        first.chain(later).boxed()
    }

    pub(super) fn tell_lines(&self) {
        self.lines.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns once the death of the shim would no longer cost the game its output, or nothing of the
    /// instance is heard any more.
    pub(crate) async fn met(&self) {
        let mut met = self.met.subscribe();
        // Cancel-safe: both wait on levels.
        tokio::select! {
            _ = met.wait_for(|met| *met) => {}
            () = self.ended() => {}
        }
    }

    pub(super) fn keep_input(&self, input: Option<OwnedFd>) {
        *lock(&self.input) = input;
    }

    pub(super) fn take_stdio(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut *lock(&self.stdio))
    }
}

/// All of it, as far as the game has room in time. Blocks.
fn type_all(bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let (mut typed, deadline) = (0, Instant::now() + LINE_WITHIN);
    while typed < bytes.len() {
        typed += write(&bytes[typed..])?;
        if typed < bytes.len() {
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the game reads no input, and what waits for it is full"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away(run: &RunDir, what: &str, error: io::Error) -> DriverError {
    match is_locked(&run.path.join(manman_shim::files::LOCK)) {
        Ok(false) => gone(format!("could not {what}: the instance {} has ended, or its shim has", run.about.instance)),
        Ok(true) | Err(_) => retry(format!("could not {what} in instance {}", run.about.instance), error),
    }
}

/// Writes the manager's words into a log that a shim writes. That the shim is gone is said as
/// `NotConnected`, and the log is then written here again.
pub(crate) fn pen(run: &RunDir) -> Pen {
    let run = run.clone();
    Arc::new(move |text: &str| {
        let noted = Client::connect(&run.path, &run.about.nonce, ANSWER_WITHIN)
            .and_then(|mut client| client.ask(&Request::Note(text.as_bytes())).map(drop));
        noted.map_err(|error| match is_locked(&run.path.join(manman_shim::files::LOCK)) {
            Ok(false) => io::Error::new(io::ErrorKind::NotConnected, error),
            Ok(true) | Err(_) => error,
        })
    })
}

async fn listen(held: std::sync::Weak<Held>, run: RunDir, book: LogBook, changes: Arc<Notify>) {
    loop {
        match connect(&run).await {
            Ok(connected) => {
                let Some(held) = held.upgrade() else { return };
                *lock(&held.stdio) = connected.stdio;
                held.met.send_replace(true);
                if let Some(state) = &connected.state {
                    held.take_state(state);
                }
                held.tell_lines();
                changes.notify_one();
                if let Err(error) = hear(&held, connected.client, &changes).await {
                    tracing::debug!(instance = %run.about.instance, %error, "the conversation with a shim ended");
                }
            }
            Err(error) => tracing::debug!(instance = %run.about.instance, %error, "a shim does not answer"),
        }
        let path = run.path.clone();
        let found = blocking(move || look(&path).map_err(|error| retry("could not look at a run directory", error))).await;
        match found {
            Ok(Look::Live { .. } | Look::Starting) | Err(_) => {}
            Ok(Look::Abandoned { child: Some(child), state, .. }) if !run.is_in_container() => {
                let Some(held) = held.upgrade() else { return };
                tracing::warn!(instance = %run.about.instance, server.id = %run.about.server, "the shim of a running game was killed; the game goes on without it");
                changes.notify_one();
                held.take_state(&state);
                orphan::follow(&held, &book, child, &state).await;
                return over(&held, &book, &changes).await;
            }
            Ok(Look::Never | Look::Ended(_) | Look::Abandoned { .. } | Look::Rebooted { .. }) => {
                let Some(held) = held.upgrade() else { return };
                return over(&held, &book, &changes).await;
            }
        }
        if held.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn over(held: &Held, book: &LogBook, changes: &Notify) {
    let taken = book.clone();
    let back = blocking(move || taken.take_back().map_err(|error| retry("could not take a log back", error))).await;
    if let Err(error) = back {
        tracing::warn!(instance = %held.run.about.instance, %error, "a log that a shim wrote could not be taken back");
    }
    held.keep_input(None);
    held.ended.send_replace(true);
    changes.notify_one();
}

/// Subscribed, with copies of the game's stdio and the state as it is now.
struct Connected {
    client: Client,
    stdio: Vec<OwnedFd>,
    state: Option<State>,
}

async fn connect(run: &RunDir) -> Result<Connected, DriverError> {
    let run = run.clone();
    blocking(move || {
        let open = || {
            let mut client = Client::connect(&run.path, &run.about.nonce, ANSWER_WITHIN)?;
            let stdio = client.descriptors().unwrap_or_default();
            client.tell(&Request::Subscribe { seqs: true, events: true })?;
            // After that: a change is either in it or told of.
            let state = match client.ask(&Request::Status)? {
                Reply::Status(text) => State::parse(&text).ok(),
                _ => None,
            };
            client.only_news()?;
            Ok(Connected { client, stdio, state })
        };
        open().map_err(|error: io::Error| retry("could not talk to a shim", error))
    })
    .await
}

async fn hear(held: &Held, client: Client, changes: &Notify) -> io::Result<()> {
    let mut socket = super::readable(client)?;
    loop {
        // What came with the answer to the subscription is there already.
        while let Some(news) = socket.get_mut().news()? {
            match news {
                News::LastSeq(_) => held.tell_lines(),
                // Nobody may be stopping it from here.
                News::Rung { index, .. } => drop(held.rungs.send(usize::from(index))),
                News::State(text) => {
                    if let Ok(state) = State::parse(&text) {
                        held.take_state(&state);
                    }
                    held.tell_lines();
                    changes.notify_one();
                }
                News::Exit(_) => {
                    held.tell_lines();
                    changes.notify_one();
                }
            }
            // Whoever speaks may be the game, and never pause.
            tokio::task::yield_now().await;
        }
        socket.readable().await?.clear_ready();
    }
}

/// All instances that are listened to.
pub(crate) struct Holds {
    held: Mutex<HashMap<InstanceId, Arc<Held>>>,
    changes: Arc<Notify>,
}

impl Holds {
    pub(crate) fn new(changes: Arc<Notify>) -> Self {
        Self { held: Mutex::default(), changes }
    }

    /// Begins to listen, unless that has begun. Needs a running tokio.
    pub(crate) fn hold(&self, run: &RunDir, book: &LogBook) -> Arc<Held> {
        let mut all = lock(&self.held);
        let held = all.entry(run.about.instance).or_insert_with(|| Held::start(run.clone(), book.clone(), Arc::clone(&self.changes)));
        Arc::clone(held)
    }

    pub(crate) fn get(&self, instance: InstanceId) -> Option<Arc<Held>> {
        lock(&self.held).get(&instance).cloned()
    }

    pub(crate) fn let_go(&self, instance: InstanceId) {
        lock(&self.held).remove(&instance);
    }
}

/// Whether a run directory still has a shim or a game in it.
pub(crate) fn is_live(path: &Path) -> io::Result<bool> {
    Ok(match look(path)? {
        Look::Live { .. } | Look::Starting | Look::Abandoned { child: Some(_), .. } => true,
        Look::Never | Look::Ended(_) | Look::Abandoned { child: None, .. } | Look::Rebooted { .. } => false,
    })
}
