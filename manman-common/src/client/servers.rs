//! Servers: wishes, power, commands.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde::Serialize;

use crate::client::{Client, ClientError, segment};
use crate::wire::{
    ActionRun, ActionView, CommandAnswer, CommandRequest, CreateServer, LogPointer, Page, PageQuery, PatchServer, PowerAnswer, ServerView,
};
use crate::{CommandId, Generation};

/// What may be asked of a server's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Start,
    Stop,
    Restart,
    Kill,
}

impl Power {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
        }
    }
}

/// Which servers, and which part of the list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListServers {
    #[serde(flatten)]
    pub page: PageQuery,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DeleteServer {
    /// Stops it first if it runs.
    pub force: bool,
    /// Its data goes, too.
    pub purge: bool,
}

impl Client {
    pub async fn server_list(&self, list: &ListServers) -> Result<Page<ServerView>, ClientError> {
        self.send(self.request(Method::GET, "/server")?.query(list)).await
    }

    pub async fn server_show(&self, server: &str) -> Result<ServerView, ClientError> {
        self.send(self.request(Method::GET, &format!("/server/{}", segment(server)))?).await
    }

    /// Creates a server; with a key, the same request sent again gives the same server.
    pub async fn server_create(&self, create: &CreateServer, idempotency_key: Option<&str>) -> Result<ServerView, ClientError> {
        let mut request = self.request(Method::POST, "/server")?.json(create);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    /// Changes a server; with a generation, only if that is still its present one.
    pub async fn server_patch(&self, server: &str, patch: &PatchServer, if_match: Option<Generation>) -> Result<ServerView, ClientError> {
        let mut request = self.request(Method::PATCH, &format!("/server/{}", segment(server)))?.json(patch);
        if let Some(generation) = if_match {
            request = request.header(IF_MATCH, format!("\"{generation}\""));
        }
        self.send(request).await
    }

    /// Asks for a change of power; with a wait, the answer comes when it is reached or that is over.
    pub async fn server_power(&self, server: &str, power: Power, wait: Option<Duration>) -> Result<PowerAnswer, ClientError> {
        let mut request = self.request(Method::POST, &format!("/server/{}/{}", segment(server), power.as_str()))?;
        if let Some(wait) = wait {
            request = request.query(&[("wait", format!("{}s", wait.as_secs()))]).timeout(wait + Duration::from_secs(10));
        }
        self.send(request).await
    }

    pub async fn server_delete(&self, server: &str, delete: DeleteServer) -> Result<serde_json::Value, ClientError> {
        self.send(self.request(Method::DELETE, &format!("/server/{}", segment(server)))?.query(&delete)).await
    }

    pub async fn server_command(&self, server: &str, command: &CommandRequest) -> Result<CommandAnswer, ClientError> {
        self.send(self.request(Method::POST, &format!("/server/{}/command", segment(server)))?.json(command)).await
    }

    /// All that can be done with a server besides typing lines.
    pub async fn server_actions(&self, server: &str) -> Result<Page<ActionView>, ClientError> {
        self.send(self.request(Method::GET, &format!("/server/{}/action", segment(server)))?).await
    }

    /// How far a run of an action is; with a wait, the answer comes when there is news or that is over.
    pub async fn server_action(&self, server: &str, action: CommandId, wait: Duration) -> Result<ActionRun, ClientError> {
        let request = self.request(Method::GET, &format!("/server/{}/action/{action}", segment(server)))?;
        self.send(request.query(&[("wait", format!("{}s", wait.as_secs()))])).await
    }

    pub async fn server_log(&self, server: &str) -> Result<LogPointer, ClientError> {
        self.send(self.request(Method::GET, &format!("/server/{}/log", segment(server)))?).await
    }
}
