//! A machine of a test's own: a data directory, and SteamCMD's stand-in, told how to behave.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manman_common::ServerId;
use manman_common::spec::RunSpec;
use manman_common::status::Progress;
use manman_steam::{Installed, Steam, SteamConfig, SteamError};
use tempfile::TempDir;

pub(crate) struct Rig {
    pub(crate) root: PathBuf,
    pub(crate) steam: Steam,
    pub(crate) seen: Arc<Mutex<Vec<Progress>>>,
    _directory: Option<TempDir>,
}

/// A game of the catalogue that is quick to lay out.
pub(crate) const VALHEIM: u32 = 896_660;

pub(crate) fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/stand-in/steamcmd").canonicalize().expect("the stand-in is there")
}

pub(crate) fn server(number: u8) -> ServerId {
    format!("0197a000-0000-7000-8000-0000000000{number:02x}").parse().expect("an id")
}

pub(crate) fn run(app: u32) -> RunSpec {
    spec(app, serde_json::json!({ "expect": ["valheim_server.x86_64", "valheim_server_Data"] }))
}

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is passed")]
pub(crate) fn spec(app: u32, steam: serde_json::Value) -> RunSpec {
    serde_json::from_value(serde_json::json!({
        "game_id": format!("steamcmd:{app}"),
        "steam": steam,
        "data": { "save": ["worlds/**"], "logs": [] },
    }))
    .expect("a spec")
}

impl Rig {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut rig = Self::at(directory.path(), |_| {});
        rig._directory = Some(directory);
        rig
    }

    pub(crate) fn at(root: &Path, change: impl FnOnce(&mut SteamConfig)) -> Self {
        let root = root.canonicalize().expect("it is there");
        let mut config = SteamConfig::new(&root);
        config.steamcmd = Some(stand_in());
        config.pause = Duration::from_millis(10);
        config.inactive_after = Duration::from_secs(30);
        change(&mut config);
        Self { root, steam: Steam::new(config), seen: Arc::default(), _directory: None }
    }

    /// The same directory after a restart of the worker.
    pub(crate) fn again(&self, change: impl FnOnce(&mut SteamConfig)) -> Self {
        Self::at(&self.root, change)
    }

    /// How SteamCMD is to behave from now on.
    pub(crate) fn tell(&self, lines: &str) {
        let home = self.root.join("steam/home");
        fs::create_dir_all(&home).expect("it is made");
        fs::write(home.join("stand-in"), lines).expect("it is written");
        let _ = fs::remove_file(home.join("stand-in.runs"));
    }

    pub(crate) fn directory(&self, number: u8) -> PathBuf {
        self.root.join("servers").join(server(number).to_string()).join("data")
    }

    pub(crate) async fn install(&self, run: &RunSpec, number: u8) -> Result<Installed, SteamError> {
        self.install_as(run, number, None).await
    }

    pub(crate) async fn install_as(&self, run: &RunSpec, number: u8, owner: Option<(u32, u32)>) -> Result<Installed, SteamError> {
        let seen = Arc::clone(&self.seen);
        let report = move |progress| seen.lock().expect("no panic").push(progress);
        self.steam.install(run, server(number), &self.directory(number), owner, report).await
    }

    /// The command lines that SteamCMD got past its own update.
    pub(crate) fn command_lines(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.root.join("steam/home/stand-in.argv")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The files that were downloaded, as often as they were.
    pub(crate) fn downloaded(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("steam/home/stand-in.downloaded")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn base(&self, key: &str) -> PathBuf {
        self.root.join("steam/apps").join(key).join("base")
    }
}

pub(crate) fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("it is there")
}

/// Processes of the stand-in whose home is below this root.
pub(crate) fn processes(root: &Path) -> Vec<String> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.flatten()
        .filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let home = format!("HOME={}", root.join("steam/home").display());
            environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Waits until something holds, and says what it last saw.
pub(crate) async fn until<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < end, "{what}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
