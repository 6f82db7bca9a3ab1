//! `manman doctor`: looks at everything that must be right, and says what to do about what is not.

use clap::Args;
use manman_common::client::Client;
use manman_host::postgres::find_binaries;
use manman_worker::machine;
use serde::Serialize;

use crate::commands::up::engine::{self, Engine};
use crate::commands::up::{lock, ports, system};
use crate::commands::{App, refused};
use crate::context::Target;
use crate::failure::Failure;
use crate::output;
use crate::parse::show_size;
use crate::style::{self, Colour, paint, printable};

/// Below this an image of a game hardly fits.
const DISK_LOW: u64 = 5 << 30;

/// Check this machine and its host, and say what is wrong
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manman doctor")]
pub(crate) struct Doctor {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Worth knowing; nothing is broken.
    Note,
    Bad,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn good(what: &'static str, detail: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Good, detail: detail.into(), hint: None }
}

fn finding(what: &'static str, verdict: Verdict, detail: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { what, verdict, detail: detail.into(), hint: Some(hint.into()) }
}

fn of_failure(what: &'static str, failure: Failure) -> Finding {
    let Failure { message, causes, hint, .. } = failure;
    let detail = [message].into_iter().chain(causes).collect::<Vec<_>>().join(": ");
    Finding { what, verdict: Verdict::Bad, detail, hint }
}

impl Doctor {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let dir = app.data_dir()?;
        let here = lock::holder(&dir);
        let mut findings = vec![data_dir(&dir)];
        findings.push(match &here {
            Some(holder) => good("manman up", format!("runs here (pid {})", holder.pid)),
            None => finding("manman up", Verdict::Note, "does not run here", "`manman up` starts it"),
        });
        let target = app.target();
        findings.push(context(&target));
        // A machine that only talks to a host elsewhere needs neither database nor Docker nor ports.
        let elsewhere =
            target.as_ref().is_ok_and(|target| target.endpoint().is_ok_and(|endpoint| !endpoint.is_loopback())) && here.is_none();
        if let Ok(target) = target {
            findings.extend(host(&target).await);
        }
        if !elsewhere {
            findings.push(postgres());
            findings.push(docker().await);
            findings.push(cgroup());
            findings.push(disk(&dir));
            if here.is_none() {
                findings.extend(
                    [("--public", manman_host::config::PUBLIC_PORT), ("--internal", manman_host::config::INTERNAL_PORT)]
                        .map(|(option, port)| free_port(option, port)),
                );
            }
        }
        let broken = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
        if app.output.json {
            app.output.object(&findings)?;
        } else {
            output::text(&findings.iter().map(line).collect::<String>())?;
        }
        match broken {
            0 => Ok(()),
            1 => Err(Failure::new("1 thing is broken")),
            count => Err(Failure::new(format!("{count} things are broken"))),
        }
    }
}

fn line(finding: &Finding) -> String {
    let colour = style::stdout_has_colour();
    let mark = match finding.verdict {
        Verdict::Good => paint("✓", Colour::Green, colour),
        Verdict::Note => paint("·", Colour::Yellow, colour),
        Verdict::Bad => paint("✗", Colour::Red, colour),
    };
    let hint = finding.hint.as_ref().map(|hint| format!("\n  hint: {}", printable(hint))).unwrap_or_default();
    format!("{mark} {}: {}{hint}\n", finding.what, printable(&finding.detail))
}

fn data_dir(dir: &std::path::Path) -> Finding {
    const WHAT: &str = "data directory";
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            finding(WHAT, Verdict::Bad, format!("{} is no directory", dir.display()), "name another with --data DIR")
        }
        Ok(meta) if meta.permissions().mode() & 0o007 != 0 => finding(
            WHAT,
            Verdict::Note,
            format!("{} is open to other users of this machine", dir.display()),
            format!("close it with `chmod 700 {}`", dir.display()),
        ),
        Ok(_) => good(WHAT, dir.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            finding(WHAT, Verdict::Note, format!("{} is not there yet", dir.display()), "`manman up` or `manman login URL` makes it")
        }
        Err(error) => {
            finding(WHAT, Verdict::Bad, format!("{}: {error}", dir.display()), "check who owns it, or name another with --data DIR")
        }
    }
}

