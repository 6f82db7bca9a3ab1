//! A game of twenty lines of shell, and a worker of its own for each test.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use manman_common::spec::{DockerSpec, StopMode, StopRung};
use manman_common::{DesiredState, Generation, RunSpec, ServerId, ServerSpec, WorkerId};
use manman_worker_core::{Instance, InstanceState};
use tempfile::TempDir;

use crate::clock;
use crate::driver::docker::{DockerConfig, DockerDriver};
use crate::driver::{Driver, OutputCursor, OutputLine, ProgressSink, RungSink};

pub(crate) const IMAGE: &str = "manman-test/game";

/// It has content below a VOLUME, a user that is not root, and a console.
const DOCKERFILE: &str = r#"FROM debian:bookworm-slim
RUN useradd --uid 1234 --user-group game && install -d -o game -g game /keep /keep/deep && echo seeded > /keep/deep/seed \
    && chown game:game /keep/deep/seed && chmod 0640 /keep/deep/seed && install -d -o game -g game /data
COPY game.sh /usr/local/bin/game
USER game
VOLUME /keep
ENTRYPOINT ["/bin/sh", "/usr/local/bin/game"]
"#;

const GAME: &str = r#"trap 'echo got TERM; exit 7' TERM
echo up "$@"
echo careful >&2
printf '\001\002 red\n'
while true; do
    read -r word rest || { [ $? -gt 128 ] && continue; echo eof; exit 9; }
    case $word in
        quit) echo bye; exit 0 ;;
        exit) exit "$rest" ;;
        burst) i=0; while [ $i -lt "$rest" ]; do i=$((i + 1)); echo "line $i"; [ $((i % 7)) = 0 ] && echo "warn $i" >&2; done; echo burst over ;;
        seq) seq -f "number %.0f" "$rest"; echo seq over ;;
        flood) seq -f "number %07.0f of a flood of lines that are eighty characters long, near enough .." "$rest"; echo flood over ;;
        long) head -c "$rest" /dev/zero | tr '\0' x; echo; echo long over ;;
        write) echo "$rest" > /keep/kept; echo "$rest" > /data/kept; echo written ;;
        read) cat /keep/kept /data/kept /keep/deep/seed; stat -c '%U %a' /keep/deep/seed ;;
        limits) cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; echo limits over ;;
        eat) exec perl -e '$x = "x" x 1000000 while push @a, "y" x 1000000' ;;
        listen) perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => shift, Proto => "udp"); print "listening\n"; $| = 1; print ""; sleep 600' "$rest" & ;;
        *) echo "said: $word $rest" ;;
    esac
done
"#;

pub(crate) struct Rig {
    pub(crate) driver: Arc<DockerDriver>,
    pub(crate) worker: WorkerId,
    pub(crate) dir: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        build_image();
        let worker = WorkerId::from_uuid(clock::new_uuid());
        let dir = tempfile::tempdir().expect("a directory");
        let driver = Arc::new(DockerDriver::new(DockerConfig::new(worker, dir.path())));
        Self { driver, worker, dir }
    }

    /// As after the death of a worker: nothing is remembered.
    pub(crate) fn restart(&mut self) {
        self.driver = Arc::new(DockerDriver::new(DockerConfig::new(self.worker, self.dir.path())));
    }

    pub(crate) async fn start(&self, spec: &ServerSpec) -> Instance {
        self.driver.install(spec, silent()).await.expect("it is installed");
        let id = clock::new_instance_id();
        self.driver.start(spec, id).await.expect("it starts");
        let found = self.driver.list().await.expect("a list").into_iter().find(|found| found.id == id).expect("it is listed");
        assert!(matches!(found.state, InstanceState::Running { .. }), "{found:?}");
        found
    }

    /// What the instance prints until a line contains `until`.
    pub(crate) async fn read_until(&self, instance: &Instance, after: Option<OutputCursor>, until: &str) -> Vec<OutputLine> {
        let mut output = self.driver.output(instance, after).await.expect("its log");
        let mut lines = Vec::new();
        let read = async {
            while let Some(batch) = output.next().await {
                for line in batch.expect("a batch").lines {
                    let over = String::from_utf8_lossy(&line.text).contains(until);
                    lines.push(line);
                    if over {
                        return true;
                    }
                }
            }
            false
        };
        let found = tokio::time::timeout(Duration::from_secs(60), read).await;
        assert_eq!(found, Ok(true), "no line with `{until}`; there were {:?}", texts(&lines));
        lines
    }

    pub(crate) async fn kill(&self, instance: &Instance) {
        self.driver.stop(instance, &[], StopMode::Kill, no_rungs()).await.expect("it is killed");
        self.driver.remove(instance).await.expect("it is removed");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let listed = docker(&["ps", "-aq", "--filter", &format!("label=manman.worker={}", self.worker)]);
        for id in listed.split_whitespace() {
            docker(&["rm", "-f", "-v", id]);
        }
    }
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().expect("the docker tool");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn build_image() {
    let context = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(Path::new(context.path()).join(name), text).expect("a file");
    write("Dockerfile", DOCKERFILE);
    write("game.sh", GAME);
    // The engine's cache makes this a look for all but the first.
    let built = Command::new("docker").args(["build", "-q", "-t", IMAGE]).arg(context.path()).output().expect("the docker tool");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

pub(crate) fn spec() -> ServerSpec {
    ServerSpec {
        id: ServerId::from_uuid(clock::new_uuid()),
        name: "test".parse().expect("a name"),
        generation: Generation::new(1),
        desired: DesiredState::Running,
        stop_mode: StopMode::Graceful,
        restart_seq: 0,
        purge: false,
        epoch: 1,
        lease_seconds: None,
        run: RunSpec {
            argv: vec!["and".to_owned(), "running".to_owned()],
            env: [("WHO".to_owned(), "me".to_owned())].into(),
            docker: DockerSpec { data: Some("/data".to_owned()), ..DockerSpec::default() },
            ..RunSpec::new(format!("docker:{IMAGE}").parse().expect("a game"))
        },
    }
}

pub(crate) fn silent() -> ProgressSink {
    Arc::new(|_| {})
}

pub(crate) fn no_rungs() -> RungSink {
    Arc::new(|_| {})
}

/// A sink, and what was put into it.
pub(crate) fn rungs() -> (RungSink, Arc<Mutex<Vec<StopRung>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    (Arc::new(move |rung: &StopRung| sink.lock().expect("no panic").push(rung.clone())), heard)
}

pub(crate) fn texts(lines: &[OutputLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
}
