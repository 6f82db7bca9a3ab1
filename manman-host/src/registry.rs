//! The registry within the host: its records are in the database.

use manman_front_door::registry::{Change, Keep, Record, Registry, RegistryConfig, Store, StoreError};
use sqlx::PgPool;

use crate::db::registry::{registry_all, registry_save};

/// What `GET /health` on the internal door answers, and the name under which the host itself is
/// found.
pub(crate) const OWN_NAME: &str = "manman-host";

struct Tables(PgPool);

#[async_trait::async_trait]
impl Store for Tables {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        let loaded = async { registry_all(&mut *self.0.acquire().await?).await };
        loaded.await.map_err(foreign)
    }

    async fn save(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        registry_save(&self.0, changes).await.map_err(foreign)
    }
}

fn foreign(error: sqlx::Error) -> StoreError {
    StoreError::Foreign(Box::new(error))
}

pub(crate) fn in_database(db: PgPool) -> Registry {
    let config = RegistryConfig { own_name: OWN_NAME.to_owned(), ..RegistryConfig::default() };
    Registry::new(config, Keep::Store(Box::new(Tables(db))))
}

#[cfg(test)]
mod tests;
