//! Waits until a server is where it was asked to be, and shows the way there.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use manman_common::client::Client;
use manman_common::status::{Condition, ExitRecord};
use manman_common::wire::ServerView;
use manman_common::{DesiredState, Generation, InstanceId, Phase};
use tokio::time::Instant;

use crate::clock;
use crate::commands::refused;
use crate::failure::Failure;
use crate::output::talk;
use crate::parse::show_duration;
use crate::style;

/// How often to look: a person sees no difference below, the host feels none above.
const POLL: Duration = Duration::from_millis(250);

/// A game that crashed so often while somebody waits for it will not come up by waiting longer.
const CRASHES_MAX: u32 = 3;

/// What fits beside a bar.
const STEP_SHOWN: usize = 80;

/// How long the host may be away (restarting, say) before the waiting ends.
const AWAY_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Ready,
    /// Ready in another instance than this one.
    ReadyAgain(Option<InstanceId>),
    Stopped,
}

pub(crate) struct Wait<'a> {
    pub(crate) client: &'a Client,
    pub(crate) server: ServerView,
    pub(crate) goal: Goal,
    /// The generation that the wish made.
    pub(crate) generation: Generation,
    pub(crate) within: Duration,
}

/// What one look at a server means for somebody who waits.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    /// Still on its way, with the word for it.
    Going(String),
    Lost {
        message: String,
        hint: Option<String>,
    },
}

pub(crate) async fn wait(wait: Wait<'_>) -> Result<ServerView, Failure> {
    let Wait { client, mut server, goal, generation, within } = wait;
    let start = clock::instant();
    let show = Show::new();
    let id = server.id.to_string();
    let mut crashes = Crashes::default();
    let mut away_since: Option<Instant> = None;
    let before = server.conditions.clone();
    loop {
        let verdict = if still_says(&server, &before) { Verdict::Going("asked".to_owned()) } else { judge(&server, goal, generation) };
        match verdict {
            Verdict::Reached => return Ok(server),
            Verdict::Lost { message, hint } => return Err(Failure { hint, ..Failure::new(message) }),
            Verdict::Going(word) => show.step(&server, &word, start.elapsed()),
        }
        if crashes.seen(&server) >= CRASHES_MAX {
            return Err(lost(&server, &format!("`{}` crashed {CRASHES_MAX} times in a row", server.name)));
        }
        if start.elapsed() >= within {
            let name = &server.name;
            return Err(Failure::new(format!("`{name}` is {} after {}", word_of(&server), show_duration(within)))
                .hint(format!("it goes on without us: look with `manman server show {name}` and `manman logs {name}`")));
        }
        tokio::time::sleep(POLL).await;
        match client.server_show(&id).await {
            Ok(view) => {
                away_since = None;
                server = view;
            }
            Err(error) if error.is_unreachable() && away_since.get_or_insert_with(clock::instant).elapsed() < AWAY_MAX => {}
            Err(error)
                if goal == Goal::Stopped && error.problem().is_some_and(|problem| problem.status == 404 || problem.status == 410) =>
            {
                server.phase = Phase::Deleted;
                return Ok(server);
            }
            Err(error) => return Err(refused(format!("could not look at `{}`", server.name), error)),
        }
    }
}

/// Whether a failed server still gives the reason that it had when the wish was made: the worker has
/// not begun, since a new failure has a moment of its own.
fn still_says(server: &ServerView, before: &[Condition]) -> bool {
    server.phase == Phase::Failed && !before.is_empty() && server.conditions == before
}

fn judge(server: &ServerView, goal: Goal, generation: Generation) -> Verdict {
    let name = &server.name;
    let wanted = match goal {
        Goal::Ready | Goal::ReadyAgain(_) => DesiredState::Running,
        Goal::Stopped => DesiredState::Stopped,
    };
    // A newer wish of somebody else wins; waiting for the older one would be for ever.
    if server.generation > generation && server.desired != wanted && server.desired != DesiredState::Deleted {
        let now = if server.desired == DesiredState::Running { "run" } else { "stop" };
        return Verdict::Lost { message: format!("somebody else asked `{name}` to {now} in the meantime"), hint: None };
    }
    match (server.phase, goal) {
        (Phase::Ready, Goal::Ready) => Verdict::Reached,
        (Phase::Ready, Goal::ReadyAgain(before)) if server.instance != before => Verdict::Reached,
        (Phase::Stopped | Phase::Deleted, Goal::Stopped) => Verdict::Reached,
        (Phase::Deleted, Goal::Ready | Goal::ReadyAgain(_)) => Verdict::Lost { message: format!("`{name}` has been deleted"), hint: None },
        // The word of before the wish may still stand; the worker's answer to it carries its generation.
        (Phase::Failed, Goal::Ready | Goal::ReadyAgain(_)) if server.applied_generation >= generation || !server.conditions.is_empty() => {
            let Failure { message, causes, hint, .. } = lost(server, &format!("`{name}` failed"));
            Verdict::Lost { message: [message].into_iter().chain(causes).collect::<Vec<_>>().join(": "), hint }
        }
        (Phase::StopStuck, _) => {
            Verdict::Lost { message: format!("`{name}` does not stop"), hint: Some(format!("end it with `manman server kill {name}`")) }
        }
        // The word of before the wish.
        (Phase::Ready | Phase::Unready | Phase::Running, Goal::ReadyAgain(before)) if server.instance == before => {
            Verdict::Going("asked to restart".to_owned())
        }
        (Phase::Ready | Phase::Unready | Phase::Running | Phase::Starting, Goal::Stopped) => Verdict::Going("asked to stop".to_owned()),
        _ => Verdict::Going(word_of(server)),
    }
}

