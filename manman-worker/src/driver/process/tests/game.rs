//! A game of shell, and a worker's data directory of its own for each test.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manman_common::logs::records;
use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_common::{ServerId, ServerSpec};
use manman_shim::identity::Identity;
use manman_shim::record::State;
use manman_steam::{Steam, SteamConfig};
use manman_worker_core::{Instance, InstanceState};
use rustix::process::{Signal, pidfd_send_signal};
use tempfile::TempDir;

use crate::clock;
use crate::driver::process::{ProcessDriver, Processes, cgroup};
use crate::driver::shim::rundir::{Place, RunDir};
use crate::driver::{Driver, RungSink};
use crate::logs::{LogBooks, Retention};

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const GAME: &str = r#"trap 'echo got TERM; exit 7' TERM
echo up
while true; do
    read -r word rest || { [ $? -gt 128 ] && continue; echo eof; exit 9; }
    case $word in
        quit) echo bye; exit 0 ;;
        exit) exit "$rest" ;;
        deaf) trap '' TERM INT HUP; echo deaf ;;
        burst) seq -f 'line %.0f' "$rest"; echo burst over ;;
        tick) i=0; while [ $i -lt "$rest" ]; do i=$((i + 1)); echo "tick $i"; sleep 0.01; done; echo ticks over ;;
        leave) (setsid sh -c 'trap "" TERM INT HUP; echo "left $$"; while :; do sleep 1; done' &) ;;
        own) touch mine; echo "uid $(id -u) of $(stat -c %u mine) in $HOME" ;;
        eat) exec perl -e 'push @a, "y" x 1000000 while 1' ;;
        *) echo "said: $word $rest" ;;
    esac
done
"#;

pub(super) struct Rig {
    pub(super) driver: Processes,
    pub(super) dir: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let dir = TempDir::with_prefix("proc-").expect("a directory");
        Self { driver: open(&dir), dir }
    }

    /// As after the death of a worker: nothing is remembered.
    pub(super) fn restart(&mut self) {
        self.driver = open(&self.dir);
    }

    pub(super) fn server_dir(&self, server: ServerId) -> PathBuf {
        self.dir.path().join("servers").join(server.to_string())
    }

    /// A server of which Steam says that it is installed.
    pub(super) fn spec(&self) -> ServerSpec {
        let spec: ServerSpec = serde_json::from_value(serde_json::json!({
            "id": clock::new_uuid(), "name": "test", "generation": 1, "desired": "running",
            "run": {"game_id": "steamcmd:896660", "argv": ["/bin/sh", "game.sh"]},
        }))
        .expect("a spec");
        let data = self.server_dir(spec.id).join("data");
        std::fs::create_dir_all(&data).expect("a directory");
        std::fs::write(data.join("game.sh"), GAME).expect("a file");
        std::fs::set_permissions(data.join("game.sh"), PermissionsExt::from_mode(0o644)).expect("its mode");
        let records = self.dir.path().join("steam/servers");
        std::fs::create_dir_all(&records).expect("a directory");
        let laid = serde_json::json!({"key": Steam::install_key(&spec.run), "build": "1", "complete": true, "files": {}});
        std::fs::write(records.join(format!("{}.json", spec.id)), laid.to_string()).expect("a file");
        spec
    }

    /// Up, and listened to.
    pub(super) async fn start(&self, spec: &ServerSpec) -> Instance {
        let id = clock::new_instance_id();
        self.driver.start(spec, id).await.expect("it starts");
        self.printed(spec.id, "up").await;
        let found = self.driver.list().await.expect("a list").into_iter().find(|found| found.id == id).expect("it is listed");
        assert!(matches!(found.state, InstanceState::Running { .. }), "{found:?}");
        found
    }

    pub(super) async fn type_in(&self, instance: &Instance, line: &str) {
        self.driver.write_line(instance, line).await.unwrap_or_else(|error| panic!("typing {line}: {error:?}"));
    }

    /// The log as it lies on the disk; that no number is missing or doubled is looked at each time.
    pub(super) fn log(&self, server: ServerId) -> Vec<String> {
        let dir = self.server_dir(server).join("log");
        let mut segments: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments.sort_unstable();
        let bytes: Vec<u8> = segments.iter().flat_map(|path| std::fs::read(path).expect("a segment")).collect();
        let mut lines = Vec::new();
        for (index, record) in records(&bytes).enumerate() {
            assert_eq!(record.seq.get(), index as u64 + 1, "{:?}", record.text_lossy());
            lines.push(record.text_lossy().into_owned());
        }
        lines
    }

    /// The whole log, once it has a line that begins so.
    pub(super) async fn printed(&self, server: ServerId, start: &str) -> Vec<String> {
        until(start, async || Some(self.log(server)).filter(|lines| lines.iter().any(|line| line.starts_with(start)))).await
    }

    pub(super) async fn listed(&self, instance: &Instance) -> Instance {
        let found = self.driver.list().await.expect("a list").into_iter().find(|found| found.id == instance.id);
        found.expect("it is listed")
    }

    pub(super) async fn exited(&self, instance: &Instance) -> manman_common::status::ExitRecord {
        until("it has ended", async || match self.listed(instance).await.state {
            InstanceState::Exited(exit) => Some(exit),
            _ => None,
        })
        .await
    }

    pub(super) fn run_dir(&self, instance: &Instance) -> RunDir {
        let path = RunDir::path_of(&self.dir.path().join("servers"), Place::Process, instance.server, instance.id);
        RunDir::open(&path).expect("a look").expect("a run directory")
    }

    pub(super) fn state(&self, instance: &Instance) -> State {
        state(&self.run_dir(instance))
    }

    pub(super) async fn kill_shim(&self, instance: &Instance) {
        let shim = self.state(instance).shim;
        kill(&shim);
        until("the shim is dead", async || shim.open().expect("a look").is_none().then_some(())).await;
    }

    pub(super) async fn stop(&self, instance: &Instance, ladder: &[StopRung]) -> (manman_common::status::ExitRecord, Vec<StopRung>) {
        let (sink, heard) = rungs();
        let stopped = tokio::time::timeout(LONG, self.driver.stop(instance, ladder, StopMode::Graceful, sink)).await;
        let exit = stopped.expect("it does not hang").expect("it stops");
        let heard = heard.lock().expect("no panic").clone();
        (exit, heard)
    }
}

