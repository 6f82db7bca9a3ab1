//! The embedded default: a private Postgres that comes and goes with the host.
//!
//! This is a thin manager over real binaries. It decides where the cluster lives, as whom it
//! runs and how it ends; it deliberately does not download binaries, upgrade a cluster to
//! another major version, listen beyond this machine or touch a cluster it did not make.
//!
//! Invariants: one host per cluster (a file lock), no moment in which anybody gets in without
//! the password, no cluster that is half made, and no postmaster that outlives its host.

mod account;
mod binaries;
mod cluster;
mod error;
mod leftover;
mod log;
mod package;
mod place;
mod port;
mod postmaster;
mod ready;
mod settings;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};

pub use binaries::{PgBinaries, find_binaries};
pub use error::PostgresError;
pub use package::{InstallCommand, install_command};

use account::Account;
use log::LogFile;
use place::Place;
use postmaster::Postmaster;

/// What the host may say about its private Postgres; everything else is decided here.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The data directory of manman; the cluster lives below it, or is recorded in it.
    pub data_dir: PathBuf,
    /// Where `postgres` and `initdb` are, if the person says so.
    pub pg_bin: Option<PathBuf>,
    pub durability: Durability,
    /// Whether it listens on this machine's loopback, for those that are given databases in it.
    pub tcp: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut loses nothing that was answered.
    Durable,
    /// Nothing is synced: for tests, whose data is worthless a second later.
    Fast,
}

/// A running private Postgres. Dropping it asks Postgres to stop without waiting for it.
pub struct EmbeddedPostgres {
    postmaster: Postmaster,
    log: LogFile,
    trimmer: tokio::task::AbortHandle,
    url: String,
    tcp: Option<u16>,
    version: String,
    cluster: PathBuf,
    socket_dir: PathBuf,
    socket_dir_is_ours_alone: bool,
    _lock: File,
}

/// All that has to be true on disk before a postmaster may start.
struct Prepared {
    lock: File,
    binaries: PgBinaries,
    account: Option<Account>,
    cluster: PathBuf,
    home: PathBuf,
    socket: place::SocketDir,
    password: String,
    tcp: Option<u16>,
    log: LogFile,
}

impl EmbeddedPostgres {
    /// Finds binaries, makes the cluster if there is none, starts it and waits until it answers
    /// and holds the database `manman`.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let durability = options.durability;
        // Making a cluster waits for a child process: that thread lives at least as long as it.
        let prepared = tokio::task::spawn_blocking(move || prepare(&options))
            .await
            .map_err(|_| PostgresError::Internal { doing: "prepare the cluster" })??;
        let Prepared { lock, binaries, account, cluster, home, socket, password, tcp, log } = prepared;

        let mut arguments = vec!["-D".into(), cluster.clone().into_os_string()];
        arguments.extend(settings::arguments(&socket.path, durability, tcp));
        let command = postmaster::Launch { program: binaries.postgres(), arguments, account, current_dir: home, log: log.writer()? };
        let postmaster = Postmaster::spawn(command).await?;
        let running = Self {
            trimmer: log.keep_trimmed(),
            url: ready::url(&socket.path, &password, tcp),
            tcp,
            version: binaries.version,
            postmaster,
            log,
            cluster,
            socket_dir: socket.path,
            socket_dir_is_ours_alone: socket.outside_home,
            _lock: lock,
        };
        match ready::wait(&running.url, &running.postmaster, &running.log).await {
            Ok(()) => Ok(running),
            Err(error) => {
                // The reason why it did not come up matters more than how it went down.
                let _ = running.stop().await;
                Err(error)
            }
        }
    }

    /// The URL for sqlx. It holds the password: never log it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The port on 127.0.0.1, where it listens for others.
    pub fn tcp(&self) -> Option<u16> {
        self.tcp
    }

    /// The version of the running binaries, as `15.12`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the cluster's files are, to be shown to a person.
    pub fn cluster(&self) -> &Path {
        &self.cluster
    }

    /// Where Postgres writes what it has to say, to be shown to a person.
    pub fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// Resolves when the postmaster ends without having been asked to, and says how. It never
    /// resolves because of [`EmbeddedPostgres::stop`] or a drop.
    pub fn died(&self) -> impl Future<Output = PostgresError> + Send + 'static {
        let ended = self.postmaster.ended_unasked();
        let log = self.log.clone();
        async move {
            let status = ended.await;
            PostgresError::Died { status, log: log.tail() }
        }
    }

    /// Stops Postgres and waits for it: first politely, in the end not.
    pub async fn stop(self) -> Result<(), PostgresError> {
        self.postmaster.stop().await?;
        if self.socket_dir_is_ours_alone {
            // Nothing depends on it: a directory that stays is taken again by the next start.
            let _ = std::fs::remove_dir(&self.socket_dir);
        }
        Ok(())
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        self.trimmer.abort();
        // The lock goes with us; the next start waits for a postmaster that is still stopping.
        self.postmaster.ask_to_stop();
    }
}

impl std::fmt::Debug for EmbeddedPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedPostgres")
            .field("version", &self.version)
            .field("cluster", &self.cluster)
            .field("socket_dir", &self.socket_dir)
            .field("url", &"<secret>")
            .finish_non_exhaustive()
    }
}

fn prepare(options: &PostgresOptions) -> Result<Prepared, PostgresError> {
    let pg_bin = options.pg_bin.as_deref();
    let place = Place::find(&options.data_dir)?;
    let (home, account) = match place.recorded_home()? {
        Some(home) => {
            let account = Account::of_cluster(&home.join(place::CLUSTER))?;
            (home, account)
        }
        None => place.choose_home()?,
    };
    let lock = place::lock(&home)?;
    let cluster_dir = home.join(place::CLUSTER);

    // What is on disk is read again under the lock: another host may just have made it.
    let existing = cluster::major(&cluster_dir)?;
    let account = match existing {
        Some(_) => Account::of_cluster(&cluster_dir)?,
        None => account,
    };
    let binaries = match existing {
        Some(major) => binaries::find_for_cluster(pg_bin, major, &cluster_dir)?,
        None => find_binaries(pg_bin)?,
    };
    if let Some(account) = &account {
        account.can_use(&binaries.postgres(), &home)?;
    }

    let password = match existing {
        Some(_) => cluster::read_password(&home)?,
        None => cluster::ensure_password(&home, account.as_ref())?,
    };
    cluster::remove_half_made(&home);
    let major = match existing {
        Some(major) => {
            leftover::stop(&cluster_dir)?;
            major
        }
        None => {
            cluster::make(&home, &binaries, account.as_ref(), options.durability)?;
            binaries.major
        }
    };
    place.record(&home, major)?;

    let socket = place.socket_dir(&home, account.as_ref())?;
    let tcp = if options.tcp { Some(port::choose(&home)?) } else { None };
    leftover::remove_sockets(&socket.path, tcp)?;
    Ok(Prepared { lock, binaries, account, cluster: cluster_dir, home, socket, password, tcp, log: LogFile::open(place.data_dir())? })
}
