//! The other side: the host asks an orchestrator for its database, as any waifu does, and keeps the
//! answer.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manman_front_door::orchestrator::{Credentials, Secret, SecretError};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::HOST_NAME;
use super::key::{KeyError, secret_file, write_private};
use crate::clock;

const SECRET_FILE: &str = "host/orchestrator-secret";
const ANSWER_FILE: &str = "host/database.json";
/// At the start, with no answer of an earlier time: an orchestrator may come up beside us.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    File(#[from] KeyError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("could not ask the orchestrator at {url} for a database")]
    Ask { url: String, source: reqwest::Error },
    #[error("the orchestrator at {url} refuses us a database: {status} {detail}")]
    Refused { url: String, status: u16, detail: String },
    #[error("could not keep what the orchestrator answered")]
    Keep(#[source] std::io::Error),
}

/// The host's own secret, made at the first start.
pub fn own_secret(data: &Path) -> Result<Secret, AskError> {
    let text = secret_file(&data.join(SECRET_FILE), || URL_SAFE_NO_PAD.encode(clock::random_secret()))?;
    Ok(Secret::try_from(text)?)
}

/// The options of a connection with these credentials.
#[must_use]
pub fn connect_options(credentials: &Credentials) -> PgConnectOptions {
    let Credentials { database, user, password, host, port } = credentials;
    // Over a network PostgreSQL may speak TLS; on this machine it does not.
    let tls = if host == "127.0.0.1" || host == "localhost" { PgSslMode::Disable } else { PgSslMode::Prefer };
    PgConnectOptions::new_without_pgpass().host(host).port(*port).username(user).password(password).database(database).ssl_mode(tls)
}

/// Asks for the host's database. What was answered once is kept, and holds where nobody answers now.
pub async fn ask_for_database(orchestrator: &str, data: &Path) -> Result<Credentials, AskError> {
    let secret = own_secret(data)?;
    let kept = std::fs::read(data.join(ANSWER_FILE)).ok().and_then(|bytes| serde_json::from_slice::<Credentials>(&bytes).ok());
    let url = format!("{}/__internal/database", orchestrator.trim_end_matches('/'));
    let failed = |source: reqwest::Error| AskError::Ask { url: url.clone(), source: source.without_url() };
    let client = reqwest::Client::builder().timeout(WITHIN).build().map_err(failed)?;
    let body = json!({ "name": HOST_NAME, "secret": secret.as_str() });
    let mut tries = 0;
    loop {
        tries += 1;
        let (error, final_word) = match client.post(&url).json(&body).send().await {
            Ok(response) if response.status().is_success() => {
                let credentials: Credentials = response.json().await.map_err(failed)?;
                let text = serde_json::to_string(&credentials).unwrap_or_default();
                write_private(&data.join(ANSWER_FILE), &text).map_err(AskError::Keep)?;
                return Ok(credentials);
            }
            Ok(response) => {
                let status = response.status();
                let text = response.text().await.unwrap_or_default();
                let detail =
                    serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|body| body["detail"].as_str().map(str::to_owned));
                let detail = detail.unwrap_or_default();
                (AskError::Refused { url: url.clone(), status: status.as_u16(), detail }, status.is_client_error())
            }
            Err(error) => (failed(error), false),
        };
        if let (Some(kept), false) = (&kept, final_word) {
            tracing::warn!(error = crate::chain(&error), "the orchestrator does not answer; the database is the one of the last time");
            return Ok(kept.clone());
        }
        if final_word || tries >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
