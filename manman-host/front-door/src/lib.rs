//! The two small systems a home needs before any game runs: who is alive (the registry), and who
//! may be reached from outside (the orchestrator).

pub(crate) mod clock;
pub mod json;
pub mod orchestrator;
pub mod path;
pub mod proxy;
pub mod registry;
