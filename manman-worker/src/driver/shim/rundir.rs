//! The run directory of an instance: `servers/SERVER/run/INSTANCE`, or `box` where a container holds it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use manman_common::{Generation, InstanceId, ServerId, ServerSpec};
use manman_shim::launch::{Look, look};
use manman_shim::spec::{DataLock, EPOCH_SHIFT};
use manman_worker_core::{Instance, InstanceRef, InstanceState, run_hash};
use serde::{Deserialize, Serialize};

use super::{exit, orphan};

const ABOUT: &str = "instance.json";
/// A server's journal, below its directory.
pub(crate) const JOURNAL: &str = "journal";
/// The file whose lock says that a world is in use, and whose number says in which epoch.
pub(crate) const LOCK: &str = "lock";

/// Who started the shim, and so who looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Process,
    Container,
}

impl Place {
    const fn folder(self) -> &'static str {
        match self {
            Self::Process => "run",
            Self::Container => "box",
        }
    }
}

/// What the shim need not know of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) server: ServerId,
    pub(crate) instance: InstanceId,
    pub(crate) generation: Generation,
    pub(crate) restart_seq: u64,
    pub(crate) run_hash: u64,
    /// What a client must say to its shim.
    pub(crate) nonce: String,
    /// Cgroup leaves made for it.
    #[serde(default)]
    pub(crate) cgroups: Vec<PathBuf>,
    /// The user that its game runs as, where it is not the worker's own.
    #[serde(default)]
    pub(crate) user: Option<u32>,
}

impl About {
    pub(crate) fn new(spec: &ServerSpec, instance: InstanceId, nonce: String) -> Self {
        Self {
            server: spec.id,
            instance,
            generation: spec.generation,
            restart_seq: spec.restart_seq,
            run_hash: run_hash(&spec.run),
            nonce,
            cgroups: Vec::new(),
            user: None,
        }
    }
}

/// One run directory, which may be that of an instance that never came to be.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
    pub(crate) about: About,
}

impl RunDir {
    pub(crate) fn path_of(servers_dir: &Path, place: Place, server: ServerId, instance: InstanceId) -> PathBuf {
        servers_dir.join(server.to_string()).join(place.folder()).join(instance.to_string())
    }

    /// Makes it; one that is there already is an error of its kind.
    pub(crate) fn create(servers_dir: &Path, place: Place, about: About) -> io::Result<Self> {
        let path = Self::path_of(servers_dir, place, about.server, about.instance);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let text = serde_json::to_vec(&about).map_err(io::Error::other)?;
        manman_shim::files::replace(&path, ABOUT, &text, 0o600)?;
        Ok(Self { path, about })
    }

    /// Where the shims of this server write down what they did.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        let server = self.path.parent().and_then(Path::parent).unwrap_or(&self.path);
        server.join(JOURNAL)
    }

    /// `None` where it says nothing: a start that a crash cut off before anything had been started.
    ///
    /// In a container the directory is the game's, which may write there what it likes: of another
    /// server, another instance or a cgroup it says nothing that counts.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let Some(text) = manman_shim::files::read(&path.join(ABOUT))? else { return Ok(None) };
        let said = |what: String| io::Error::other(format!("{}: {what}", path.join(ABOUT).display()));
        let mut about: About = serde_json::from_slice(&text).map_err(|error| said(error.to_string()))?;
        let mut names = path.iter().rev().filter_map(|name| name.to_str());
        let (instance, folder, server) = (names.next(), names.next(), names.next());
        if instance != Some(about.instance.to_string().as_str()) || server != Some(about.server.to_string().as_str()) {
            return Err(said("it speaks of another instance than the directory's".to_owned()));
        }
        if folder == Some(Place::Container.folder()) {
            about.cgroups.clear();
        }
        Ok(Some(Self { path: path.to_owned(), about }))
    }

    /// Every one below the servers' directory.
    pub(crate) fn scan(servers_dir: &Path, place: Place) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for server in entries(servers_dir)? {
            found.append(&mut Self::scan_server(&server, place)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Every one of a server, ours by their form.
    pub(crate) fn scan_server(server_dir: &Path, place: Place) -> io::Result<Vec<PathBuf>> {
        let is_ours = |run: &PathBuf| run.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<InstanceId>().is_ok());
        Ok(entries(&server_dir.join(place.folder()))?.into_iter().filter(is_ours).collect())
    }

    pub(super) fn is_in_container(&self) -> bool {
        self.path.parent().and_then(Path::file_name).is_some_and(|folder| folder == Place::Container.folder())
    }

    pub(crate) fn look(&self) -> io::Result<Look> {
        match look(&self.path)? {
            // A container's processes are never children of ours, whatever its files say.
            Look::Abandoned { state, child: None, exit: None } if !self.is_in_container() => {
                orphan::collect(self, &state)?;
                look(&self.path)
            }
            found => Ok(found),
        }
    }

    /// As the plan sees it, from a look. Blocks on the disk where it has ended.
    pub(crate) fn instance(&self, found: &Look, log_dir: &Path) -> Instance {
        let started = |state: &manman_shim::record::State| state.started.parse().unwrap_or(manman_common::Timestamp::EPOCH);
        let state = match found {
            Look::Never => InstanceState::Created,
            Look::Starting => InstanceState::Running { since: manman_common::Timestamp::EPOCH },
            Look::Live { state, .. } | Look::Abandoned { state, child: Some(_), .. } => InstanceState::Running { since: started(state) },
            Look::Ended(exit) | Look::Abandoned { child: None, exit: Some(exit), .. } => {
                InstanceState::Exited(exit::record(exit, Some(log_dir)))
            }
            Look::Abandoned { child: None, exit: None, .. } => {
                InstanceState::Exited(exit::unknown("its shim was killed, and nobody saw how the game ended"))
            }
            Look::Rebooted { .. } => InstanceState::Exited(exit::unknown("the machine went down with it")),
        };
        Instance {
            server: self.about.server,
            id: self.about.instance,
            reference: reference(found),
            state,
            generation: self.about.generation,
            restart_seq: self.about.restart_seq,
            run_hash: self.about.run_hash,
            degraded: matches!(found, Look::Abandoned { child: Some(_), .. }),
        }
    }
}

/// The lock for a start by this wish. The file is below the server's directory, not in what the game may
/// write.
pub(crate) fn data_lock(path: PathBuf, spec: &ServerSpec) -> DataLock {
    let generation = u32::try_from(spec.generation.get()).unwrap_or(u32::MAX);
    DataLock { path, epoch: spec.epoch << EPOCH_SHIFT | u64::from(generation) }
}

pub(crate) fn reference(found: &Look) -> InstanceRef {
    let child = match found {
        Look::Live { state, .. } | Look::Abandoned { state, .. } | Look::Rebooted { state } => state.child.clone(),
        Look::Never | Look::Starting | Look::Ended(_) => manman_shim::identity::Identity::default(),
    };
    InstanceRef::Process { boot_id: child.boot_id, pid: u32::try_from(child.pid).unwrap_or(0), start_ticks: child.start_ticks }
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
