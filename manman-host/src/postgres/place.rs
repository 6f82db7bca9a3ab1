//! Where the cluster lives, who may use it, and where its socket is.
//!
//! A cluster's home holds `data` (the cluster itself), `password`, `lock` and `run` (the socket).
//! It is `<data dir>/postgres`, unless we are root and Postgres's account cannot get there; then
//! it is `/var/lib/manman/<hash of the data dir>`. `postgres.toml` in the data dir records it, so
//! that a later start neither guesses again nor begins an empty database where one is missing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::PostgresError;
use super::account::{self, Account};
use super::cluster;

/// The name of the cluster's directory in its home.
pub(super) const CLUSTER: &str = "data";

const RECORD: &str = "postgres.toml";
const RECORD_HEAD: &str = "# Where manman keeps the private database of this data directory.\n";

/// Where system services keep their state, and any account may pass through.
const SYSTEM_HOME: &str = "/var/lib/manman";

/// `sun_path` has 108 bytes, the last of them zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// A host that was killed this instant, or a child between fork and exec, still has the lock for
/// some milliseconds: a third of a second tells them from a host that lives.
const LOCK_TRIES: u32 = 33;
const LOCK_POLL: Duration = Duration::from_millis(10);

pub(super) struct Place {
    data_dir: PathBuf,
    record: Option<Record>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Relative to the data directory where it is below it, so that both can be moved as one.
    home: PathBuf,
    /// The major version of PostgreSQL that made it, for whoever reads this file.
    major: u32,
    /// Whose record this is: tells a copy of the data directory from the original.
    data_dir: PathBuf,
}

pub(super) struct SocketDir {
    pub(super) path: PathBuf,
    /// Whether it is a directory of its own that goes when Postgres stops.
    pub(super) outside_home: bool,
}

