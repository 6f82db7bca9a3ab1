//! Tells somebody's URL of each incident.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::{Request, StatusCode, header};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use url::Url;

use super::target::{Target, TargetError};
use super::{Incident, Orchestrator, chain};
use crate::proxy::AskError;

const WITHIN: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Where incidents are told. It leads to nowhere that a waifu's route may not lead to: not to this
/// front door itself, and not to what clouds keep for their own machines; that is looked at again
/// at each connect, and nobody is followed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    target: Target,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("it is no URL")]
    Url,
    #[error(transparent)]
    Target(#[from] TargetError),
}

#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the request could not be made")]
    Make(#[from] hyper::http::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl std::str::FromStr for Webhook {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, WebhookError> {
        let url = Url::parse(text).map_err(|_| WebhookError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().chars().take(20).collect()).into());
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(TargetError::Extra.into());
        }
        let target = Target::parse(url.origin().ascii_serialization().as_str())?;
        Ok(Self { target, path: url[url::Position::BeforePath..].to_owned() })
    }
}

impl Orchestrator {
    /// Tells of each incident from now on, for as long as it runs. What can not be told is in the log
    /// and in the list all the same.
    pub async fn tell_incidents(self: Arc<Self>, webhook: Webhook) {
        let mut news = self.incident_news();
        loop {
            match news.recv().await {
                Ok(incident) => self.tell(&webhook, &incident).await,
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "incidents came faster than they could be told"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn tell(&self, webhook: &Webhook, incident: &Incident) {
        for attempt in 1..=TRIES {
            match self.tell_once(webhook, incident).await {
                Ok(()) => return,
                Err(error) if attempt == TRIES => {
                    tracing::warn!(host = webhook.target.host, error = chain(&error), "an incident could not be told to the webhook");
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn tell_once(&self, webhook: &Webhook, incident: &Incident) -> Result<(), TellError> {
        let Incident { name, peer, count, what, .. } = incident;
        let text = format!("manman: {what}: `{name}` by {peer}, {count} times so far");
        // `text` is what Slack and Mattermost show, `content` what Discord does.
        let body = json!({ "text": text, "content": text, "incident": incident }).to_string();
        let request = Request::post(&webhook.path)
            .header(header::HOST, webhook.target.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "manman-incidents")
            .body(Body::from(body))?;
        let status = self.connector.ask(&webhook.target, request, WITHIN).await?.status();
        if status.is_success() { Ok(()) } else { Err(TellError::Status(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w10_a_webhook_leads_to_no_forbidden_place() {
        let good: Webhook = "https://chat.example/hooks/x?y=z".parse().expect("a webhook");
        assert_eq!((good.target.to_string().as_str(), good.path.as_str()), ("https://chat.example:443", "/hooks/x?y=z"));
        for bad in [
            "chat.example",
            "ftp://chat.example/x",
            "file:///etc/passwd",
            "http://u:p@chat.example/",
            "http://chat.example/#x",
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]/",
            "http://2852039166/",
            "http://0.0.0.0:9000/",
            "http://[fd00:ec2::254]/",
        ] {
            assert!(bad.parse::<Webhook>().is_err(), "{bad}");
        }
    }
}
