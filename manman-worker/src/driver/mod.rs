//! What a driver is: the only part that touches games. It decides nothing.
//!
//! Every method may be called again after a crash at any line of an earlier call, and may be
//! dropped at any `.await`. `list` answers "could not look" as an error, never as an empty list.

pub mod docker;
mod erase;
pub mod fake;
pub mod process;
pub(crate) mod shim;

pub(crate) use shim::binary::unpack as unpack_shim;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use manman_common::logs::LogStream;
use manman_common::spec::{StopMode, StopRung};
use manman_common::status::{ExitRecord, Progress, Usage};
use manman_common::wire::DriverReport;
use manman_common::{InstallMethod, InstanceId, ServerId, ServerSpec};
pub use manman_shim::lock::Stops;
use manman_worker_core::{Instance, InstanceRef};
use tokio::sync::Notify;

use crate::logs::LogBook;

#[async_trait]
pub trait Driver: Send + Sync + 'static {
    fn method(&self) -> InstallMethod;

    /// Whether this machine can run such games, and if not, why and what to do.
    async fn report(&self) -> DriverReport;

    /// Woken whenever an instance may have changed; the loop then looks.
    fn changes(&self) -> Arc<Notify>;

    /// Every instance of this worker, dead ones that have not been removed included.
    async fn list(&self) -> Result<Vec<Instance>, DriverError>;

    /// What [`install`](Self::install) would have to bring here for this spec; equal keys need no
    /// second install.
    fn install_key(&self, spec: &ServerSpec) -> String;

    /// Brings the game here: pulls or builds an image, downloads an app. Resumes what was begun.
    async fn install(&self, spec: &ServerSpec, progress: ProgressSink) -> Result<(), DriverError>;

    /// Has the next [`install`](Self::install) for this server bring the newest build there is, and not
    /// what is here already.
    fn want_newest(&self, server: ServerId) {
        let _ = server;
    }

    /// Which build of its game a server has, where that has a name.
    async fn build_of(&self, spec: &ServerSpec) -> Option<String> {
        let _ = spec;
        None
    }

    /// Starts a fresh instance under this id; if one of this id exists already, that one.
    async fn start(&self, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError>;

    /// The host's word for how long a leased server may run; `None` for one that needs none. Known
    /// before each start, so that no instance ever runs without its deadline, and told again for
    /// `live` with each beat that the host acknowledged. Whatever holds the instance enforces it alone:
    /// this process may be stopped or gone by then. A later word takes the place of an earlier one.
    async fn grant_lease(&self, server: ServerId, live: Option<&Instance>, lease: Option<Lease>) -> Result<(), DriverError> {
        let _ = (server, live, lease);
        Ok(())
    }

    /// Climbs the ladder rung by rung, SIGKILL at its end, and returns once the instance is seen to
    /// be dead. `rung` hears of each rung before it is climbed. A dead instance is a success.
    async fn stop(&self, instance: &Instance, ladder: &[StopRung], mode: StopMode, rung: RungSink) -> Result<ExitRecord, DriverError>;

    /// Clears a dead instance away; its data stays. Refuses a live one.
    async fn remove(&self, instance: &Instance) -> Result<(), DriverError>;

    /// Deletes the server's data directory.
    async fn purge(&self, server: ServerId) -> Result<(), DriverError>;

    /// By `spec` this server is stopped, or another worker's; nothing of it lives here, and its data
    /// stays: from here on the data itself refuses a start by this wish or an earlier one. May be said again.
    async fn let_go(&self, spec: &ServerSpec) -> Result<(), DriverError> {
        let _ = spec;
        Ok(())
    }

    /// Somebody wants the server to run by `spec` who knows of these stops: what the data remembers of
    /// them no longer counts. Said before a start.
    async fn take_up(&self, spec: &ServerSpec, stops: Stops) -> Result<(), DriverError> {
        let _ = (spec, stops);
        Ok(())
    }

    /// Types a line into the game's console.
    async fn write_line(&self, instance: &Instance, line: &str) -> Result<(), DriverError>;

    /// What the instance prints, from just after `after` on; ends when the instance has ended and
    /// all it printed has been given out, or with an error that is worth another try.
    async fn output(
        &self,
        instance: &Instance,
        after: Option<OutputCursor>,
    ) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError>;

    /// For an instance whose log another process writes: an item whenever there may be more in it,
    /// until all of it is there. `None` where [`output`](Self::output) is to be taken over instead.
    async fn written(
        &self,
        _instance: &Instance,
        _book: &LogBook,
    ) -> Result<Option<BoxStream<'static, Result<(), DriverError>>>, DriverError> {
        Ok(None)
    }

    async fn usage(&self, instance: &Instance) -> Result<Usage, DriverError>;

    /// Whether the game has bound these ports in its own network namespace.
    async fn ports_bound(&self, instance: &Instance, spec: &ServerSpec) -> Result<bool, DriverError>;
}

/// Moments on CLOCK_BOOTTIME, which goes on while the machine is suspended and which nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When the stop ladder begins. An instance that ends by it has [`LEASE_ENDED`] as its exit's reason.
    pub until: Duration,
    /// When all that still lives is killed.
    pub kill_at: Duration,
}

/// [`ExitRecord::reason`] of an instance whose lease ended: no crash.
pub const LEASE_ENDED: &str = manman_worker_core::LEASE_ENDED;

pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;
pub type RungSink = Arc<dyn Fn(&StopRung) + Send + Sync>;

/// Lines in the order in which the driver got them; never empty.
#[derive(Clone, Debug, Default)]
pub struct OutputBatch {
    pub lines: Vec<OutputLine>,
}

#[derive(Clone, Debug)]
pub struct OutputLine {
    pub stream: LogStream,
    /// RFC 3339 with nanoseconds, in UTC.
    pub time: String,
    /// Without its line feed, at most `LINE_MAX` bytes.
    pub text: bytes::Bytes,
}

/// How far the log of an instance has been taken over: per stream the time of the last line, and
/// how many lines with exactly that time have been taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputCursor {
    pub stdout: Option<(String, u32)>,
    pub stderr: Option<(String, u32)>,
}

/// What a driver could not do. `what` says what was tried on what; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct DriverError {
    pub kind: DriverErrorKind,
    pub what: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverErrorKind {
    /// The same again may do better: the engine is away, the network is down, the disk is full.
    Retry,
    /// Only another wish or a person can help: no such image, a port in use by a stranger.
    Final,
    /// The instance named is not there.
    Gone,
}
