//! The host's HTTP side: all routes, and what they share.

mod assets;
pub mod auth;
pub mod docs;
pub mod error;
pub mod extract;
pub(crate) mod paging;
pub mod router;

pub mod account;
pub mod action;
pub mod command;
pub mod event;
pub mod feed;
pub mod game;
pub mod link;
pub mod log;
pub mod login;
pub mod me;
pub mod metrics;
pub mod metrics_history;
pub mod server;
pub mod service;
pub mod session;
pub mod status;
pub mod token;
pub mod worker;