fn context(target: &Result<Target, Failure>) -> Finding {
    match target {
        Ok(target) => match target.endpoint() {
            Ok(endpoint) => good("context", format!("{endpoint}, from {}", target.said_by)),
            Err(failure) => of_failure("context", failure),
        },
        Err(failure) => Finding { what: "context", verdict: Verdict::Note, detail: failure.message.clone(), hint: failure.hint.clone() },
    }
}

async fn host(target: &Target) -> Vec<Finding> {
    let client: Client = match target.client() {
        Ok(client) => client,
        Err(failure) => return vec![of_failure("host", failure)],
    };
    let status = match client.host_status().await {
        Ok(status) => status,
        Err(error) => return vec![of_failure("host", refused("could not ask it how it is", error))],
    };
    let mut findings = vec![good("host", format!("version {} answers", status.version)), good("database", status.database.clone())];
    if status.version != env!("CARGO_PKG_VERSION") {
        findings.push(finding(
            "version",
            Verdict::Note,
            format!("the host is {}, this tool is {}", status.version, env!("CARGO_PKG_VERSION")),
            "use the same version on all machines",
        ));
    }
    findings.extend(status.attention.iter().map(|sentence| Finding {
        what: "attention",
        verdict: Verdict::Note,
        detail: sentence.clone(),
        hint: None,
    }));
    findings
}

fn postgres() -> Finding {
    match find_binaries(None) {
        Ok(found) => good("PostgreSQL", format!("{} in {}", found.version, found.dir.display())),
        Err(error) => Finding { what: "PostgreSQL", verdict: Verdict::Bad, detail: error.to_string(), hint: error.hint() },
    }
}

async fn docker() -> Finding {
    const WHAT: &str = "Docker";
    match engine::look().await {
        Engine::Answers { version } => good(WHAT, format!("{version} answers")),
        Engine::Elsewhere(host) => {
            finding(WHAT, Verdict::Note, format!("DOCKER_HOST names {host}"), "`manman worker show` says whether it works")
        }
        Engine::Denied => finding(
            WHAT,
            Verdict::Bad,
            "this user may not talk to it",
            "add yourself to its group with `sudo usermod -aG docker $USER`, and log in anew",
        ),
        Engine::Down if system::find_program("dockerd").is_some() => {
            finding(WHAT, Verdict::Bad, "it is installed but does not answer", "`manman up` offers to start it")
        }
        Engine::Down => {
            finding(WHAT, Verdict::Note, "it is not installed: Docker games do not run here", "`manman up` offers to install it")
        }
    }
}

fn cgroup() -> Finding {
    match machine::cgroup_version() {
        "none" => {
            finding("cgroup", Verdict::Note, "there is none: limits of memory and processor do not hold", "boot a kernel with cgroups")
        }
        version => good("cgroup", version),
    }
}

fn disk(dir: &std::path::Path) -> Finding {
    // Where the directory is not there yet, its file system is that of the nearest one above.
    match dir.ancestors().find_map(machine::disk_free) {
        Some(free) if free < DISK_LOW => {
            finding("disk", Verdict::Bad, format!("{} free", show_size(free)), "make room, or move the data with --data DIR")
        }
        Some(free) => good("disk", format!("{} free", show_size(free))),
        None => finding("disk", Verdict::Note, "nobody knows how much is free", "check that the data directory's disk is mounted"),
    }
}

fn free_port(option: &'static str, port: u16) -> Finding {
    match ports::check(option, std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port))) {
        Ok(()) => good("port", format!("{port} is free")),
        Err(failure) => of_failure("port", failure),
    }
}
