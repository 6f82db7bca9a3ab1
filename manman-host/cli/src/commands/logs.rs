use std::io::{self, BufWriter, Write};

use clap::Args;
use futures_util::FutureExt;
use manman_common::LogSeq;
use manman_common::logs::{LogEnd, LogFormat, LogGap, LogQuery, LogStream};

use crate::commands::App;
use crate::failure::Failure;
use crate::feed::{Feed, Item};
use crate::find::{self, Guess};
use crate::render::{self, Look};

/// A syscall for each chunk of that size instead of one per line.
const BUFFER: usize = 256 * 1024;

/// Where nobody said how much: a screen or two.
const TAIL_DEFAULT: u64 = 100;

/// Print a server's log; the lines go to stdout, words about them to stderr
///
/// Without --tail and --since-seq it begins 100 lines before the end. A followed log goes on by itself
/// when host or worker restart, without a line missing or printed twice. With --json each line is an
/// object on a line of its own.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman logs oa -f\n  manman logs oa --tail all --grep 'entered the game'\n  manman logs oa -f --timestamps --since-seq 1200"
)]
pub(crate) struct Logs {
    /// Name, id, or the beginning of the name
    server: String,
    /// Go on with new lines
    #[arg(short, long)]
    follow: bool,
    /// Begin N lines before the end; `all` for everything that is kept
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Begin after the line with this number
    #[arg(long, value_name = "N", conflicts_with = "tail")]
    since_seq: Option<u64>,
    /// Only lines in which this regular expression is found
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    All,
    Lines(u64),
}

fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail::All);
    }
    text.parse().map(Tail::Lines).map_err(|_| format!("`{text}` is neither a number of lines nor `all`"))
}

impl Logs {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { server, follow, tail, since_seq, grep, timestamps } = self;
        if let Some(grep) = &grep {
            regex::bytes::Regex::new(grep)
                .map_err(|error| Failure::usage(format!("`{grep}` is not a regular expression")).because(&error))?;
        }
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let (tail, since_seq) = match (tail, since_seq) {
            // A search is through all that is kept, unless it was said how much.
            (None, None) if grep.is_some() => (None, Some(LogSeq::new(0))),
            (None, None) => (Some(TAIL_DEFAULT), None),
            (Some(Tail::All), _) => (None, Some(LogSeq::new(0))),
            (Some(Tail::Lines(lines)), _) => (Some(lines), None),
            (None, Some(seq)) => (None, Some(LogSeq::new(seq))),
        };
        let query = LogQuery { tail, since_seq, follow: Some(follow), grep, format: Some(LogFormat::Chunk), ..LogQuery::default() };
        let look = Look { timestamps, json: app.output.json, terminal: render::stdout_is_terminal() };
        let mut feed = Feed::open(&client, server.id, query).await?;
        print(&mut feed, look).await
    }
}

async fn print(feed: &mut Feed<'_>, look: Look) -> Result<(), Failure> {
    // Locked for good: nothing else of ours writes to stdout here.
    let mut stdout = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let mut lines = Vec::new();
    loop {
        let item = match feed.next().now_or_never() {
            Some(item) => item?,
            // Nothing more for the moment: the person sees what there is.
            None => {
                stdout.flush()?;
                feed.next().await?
            }
        };
        match item {
            Item::Chunk(chunk) => {
                lines.clear();
                for record in feed.fresh(&chunk) {
                    if record.stream == LogStream::Manager && !look.json {
                        stdout.write_all(&lines)?;
                        lines.clear();
                        aside(&mut stdout, &render::manager_word(&record))?;
                    } else {
                        look.record(&record, &mut lines);
                    }
                }
                stdout.write_all(&lines)?;
            }
            Item::Gap(gap) => aside(&mut stdout, &render::word(&gap_word(&gap)))?,
            Item::Word(word) => aside(&mut stdout, &render::word(&word))?,
            Item::End(end) => {
                stdout.flush()?;
                return ended(end);
            }
        }
    }
}

/// A word on stderr, in its place between the lines.
fn aside(stdout: &mut impl Write, word: &str) -> Result<(), Failure> {
    stdout.flush()?;
    let _ = writeln!(io::stderr().lock(), "{word}");
    Ok(())
}

pub(crate) fn gap_word(gap: &LogGap) -> String {
    let LogGap { from_seq, to_seq, count } = gap;
    let lines = if *count == 1 { "1 line is" } else { &format!("{count} lines are") };
    format!(
        "{lines} missing here, {from_seq} to {to_seq}; those still kept are read back with --since-seq {}",
        from_seq.get().saturating_sub(1)
    )
}

pub(crate) fn ended(end: LogEnd) -> Result<(), Failure> {
    match end {
        LogEnd::Complete => Ok(()),
        LogEnd::WorkerGone => {
            Err(Failure::new("the log ended early").why("its worker is away").hint("see `manman worker list`; try again when it is back"))
        }
        LogEnd::ServerGone => Err(Failure::new("the log ended").why("the server has been deleted")),
        LogEnd::Revoked => {
            Err(Failure::new("the log ended").why("the token has been revoked").hint("sign in again with `manman login URL`"))
        }
        LogEnd::Shutdown => Err(Failure::new("the log ended early").why("the host is going down").hint("try again when it is back")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_a_number_or_all() {
        assert_eq!(tail("all"), Ok(Tail::All));
        assert_eq!(tail("0"), Ok(Tail::Lines(0)));
        assert!(tail("-1").is_err());
        assert!(tail("many").is_err());
    }
}