fn open(dir: &TempDir) -> Processes {
    let books = LogBooks::new(dir.path().join("servers"), Retention::default());
    let steam = Steam::new(SteamConfig::new(dir.path()));
    Processes(Arc::new(ProcessDriver::open(dir.path(), books, steam).expect("a driver")))
}

fn state(run: &RunDir) -> State {
    State::parse(&std::fs::read(run.path.join(manman_shim::files::STATE)).expect("a state")).expect("a sound state")
}

pub(super) fn kill(process: &Identity) {
    if let Ok(Some(pidfd)) = process.open() {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}

/// What a failed test leaves running goes with it.
impl Drop for Rig {
    fn drop(&mut self) {
        let servers = self.dir.path().join("servers");
        for path in RunDir::scan(&servers, Place::Process).unwrap_or_default() {
            let Ok(Some(run)) = RunDir::open(&path) else { continue };
            if path.join(manman_shim::files::STATE).exists() {
                let state = state(&run);
                kill(&state.shim);
                kill(&state.child);
            }
            cgroup::kill(&run.about.cgroups);
            cgroup::remove(&run.about.cgroups);
            // Empty, and only there where the worker is root.
            let _ = std::fs::remove_dir(std::path::Path::new("/run/manman").join(run.about.server.to_string()));
        }
    }
}

/// Polls until there is something.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let polled = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, polled).await.unwrap_or_else(|_| panic!("waited too long until `{what}`"))
}

pub(super) fn console(line: &str, wait_seconds: u32) -> StopRung {
    StopRung { step: StopStep::Console(line.to_owned()), wait_seconds }
}

pub(super) fn signal(name: &str, wait_seconds: u32) -> StopRung {
    StopRung { step: StopStep::Signal(name.to_owned()), wait_seconds }
}

/// A sink, and what was put into it.
fn rungs() -> (RungSink, Arc<Mutex<Vec<StopRung>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    (Arc::new(move |rung: &StopRung| sink.lock().expect("no panic").push(rung.clone())), heard)
}

pub(super) fn lives(pid: i32) -> bool {
    manman_shim::identity::stat(pid).is_ok_and(|stat| stat.state != b'Z')
}
