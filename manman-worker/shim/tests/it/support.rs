//! One instance in a directory of its own.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use manman_common::logs::{self, LogStream};
use manman_shim::client::Client;
use manman_shim::clock;
use manman_shim::journal::{self, Event, JournalPlace, Line};
use manman_shim::launch::{self, Look};
use manman_shim::proto::Request;
use manman_shim::record::{Exit, State};
use manman_shim::rung::Rung;
use manman_shim::spec::{DataLock, LogPlace, Spec};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const NONCE: &str = "a-nonce";
/// Far more than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// The shim to test; another one may be named to measure it.
pub(crate) fn shim() -> PathBuf {
    std::env::var_os("MANMAN_SHIM").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_manman-shim")), PathBuf::from)
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = clock::instant() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::instant() < end, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

pub(crate) struct Instance {
    pub(crate) dir: TempDir,
    child: RefCell<Option<Child>>,
}

impl Instance {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("shim-").unwrap();
        for name in ["run", "data"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, child: RefCell::new(None) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// A game that is a shell's script, run in the data directory.
    pub(crate) fn spec(&self, script: &str) -> Spec {
        self.spec_of(&["/bin/sh", "-c", script])
    }

    pub(crate) fn spec_of(&self, argv: &[&str]) -> Spec {
        let log = LogPlace { dir: self.path("log"), segment_bytes: 16 << 20, total_bytes: 1 << 30 };
        let mut spec = Spec::new("an-instance", NONCE, argv.iter().map(OsString::from).collect(), log);
        spec.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        spec.cwd = Some(self.path("data"));
        spec.lock = Some(DataLock { path: self.path("data/lock"), epoch: 1 });
        spec.journal = Some(JournalPlace { dir: self.path("journal"), server: "a-server".to_owned() });
        spec.ladder = rungs(&["30000 signal TERM"]);
        spec
    }

    pub(crate) fn start(&self, spec: &Spec) {
        launch::prepare(&self.run_dir(), spec).unwrap();
        *self.child.borrow_mut() = Some(launch::spawn(&shim(), &self.run_dir()).unwrap());
    }

    /// Starts it and waits until the game is one.
    pub(crate) fn play(spec: impl FnOnce(&Self) -> Spec) -> Self {
        let instance = Self::new();
        instance.start(&spec(&instance));
        until("it runs", || {
            let (state, exit) = match instance.look() {
                Look::Live { state, exit } => (Some(state), exit),
                Look::Ended(exit) => (None, Some(exit)),
                _ => (None, None),
            };
            (exit.is_some() || state.is_some_and(|state| state.phase.as_str() != "gated")).then_some(())
        });
        instance
    }

    pub(crate) fn look(&self) -> Look {
        launch::look(&self.run_dir()).unwrap()
    }

    pub(crate) fn state(&self) -> State {
        State::parse(&std::fs::read(self.path("run/state")).unwrap()).unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        until("it listens", || Client::connect(&self.run_dir(), NONCE, LONG).ok())
    }

    pub(crate) fn kill(&self) {
        self.connect().tell(&Request::Kill).unwrap();
    }

    /// How it ended, once nothing of it is left.
    #[track_caller]
    pub(crate) fn ended(&self) -> Exit {
        until("all of it has ended", || match self.look() {
            Look::Ended(exit) => Some(*exit),
            _ => None,
        })
    }

    /// The shim's own exit code.
    #[track_caller]
    pub(crate) fn shim_code(&self) -> i32 {
        let mut child = self.child.borrow_mut();
        let child = child.as_mut().unwrap();
        until("the shim has ended", || child.try_wait().unwrap()).code().unwrap()
    }

    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.path("run/shim.err")).unwrap_or_default()
    }

    pub(crate) fn journal(&self) -> Vec<Line> {
        let journal = journal::read(&self.path("journal")).unwrap();
        assert_eq!(journal.torn, 0);
        assert!(journal.lines.is_sorted_by_key(|line| line.at), "{journal:?}");
        journal.lines
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.journal().into_iter().map(|line| line.event).collect()
    }

    pub(crate) fn records(&self) -> Vec<(u64, LogStream, String)> {
        records(&self.path("log"))
    }

    /// What the game printed, the manager's words left out.
    pub(crate) fn lines(&self) -> Vec<String> {
        let records = self.records();
        assert!(records.iter().zip(1..).all(|((seq, ..), expected)| *seq == expected), "every number from 1 on, once");
        records.into_iter().filter(|(_, stream, _)| *stream != LogStream::Manager).map(|(_, _, text)| text).collect()
    }

    #[track_caller]
    pub(crate) fn wait_for_line(&self, line: &str) {
        until(&format!("`{line}` is in the log"), || self.lines().iter().any(|known| known == line).then_some(()));
    }
}

/// Whatever a test has left running ends with it.
impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(Look::Live { state, .. }) = launch::look(&self.run_dir()) {
            if let Ok(mut client) = Client::connect(&self.run_dir(), NONCE, Duration::from_secs(5)) {
                let _ = client.tell(&Request::Kill);
                let _ = client.set_timeout(Duration::from_secs(20));
                while client.news().is_ok_and(|news| news.is_some()) {}
            } else if state.shim.open().is_ok_and(|open| open.is_some()) {
                for pid in [state.shim.pid, state.child.pid] {
                    let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
                }
            }
        }
        if let Some(mut child) = self.child.borrow_mut().take() {
            let end = clock::instant() + Duration::from_secs(20);
            while matches!(child.try_wait(), Ok(None)) && clock::instant() < end {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    }
}

pub(crate) fn rungs(texts: &[&str]) -> Vec<Rung> {
    texts.iter().map(|text| Rung::parse(text).unwrap()).collect()
}

/// All records of a log directory, in their order.
pub(crate) fn records(dir: &Path) -> Vec<(u64, LogStream, String)> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    let mut all = Vec::new();
    for segment in segments {
        let content = std::fs::read(&segment).unwrap_or_default();
        // The shim may be in the middle of a write.
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        all.extend(logs::records(&content[..whole]).map(|record| (record.seq.get(), record.stream, record.text_lossy().into_owned())));
    }
    all
}

pub(crate) fn is_alive(pid: i32) -> bool {
    manman_shim::identity::stat(pid).is_ok_and(|stat| stat.state != b'Z')
}

/// What a file holds once it holds anything.
#[track_caller]
pub(crate) fn pid_in(file: &Path) -> i32 {
    until("the game has written its pid", || std::fs::read_to_string(file).ok()?.trim().parse().ok())
}
