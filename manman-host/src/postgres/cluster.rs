//! Makes a cluster once, whole or not at all, and keeps its password.
//!
//! initdb works in a directory beside the final one, which is renamed when it is done: a cluster
//! that has its name is complete. The password is on disk before, so that no cluster is made
//! whose password nobody knows.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;

use super::account::{self, Account};
use super::place::{self, CLUSTER};
use super::{Durability, PgBinaries, PostgresError, log, postmaster, ready};

const PASSWORD: &str = "password";
const HALF_MADE: &str = "half-made-";

/// The major version that made the cluster, as initdb recorded it; none if there is no cluster.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, PostgresError> {
    let path = cluster.join("PG_VERSION");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PostgresError::io("read", &path)(error)),
    };
    // Before version 10 the major version had two parts: those fail here, and are too old anyway.
    let major = text.trim().parse().map_err(|_| PostgresError::NotACluster { path: cluster.to_owned() })?;
    Ok(Some(major))
}

pub(super) fn read_password(home: &Path) -> Result<String, PostgresError> {
    let path = home.join(PASSWORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(PostgresError::io("read", &path)(error)),
    };
    let password = text.trim();
    if password.is_empty() {
        return Err(PostgresError::PasswordGone { path });
    }
    Ok(password.to_owned())
}

/// The one of a start that was killed before it had a cluster, or a new one.
pub(super) fn ensure_password(home: &Path, account: Option<&Account>) -> Result<String, PostgresError> {
    match read_password(home) {
        Err(PostgresError::PasswordGone { path }) => {
            let password = random_hex(&path)?;
            // initdb reads it as the account that it runs as.
            place::write_whole(&path, &format!("{password}\n"), account)?;
            Ok(password)
        }
        other => other,
    }
}

/// What a killed start left. One that cannot be removed (its initdb is still dying) is harmless,
/// because nothing will ever rename it, and is tried again at the next start.
pub(super) fn remove_half_made(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let is_half_made = entry.file_name().to_str().is_some_and(|name| name.starts_with(HALF_MADE));
        if !is_half_made {
            continue;
        }
        let path = entry.path();
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed a half-made database"),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "could not remove a half-made database");
            }
        }
    }
}

pub(super) fn make(home: &Path, binaries: &PgBinaries, account: Option<&Account>, durability: Durability) -> Result<(), PostgresError> {
    let cluster = home.join(CLUSTER);
    // Renaming over an empty directory is fine; over anything else it is not ours to decide.
    let occupied = fs::read_dir(&cluster).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(PostgresError::NotACluster { path: cluster });
    }
    let draft = home.join(format!("{HALF_MADE}{}", random_hex(home)?));
    place::make_dir(&draft, 0o700)?;
    account::give(&draft, account)?;

    let mut arguments = vec!["-D".into(), draft.clone().into_os_string()];
    arguments.extend(["--username", ready::USER].map(Into::into));
    arguments.push("--pwfile".into());
    arguments.push(home.join(PASSWORD).into_os_string());
    // One collation everywhere, that no update of libc or ICU changes under the indexes; and
    // checksums, because the disks of a home are not those of a data centre.
    let rest = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums"];
    arguments.extend(rest.map(Into::into));
    if durability == Durability::Fast {
        arguments.push("--no-sync".into());
    }
    let output = postmaster::under_death_signal("KILL", &binaries.initdb(), account, home)
        .args(arguments)
        .output()
        .map_err(PostgresError::io("run", &binaries.initdb()))?;
    if !output.status.success() {
        let _ = fs::remove_dir_all(&draft);
        return Err(PostgresError::Initdb { home: home.to_owned(), status: output.status, output: log::last_lines(&output.stderr) });
    }
    fs::rename(&draft, &cluster).map_err(PostgresError::io("rename the new database to", &cluster))?;
    match durability {
        Durability::Durable => place::sync_dir(home),
        Durability::Fast => Ok(()),
    }
}

/// 192 bits: nobody guesses it, and it needs no escaping anywhere.
fn random_hex(purpose: &Path) -> Result<String, PostgresError> {
    let mut bytes = [0; 24];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| PostgresError::io("get random bytes for", purpose)(io::Error::other(error)))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
