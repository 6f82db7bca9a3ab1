//! What this machine lacks, and how it gets it: always shown, run only with the person's consent.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manman_host::postgres::{PostgresError, find_binaries};
use manman_worker::config::DockerMode;

use super::engine::{self, Engine};
use super::system::{self, Package, find_program, has_systemd, install, offer};
use crate::clock;
use crate::failure::Failure;
use crate::output::{hint, talk, warn};

/// Images of ours are built on this one.
const BASE_IMAGE: &str = "debian:bookworm-slim";

/// Docker takes a few seconds on a slow disk.
const START_PATIENCE: Duration = Duration::from_secs(45);
/// A service manager that started nothing says so by nobody answering.
const SERVICE_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

/// Where Debian's tools look for what to do when a Postgres package is installed.
const CREATECLUSTER_DIR: &str = "/etc/postgresql-common/createcluster.d";
const CREATECLUSTER_FILE: &str = "/etc/postgresql-common/createcluster.d/manman.conf";

/// Sees to it that there are PostgreSQL binaries.
pub(super) fn postgres(pg_bin: Option<&Path>, yes: bool) -> Result<(), Failure> {
    let error = match find_binaries(pg_bin) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let failed = |error: &PostgresError| {
        let failure = Failure::new("could not find PostgreSQL, which keeps what the host knows").because(error);
        Failure { hint: error.hint(), ..failure }
    };
    let (PostgresError::NotInstalled { .. }, Some(family)) = (&error, system::family()) else { return Err(failed(&error)) };
    let lines = install(family, Package::Postgres);
    let missing = format!("{} is missing; this installs it (no system database is made or started)", Package::Postgres.label());
    if !system::consent(&missing, &lines, yes) {
        return Err(failed(&error));
    }
    // Debian's package would make a cluster of its own and start it. Its own switch against that
    // lies there only while the package is being installed.
    let switch = (family == system::Family::Debian).then(NoCluster::set);
    let installed = system::run_all(&lines);
    drop(switch);
    installed?;
    find_binaries(pg_bin).map(drop).map_err(|error| failed(&error))
}

/// Debian's switch against a cluster of the system's own; it goes when this is dropped.
struct NoCluster {
    ours: bool,
}

impl NoCluster {
    fn set() -> Self {
        if Path::new(CREATECLUSTER_FILE).exists() {
            return Self { ours: false };
        }
        let script = format!("mkdir -p {CREATECLUSTER_DIR} && echo 'create_main_cluster = false' > {CREATECLUSTER_FILE}");
        Self { ours: system::run(&vec!["sh".into(), "-c".into(), script]).is_ok() }
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if self.ours {
            let _ = system::run(&vec!["rm".into(), "-f".into(), CREATECLUSTER_FILE.into()]);
        }
    }
}

/// Sees to it that Docker Engine answers, as far as it is wanted and possible. Without it games of
/// other kinds still run.
pub(super) async fn docker(mode: DockerMode, yes: bool, data: &Path) -> Result<(), Failure> {
    if mode == DockerMode::Off {
        return Ok(());
    }
    let mut found = engine::look().await;
    if found == Engine::Down && find_program("dockerd").is_none() {
        match system::family() {
            Some(family) => {
                let missing = format!("{} is missing; this installs it", Package::Docker.label());
                if !offer(&missing, &install(family, Package::Docker), yes)? {
                    return without(mode, "Docker Engine is not installed", "install it with the command above, or say --docker off");
                }
                found = engine::look().await;
            }
            None => {
                return without(
                    mode,
                    "Docker Engine is not installed",
                    "install it as docs.docker.com/engine/install says, or say --docker off",
                );
            }
        }
    }
    if found == Engine::Down {
        found = match start(yes, data).await? {
            Some(found) => found,
            None => {
                return without(mode, "Docker Engine is installed but not running", "start it with the command above, or say --docker off");
            }
        };
    }
    match found {
        Engine::Answers { .. } => base_image(yes).await,
        Engine::Elsewhere(_) => Ok(()),
        Engine::Denied => without(
            mode,
            "this user may not talk to Docker Engine",
            "add yourself to its group with `sudo usermod -aG docker $USER`, and log in anew",
        ),
        Engine::Down => {
            without(mode, "Docker Engine does not answer", "see what it says: `journalctl -u docker`, or start `dockerd` by hand")
        }
    }
}

