//! Workers, tokens, games, events, and the host itself.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;

use crate::WorkerId;
use crate::client::{Client, ClientError, segment};
use crate::link::{PollAnswer, PollRequest};
use crate::wire::{
    Beat, BeatAnswer, CreateToken, CreatedToken, Event, FenceRequest, GameView, HostStatus, LoginLink, Page, PageQuery, PatchWorker,
    RebaseRequest, RebaseView, RegisterWorker, Registered, Reservation, ReserveWorker, TokenView, WorkerView,
};

/// A long poll is answered after 25 s at the latest.
const POLL_TIMEOUT: Duration = Duration::from_secs(40);

/// Which part of a list, and which events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListEvents {
    #[serde(flatten)]
    pub page: PageQuery,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
}

impl Client {
    pub async fn host_status(&self) -> Result<HostStatus, ClientError> {
        self.send(self.request(Method::GET, "/status")?).await
    }

    pub async fn login_link(&self) -> Result<LoginLink, ClientError> {
        self.send(self.request(Method::POST, "/login-link")?).await
    }

    // Workers, as people see them.

    pub async fn worker_list(&self, page: &PageQuery) -> Result<Page<WorkerView>, ClientError> {
        self.send(self.request(Method::GET, "/worker")?.query(page)).await
    }

    pub async fn worker_show(&self, worker: &str) -> Result<WorkerView, ClientError> {
        self.send(self.request(Method::GET, &format!("/worker/{}", segment(worker)))?).await
    }

    pub async fn worker_patch(&self, worker: &str, patch: &PatchWorker) -> Result<WorkerView, ClientError> {
        self.send(self.request(Method::PATCH, &format!("/worker/{}", segment(worker)))?.json(patch)).await
    }

    pub async fn worker_accept(&self, worker: &str) -> Result<WorkerView, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{}/accept", segment(worker)))?).await
    }

    /// Stops every server of the worker by its stop plan, and then the worker.
    pub async fn worker_drain(&self, worker: &str) -> Result<serde_json::Value, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{}/drain", segment(worker)))?).await
    }

    /// What would happen if the worker did as the host says.
    pub async fn worker_rebase_view(&self, worker: &str) -> Result<RebaseView, ClientError> {
        self.send(self.request(Method::GET, &format!("/worker/{}/rebase", segment(worker)))?).await
    }

    pub async fn worker_rebase(&self, worker: &str, rebase: &RebaseRequest) -> Result<RebaseView, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{}/rebase", segment(worker)))?.json(rebase)).await
    }

    /// Says that the worker's machine is off, so that its servers may be moved.
    pub async fn worker_fence(&self, worker: &str, fence: &FenceRequest) -> Result<WorkerView, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{}/fence", segment(worker)))?.json(fence)).await
    }

    pub async fn worker_delete(&self, worker: &str) -> Result<serde_json::Value, ClientError> {
        self.send(self.request(Method::DELETE, &format!("/worker/{}", segment(worker)))?).await
    }

    // Workers, as they speak for themselves.

    pub async fn worker_reserve(&self, reserve: &ReserveWorker) -> Result<Reservation, ClientError> {
        self.send(self.request(Method::POST, "/worker")?.json(reserve)).await
    }

    pub async fn worker_register(&self, id: WorkerId, register: &RegisterWorker) -> Result<Registered, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{id}"))?.json(register)).await
    }

    pub async fn worker_beat(&self, id: WorkerId, beat: &Beat) -> Result<BeatAnswer, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{id}/health"))?.json(beat)).await
    }

    pub async fn worker_poll(&self, id: WorkerId, poll: &PollRequest) -> Result<PollAnswer, ClientError> {
        self.send(self.request(Method::POST, &format!("/worker/{id}/link"))?.json(poll).timeout(POLL_TIMEOUT)).await
    }

    // Tokens.

    pub async fn token_create(&self, create: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.send(self.request(Method::POST, "/token")?.json(create)).await
    }

    pub async fn token_list(&self, page: &PageQuery) -> Result<Page<TokenView>, ClientError> {
        self.send(self.request(Method::GET, "/token")?.query(page)).await
    }

    pub async fn token_revoke(&self, token: &str) -> Result<(), ClientError> {
        self.exchange(self.request(Method::DELETE, &format!("/token/{}", segment(token)))?).await.map(drop)
    }

    // Games and events.

    pub async fn game_list(&self, page: &PageQuery) -> Result<Page<GameView>, ClientError> {
        self.send(self.request(Method::GET, "/game")?.query(page)).await
    }

    pub async fn game_show(&self, game: &str) -> Result<GameView, ClientError> {
        // The id keeps its slashes: the route takes the rest of the path.
        let path: Vec<String> = game.split('/').map(segment).collect();
        self.send(self.request(Method::GET, &format!("/game/{}", path.join("/")))?).await
    }

    pub async fn event_list(&self, list: &ListEvents) -> Result<Page<Event>, ClientError> {
        self.send(self.request(Method::GET, "/event")?.query(list)).await
    }
}
