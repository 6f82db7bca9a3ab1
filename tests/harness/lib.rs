//! Real parts for the stories: our programs as processes, Docker through its own tool, and waits
//! that look at a condition until it holds or say what they saw last.

mod container;
mod home;
mod ports;
mod process;
mod query;
mod transcript;
mod wait;

pub use container::{Container, containers_of, docker};
pub use home::{Home, HostProcess, WorkerProcess, containers_of_server};
pub use ports::free_port;
pub use process::{Output, Program, binary};
pub use query::openarena;
pub use transcript::{Transcript, follow};
pub use wait::{eventually, eventually_within};

pub use anyhow::{Context, Result, anyhow, bail, ensure};

/// TLS needs one provider in the process, named before the first use.
pub fn setup() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a story on a runtime of its own.
pub fn story<F: Future<Output = Result<()>>>(story: F) -> Result<()> {
    setup();
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?.block_on(story)
}