/// Goes on without Docker where that was left open, and refuses where it was asked for.
fn without(mode: DockerMode, why: &str, what_to_do: &str) -> Result<(), Failure> {
    match mode {
        DockerMode::On => Err(Failure::new("could not get Docker ready").why(why).hint(what_to_do)),
        DockerMode::Auto | DockerMode::Off => {
            warn(&format!("{why}: Docker games will not run on this machine"));
            hint(what_to_do);
            Ok(())
        }
    }
}

/// Starts an engine that is installed; none where nobody agreed.
async fn start(yes: bool, data: &Path) -> Result<Option<Engine>, Failure> {
    let service = if has_systemd() {
        Some(vec!["systemctl".to_owned(), "start".to_owned(), "docker".to_owned()])
    } else if Path::new("/etc/init.d/docker").exists() && find_program("service").is_some() {
        Some(vec!["service".to_owned(), "docker".to_owned(), "start".to_owned()])
    } else {
        None
    };
    if let Some(line) = service {
        // A service manager that refuses is no reason to give up: dockerd itself may well start.
        match offer("Docker Engine is not running; this starts it", &[line], yes) {
            Ok(false) => return Ok(None),
            Ok(true) => {
                let found = answers_within(SERVICE_PATIENCE, || false).await;
                if found != Engine::Down {
                    return Ok(Some(found));
                }
            }
            Err(failure) if has_systemd() => return Err(failure),
            Err(failure) => talk(&failure.message),
        }
    }
    let log = data.join("dockerd.log");
    talk(&format!("Docker Engine is not running; this starts it: setsid dockerd >> {} 2>&1 &", log.display()));
    if !system::agreed(yes) {
        return Ok(None);
    }
    let mut engine = detached(&log)?;
    let found = answers_within(START_PATIENCE, || engine.try_wait().is_ok_and(|ended| ended.is_some())).await;
    if found == Engine::Down {
        warn(&format!("dockerd did not come up: {}", last_words(&log)));
    }
    // Reaped when it ends; it is not ours to wait for.
    std::thread::spawn(move || engine.wait());
    Ok(Some(found))
}

/// The last line of a log, as far as it is there.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty() && line.contains("fail"));
    last.map_or_else(|| format!("see {}", log.display()), |last| format!("{} (more in {})", last.trim(), log.display()))
}

/// `dockerd` in a session of its own: it outlives us and our terminal, as games do.
fn detached(log: &Path) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| Failure::new("could not start `dockerd`").because(&error);
    if !system::is_root() {
        return Err(Failure::new("could not start `dockerd`").why("only root may").hint("start Docker yourself, or run `sudo manman up`"));
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
    let again = file.try_clone().map_err(failed)?;
    let program = find_program("dockerd").ok_or_else(|| Failure::new("could not start `dockerd`").why("it is not installed"))?;
    Command::new("setsid").arg(program).stdin(Stdio::null()).stdout(file).stderr(again).current_dir("/").spawn().map_err(failed)
}

/// Asks until it answers, or has ended, or takes too long.
async fn answers_within(patience: Duration, mut has_ended: impl FnMut() -> bool) -> Engine {
    let start = clock::instant();
    loop {
        let found = engine::look().await;
        if found != Engine::Down || start.elapsed() >= patience || has_ended() {
            return found;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// On a machine that reaches no registry the base image is made from Debian's packages, which takes
/// debootstrap and root.
async fn base_image(yes: bool) -> Result<(), Failure> {
    if find_program("debootstrap").is_some() || engine::has_image(BASE_IMAGE).await || registry_answers().await {
        return Ok(());
    }
    let lines = match system::family() {
        Some(family) if system::is_root() => install(family, Package::Debootstrap),
        Some(_) | None => {
            warn(&format!("the image `{BASE_IMAGE}` is not here and no registry can be reached: games of the catalogue can not be built"));
            hint(&format!(
                "let this machine reach a registry, or bring the image: `docker save {BASE_IMAGE}` elsewhere, `docker load` here"
            ));
            return Ok(());
        }
    };
    let missing = format!(
        "the image `{BASE_IMAGE}` is not here and no registry can be reached; debootstrap makes it from Debian's packages. This installs it"
    );
    // Without it everything but the building of images works, so a failure here ends nothing.
    match offer(&missing, &lines, yes) {
        Ok(true) => {}
        Ok(false) => hint("without it, games of the catalogue can not be built here"),
        Err(failure) => warn(&format!("{}: games of the catalogue can not be built here", failure.message)),
    }
    Ok(())
}

async fn registry_answers() -> bool {
    let connect = tokio::net::TcpStream::connect(("registry-1.docker.io", 443));
    matches!(tokio::time::timeout(Duration::from_secs(3), connect).await, Ok(Ok(_)))
}
