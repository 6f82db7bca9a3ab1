mod page;

use std::io::{self, BufWriter, Write};

use clap::Args;
use futures_util::FutureExt;
use manman_common::logs::{LIMIT_MAX, LogEnd, LogFormat, LogGap, LogQuery, LogStream};
use manman_common::{LogSeq, Timestamp};

use crate::clock;
use crate::commands::App;
use crate::failure::Failure;
use crate::feed::{Feed, Item};
use crate::find::{self, Guess};
use crate::parse;
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
    after_help = "Examples:\n  manman logs oa -f\n  manman logs oa --tail all --grep 'entered the game'\n  manman logs oa -f --timestamps --since-seq 1200\n  manman logs oa --at 2h --limit 50\n  manman logs oa --grep error -i --limit 20"
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
    /// Begin at this time: `2026-11-20T12:00:00Z`, or `10m` for so long ago
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["tail", "since_seq"])]
    at: Option<Timestamp>,
    /// Only lines in which this regular expression is found, colours left aside
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
    /// Take small and capital letters for the same in --grep
    #[arg(short, long, requires = "grep")]
    ignore_case: bool,
    /// Take --grep for the very text that is looked for
    #[arg(short = 'F', long, requires = "grep")]
    fixed: bool,
    /// Only lines before the one with this number, for going back page by page
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "tail", "since_seq", "at"])]
    before: Option<u64>,
    /// At most N lines; with --grep the newest N in which it is found
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "tail"], value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX))]
    limit: Option<u64>,
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

/// A moment in RFC 3339, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse::duration(text) {
        let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_micros(clock::now().as_micros().saturating_sub(ago)));
    }
    text.parse().map_err(|_| format!("`{text}` is neither a time such as `2026-11-20T12:00:00Z` nor how long ago it was, such as `10m`"))
}

impl Logs {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { server, follow, tail, since_seq, at, grep, ignore_case, fixed, before, limit, timestamps } = self;
        if let Some(grep) = grep.as_ref().filter(|_| !fixed) {
            regex::bytes::Regex::new(grep)
                .map_err(|error| Failure::usage(format!("`{grep}` is not a regular expression")).because(&error))?;
        }
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let look = Look { timestamps, json: app.output.json, terminal: render::stdout_is_terminal() };
        let asked = LogQuery { at, grep, ignore_case, literal: fixed, format: Some(LogFormat::Chunk), ..LogQuery::default() };
        if before.is_some() || limit.is_some() {
            let limit = Some(limit.unwrap_or(TAIL_DEFAULT));
            let query = LogQuery { before_seq: before.map(LogSeq::new), since_seq: since_seq.map(LogSeq::new), limit, ..asked };
            return page::print(&client, server.id, &query, look).await;
        }
        let (tail, since_seq) = match (tail, since_seq) {
            (None, None) if at.is_some() => (None, None),
            // A search is through all that is kept, unless it was said how much.
            (None, None) if asked.grep.is_some() => (None, Some(LogSeq::new(0))),
            (None, None) => (Some(TAIL_DEFAULT), None),
            (Some(Tail::All), _) => (None, Some(LogSeq::new(0))),
            (Some(Tail::Lines(lines)), _) => (Some(lines), None),
            (None, Some(seq)) => (None, Some(LogSeq::new(seq))),
        };
        let query = LogQuery { tail, since_seq, follow: Some(follow), ..asked };
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

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        assert_eq!(moment("2026-11-20T13:00:00+01:00"), Ok("2026-11-20T12:00:00Z".parse().expect("a time")));
        let before = clock::now();
        let then = moment("10m").expect("ten minutes ago").as_micros();
        let ten_minutes = 600_000_000;
        assert!((before.as_micros() - ten_minutes..=clock::now().as_micros() - ten_minutes).contains(&then));
        assert!(moment("noon").is_err());
    }
}
