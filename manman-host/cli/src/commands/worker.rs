mod trust;

use clap::Subcommand;
use manman_common::WorkerStatus;
use manman_common::client::Endpoint;
use manman_common::wire::{CreateToken, PatchWorker, Scope, WorkerView};
use manman_worker::machine;
use serde::Serialize;

use crate::clock;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output;
use crate::parse::{show_duration, show_size};
use crate::style;
use crate::table::{Cell, Sheet, Table};

/// The machines that games run on
#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// List the workers
    #[command(after_help = "Example:\n  manman worker list")]
    List,
    /// Show a worker: what it can run, and how it is
    #[command(after_help = "Example:\n  manman worker show attic")]
    Show {
        /// Name, id, or the beginning of the name
        worker: String,
    },
    /// Let a machine in that asks to join
    #[command(after_help = "Example:\n  manman worker accept attic")]
    Accept {
        /// Name, id, or the beginning of the name
        worker: String,
    },
    /// Place nothing new on a worker; what runs goes on
    #[command(after_help = "Example:\n  manman worker freeze attic")]
    Freeze {
        /// Name, id, or the beginning of the name
        worker: String,
    },
    /// End the freeze
    #[command(after_help = "Example:\n  manman worker unfreeze attic")]
    Unfreeze {
        /// Name, id, or the beginning of the name
        worker: String,
    },
    /// Stop every server of a worker by its stop plan, and then the worker
    #[command(after_help = "Example:\n  manman worker drain attic")]
    Drain {
        /// The whole name, or the id
        worker: String,
    },
    /// Ask a worker to shut down and forget it
    #[command(after_help = "Example:\n  manman worker remove attic")]
    Remove {
        /// The whole name, or the id
        worker: String,
    },
    /// Have a worker follow this host again, after the database of either went back in time
    ///
    /// Shows what would happen to each of its servers first. Where something would be stopped, the
    /// worker's name has to be typed.
    #[command(
        after_help = "Examples:\n  manman worker rebase attic\n  manman worker rebase attic --keep     what runs is to run\n  manman worker rebase attic --yes attic"
    )]
    Rebase {
        /// The whole name, or the id
        worker: String,
        /// Wish for what runs there instead, so that nothing is stopped
        #[arg(long)]
        keep: bool,
        /// The worker's name, where nobody can be asked
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Say that a worker's machine is off for good, so that its servers may be moved
    #[command(after_help = "Example:\n  manman worker fence attic\n  manman server move oa cellar")]
    Fence {
        /// The whole name, or the id
        worker: String,
        /// The worker's name, where nobody can be asked
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Make a token with which new machines join, and the line to paste there
    #[command(after_help = "Example:\n  manman worker token --expires-in 1h")]
    Token {
        /// How long it admits machines
        #[arg(long, value_parser = crate::parse::duration, default_value = "1h", value_name = "TIME")]
        expires_in: std::time::Duration,
        /// What it is for; shown in lists and events
        #[arg(long, default_value = "join")]
        label: String,
    },
}

#[derive(Serialize)]
struct JoinToken {
    token: String,
    url: String,
    command: String,
    expires_at: Option<manman_common::Timestamp>,
}

impl Worker {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        match self {
            Self::List => {
                let workers = find::workers(&client).await?;
                app.output.list(&workers, "no workers yet; `manman worker token` makes the line that adds one", table)
            }
            Self::Show { worker } => app.output.one(&find::worker(&client, &worker, Guess::Prefix).await?, sheet),
            Self::Accept { worker } => {
                let worker = find::worker(&client, &worker, Guess::Prefix).await?;
                let accepted = client.worker_accept(&worker.id.to_string()).await;
                let accepted = accepted.map_err(|error| refused(format!("could not accept `{}`", worker.name), error))?;
                app.output.done(&accepted, &format!("{} is one of us", accepted.name))
            }
            Self::Freeze { worker } => freeze(app, &worker, true).await,
            Self::Unfreeze { worker } => freeze(app, &worker, false).await,
            Self::Drain { worker } => {
                let worker = find::worker(&client, &worker, Guess::Never).await?;
                let answer = client.worker_drain(&worker.id.to_string()).await;
                let answer = answer.map_err(|error| refused(format!("could not drain `{}`", worker.name), error))?;
                app.output.done(&answer, &format!("{} stops its servers, then itself", worker.name))
            }
            Self::Remove { worker } => {
                let worker = find::worker(&client, &worker, Guess::Never).await?;
                let answer = client.worker_delete(&worker.id.to_string()).await;
                let answer = answer.map_err(|error| refused(format!("could not remove `{}`", worker.name), error))?;
                app.output.done(&answer, &format!("{} is removed", worker.name))
            }
            Self::Rebase { worker, keep, yes } => trust::rebase(app, &worker, keep, yes).await,
            Self::Fence { worker, yes } => trust::fence(app, &worker, yes).await,
            Self::Token { expires_in, label } => {
                let create = CreateToken { scope: Scope::Join, label, expires_in: Some(expires_in.as_secs()), server_id: None };
                let made = client.token_create(&create).await.map_err(|error| refused("could not make a join token", error))?;
                let url = join_url(client.endpoint());
                if client.endpoint().is_loopback() && client.endpoint().pin().is_none() {
                    output::warn("this host listens on this machine alone; `manman up --lan` opens it to the home network");
                }
                let command = format!("manman-worker run --host '{url}' --join-token {}", made.token);
                let join = JoinToken { token: made.token, url, command, expires_at: made.view.expires_at };
                app.output.done(&join, &join.command)
            }
        }
    }
}

