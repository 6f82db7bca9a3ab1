//! Bodies of requests and answers between people, host and workers.

mod access;
mod account;
mod command;
mod event;
mod feed;
mod game;
mod metrics;
mod page;
mod rebase;
pub mod registry;
mod server;
mod worker;

pub use access::*;
pub use account::*;
pub use command::*;
pub use event::*;
pub use feed::*;
pub use game::*;
pub use metrics::*;
pub use page::*;
pub use rebase::*;
pub use server::*;
pub use worker::*;
