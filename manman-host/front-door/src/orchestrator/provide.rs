//! What the orchestrator does before and after whoever makes databases: who may ask, and what a wrong
//! secret means.

use std::net::IpAddr;
use std::sync::Arc;

use manman_common::{Kind, Problem, Timestamp};

use super::{Credentials, DatabaseView, Databases, NameError, Orchestrator, ProvideError, Secret, WaifuName, chain, forbidden};

/// Who asks for which database.
struct Asker {
    peer: IpAddr,
    name: WaifuName,
    secret: Secret,
    databases: Arc<dyn Databases>,
}

const WRONG: &str = "database asked for with a wrong secret";

impl Orchestrator {
    /// The database of that name: made at the first call, the same at every later one.
    pub async fn database(&self, peer: IpAddr, name: &str, secret: String) -> Result<Credentials, Problem> {
        let asker = self.asker(peer, name, secret).await?;
        let provided = asker.databases.provide(&asker.name, &asker.secret).await;
        self.told(&asker, provided).await
    }

    /// Another password for it, and another secret where one is named.
    pub async fn rotate_database(&self, peer: IpAddr, name: &str, secret: String, fresh: Option<String>) -> Result<Credentials, Problem> {
        let fresh = fresh.map(Secret::try_from).transpose().map_err(|error| Problem::invalid("newSecret", error.to_string()))?;
        let asker = self.asker(peer, name, secret).await?;
        let rotated = asker.databases.rotate(&asker.name, &asker.secret, fresh.as_ref()).await;
        let credentials = self.told(&asker, rotated).await?;
        if let Some(fresh) = &fresh {
            // The hello of that waifu shows the same secret.
            self.forget_secret(&asker.name).await;
            tracing::info!(waifu.name = %asker.name, bytes = fresh.as_str().len(), "a waifu has another secret");
        }
        Ok(credentials)
    }

    /// Shuts it, to be dropped later. Until when it may be had back.
    pub async fn remove_database(&self, peer: IpAddr, name: &str, secret: String) -> Result<Timestamp, Problem> {
        let asker = self.asker(peer, name, secret).await?;
        let removed = asker.databases.remove(&asker.name, &asker.secret).await;
        self.told(&asker, removed).await
    }

    pub async fn list_databases(&self) -> Result<Vec<DatabaseView>, Problem> {
        let Some(databases) = self.databases.get() else { return Ok(Vec::new()) };
        databases.list().await.map_err(|error| unavailable("they", &error))
    }

    async fn asker(&self, peer: IpAddr, name: &str, secret: String) -> Result<Asker, Problem> {
        let name: WaifuName = name.parse().map_err(|error: NameError| Problem::invalid("name", error.to_string()))?;
        let secret = Secret::try_from(secret).map_err(|error| Problem::invalid("secret", error.to_string()))?;
        let Some(databases) = self.databases.get() else {
            return Err(Problem::new(Kind::Unavailable, "this orchestrator has no PostgreSQL to make databases in")
                .hint("start it with --database-url, or where PostgreSQL is installed")
                .retry_after(60));
        };
        self.refuse_impatient(&name, peer)?;
        if let Some(hash) = self.known(&name).await.and_then(|known| known.secret_hash) {
            self.check_secret(peer, &name, &secret, &hash, WRONG).await?;
        }
        Ok(Asker { peer, name, secret, databases: Arc::clone(databases) })
    }

    async fn told<T>(&self, asker: &Asker, outcome: Result<T, ProvideError>) -> Result<T, Problem> {
        let name = &asker.name;
        match outcome {
            Ok(value) => Ok(value),
            Err(ProvideError::WrongSecret) => {
                self.failed(asker.peer, name, WRONG).await;
                Err(forbidden(name))
            }
            Err(ProvideError::Unknown) => Err(Problem::new(Kind::NotFound, format!("`{name}` has no database"))),
            Err(error @ ProvideError::Own) => Err(Problem::new(Kind::Forbidden, error.to_string())),
            Err(error @ ProvideError::Unavailable { .. }) => Err(unavailable(name.as_str(), &error)),
        }
    }

    /// The database's maker has the hash; the next hello brings the new secret.
    async fn forget_secret(&self, name: &WaifuName) {
        let mut state = self.state.lock().await;
        let now = self.tick();
        if let Some(waifu) = state.waifus.value_mut(now, name) {
            waifu.secret_hash = None;
            self.save(&mut state).await;
        }
    }

    pub(super) async fn tidy_databases(&self) {
        let Some(databases) = self.databases.get() else { return };
        if let Err(error) = databases.tidy().await {
            tracing::warn!(error = chain(&error), "databases could not be looked after; it is tried again");
        }
    }
}

fn unavailable(name: &str, error: &ProvideError) -> Problem {
    tracing::error!(waifu.name = name, error = chain(error), "a database could not be provided");
    Problem::new(Kind::Unavailable, error.to_string()).retry_after(5)
}
