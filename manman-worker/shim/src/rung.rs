//! A rung of the stop ladder.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;

/// A ladder has no more rungs than this.
pub const RUNGS_MAX: usize = 32;

/// One thing to do to make a game end, and how long to wait for it to. SIGKILL of the whole tree
/// follows the last one and is never written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    pub step: Step,
    pub wait: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A line typed into the game's console, without its line feed.
    Console(String),
    /// A signal to the game's own process.
    Signal(Signal),
    /// A signal to the game's process and all its descendants.
    SignalAll(Signal),
}

impl Rung {
    /// Reads `WAIT_MS console TEXT`, `WAIT_MS signal NAME` or `WAIT_MS signal-all NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (wait, rest) = text.split_once(' ')?;
        let wait = Duration::from_millis(wait.parse().ok()?);
        let (kind, value) = rest.split_once(' ')?;
        let step = match kind {
            // A line break would be a second line, of which nobody has been told.
            "console" if !value.contains(['\n', '\r', '\0']) => Step::Console(value.to_owned()),
            "signal" => Step::Signal(signal(value)?),
            "signal-all" => Step::SignalAll(signal(value)?),
            _ => return None,
        };
        Some(Self { step, wait })
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.wait.as_millis(), self.step)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console(line) => write!(f, "console {line}"),
            Self::Signal(signal) => write!(f, "signal {}", signal_name(*signal)),
            Self::SignalAll(signal) => write!(f, "signal-all {}", signal_name(*signal)),
        }
    }
}

const NAMES: [(&str, Signal); 15] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
];

/// A signal by its short name or number.
#[must_use]
pub fn signal(text: &str) -> Option<Signal> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, signal)| *signal);
    named.or_else(|| Signal::from_named_raw(text.parse().ok()?))
}

/// The short name, or the number of one without.
#[must_use]
pub fn signal_name(signal: Signal) -> String {
    let named = NAMES.iter().find(|(_, known)| *known == signal);
    named.map_or_else(|| signal.as_raw().to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_survive_their_text() {
        for text in ["30000 console save-all flush", "1 signal INT", "0 signal-all TERM", "5 console ", "5 signal 31"] {
            assert_eq!(Rung::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "30", "x console a", "5 console a\nb", "5 signal NOPE", "5 signal 0", "5 action x", "-1 signal TERM"] {
            assert_eq!(Rung::parse(text), None, "{text:?}");
        }
    }
}
