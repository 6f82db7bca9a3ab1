//! A proxy before a host that does what a bad network does: it falls silent without a FIN, in one
//! direction or both, loses the answer to a registration, and doubles and swaps the link's frames.

mod frames;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use frames::{Mode, Tangler};

/// A frame that is held back to be swapped with the next goes out after this time all the same.
const SWAP_WITHIN: Duration = Duration::from_millis(30);
/// Frames that are remembered for a look.
const REMEMBERED_MAX: usize = 20_000;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToHost,
    ToWorker,
}

/// Links as they went through: WebSockets that the host has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    pub opened: usize,
    pub open: usize,
}

#[derive(Debug)]
pub struct FreezeProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Frozen {
    to_host: bool,
    to_worker: bool,
}

impl Frozen {
    const fn way(self, way: Way) -> bool {
        match way {
            Way::ToHost => self.to_host,
            Way::ToWorker => self.to_worker,
        }
    }
}

#[derive(Debug)]
struct Shared {
    host: SocketAddr,
    frozen: watch::Sender<Frozen>,
    tangled: watch::Sender<bool>,
    /// Registrations whose answer is to be lost.
    to_lose: AtomicUsize,
    lost: AtomicUsize,
    doubled: AtomicUsize,
    opened: AtomicUsize,
    open: AtomicUsize,
    seen: Mutex<Vec<(Way, String)>>,
    /// Into the newest link, towards the worker.
    into: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
}

impl FreezeProxy {
    /// Before the host at `http://127.0.0.1:PORT`.
    pub async fn before(host: &str) -> Result<Self> {
        let host = host.strip_prefix("http://").context("a host without TLS")?.trim_end_matches('/').parse()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            host,
            frozen: watch::Sender::default(),
            tangled: watch::Sender::new(false),
            to_lose: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            seen: Mutex::default(),
            into: Mutex::default(),
        });
        let for_all = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                let shared = Arc::clone(&for_all);
                // A connection that breaks is what this proxy is for.
                tokio::spawn(async move { relay(&shared, worker).await });
            }
        });
        Ok(Self { address, shared, accepting })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing passes any more, and nobody is told: a black hole.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(Frozen { to_host: true, to_worker: true });
    }

    pub fn freeze_one(&self, way: Way) {
        self.shared.frozen.send_replace(Frozen { to_host: way == Way::ToHost, to_worker: way == Way::ToWorker });
    }

    /// What was under way arrives now, late; who gave up meanwhile is heard of, too.
    pub fn thaw(&self) {
        self.shared.frozen.send_replace(Frozen::default());
    }

    /// Doubles every frame of a link, and swaps neighbours.
    pub fn tangle(&self, on: bool) {
        self.shared.tangled.send_replace(on);
    }

    /// The host hears the next registrations, and the worker does not hear the answers.
    pub fn lose_registrations(&self, count: usize) {
        self.shared.to_lose.store(count, Ordering::Relaxed);
    }

    #[must_use]
    pub fn lost_registrations(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Frames that went twice.
    #[must_use]
    pub fn doubled(&self) -> usize {
        self.shared.doubled.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn links(&self) -> Links {
        Links { opened: self.shared.opened.load(Ordering::Relaxed), open: self.shared.open.load(Ordering::Relaxed) }
    }

    /// Says a frame to the worker in the host's place.
    pub async fn say_to_worker(&self, frame: &Value) -> Result<()> {
        let into = self.shared.into.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = frames::text(frame.to_string().as_bytes())?;
        into.context("no link is open")?.send(message).await.map_err(|_| anyhow!("the link has just closed"))
    }

    /// The frames that came from one side, as JSON.
    #[must_use]
    pub fn frames(&self, way: Way) -> Vec<Value> {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(from, _)| *from == way).filter_map(|(_, text)| serde_json::from_str(text).ok()).collect()
    }
}

