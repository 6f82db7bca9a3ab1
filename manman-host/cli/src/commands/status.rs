use clap::Args;
use manman_common::client::ListServers;
use manman_common::wire::HostStatus;
use serde::Serialize;

use crate::clock;
use crate::commands::{App, refused, server, worker};
use crate::failure::Failure;
use crate::find;
use crate::output;
use crate::parse::show_duration;
use crate::style;
use crate::table::Sheet;

/// The host at a glance: machines, servers, and what needs a person
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manman status")]
pub(crate) struct Status {}

#[derive(Serialize)]
struct Glance {
    url: String,
    #[serde(flatten)]
    host: HostStatus,
}

impl Status {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let target = app.target()?;
        let client = target.client()?;
        let host = client.host_status().await.map_err(|error| refused(format!("could not ask {} how it is", client.endpoint()), error))?;
        let glance = Glance { url: client.endpoint().to_string(), host };
        if app.output.json {
            return app.output.object(&glance);
        }
        let colour = style::stdout_has_colour();
        let mut text = sheet(&glance).render(colour);
        let workers = find::workers(&client).await?;
        if !workers.is_empty() {
            text.push('\n');
            text.push_str(&worker::table(&workers).render(colour));
        }
        let servers = find::servers(&client, &ListServers::default()).await?;
        if !servers.is_empty() {
            text.push('\n');
            text.push_str(&server::table(&servers).render(colour));
        }
        if !glance.host.attention.is_empty() {
            text.push_str("\nNeeds you:\n");
            for sentence in &glance.host.attention {
                text.push_str(&format!("  - {}\n", style::printable(sentence)));
            }
        }
        output::text(&text)
    }
}

fn sheet(glance: &Glance) -> Sheet {
    let Glance { url, host } = glance;
    let mut sheet = Sheet::new();
    sheet.line("host", url.clone());
    sheet.line("version", host.version.clone());
    sheet.line("up for", show_duration(clock::now().since(host.started_at)));
    sheet.line("database", host.database.clone());
    let counts = |parts: Vec<String>| if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    sheet.line("workers", counts(host.workers.iter().map(|count| format!("{} {}", count.count, count.status.as_str())).collect()));
    sheet.line("servers", counts(host.servers.iter().map(|count| format!("{} {:?}", count.count, count.phase)).collect()));
    if host.settling_seconds > 0 {
        sheet.line("settling", format!("calls nobody stale for another {} s", host.settling_seconds));
    }
    sheet
}
