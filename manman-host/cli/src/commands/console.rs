//! A server's console: its log above, a line to type below.

mod typed;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use manman_common::client::Client;
use manman_common::logs::{LogFormat, LogQuery, LogStream};
use manman_common::message::forbidden_character;
use manman_common::wire::{CommandRequest, LineCommand, ServerView};
use tokio::sync::mpsc;

use crate::commands::logs::{ended, gap_word};
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::feed::{Feed, Item};
use crate::find::{self, Guess};
use crate::render::{self, Look};

/// Lines typed ahead of a game that is slow to take them.
const TYPED_AHEAD: usize = 256;

/// After the last line of a pipe: the log is read until it is quiet for so long, …
const QUIET: Duration = Duration::from_secs(1);
/// … or for so long altogether.
const LINGER: Duration = Duration::from_secs(10);

/// Follow a server's log and type into its console
///
/// Arrow keys bring back earlier lines. Ctrl-C or Ctrl-D leaves; the game runs on. Lines from a pipe
/// work, too: each is sent, and what the game prints in the meantime comes out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manman console oa\n  echo status | manman console oa")]
pub(crate) struct Console {
    /// Name, id, or the beginning of the name
    server: String,
    /// Begin N lines before the end of the log
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<u64>,
}

impl Console {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { server, tail } = self;
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let person = io::stdin().is_terminal() && io::stdout().is_terminal();
        let tail = tail.unwrap_or(if person { 50 } else { 0 });
        let query = LogQuery { tail: Some(tail), follow: Some(true), format: Some(LogFormat::Chunk), ..LogQuery::default() };
        let mut feed = Feed::open(&client, server.id, query).await?;
        let look = Look { timestamps: false, json: app.output.json, terminal: render::stdout_is_terminal() };
        let (lines, screen) = if person {
            let history = app.data_dir()?.join("history").join(server.id.to_string());
            typed::by_a_person(&format!("{}> ", server.name), history)?
        } else {
            (typed::by_a_pipe(), Screen::Plain)
        };
        let (reports, mut reported) = mpsc::channel(TYPED_AHEAD);
        let sender = tokio::spawn(send_all(client.clone(), server, lines, reports));
        // Set once there are no more lines to come.
        let mut until: Option<tokio::time::Instant> = None;
        loop {
            let quiet = async {
                match until {
                    Some(until) => tokio::time::timeout_at(until, tokio::time::sleep(QUIET)).await.unwrap_or(()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = feed.next() => match item? {
                    Item::Chunk(chunk) => screen.show(lines_of(&mut feed, &chunk, look)).await?,
                    Item::Gap(gap) => screen.word(&gap_word(&gap)).await?,
                    Item::Word(word) => screen.word(&word).await?,
                    Item::End(end) => return ended(end),
                },
                report = reported.recv(), if until.is_none() => match report {
                    Some(failure) if person => screen.word(&in_a_line(&failure)).await?,
                    Some(failure) => return Err(failure),
                    None if person => break,
                    None => until = Some(crate::clock::instant() + LINGER),
                },
                () = quiet => break,
            }
        }
        sender.abort();
        drop(screen);
        Ok(())
    }
}

fn lines_of(feed: &mut Feed<'_>, chunk: &[u8], look: Look) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.len());
    for record in feed.fresh(chunk) {
        if record.stream == LogStream::Manager && !look.json {
            out.extend_from_slice(render::manager_word(&record).as_bytes());
            out.push(b'\n');
        } else {
            look.record(&record, &mut out);
        }
    }
    out
}

fn in_a_line(failure: &Failure) -> String {
    let mut line = failure.message.clone();
    for part in failure.causes.iter().chain(&failure.hint) {
        line.push_str(": ");
        line.push_str(part);
    }
    line
}

/// One line after the other, in the order they were typed; ends with the last one, reports what fails.
async fn send_all(client: Client, server: ServerView, mut lines: mpsc::Receiver<String>, reports: mpsc::Sender<Failure>) {
    let id = server.id.to_string();
    while let Some(command) = lines.recv().await {
        if command.is_empty() {
            continue;
        }
        if forbidden_character(&command).is_some() {
            let _ = reports.send(Failure::usage(format!("not sent: {command:?} holds a control character"))).await;
            continue;
        }
        // The answer comes with the log.
        let request = CommandRequest::Line(LineCommand { command, answer_ms: Some(0) });
        if let Err(error) = client.server_command(&id, &request).await
            && reports.send(refused(format!("could not send a line to `{}`", server.name), error)).await.is_err()
        {
            return;
        }
    }
}

/// Where the log goes.
enum Screen {
    Plain,
    /// Above the line that somebody types.
    Above(typed::Above),
}

impl Screen {
    async fn show(&self, lines: Vec<u8>) -> Result<(), Failure> {
        if lines.is_empty() {
            return Ok(());
        }
        match self {
            Self::Plain => render::write_stdout(&lines),
            Self::Above(above) => {
                above.print(String::from_utf8_lossy(&lines).into_owned()).await;
                Ok(())
            }
        }
    }

    async fn word(&self, word: &str) -> Result<(), Failure> {
        let line = render::word(word);
        match self {
            Self::Plain => {
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
            Self::Above(above) => above.print(format!("{line}\n")).await,
        }
        Ok(())
    }
}
