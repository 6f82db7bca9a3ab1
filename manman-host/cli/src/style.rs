//! Colour, where somebody can see it and has not said no.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    None,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Colour {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Red => Some("31"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
        }
    }
}

/// See no-color.org: any value that is not empty means no.
fn allowed() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb
}

pub(crate) fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && allowed()
}

pub(crate) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && allowed()
}

pub(crate) fn paint(text: &str, colour: Colour, wanted: bool) -> Cow<'_, str> {
    match colour.code().filter(|_| wanted) {
        Some(code) => Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")),
        None => Cow::Borrowed(text),
    }
}

/// Text from elsewhere on its way to a terminal: control characters are shown, not obeyed.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let tame = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(tame) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if tame(c) { c } else { '\u{fffd}' }).collect())
}

pub(crate) fn of_phase(phase: manman_common::Phase) -> Colour {
    use manman_common::Phase;
    match phase {
        Phase::Ready => Colour::Green,
        Phase::Pending | Phase::Installing | Phase::Starting | Phase::Running | Phase::Stopping | Phase::Unready => Colour::Yellow,
        Phase::Crashed | Phase::Backoff | Phase::Failed | Phase::StopStuck | Phase::Orphaned | Phase::Unknown => Colour::Red,
        Phase::Stopped | Phase::Deleted => Colour::Dim,
    }
}

pub(crate) fn of_worker(status: manman_common::WorkerStatus) -> Colour {
    use manman_common::WorkerStatus;
    match status {
        WorkerStatus::Alive => Colour::Green,
        WorkerStatus::Pending | WorkerStatus::Frozen => Colour::Yellow,
        WorkerStatus::Unknown => Colour::Red,
        WorkerStatus::Shutdown => Colour::Dim,
    }
}