impl Place {
    pub(super) fn find(data_dir: &Path) -> Result<Self, PostgresError> {
        // It will hold secrets of others too: an existing one keeps its mode, a new one is ours.
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(PostgresError::io("create", data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(PostgresError::io("resolve", data_dir))?;
        if data_dir.to_str().is_none() {
            return Err(PostgresError::NotUtf8 { path: data_dir });
        }
        let record = read_record(&data_dir)?;
        Ok(Self { data_dir, record })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The home of a cluster that was made before, and still is there.
    pub(super) fn recorded_home(&self) -> Result<Option<PathBuf>, PostgresError> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let home = self.data_dir.join(&record.home);
        // A moved data directory takes its record along; a copied one leaves the original behind.
        if record.home.is_absolute() && record.data_dir != self.data_dir {
            let original = read_record(&record.data_dir).ok().flatten();
            if original.is_some_and(|it| it.home == record.home) {
                return Err(PostgresError::CopiedDataDir { data_dir: self.data_dir.clone(), original: record.data_dir.clone() });
            }
        }
        let cluster = home.join(CLUSTER);
        if cluster::major(&cluster)?.is_none() {
            return Err(PostgresError::ClusterGone { record: self.data_dir.join(RECORD), cluster });
        }
        Ok(Some(home))
    }

    /// A home for a cluster still to be made.
    pub(super) fn choose_home(&self) -> Result<(PathBuf, Option<Account>), PostgresError> {
        let below = self.data_dir.join("postgres");
        let account = Account::for_new_cluster()?;
        let Some(account) = account else {
            make_dir(&below, 0o700)?;
            return Ok((below, None));
        };
        // The account passes through its home, and root alone writes into it.
        let passable = 0o711;
        let home = if account.reaches(&self.data_dir)? {
            below
        } else {
            make_dir(Path::new(SYSTEM_HOME), 0o755)?;
            let home = Path::new(SYSTEM_HOME).join(hash(&self.data_dir));
            set_aside(&home)?;
            home
        };
        make_dir(&home, passable)?;
        Ok((home, Some(account)))
    }

    pub(super) fn record(&self, home: &Path, major: u32) -> Result<(), PostgresError> {
        let record = Record { home: home.strip_prefix(&self.data_dir).unwrap_or(home).to_owned(), major, data_dir: self.data_dir.clone() };
        if self.record.as_ref() == Some(&record) {
            return Ok(());
        }
        let path = self.data_dir.join(RECORD);
        let text = toml::to_string(&record).expect("strings and a number are valid TOML");
        write_whole(&path, &format!("{RECORD_HEAD}{text}"), None)
    }

    /// In the home, or, where that path is too long for a socket, in a short place.
    pub(super) fn socket_dir(&self, home: &Path, account: Option<&Account>) -> Result<SocketDir, PostgresError> {
        let path = home.join("run");
        if socket_fits(&path) {
            make_dir(&path, 0o700)?;
            account::give(&path, account)?;
            return Ok(SocketDir { path, outside_home: false });
        }
        let hash = hash(&self.data_dir);
        let path = match account {
            Some(_) => PathBuf::from(format!("/run/manman-{hash}")),
            None => PathBuf::from(format!("/tmp/manman-{}-{hash}", account::our_uid())),
        };
        take_socket_dir(&path, account)?;
        Ok(SocketDir { path, outside_home: true })
    }
}

/// Moves away a cluster that no record mentions: its data directory has been deleted, and another
/// one of the same name must not wake up with the old one's servers. Nothing is lost by it.
fn set_aside(home: &Path) -> Result<(), PostgresError> {
    if cluster::major(&home.join(CLUSTER))?.is_none() {
        return Ok(());
    }
    // A host whose data directory was deleted under it still lives.
    let _lock = lock(home)?;
    let left = (1..).map(|number| home.with_extension(format!("left-{number}"))).find(|path| !path.exists());
    let left = left.unwrap_or_else(|| home.with_extension("left"));
    fs::rename(home, &left).map_err(PostgresError::io("set aside", home))?;
    tracing::warn!(path = %left.display(), "a database whose data directory is gone has been set aside; delete it if nobody misses it");
    Ok(())
}

/// Held as long as the host lives; the kernel lets it go with the process, however that ends.
pub(super) fn lock(home: &Path) -> Result<File, PostgresError> {
    let path = home.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(PostgresError::io("open", &path))?;
    let mut locked = file.try_lock();
    for _ in 0..LOCK_TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_POLL);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only to be friendly: an unreadable pid is left out of the message.
            let _ = file.read_to_string(&mut holder);
            return Err(PostgresError::Locked { home: home.to_owned(), holder: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(PostgresError::io("lock", &path)(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(PostgresError::io("write", &path))?;
    Ok(file)
}

/// Whole or not at all, also after a power cut, and readable by its owner alone.
pub(super) fn write_whole(path: &Path, text: &str, owner: Option<&Account>) -> Result<(), PostgresError> {
    let mut draft = path.to_owned().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    // One left by a killed start may have another owner, and would keep its mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(PostgresError::io("remove", &draft)(error));
        }
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(PostgresError::io("write", &draft))?;
    account::give(&draft, owner)?;
    fs::rename(&draft, path).map_err(PostgresError::io("write", path))?;
    if let Some(parent) = path.parent() {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Makes a rename in that directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<(), PostgresError> {
    File::open(dir).and_then(|it| it.sync_all()).map_err(PostgresError::io("sync", dir))
}

/// Makes the directory with exactly that mode; one that exists is left as it is.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), PostgresError> {
    match fs::create_dir(path) {
        // Set afterwards, because a umask may have narrowed it.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(PostgresError::io("set the mode of", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(PostgresError::io("create", path)(error)),
    }
}

/// In a directory that others may write to: whoever made it before us may not be trusted.
fn take_socket_dir(path: &Path, account: Option<&Account>) -> Result<(), PostgresError> {
    let owner = account.map_or_else(account::our_uid, |it| it.uid);
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return account::give(path, account),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PostgresError::io("create", path)(error)),
    }
    let found = fs::symlink_metadata(path).map_err(PostgresError::io("look at", path))?;
    if found.is_dir() && found.uid() == owner && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(PostgresError::SocketDirTaken { path: path.to_owned() })
}

fn socket_fits(dir: &Path) -> bool {
    // Whatever its port is, it has five digits at most.
    let socket = dir.join(format!(".s.PGSQL.{}", u16::MAX));
    socket.as_os_str().len() <= LONGEST_SOCKET_PATH
}

fn read_record(data_dir: &Path) -> Result<Option<Record>, PostgresError> {
    let path = data_dir.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PostgresError::io("read", &path)(error)),
    };
    toml::from_str(&text).map(Some).map_err(|source| PostgresError::BadRecord { path, source: Box::new(source) })
}

/// 64 bits name a data directory on one machine well enough, and leave the path short.
fn hash(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
