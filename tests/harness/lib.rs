//! Real parts for the stories: our programs as processes, Docker through its own tool, and waits
//! that look at a condition until it holds or say what they saw last.

mod browser;
mod clock;
mod container;
mod crowd;
mod database;
mod devtools;
mod disk;
mod engine;
pub mod faults;
mod freeze_proxy;
mod guard;
pub mod history;
mod home;
pub mod netns;
mod ports;
mod process;
mod query;
mod transcript;
mod wait;

pub use browser::{Browser, Size};
pub use clock::WallClock;
pub use container::{Container, containers_of, docker};
pub use crowd::Crowd;
pub use database::Database;
pub use disk::SmallDisk;
pub use engine::Engine;
pub use freeze_proxy::{FreezeProxy, Links, Way};
pub use home::{Home, HostProcess, WorkerProcess, containers_of_server};
pub use ports::free_port;
pub use process::{Output, Program, binary, run};
pub use query::openarena;
pub use transcript::{Transcript, follow};
pub use wait::{eventually, eventually_within};

pub use fantoccini::Locator;

pub use anyhow::{Context, Result, anyhow, bail, ensure};

/// Where the build and the tests of this workspace leave what they make.
#[must_use]
pub fn target() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// TLS needs one provider in the process, named before the first use.
pub fn setup() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a story on a runtime of its own.
pub fn story<F: Future<Output = Result<()>>>(story: F) -> Result<()> {
    setup();
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?.block_on(story)
}
