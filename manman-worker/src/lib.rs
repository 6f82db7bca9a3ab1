//! The worker: runs game servers on one machine for a manman host, or for nobody but the machine's
//! owner.
//!
//! [`run`] is a whole worker as one future, which `manman up` runs beside a host and
//! `manman-worker` by itself.

mod action;
pub mod announce;
mod api;
mod app;
pub mod clock;
pub mod config;
pub mod console;
pub mod doctor;
pub mod driver;
pub mod failpoint;
mod find;
mod host_link;
pub mod identity;
pub mod logs;
pub mod machine;
pub mod metrics;
pub mod plan_cmd;
pub mod probe;
pub mod rebase_cmd;
pub mod reconcile;
mod report;
mod room;
pub mod standing;
pub mod steam_cmd;
pub mod store;

pub use action::asked_as_tool;
pub use app::{ExitReason, Ready, RunError, run, run_with_ready};
pub use host_link::{LinkState, Registration};
pub use report::Report;
