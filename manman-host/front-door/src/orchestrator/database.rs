//! `/__internal/database`: what a waifu is given, and what the orchestrator wants of whoever makes
//! databases.

use async_trait::async_trait;
use manman_common::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::WaifuName;
use super::secret::Secret;

/// What a waifu connects with; exactly these keys, and the same each time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Credentials {
    pub database: String,
    pub user: String,
    pub password: String,
    pub host: String,
    /// A number from us; an orchestrator of another make may say it as text.
    #[serde(deserialize_with = "port")]
    pub port: u16,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { database, user, password: _, host, port } = self;
        f.debug_struct("Credentials").field("database", database).field("user", user).field("host", host).field("port", port).finish()
    }
}

fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u16),
        Text(String),
    }
    match Port::deserialize(deserializer)? {
        Port::Number(port) => Ok(port),
        Port::Text(text) => text.trim().parse().map_err(serde::de::Error::custom),
    }
}

/// A database as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DatabaseView {
    pub name: String,
    pub database: String,
    /// In bytes; none where it could not be asked.
    pub size: Option<u64>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// It is larger than its quota, and new transactions in it only read unless they insist.
    pub over_quota: bool,
    pub created_at: Timestamp,
    /// When it is dropped, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<Timestamp>,
}

/// Makes databases, one per name.
#[async_trait]
pub trait Databases: Send + Sync {
    /// The database of that name, made where there is none; refused where the secret is not its own.
    async fn provide(&self, name: &WaifuName, secret: &Secret) -> Result<Credentials, ProvideError>;
    /// Another password from now on, and another secret where one is named.
    async fn rotate(&self, name: &WaifuName, secret: &Secret, fresh: Option<&Secret>) -> Result<Credentials, ProvideError>;
    /// Shuts the database at once and drops it later; who asks for it with its secret before then has
    /// it back as it was. Until when that is.
    async fn remove(&self, name: &WaifuName, secret: &Secret) -> Result<Timestamp, ProvideError>;
    /// All there are, those that are to be dropped included.
    async fn list(&self) -> Result<Vec<DatabaseView>, ProvideError>;
    /// Drops what is to be dropped, and holds each to its quota; asked for now and then.
    async fn tidy(&self) -> Result<(), ProvideError>;
    /// The hash of the secret that the name has, if it has one.
    async fn secret_hash(&self, name: &WaifuName) -> Result<Option<String>, ProvideError>;
}

#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    #[error("the secret is not that of this name")]
    WrongSecret,
    #[error("this name has no database")]
    Unknown,
    #[error("this database is the host's own")]
    Own,
    #[error("the database could not be made: {public}")]
    Unavailable {
        /// What the waifu may know of the reason.
        public: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w09_a_port_may_come_as_text_and_goes_as_a_number() {
        let text = r#"{"database":"d","user":"u","password":"secret","host":"h","port":"5432"}"#;
        let credentials: Credentials = serde_json::from_str(text).expect("readable");
        assert_eq!(credentials.port, 5432);
        assert!(serde_json::to_string(&credentials).expect("writable").contains(r#""port":5432"#));
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
