//! As whom Postgres runs: as ourselves, or, where we are root, as somebody without power.
//!
//! Postgres and initdb refuse root. std's `uid` and `gid` also drop the supplementary groups
//! when root gives itself up, so nothing but the account's own rights remains.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::PostgresError;

/// Best first. `nobody` is shared with whatever else runs as it, so it is the last resort; a
/// bare number is none at all, because initdb wants its account to have a name.
const NAMES: [&str; 3] = ["postgres", "manman", "nobody"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// For a cluster still to be made; none means ourselves.
    pub(super) fn for_new_cluster() -> Result<Option<Self>, PostgresError> {
        if !we_are_root() {
            return Ok(None);
        }
        let accounts = local_accounts();
        let chosen = NAMES.iter().find_map(|name| accounts.iter().find(|it| it.name == *name && it.uid != 0));
        let account = chosen.cloned().ok_or(PostgresError::NoAccount)?;
        if account.name == "nobody" {
            tracing::warn!(
                "PostgreSQL will run as `nobody`, which other programs may share; an account \
                 named `manman` or `postgres` is safer"
            );
        }
        Ok(Some(account))
    }

    /// For a cluster that exists: its owner, whoever would be chosen today.
    pub(super) fn of_cluster(cluster: &Path) -> Result<Option<Self>, PostgresError> {
        let metadata = fs::metadata(cluster).map_err(PostgresError::io("look at the database in", cluster))?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let wrong = uid == 0 || (!we_are_root() && uid != our_uid());
        if wrong {
            return Err(PostgresError::WrongOwner { cluster: cluster.to_owned(), owner: uid });
        }
        if !we_are_root() {
            return Ok(None);
        }
        let name = local_accounts().into_iter().find(|it| it.uid == uid).map_or_else(|| uid.to_string(), |it| it.name);
        Ok(Some(Self { name, uid, gid }))
    }

    /// Whether the account can stand in `dir`, tried and not guessed from modes and ACLs.
    pub(super) fn reaches(&self, dir: &Path) -> Result<bool, PostgresError> {
        match self.try_run(Path::new("/bin/sh"), dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(PostgresError::io("run /bin/sh in", dir)(error)),
        }
    }

    /// Fails with the one of the two that the account cannot reach.
    pub(super) fn can_use(&self, program: &Path, dir: &Path) -> Result<(), PostgresError> {
        let unreachable = |path: &Path| PostgresError::Unreachable { account: self.name.clone(), path: path.to_owned() };
        if !self.reaches(dir)? {
            return Err(unreachable(dir));
        }
        self.try_run(program, dir).map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied { unreachable(program) } else { PostgresError::io("run", program)(error) }
        })
    }

    /// Whether it starts at all; what it thinks of `--version` does not matter.
    fn try_run(&self, program: &Path, dir: &Path) -> io::Result<()> {
        command(program, Some(self), dir).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().map(|_| ())
    }
}

/// A command as that account, with nothing of our environment: a `PGDATA` or `LC_ALL` of the
/// person's shell must not reach the private Postgres.
pub(super) fn command(program: &Path, account: Option<&Account>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C").current_dir(dir).stdin(Stdio::null());
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Gives what we made to the account; where we run as ourselves it is ours already.
pub(super) fn give(path: &Path, account: Option<&Account>) -> Result<(), PostgresError> {
    let Some(account) = account else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
        .map_err(PostgresError::io("give to the account of PostgreSQL", path))
}

pub(super) fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The accounts of /etc/passwd. System accounts are local; a directory service is not asked.
fn local_accounts() -> Vec<Account> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().filter_map(parse_account).collect()
}

fn parse_account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let _password = fields.next()?;
    Some(Account { name, uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}
