//! `manman-worker doctor`: what a worker needs of this machine, and whether it is there.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use manman_common::client::{Client, ClientError};
use manman_common::wire::ReserveWorker;
use serde::Serialize;

use crate::api::error_chain;
use crate::config::{Config, DockerMode};
use crate::driver::Driver as _;
use crate::driver::docker::{DockerConfig, DockerDriver};
use crate::report::Report;
use crate::standing::Standing;
use crate::{clock, identity, machine, store};

/// Below this, images and worlds will soon find no room.
const DISK_LOW: u64 = 2 * 1024 * 1024 * 1024;
/// No clock of ours was set before this was written.
const EPOCH_OF_THIS_PROGRAM: i64 = 1_767_225_600_000_000;
const ASK_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Findings {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), hint: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), hint: Some(hint.into()) }
    }

    /// Nothing to mend, and something to know.
    fn note(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::good(name, found) }
    }
}

impl Report for Findings {
    fn to_lines(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            // Writing into a String can not fail.
            let _ = writeln!(text, "{} {}: {}", if check.ok { '✓' } else { '✗' }, check.name, check.found);
            if let Some(hint) = &check.hint {
                let _ = writeln!(text, "    hint: {hint}");
            }
        }
        text
    }

    fn is_sound(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Looks; changes nothing but a file that it makes and removes in the data directory.
pub async fn doctor(config: &Config) -> Findings {
    let directory = existing(&config.data_dir);
    let checks = vec![
        data_dir(config, directory),
        disk(directory),
        docker(config).await,
        steam(config),
        cgroup(),
        clock_check(),
        memory(config),
        host(config).await,
    ];
    Findings { checks }
}

/// Games of Steam's are one kind of two: a machine without them is sound.
fn steam(config: &Config) -> Check {
    match manman_steam::Steam::new(config.steam(None)).report() {
        Ok(found) => Check::good("SteamCMD", found),
        Err(problem) => Check::note("SteamCMD", format!("not usable: {}", problem.reason), problem.hint),
    }
}

/// The directory, or where it would be made.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn data_dir(config: &Config, directory: &Path) -> Check {
    const NAME: &str = "data directory";
    let path = &config.data_dir;
    let probe = directory.join(format!(".manman-doctor-{}", std::process::id()));
    let tried = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| std::fs::remove_file(&probe));
    match tried {
        Err(error) => Check::bad(NAME, format!("{} can not be written to: {error}", directory.display()), "choose another with --data DIR"),
        Ok(()) => Check::good(
            NAME,
            match (identity::locked_by(path), path.exists()) {
                (Some(pid), _) => format!("{} is in use by a running worker, pid {pid}", path.display()),
                (None, true) => format!("{} can be written to", path.display()),
                (None, false) => format!("{} can be made", path.display()),
            },
        ),
    }
}

/// Whether a worker on this directory does as it is told.
fn memory(config: &Config) -> Check {
    const NAME: &str = "memory";
    let Some(meta) = store::peek(&config.data_dir) else { return Check::good(NAME, "none yet") };
    match Standing::of(&meta).attention(config.name.as_str()) {
        Some((text, hint)) => Check::bad(NAME, text, hint),
        None => Check::good(NAME, "trusted"),
    }
}

fn disk(directory: &Path) -> Check {
    const NAME: &str = "disk";
    match machine::disk_free(directory) {
        None => Check::bad(NAME, "its free space can not be read", "see that the data directory is on a mounted disk"),
        Some(free) if free < DISK_LOW => {
            Check::bad(NAME, format!("{} MB free", free / 1_000_000), "make room: games and images need gigabytes")
        }
        Some(free) => Check::good(NAME, format!("{:.1} GB free", free as f64 / 1e9)),
    }
}

async fn docker(config: &Config) -> Check {
    const NAME: &str = "docker";
    if config.docker == DockerMode::Off {
        return Check::good(NAME, "turned off: this worker runs no Docker games");
    }
    // Nothing is asked of any container, so it does not matter whose they would be.
    let nobody = manman_common::WorkerId::from_uuid(clock::new_uuid());
    let driver = DockerDriver::new(DockerConfig::new(nobody, config.data_dir.join("servers")));
    match tokio::time::timeout(ASK_WITHIN, driver.report()).await {
        Err(_) => {
            Check::bad(NAME, format!("the engine did not answer within {} s", ASK_WITHIN.as_secs()), "restart it: systemctl restart docker")
        }
        Ok(report) if report.ready => Check::good(NAME, format!("engine {}", report.version.unwrap_or_default())),
        Ok(report) => {
            let problem = report.problem.unwrap_or_else(|| "it does not work".to_owned());
            Check::bad(NAME, problem, "install and start Docker (apt install docker.io), or say --docker off")
        }
    }
}

fn cgroup() -> Check {
    const NAME: &str = "cgroups";
    match machine::cgroup_version() {
        "none" => Check::note(NAME, "none", "limits of memory and cpu can not be held"),
        version => Check::good(NAME, version),
    }
}

fn clock_check() -> Check {
    const NAME: &str = "clock";
    let now = clock::now();
    if now.as_micros() < EPOCH_OF_THIS_PROGRAM {
        return Check::bad(NAME, format!("it says {now}"), "set it: timedatectl set-ntp true");
    }
    Check::good(NAME, now.to_string())
}

async fn host(config: &Config) -> Check {
    const NAME: &str = "host";
    let Some(endpoint) = &config.host else {
        return Check::note(NAME, "none given", "name one with --host URL; without one only this machine's owner can use the worker");
    };
    let hint = "see that the host runs, and that its address and fingerprint are those it shows under `add a machine`";
    let client = match Client::new(endpoint.clone(), None) {
        Ok(client) => client,
        Err(error) => return Check::bad(NAME, error_chain(&error), hint),
    };
    // Nothing is taken by it: a reservation that is not used is forgotten after a minute.
    match tokio::time::timeout(ASK_WITHIN, client.worker_reserve(&ReserveWorker::default())).await {
        Err(_) => Check::bad(NAME, format!("{endpoint} did not answer within {} s", ASK_WITHIN.as_secs()), hint),
        Ok(Ok(reservation)) => Check::good(NAME, format!("{endpoint} answers, API version {}", reservation.api_version)),
        Ok(Err(ClientError::Refused(problem))) => Check::good(NAME, format!("{endpoint} answers: {problem}")),
        Ok(Err(error)) => Check::bad(NAME, error_chain(&error), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_without_a_host_is_sound_and_an_absent_host_is_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::new(directory.path().join("not/yet/there"));
        config.docker = DockerMode::Off;
        let mut findings = doctor(&config).await;
        // How full the disk of whoever runs this is, is their affair.
        findings.checks.retain(|check| check.name != "disk");
        assert!(findings.is_sound(), "{}", findings.to_lines());
        assert!(!config.data_dir.exists(), "doctor makes nothing");

        config.host = Some("http://127.0.0.1:1".parse().expect("an address"));
        let findings = doctor(&config).await;
        assert!(!findings.is_sound());
        assert!(findings.to_lines().contains("✗ host: "), "{}", findings.to_lines());
    }
}
