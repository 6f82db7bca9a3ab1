//! Finds the binaries of Postgres on this machine and asks them for their version.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresError;

/// The oldest major version whose features the migrations may use (`gen_random_uuid()`).
const OLDEST_MAJOR: u32 = 13;

/// A directory with a Postgres that ran well enough to tell its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgBinaries {
    pub dir: PathBuf,
    pub major: u32,
    /// As the binary tells it: `15.12`.
    pub version: String,
}

impl PgBinaries {
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    fn probe(dir: &Path) -> Result<Self, PostgresError> {
        let bad = |reason: String| PostgresError::BadBinaries { dir: dir.to_owned(), reason };
        let postgres = dir.join("postgres");
        if !dir.join("initdb").exists() {
            return Err(bad("there is no `initdb`".into()));
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| bad(format!("`postgres --version` does not run: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let (major, version) = parse_version(&said).ok_or_else(|| bad(format!("`postgres --version` says `{}`", said.trim())))?;
        if major < OLDEST_MAJOR {
            return Err(bad(format!("it is version {version}, and {OLDEST_MAJOR} is the oldest that will do")));
        }
        Ok(Self { dir: dir.to_owned(), major, version })
    }
}

/// The first usable Postgres: the person's, ours, then the newest of the distribution.
pub fn find_binaries(pg_bin: Option<&Path>) -> Result<PgBinaries, PostgresError> {
    if let Some(dir) = pg_bin {
        return PgBinaries::probe(dir);
    }
    let mut looked = Vec::new();
    for dir in candidates() {
        match PgBinaries::probe(&dir) {
            Ok(found) => return Ok(found),
            Err(error) => looked.push(look(&dir, &error)),
        }
    }
    Err(PostgresError::NotInstalled { looked })
}

/// The Postgres that can open an existing cluster: only the same major version can.
pub(super) fn find_for_cluster(pg_bin: Option<&Path>, major: u32, cluster: &Path) -> Result<PgBinaries, PostgresError> {
    let found: Vec<PgBinaries> = match pg_bin {
        Some(dir) => vec![PgBinaries::probe(dir)?],
        None => candidates().iter().filter_map(|dir| PgBinaries::probe(dir).ok()).collect(),
    };
    if found.is_empty() {
        // Says where we looked and what to install.
        return find_binaries(pg_bin);
    }
    let others: Vec<String> = found.iter().map(|it| format!("{} in `{}`", it.version, it.dir.display())).collect();
    found.into_iter().find(|it| it.major == major).ok_or_else(|| PostgresError::WrongMajor {
        cluster: cluster.to_owned(),
        recorded: major,
        found: others.join(" or "),
    })
}

/// Where to look, best first. Directories that do not exist stay in, to be named in the error.
fn candidates() -> Vec<PathBuf> {
    let beside_us = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("libexec/pg/bin")));
    let mut dirs: Vec<PathBuf> = beside_us.into_iter().collect();
    // Debian and its family, then the packages of the PostgreSQL project for Fedora and its.
    dirs.extend(newest_first("/usr/lib/postgresql", ""));
    dirs.extend(newest_first("/usr", "pgsql-"));
    // Where Fedora and Arch put the one version they have, and where a build from source goes.
    dirs.extend(["/usr/bin", "/usr/local/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    dirs
}

/// The `bin` below every `<parent>/<prefix><number>`, by number and not by name: 9 is before 15.
fn newest_first(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(number, _)| Reverse(*number));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn look(dir: &Path, error: &PostgresError) -> String {
    let postgres = dir.join("postgres");
    match error {
        PostgresError::BadBinaries { reason, .. } if postgres.exists() => {
            format!("`{}`: {reason}", dir.display())
        }
        _ => format!("`{}`", dir.display()),
    }
}

/// From `postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)` to 15 and `15.12`.
fn parse_version(said: &str) -> Option<(u32, String)> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn reads_versions() {
        let parsed = |said: &str| parse_version(said).map(|(major, _)| major);
        assert_eq!(parsed("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)\n"), Some(15));
        assert_eq!(parsed("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parsed("postgres (PostgreSQL) 9.6.1\n"), Some(9));
        assert_eq!(parsed("something else\n"), None);
    }
}
