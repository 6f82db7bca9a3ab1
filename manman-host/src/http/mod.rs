//! The host's HTTP side: all routes, and what they share.

mod assets;
pub mod auth;
pub mod docs;
pub mod error;
pub mod extract;
pub mod router;

pub mod command;
pub mod event;
pub mod game;
pub mod link;
pub mod log;
pub mod login;
pub mod metrics;
pub mod server;
pub mod status;
pub mod token;
pub mod worker;
