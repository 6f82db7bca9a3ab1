//! The words that host, worker, tool and tests share: identities, what a server should be, what it
//! is, and the bodies and frames that carry both.
//!
//! Nothing here reads a clock, draws a random number, or talks to anybody; the one exception is
//! [`client`], behind the feature of that name.

pub mod error;
#[cfg(feature = "failpoint")]
pub mod failpoint;
pub mod game_id;
pub mod generation;
pub mod ids;
pub mod lease;
pub mod link;
pub mod logs;
pub mod message;
pub mod name;
pub mod session;
pub mod spec;
pub mod status;
pub mod time;
pub mod wire;

#[cfg(feature = "openapi")]
mod schema;

#[cfg(feature = "client")]
pub mod client;

pub use error::{Kind, Problem};
pub use game_id::{GameId, InstallMethod};
pub use generation::{Generation, LogSeq, Revision, SessionEpoch};
pub use ids::{AccountId, CommandId, InstanceId, RunId, ServerId, TokenId, WorkerId};
pub use name::Name;
pub use spec::{DesiredState, RunSpec, ServerSpec};
pub use status::{Phase, ServerStatus, WorkerStatus};
pub use time::Timestamp;
