pub mod clock;
pub mod driver;
pub mod reconcile;
pub mod store;
mod api;
mod app;
pub mod config;
pub mod doctor;
mod host_link;
pub mod identity;
pub mod machine;
pub mod plan_cmd;
mod report;

pub use app::{ExitReason, Ready, RunError, run, run_with_ready};
pub use report::Report;
pub use host_link::{LinkState, Registration};
pub mod logs;
