//! The stage as it is run: the executable, its files, its port and its socket.
//!
//! The tests of a requirement of the design carry its number: `u01_…` to `u19_…`.

mod bad_input;
mod config;
mod engine;
mod openapi;
mod pool;
mod process;
mod replies;
mod samples;
mod service;
mod support;
