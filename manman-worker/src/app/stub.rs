//! Stands in for logs and console until they are there.
use std::sync::Arc;

use async_trait::async_trait;
use manman_common::{InstanceId, ServerId};

use crate::reconcile::signals::{SignalSender, Supervision, Watched};

pub(crate) struct Supervisor(SignalSender);
impl Supervisor {
    pub(crate) fn new(_: crate::logs::LogBooks, signals: SignalSender) -> Arc<Self> {
        Arc::new(Self(signals))
    }
}
#[async_trait]
impl Supervision for Supervisor {
    fn watch(&self, _: Watched) {
        let _ = &self.0;
    }
    fn unwatch(&self, _: ServerId, _: InstanceId) {}
    async fn drain(&self, _: ServerId, _: InstanceId) {}
    fn note(&self, _: ServerId, _: String) {}
    async fn purge(&self, _: ServerId) -> std::io::Result<()> {
        Ok(())
    }
}