/// How another machine reaches the host: on this one that is not loopback, but its address at home.
fn join_url(endpoint: &Endpoint) -> String {
    let mut url = endpoint.url().clone();
    let lan = machine::primary_address().filter(|_| endpoint.is_loopback() && endpoint.pin().is_some());
    if lan.is_some_and(|lan| url.set_ip_host(lan.into()).is_ok()) {
        let text = endpoint.to_string();
        let pin = text.split_once('#').map_or("", |(_, pin)| pin);
        return format!("{}#{pin}", url.as_str().trim_end_matches('/'));
    }
    endpoint.to_string()
}

async fn freeze(app: &App, worker: &str, frozen: bool) -> Result<(), Failure> {
    let client = app.client()?;
    let worker = find::worker(&client, worker, Guess::Prefix).await?;
    let word = if frozen { "freeze" } else { "unfreeze" };
    let patch = PatchWorker { frozen: Some(frozen), ..PatchWorker::default() };
    let patched = client.worker_patch(&worker.id.to_string(), &patch).await;
    let patched = patched.map_err(|error| refused(format!("could not {word} `{}`", worker.name), error))?;
    let line = if frozen {
        format!("{} takes nothing new; what runs there goes on", patched.name)
    } else {
        format!("{} takes servers again", patched.name)
    };
    app.output.done(&patched, &line)
}

pub(crate) fn table(workers: &[WorkerView]) -> Table {
    let mut table = Table::new(&["WORKER", "STATUS", "SERVERS", "CPU", "MEMORY", "DISK FREE", "ADDRESS", "SEEN"]);
    for worker in workers {
        let usage = worker.usage;
        table.row(vec![
            worker.name.to_string().into(),
            Cell::coloured(status_word(worker), style::of_worker(worker.status)),
            Cell::number(worker.servers),
            usage.map_or_else(
                || "-".into(),
                |usage| Cell::number(format!("{:.1}/{}", f64::from(usage.cpu_millis) / 1000.0, worker.capabilities.cpus)),
            ),
            usage.map_or_else(
                || "-".into(),
                |usage| Cell::number(format!("{}/{}", show_size(usage.memory_used_bytes), show_size(worker.capabilities.memory_bytes))),
            ),
            usage.map_or_else(|| "-".into(), |usage| Cell::number(show_size(usage.disk_free_bytes))),
            worker.address.clone().into(),
            seen(worker).into(),
        ]);
    }
    table
}

fn status_word(worker: &WorkerView) -> String {
    if worker.quarantine.is_some() {
        return format!("{}, quarantined", worker.status.as_str());
    }
    if worker.rebase_needed {
        return format!("{}, rebase needed", worker.status.as_str());
    }
    // A frozen worker that is silent is both.
    if worker.frozen && worker.status != WorkerStatus::Frozen {
        format!("{}, frozen", worker.status.as_str())
    } else {
        worker.status.as_str().to_owned()
    }
}

fn seen(worker: &WorkerView) -> String {
    worker.last_seen.map_or_else(|| "never".to_owned(), |moment| format!("{} ago", show_duration(clock::now().since(moment))))
}

fn sheet(worker: &WorkerView) -> Sheet {
    let mut sheet = Sheet::new();
    let capabilities = &worker.capabilities;
    sheet.line("name", worker.name.to_string());
    sheet.line("id", worker.id.to_string());
    sheet.line("status", Cell::coloured(status_word(worker), style::of_worker(worker.status)));
    sheet.maybe("quarantine", worker.quarantine.map(|why| format!("{}; see `manman worker rebase {}`", why.explain(), worker.name)));
    sheet.line("seen", seen(worker));
    sheet.line("address", worker.address.clone());
    sheet.maybe("public address", capabilities.public_address.clone());
    sheet.maybe("api", worker.api_url.clone());
    sheet.line("link", if worker.linked { "open" } else { "closed" });
    sheet.line("servers", worker.servers.to_string());
    sheet.line("version", capabilities.version.clone());
    sheet.line(
        "system",
        format!(
            "{}, {} cores, {}, cgroup {}",
            capabilities.os,
            capabilities.cpus,
            show_size(capabilities.memory_bytes),
            capabilities.cgroup
        ),
    );
    if let Some(usage) = worker.usage {
        sheet.line("cpu", format!("{:.2} cores", f64::from(usage.cpu_millis) / 1000.0));
        sheet.line("memory", format!("{} of {}", show_size(usage.memory_used_bytes), show_size(capabilities.memory_bytes)));
        sheet.line("disk free", show_size(usage.disk_free_bytes));
    }
    for driver in &capabilities.drivers {
        sheet.line("runs", driver_line(driver));
    }
    sheet.maybe("game ports", capabilities.port_range.map(|(first, last)| format!("{first} to {last}")));
    for (key, value) in &worker.labels {
        sheet.line("label", format!("{key}={value}"));
    }
    sheet.line("revision", format!("{} of {}", worker.observed_revision, worker.desired_revision));
    sheet.line("joined", worker.created_at.to_string());
    sheet
}

/// `Docker 20.10.24 ✓`, or why not.
pub(crate) fn driver_line(driver: &manman_common::wire::DriverReport) -> String {
    let name = match driver.method {
        manman_common::InstallMethod::Docker => "Docker",
        manman_common::InstallMethod::Steamcmd => "SteamCMD",
    };
    match (driver.ready, &driver.version, &driver.problem) {
        (true, Some(version), _) => format!("{name} {version} ✓"),
        (true, None, _) => format!("{name} ✓"),
        (false, _, Some(problem)) => format!("{name} ✗ {problem}"),
        (false, _, None) => format!("{name} ✗"),
    }
}
