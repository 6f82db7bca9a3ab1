//! The control plane: what should be, who may ask for it, and where it runs.

pub mod app;
pub mod background;
pub mod clock;
pub mod config;
pub mod db;
pub mod domain;
pub mod fleet;
pub mod games;
pub mod http;
pub(crate) mod hub;
pub mod postgres;
