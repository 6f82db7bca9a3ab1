//! How a command ends when it does not end well: what was tried on what, why it failed, and what to do.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::style;

/// The exit codes of the tool beside 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Refused or failed.
    Failed = 1,
    /// The command line makes no sense; clap's own errors end with the same code.
    Usage = 2,
    /// Nobody answered.
    Unreachable = 3,
    /// Whoever read our output has gone: nothing to say, and nothing went wrong.
    Silent = 0,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What was tried, on what.
    pub(crate) message: String,
    /// Why it did not work, outermost first.
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), causes: Vec::new(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, ..Self::new(message) }
    }

    pub(crate) fn why(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Takes over an error and the chain of those below it.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat the source in the message; once is enough.
            if !self.causes.last().is_some_and(|last| last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The one place that prints an error.
    pub(crate) fn report(&self) -> ExitCode {
        if self.exit != Exit::Silent {
            let mut stderr = io::stderr().lock();
            let colour = style::stderr_has_colour();
            // There is nobody left to tell when stderr is closed, too.
            let _ = write!(stderr, "{}", Report { failure: self, colour });
        }
        ExitCode::from(self.exit as u8)
    }
}

struct Report<'a> {
    failure: &'a Failure,
    colour: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { message, causes, hint, .. } = self.failure;
        let (red, cyan, reset) = if self.colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        write!(f, "{red}error:{reset} {}", style::printable(message))?;
        for cause in causes {
            write!(f, ": {}", style::printable(cause))?;
        }
        writeln!(f)?;
        if let Some(hint) = hint {
            writeln!(f, "{cyan}hint:{reset} {}", style::printable(hint))?;
        }
        Ok(())
    }
}

/// For writes to stdout, where a closed pipe is the reader's good right.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Silent, ..Self::new("") };
        }
        Self::new("could not write to stdout").because(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: &Failure) -> String {
        Report { failure, colour: false }.to_string()
    }

    #[test]
    fn says_what_why_and_what_to_do() {
        let inner = io::Error::other("the disk is full");
        let failure = Failure::new("could not write `/tmp/x`").because(&inner).hint("delete something");
        assert_eq!(text(&failure), "error: could not write `/tmp/x`: the disk is full\nhint: delete something\n");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Silent);
    }

    #[test]
    fn a_hostile_message_moves_no_cursor() {
        let failure = Failure::new("it said \u{1b}[2Jboo");
        assert!(!text(&failure).contains('\u{1b}'));
    }
}
