//! A thousand workers that run nothing: each registers, keeps a link, beats and comes back with
//! jitter as a worker does, all in this process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::link::{Hello, ToHost, ToWorker};
use manman_common::wire::{Beat, BeatAnswer, ProcessIdentity, RegisterWorker, Registered, Reservation};
use manman_common::{Revision, RunId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Registrations that are under way at one time.
const AT_ONCE: usize = 32;
/// As a worker has it: a host that takes longer is asked again.
const WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Crowd {
    count: usize,
    shared: Arc<Shared>,
    _members: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    http: reqwest::Client,
    linked: AtomicUsize,
    beats: AtomicUsize,
    /// Answers that ended a session, or that a worker would complain of.
    refusals: Mutex<Vec<String>>,
}

struct Member {
    registered: Registered,
    token: String,
    run_id: RunId,
    revision: Revision,
}

impl Crowd {
    /// Joins them all, and opens their links.
    pub async fn join(url: &str, join_token: &str, count: usize) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(WITHIN).build()?;
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            http,
            linked: AtomicUsize::new(0),
            beats: AtomicUsize::new(0),
            refusals: Mutex::default(),
        });
        let mut members = JoinSet::new();
        let mut joining = FuturesUnordered::new();
        for number in 0..count {
            if joining.len() >= AT_ONCE {
                Self::seat(joining.next().await, &shared, &mut members)?;
            }
            joining.push(register(&shared, join_token, number));
        }
        while !joining.is_empty() {
            Self::seat(joining.next().await, &shared, &mut members)?;
        }
        drop(joining);
        Ok(Self { count, shared, _members: members })
    }

    fn seat(joined: Option<Result<Member>>, shared: &Arc<Shared>, members: &mut JoinSet<()>) -> Result<()> {
        let member = joined.context("nobody joins")??;
        let shared = Arc::clone(shared);
        members.spawn(async move { shared.live(member).await });
        Ok(())
    }

    /// How many have a link that the host has welcomed, and of how many.
    #[must_use]
    pub fn linked(&self) -> (usize, usize) {
        (self.shared.linked.load(Ordering::Relaxed), self.count)
    }

    /// Beats that the host has taken.
    #[must_use]
    pub fn beats(&self) -> usize {
        self.shared.beats.load(Ordering::Relaxed)
    }

    /// What the host has answered instead of what it should; a host that is away answers nothing.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn register(shared: &Shared, join_token: &str, number: usize) -> Result<Member> {
    let name = format!("crowd-{number}");
    let reservation: Reservation = shared.post("/worker", join_token, &json!({"name": name})).await?;
    let run_id = RunId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1));
    let register = RegisterWorker {
        worker_name: name.parse()?,
        ip_address: Some("192.168.1.10".to_owned()),
        api_url: None,
        api_port: None,
        api_token: None,
        capabilities: serde_json::from_value(json!({"drivers": []}))?,
        labels: std::collections::BTreeMap::new(),
        process: Some(ProcessIdentity {
            run_id,
            // Of another machine than the host's: there is no process of this number to look at.
            boot_id: format!("boot-{number}"),
            pid: 1,
            start_ticks: 1,
            home: "home".to_owned(),
        }),
        own_token: None,
        memory: Some(manman_common::session::Memory { blank: true, ..Default::default() }),
    };
    let registered: Registered = shared.post(&format!("/worker/{}", reservation.id), join_token, &register).await?;
    let token = registered.token.clone().context("a first registration hands a token over")?;
    Ok(Member { registered, token, run_id, revision: Revision::new(0) })
}

impl Shared {
    async fn post<T: DeserializeOwned>(&self, path: &str, token: &str, body: &impl Serialize) -> Result<T> {
        let answer = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{path}: {status} {text}"));
        }
        ensure!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))
    }

    /// Beats and link side by side, for ever.
    async fn live(&self, member: Member) {
        tokio::join!(self.beat(&member), self.link(&member));
    }

    async fn beat(&self, member: &Member) {
        let mut every = Duration::from_secs(u64::from(member.registered.heartbeat_seconds));
        let path = format!("/worker/{}/health", member.registered.id);
        loop {
            let beat = Beat { session_epoch: Some(member.registered.session_epoch), state_seq: 1, ..Beat::default() };
            if let Ok(answer) = self.post::<BeatAnswer>(&path, &member.token, &beat).await {
                self.beats.fetch_add(1, Ordering::Relaxed);
                every = Duration::from_secs(u64::from(answer.next_seconds));
            }
            tokio::time::sleep(jittered(every)).await;
        }
    }

    async fn link(&self, member: &Member) {
        let mut ceiling = Duration::from_secs(1);
        loop {
            // A link that breaks is dialled again, with the same jitter as a worker's.
            if self.converse(member).await.unwrap_or(false) {
                ceiling = Duration::from_secs(1);
            }
            tokio::time::sleep(random(ceiling)).await;
            ceiling = (ceiling * 2).min(Duration::from_secs(4));
        }
    }

    /// Whether it was welcomed before it broke.
    async fn converse(&self, member: &Member) -> Result<bool> {
        let mut request = format!("{}/worker/{}/link", self.url.replacen("http", "ws", 1), member.registered.id).into_client_request()?;
        request.headers_mut().insert(http::header::AUTHORIZATION, format!("Bearer {}", member.token).parse()?);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
        let hello = ToHost::Hello(Hello {
            session_epoch: member.registered.session_epoch,
            run_id: member.run_id,
            boot_id: "boot".to_owned(),
            have_revision: member.revision,
            inventory: Vec::new(),
        });
        socket.send(text(&hello)?).await?;
        let mut welcomed = None;
        while let Some(message) = socket.next().await {
            let Ok(Message::Text(said)) = message else {
                if message.is_err() {
                    break;
                }
                continue;
            };
            match serde_json::from_str(&said)? {
                ToWorker::Welcome { .. } => {
                    welcomed.get_or_insert_with(|| Linked::of(self));
                }
                ToWorker::Index { revision, .. } | ToWorker::Specs { revision, .. } => {
                    socket.send(text(&ToHost::Ack { revision })?).await?
                }
                ToWorker::Goodbye { reason, detail } => {
                    self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(format!("goodbye: {reason:?} {detail}"));
                }
                ToWorker::EventsStored { .. }
                | ToWorker::RepliesStored { .. }
                | ToWorker::Call(_)
                | ToWorker::LogOpen { .. }
                | ToWorker::LogCredit { .. }
                | ToWorker::LogClose { .. } => {}
            }
        }
        Ok(welcomed.is_some())
    }
}

struct Linked<'a>(&'a AtomicUsize);

impl<'a> Linked<'a> {
    fn of(shared: &'a Shared) -> Self {
        shared.linked.fetch_add(1, Ordering::Relaxed);
        Self(&shared.linked)
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn text(frame: &ToHost) -> Result<Message> {
    Ok(Message::Text(serde_json::to_string(frame)?.into()))
}

/// Between nothing and `ceiling`.
fn random(ceiling: Duration) -> Duration {
    // Random enough to spread a crowd.
    let part = u32::from(uuid::Uuid::now_v7().as_bytes()[15]);
    ceiling * part / 255
}

/// Within a fifth of it, as a worker's beats are.
fn jittered(every: Duration) -> Duration {
    every * 4 / 5 + random(every * 2 / 5)
}
