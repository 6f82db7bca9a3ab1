//! The settings of the private Postgres, each with its reason.
//!
//! They are arguments of the postmaster and not a file, so that a new version of the host brings
//! its new settings to old clusters. Whoever wants to tune Postgres runs one, and names it with
//! `--database-url`.

use std::ffi::OsString;
use std::path::Path;

use super::Durability;

/// Only the name of the socket file, where nothing listens on a port.
pub(super) const PORT: u16 = 5432;

const ALWAYS: &[(&str, &str)] = &[
    // The directory is 0700 already; this holds should somebody widen it.
    ("unix_socket_permissions", "0700"),
    ("password_encryption", "scram-sha-256"),
    // A fleet at home has some thousand rows: this holds all of them, and an idle host stays small.
    ("shared_buffers", "32MB"),
    ("maintenance_work_mem", "16MB"),
    // Nothing replicates from here, and no query is big enough to be worth a parallel plan.
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("max_worker_processes", "2"),
    ("max_parallel_workers_per_gather", "0"),
    ("autovacuum_max_workers", "1"),
    // Compiling a query that reads ten rows costs more than running it.
    ("jit", "off"),
    // Keeps the directory small and recovery after a power cut at a few seconds.
    ("min_wal_size", "32MB"),
    ("max_wal_size", "128MB"),
    // systemd may remove an ordinary user's segments in /dev/shm when that user logs out.
    ("dynamic_shared_memory_type", "mmap"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_checkpoints", "off"),
    // Details and statements carry values, and a value may be a secret.
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

const FAST: &[(&str, &str)] = &[("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];

const DURABLE: &[(&str, &str)] = &[
    // Said aloud, so that no configuration file left in the cluster turns it off.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
];

/// A Unix socket only: nobody on the network can even knock.
const ALONE: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    // The host's pool, the migrator, the tests' databases and a person with psql.
    ("max_connections", "40"),
];

/// Databases are handed out to others on this machine, each with some connections of its own.
const SHARED: &[(&str, &str)] = &[("listen_addresses", "127.0.0.1"), ("max_connections", "200")];

/// `tcp` is the port to listen on, where anybody but us is let in at all.
pub(super) fn arguments(socket_dir: &Path, durability: Durability, tcp: Option<u16>) -> Vec<OsString> {
    let by_durability = match durability {
        Durability::Durable => DURABLE,
        Durability::Fast => FAST,
    };
    // The setting is a list: quotes keep a comma or a space in the path from splitting it.
    let directory = socket_dir.to_string_lossy().replace('"', "\"\"");
    let mut arguments = Vec::new();
    let mut set = |name: &str, value: &str| {
        arguments.push(OsString::from("-c"));
        arguments.push(OsString::from(format!("{name}={value}")));
    };
    set("unix_socket_directories", &format!("\"{directory}\""));
    set("port", &tcp.unwrap_or(PORT).to_string());
    let by_listener = if tcp.is_some() { SHARED } else { ALONE };
    for (name, value) in ALWAYS.iter().chain(by_listener).chain(by_durability) {
        set(name, value);
    }
    arguments
}
