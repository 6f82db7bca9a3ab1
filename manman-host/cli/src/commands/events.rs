use std::collections::HashMap;

use clap::Args;
use futures_util::StreamExt;
use manman_common::ServerId;
use manman_common::client::{Client, ListEvents};
use manman_common::wire::{Event, PageQuery};
use tokio_tungstenite::tungstenite::Message;

use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output::{self, Output};
use crate::style::{self, Colour, paint, printable};

/// What happened: who did what to what, and when
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manman events\n  manman events -f --server oa")]
pub(crate) struct Events {
    /// Go on with new events
    #[arg(short, long)]
    follow: bool,
    /// The last N events
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=200), value_name = "N")]
    tail: u32,
    /// Only those of this server
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Only those of this worker
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
}

impl Events {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { follow, tail, server, worker } = self;
        let client = app.client()?;
        let mut list = ListEvents { page: PageQuery { limit: Some(tail.max(1)), cursor: None }, ..ListEvents::default() };
        if let Some(server) = server {
            list.server_id = Some(find::server(&client, &server, Guess::Prefix).await?.id.to_string());
        }
        if let Some(worker) = worker {
            list.worker_id = Some(find::worker(&client, &worker, Guess::Prefix).await?.id.to_string());
        }
        let page = client.event_list(&list).await.map_err(|error| refused("could not read the events", error))?;
        let mut events = page.items;
        // Whatever the order of the list: people read downwards in time.
        events.sort_by_key(|event| event.id);
        if app.output.json && !follow {
            return app.output.object(&events);
        }
        let mut names = Names { client: &client, known: HashMap::new() };
        let mut last = events.last().map_or(0, |event| event.id);
        if events.is_empty() {
            output::talk("nothing has happened yet");
        }
        for event in &events {
            one(app.output, event, &mut names).await?;
        }
        if !follow {
            return Ok(());
        }
        loop {
            self::follow(&client, &list, app.output, &mut last, &mut names).await?;
        }
    }
}

/// Names of servers: a worker speaks of one by its id alone.
struct Names<'a> {
    client: &'a Client,
    known: HashMap<ServerId, String>,
}

impl Names<'_> {
    async fn of(&mut self, id: ServerId) -> String {
        if let Some(name) = self.known.get(&id) {
            return name.clone();
        }
        // One that is deleted has no name any more.
        let name = match self.client.server_show(&id.to_string()).await {
            Ok(server) => server.name.to_string(),
            Err(_) => id.to_string(),
        };
        self.known.insert(id, name.clone());
        name
    }
}

async fn one(output: Output, event: &Event, names: &mut Names<'_>) -> Result<(), Failure> {
    if !output.json {
        let subject = match event.server_id {
            Some(id) if event.actor.starts_with("worker ") => Some(names.of(id).await),
            Some(_) | None => None,
        };
        return output::text(&line(event, subject.as_deref()));
    }
    let json = serde_json::to_string(event).map_err(|error| Failure::new("could not write JSON").because(&error))?;
    output::text(&format!("{json}\n"))
}

fn line(event: &Event, subject: Option<&str>) -> String {
    let time = event.at.to_chrono().format("%Y-%m-%d %H:%M:%S").to_string();
    let colour = style::stdout_has_colour();
    let mut message = printable(&event.message).replace('\n', " ");
    if let Some(subject) = subject {
        message = format!("{subject} {message}");
    }
    format!("{}  {:<24}  {message}  ({})\n", paint(&time, Colour::Dim, colour), event.kind, printable(&event.actor))
}

/// Follows until the connection is lost, and then until the host is back.
async fn follow(client: &Client, list: &ListEvents, output: Output, last: &mut i64, names: &mut Names<'_>) -> Result<(), Failure> {
    let mut socket = match client.websocket(&path(list, *last)).await {
        Ok(socket) => socket,
        Err(error) if error.is_unreachable() => {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            return Ok(());
        }
        Err(error) => return Err(refused("could not follow the events", error)),
    };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(json) = message else { continue };
        // A newer host may say things that are no events.
        let Ok(event) = serde_json::from_str::<Event>(&json) else { continue };
        if event.id > *last && concerns(list, &event) {
            *last = event.id;
            one(output, &event, names).await?;
        }
    }
    output::talk("the connection to the host is lost; trying again");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    Ok(())
}

fn concerns(list: &ListEvents, event: &Event) -> bool {
    let fits = |wanted: &Option<String>, id: Option<String>| wanted.as_ref().is_none_or(|wanted| id.as_ref() == Some(wanted));
    fits(&list.server_id, event.server_id.map(|id| id.to_string())) && fits(&list.worker_id, event.worker_id.map(|id| id.to_string()))
}

fn path(list: &ListEvents, last: i64) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("since", &last.to_string());
    if let Some(server) = &list.server_id {
        pairs.append_pair("server_id", server);
    }
    if let Some(worker) = &list.worker_id {
        pairs.append_pair("worker_id", worker);
    }
    format!("/event/stream?{}", pairs.finish())
}
