use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use manman_common::client::{Client, Endpoint, Resolver, Services, Source};
use manman_common::wire::registry::{Service as Entry, ServiceHealth, ServiceName};
use serde::Serialize;

use crate::clock;
use crate::commands::{App, refused};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::parse::show_duration;
use crate::style::{self, Colour, paint, printable};
use crate::table::{Cell, Table};

/// Who is alive and where: what has registered itself, and every game that runs
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// List the services
    #[command(after_help = "Example:\n  manman service list")]
    List,
    /// Follow services as they come, move and go
    #[command(after_help = "Example:\n  manman service watch")]
    Watch,
    /// Say where a service is, by the registry or by what the registry said last
    #[command(after_help = "Example:\n  curl $(manman service find links)/health")]
    Find {
        /// The name under which it registered itself
        name: ServiceName,
    },
}

/// Where a service is, as `--json` writes it.
#[derive(Serialize)]
struct Place {
    name: ServiceName,
    url: String,
    source: &'static str,
}

/// What the registry has answered, for when it does not; in the data directory.
const CACHE: &str = "services.json";

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    entry: Entry,
}

/// One change, as `--json` writes it.
#[derive(Serialize)]
struct Change<'a> {
    change: &'static str,
    name: &'a str,
    ip: &'a str,
    port: u16,
}

/// How long the registry may keep us waiting for a change.
const WAIT: Duration = Duration::from_secs(60);

impl Service {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = registry(app)?;
        match self {
            Self::List => {
                let services = all(&client).await?;
                let rows: Vec<Row> = services.items.into_iter().map(|(name, entry)| Row { name, entry }).collect();
                app.output.list(&rows, "no services yet; one registers itself with PUT /self-register", table)
            }
            Self::Watch => {
                let services = all(&client).await?;
                watch(app.output, &client, services).await
            }
            Self::Find { name } => find(app, &client, name).await,
        }
    }
}

async fn all(client: &Client) -> Result<Services, Failure> {
    client.service_list().await.map_err(|error| unheard("could not list the services", error))
}

async fn find(app: &App, client: &Client, name: ServiceName) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::new(format!("could not find `{name}`")).because(error);
    let resolver = Resolver::new().registry(client.endpoint().clone()).map_err(|error| failed(&error))?;
    let resolver = resolver.cache(app.data_dir()?.join(CACHE)).network(manman_mdns::lookup());
    let found = resolver.resolve(&name, None).await.map_err(|error| failed(&error))?;
    let source = match found.source {
        Source::Explicit | Source::Environment => "environment",
        Source::Registry => "registry",
        Source::Cache => {
            output::warn("the registry does not answer; this is where the service was when it last did");
            "cache"
        }
        Source::Network => "network",
    };
    let url = found.endpoint.to_string();
    let line = url.clone();
    app.output.done(&Place { name, url, source }, &line)
}

/// The registry answers on the inner listener alone.
fn registry(app: &App) -> Result<Client, Failure> {
    let named = app.globals.host.is_some() || app.environment.host.is_some();
    let inner = if named { None } else { Context::read(&app.data_dir()?)?.and_then(|context| context.internal_url) };
    let Some(url) = inner else { return app.client() };
    let endpoint: Endpoint = url.parse().map_err(|error| Failure::usage("could not read the inner address of the host").because(&error))?;
    Client::new(endpoint, None).map_err(|error| Failure::new(format!("could not talk to {url}")).because(&error))
}

fn unheard(tried: &str, error: manman_common::client::ClientError) -> Failure {
    let nowhere = error.problem().is_some_and(|problem| problem.kind == manman_common::Kind::NotFound);
    let failure = refused(tried, error);
    if nowhere { failure.hint("the registry is behind the host's inner address alone: --host http://127.0.0.1:12000") } else { failure }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["NAME", "ADDRESS", "HEALTH", "EXPIRES"]);
    for Row { name, entry } in rows {
        let (health, colour) = match (entry.status, entry.expires_in) {
            (ServiceHealth::Critical, _) => ("critical", Colour::Red),
            (ServiceHealth::Passing, _) => ("passing", Colour::Green),
            // Who shows up by itself is not asked.
            (ServiceHealth::Unknown, Some(_)) => ("alive", Colour::Green),
            (ServiceHealth::Unknown, None) => ("not asked yet", Colour::Yellow),
        };
        let expires = match entry.expires_in {
            Some(seconds) => {
                format!(
                    "in {} of {}",
                    show_duration(Duration::from_secs(seconds.into())),
                    show_duration(Duration::from_secs(entry.expire.into()))
                )
            }
            None => "never".to_owned(),
        };
        table.row(vec![name.as_str().into(), address(entry).into(), Cell::coloured(health, colour), expires.into()]);
    }
    table
}

fn address(entry: &Entry) -> String {
    if entry.ip.contains(':') { format!("[{}]:{}", entry.ip, entry.port) } else { format!("{}:{}", entry.ip, entry.port) }
}

/// Follows until it is interrupted; a registry that goes away is waited for.
async fn watch(output: Output, client: &Client, first: Services) -> Result<(), Failure> {
    changes(output, &BTreeMap::new(), &first.items)?;
    let mut known = first;
    let mut lost = false;
    loop {
        match client.service_wait(known.index, WAIT).await {
            Ok(services) => {
                if std::mem::take(&mut lost) {
                    output::talk("the registry is back");
                }
                changes(output, &known.items, &services.items)?;
                known = services;
            }
            Err(error) if error.is_unreachable() => {
                if !std::mem::replace(&mut lost, true) {
                    output::talk("the connection to the registry is lost; trying again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(unheard("could not follow the services", error)),
        }
    }
}

fn changes(output: Output, before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) -> Result<(), Failure> {
    for (name, entry) in before {
        if !after.contains_key(name) {
            tell(output, "gone", name, entry)?;
        }
    }
    for (name, entry) in after {
        let change = match before.get(name) {
            None => "added",
            Some(old) if (&old.ip, old.port) != (&entry.ip, entry.port) => "moved",
            Some(old) if old.status != entry.status && entry.status == ServiceHealth::Critical => "critical",
            Some(old) if old.status == ServiceHealth::Critical && entry.status != old.status => "passing",
            Some(_) => continue,
        };
        tell(output, change, name, entry)?;
    }
    Ok(())
}

fn tell(output: Output, change: &'static str, name: &str, entry: &Entry) -> Result<(), Failure> {
    if output.json {
        let line = Change { change, name, ip: &entry.ip, port: entry.port };
        let json = serde_json::to_string(&line).map_err(|error| Failure::new("could not write JSON").because(&error))?;
        return output::text(&format!("{json}\n"));
    }
    let time = clock::now().to_chrono().format("%Y-%m-%d %H:%M:%S").to_string();
    let colour = style::stdout_has_colour();
    let (said, tone) = match change {
        "gone" | "critical" => (change, Colour::Red),
        "moved" => (change, Colour::Yellow),
        _ => (change, Colour::Green),
    };
    output::text(&format!(
        "{}  {}  {}  {}\n",
        paint(&time, Colour::Dim, colour),
        paint(&format!("{said:<8}"), tone, colour),
        printable(name),
        address(entry)
    ))
}