impl Drop for FreezeProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the two directions of a connection tell each other.
#[derive(Debug, Default)]
struct Exchange {
    upgrade: std::sync::atomic::AtomicBool,
    lose_answer: std::sync::atomic::AtomicBool,
}

/// A link that is open, counted.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn relay(shared: &Shared, worker: TcpStream) -> Result<()> {
    let mut frozen = shared.frozen.subscribe();
    frozen.wait_for(|frozen| !frozen.to_host).await?;
    // Whoever has gone meanwhile has never got through.
    if let Ok(ready) = tokio::time::timeout(Duration::from_millis(1), worker.ready(Interest::READABLE)).await
        && ready?.is_read_closed()
    {
        return Ok(());
    }
    let host = TcpStream::connect(shared.host).await?;
    worker.set_nodelay(true)?;
    host.set_nodelay(true)?;
    let (from_worker, to_worker) = worker.into_split();
    let (from_host, to_host) = host.into_split();
    let exchange = Exchange::default();
    // The first that breaks takes the other with it.
    tokio::try_join!(
        pump(shared, &exchange, Way::ToHost, from_worker, to_host),
        pump(shared, &exchange, Way::ToWorker, from_host, to_worker),
    )?;
    Ok(())
}

async fn pump(shared: &Shared, exchange: &Exchange, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
    let mut frozen = shared.frozen.subscribe();
    let (into, mut said) = mpsc::channel::<Vec<u8>>(16);
    let mut buffer = BytesMut::new();
    let mut out = Vec::new();
    let mut mode = Mode::Head;
    let mut tangler = Tangler::default();
    let mut open = None;
    loop {
        // Cancel-safe: each of these takes nothing unless it wins.
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => Some(read?),
            Some(message) = said.recv() => { out.extend_from_slice(&message); None }
            () = tokio::time::sleep(SWAP_WITHIN), if tangler.holds() => { tangler.let_go(&mut out); None }
        };
        frozen.wait_for(|frozen| !frozen.way(way)).await?;
        let ended = read == Some(0);
        if ended {
            tangler.let_go(&mut out);
        }
        if read.is_some_and(|read| read > 0) && way == Way::ToWorker && exchange.lose_answer.load(Ordering::Relaxed) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return Err(anyhow!("the answer is lost"));
        }
        while let Some(part) = mode.next(&mut buffer, way, exchange.upgrade.load(Ordering::Relaxed))? {
            match part {
                frames::Part::Bytes(bytes) => out.extend_from_slice(&bytes),
                frames::Part::Asked { bytes, upgrade, registers } => {
                    exchange.upgrade.store(upgrade, Ordering::Relaxed);
                    let lose = registers && shared.to_lose.try_update_down();
                    exchange.lose_answer.store(lose, Ordering::Relaxed);
                    out.extend_from_slice(&bytes);
                }
                frames::Part::Upgraded(bytes) => {
                    out.extend_from_slice(&bytes);
                    shared.opened.fetch_add(1, Ordering::Relaxed);
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    open = Some(Open(shared));
                    *shared.into.lock().unwrap_or_else(PoisonError::into_inner) = Some(into.clone());
                }
                frames::Part::Text { bytes, text } => {
                    let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.len() < REMEMBERED_MAX {
                        seen.push((way, text.clone()));
                    }
                    drop(seen);
                    if *shared.tangled.borrow() {
                        shared.doubled.fetch_add(1, Ordering::Relaxed);
                        tangler.tangle(bytes, &text, &mut out);
                    } else {
                        tangler.let_go(&mut out);
                        out.extend_from_slice(&bytes);
                    }
                }
            }
        }
        to.write_all(&out).await?;
        out.clear();
        if ended {
            drop(open.take());
            to.shutdown().await?;
            return Ok(());
        }
    }
}

/// Takes one off, where there is one.
trait TakeOne {
    fn try_update_down(&self) -> bool;
}

impl TakeOne for AtomicUsize {
    fn try_update_down(&self) -> bool {
        self.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
    }
}