/// The phase in a word, with what is known of the way.
pub(crate) fn word_of(server: &ServerView) -> String {
    let step = server.progress.as_ref().map(|progress| progress.step.as_str()).filter(|step| !step.is_empty());
    match (server.phase, step) {
        (Phase::Installing, Some(step)) => format!("installing: {}", short(step)),
        (Phase::Installing, None) => "installing".to_owned(),
        (Phase::Backoff, _) => match reason(server) {
            Some(reason) => format!("crashed ({reason}), tries again soon"),
            None => "crashed, tries again soon".to_owned(),
        },
        (Phase::Unknown, _) => format!("unknown: its worker {} is silent", server.worker_name),
        (Phase::Running, _) => "running, not yet ready".to_owned(),
        (phase, _) => format!("{phase:?}").to_lowercase(),
    }
}

/// A step in one line: that of an image's build may be a whole script.
fn short(step: &str) -> String {
    let line = step.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= STEP_SHOWN {
        return line;
    }
    line.chars().take(STEP_SHOWN).chain("…".chars()).collect()
}

/// Why it is where it is, in the words of the worker.
pub(crate) fn reason(server: &ServerView) -> Option<String> {
    let condition = server.conditions.first().map(|condition| condition.message.clone());
    condition.or_else(|| server.exit.as_ref().and_then(exit_word))
}

/// How a game ended, in a word.
pub(crate) fn exit_word(exit: &ExitRecord) -> Option<String> {
    match (&exit.reason, exit.oom, exit.code, exit.signal) {
        (Some(reason), ..) => Some(reason.clone()),
        (None, true, ..) => Some("out of memory".to_owned()),
        (None, false, Some(code), _) => Some(format!("exit code {code}")),
        (None, false, None, Some(signal)) => Some(format!("signal {signal}")),
        (None, false, None, None) => None,
    }
}

fn lost(server: &ServerView, message: &str) -> Failure {
    let mut failure = Failure::new(message);
    if let Some(reason) = reason(server) {
        failure = failure.why(reason);
    }
    let hint = server.conditions.iter().find_map(|condition| condition.hint.clone());
    failure.hint(hint.unwrap_or_else(|| format!("its last words: `manman logs {} --tail 50`", server.name)))
}

/// Counts crashes that happen before our eyes.
#[derive(Default)]
struct Crashes {
    last: Option<Phase>,
    count: u32,
}

impl Crashes {
    fn seen(&mut self, server: &ServerView) -> u32 {
        let down = |phase: Phase| matches!(phase, Phase::Crashed | Phase::Backoff);
        if down(server.phase) && !self.last.is_some_and(down) {
            self.count += 1;
        }
        self.last = Some(server.phase);
        self.count
    }
}

const BAR: &str = "{spinner} {prefix} [{bar:30}] {percent:>3} %  {wide_msg}";
const SPINNER: &str = "{spinner} {prefix} {wide_msg}";

/// A bar on a terminal, lines elsewhere.
struct Show {
    bar: Option<ProgressBar>,
    printed: std::cell::RefCell<String>,
}

impl Show {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, printed: std::cell::RefCell::default() }
    }

    fn step(&self, server: &ServerView, word: &str, elapsed: Duration) {
        let percent = server.progress.as_ref().and_then(|progress| progress.percent).filter(|_| server.phase == Phase::Installing);
        let Some(bar) = &self.bar else {
            let mut printed = self.printed.borrow_mut();
            if *printed != word {
                talk(&format!("{}: {word}", server.name));
                word.clone_into(&mut printed);
            }
            return;
        };
        let template = if percent.is_some() { BAR } else { SPINNER };
        // A template that is not understood would be a mistake of ours; the default bar does then.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(server.name.to_string());
        let word = style::printable(word).replace('\n', " ");
        match percent {
            Some(percent) => {
                bar.set_position(u64::from(percent.min(100)));
                bar.set_message(word);
            }
            None => bar.set_message(format!("{word}: {} s", elapsed.as_secs())),
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
