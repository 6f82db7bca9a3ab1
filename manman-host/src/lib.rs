//! The control plane: what should be, who may ask for it, and where it runs.

pub mod app;
pub mod background;
pub mod cli;
pub mod clock;
pub mod config;
mod context;
pub mod database;
pub mod db;
pub mod domain;
pub mod fleet;
pub(crate) mod front_door;
pub mod games;
pub mod high_water;
pub mod http;
pub(crate) mod hub;
mod limit;
mod mdns;
pub mod password;
pub mod postgres;
pub mod provision;
pub(crate) mod registry;
mod run;
pub mod secrecy;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;

pub use run::{Host, HostError, chain, run};
