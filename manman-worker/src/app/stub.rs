//! Stands in for logs and console until they are there.
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use manman_common::logs::{LogEnd, LogGap, LogQuery};
use manman_common::{InstanceId, LogSeq, ServerId};

use crate::reconcile::signals::{SignalSender, Supervision, Watched};

#[derive(Clone)]
pub(crate) struct Logs;
pub(crate) struct Reader;
#[expect(dead_code, reason = "stands in")]
pub(crate) enum Item {
    Chunk(Bytes),
    Gap(LogGap),
    End(LogEnd),
}
impl Logs {
    pub(crate) fn open(_: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self)
    }
    pub(crate) async fn open_reader(&self, _: ServerId, _: &LogQuery) -> std::io::Result<Reader> {
        Ok(Reader)
    }
}
impl Reader {
    pub(crate) fn bounds(&self) -> (LogSeq, LogSeq) {
        (LogSeq::new(0), LogSeq::new(0))
    }
    pub(crate) async fn next(&mut self) -> Item {
        Item::End(LogEnd::Complete)
    }
}
pub(crate) struct Supervisor(SignalSender);
impl Supervisor {
    pub(crate) fn new(_: Logs, signals: SignalSender) -> Arc<Self> {
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
