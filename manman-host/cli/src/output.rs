//! stdout is data, stderr is talk.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::style::{self, Colour, paint, printable};
use crate::table::{Sheet, Table};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A list: an array for programs, a table for people, and a word where it is empty.
    pub(crate) fn list<T: Serialize>(self, items: &[T], none: &str, table: impl FnOnce(&[T]) -> Table) -> Result<(), Failure> {
        if self.json {
            return self.object(items);
        }
        if items.is_empty() {
            talk(none);
            return Ok(());
        }
        text(&table(items).render(style::stdout_has_colour()))
    }

    /// One thing: an object for programs, a sheet for people.
    pub(crate) fn one<T: Serialize>(self, thing: &T, sheet: impl FnOnce(&T) -> Sheet) -> Result<(), Failure> {
        if self.json { self.object(thing) } else { text(&sheet(thing).render(style::stdout_has_colour())) }
    }

    /// What was done: the thing as JSON for programs, one line for people.
    pub(crate) fn done<T: Serialize>(self, thing: &T, line: &str) -> Result<(), Failure> {
        if self.json { self.object(thing) } else { text(&format!("{}\n", printable(line))) }
    }

    /// JSON, whoever reads it.
    pub(crate) fn object<T: Serialize + ?Sized>(self, thing: &T) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(thing).map_err(|error| Failure::new("could not write JSON").because(&error))?;
        text(&format!("{json}\n"))
    }
}

/// Data, as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A line to the person, beside the data.
pub(crate) fn talk(line: &str) {
    // Nothing depends on a person who has closed stderr.
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

pub(crate) fn warn(line: &str) {
    let colour = style::stderr_has_colour();
    let _ = writeln!(io::stderr().lock(), "{} {}", paint("warning:", Colour::Yellow, colour), printable(line));
}

pub(crate) fn hint(line: &str) {
    let _ = writeln!(io::stderr().lock(), "hint: {}", printable(line));
}

/// Whether a person can be asked: both what we say and what they type go through a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for yes or no; no is the answer of whoever says nothing.
pub(crate) fn ask(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{} [y/N] ", printable(question));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Asks for a word to be typed, for what can not be taken back.
pub(crate) fn ask_for(question: &str) -> Option<String> {
    let _ = write!(io::stderr().lock(), "{} ", printable(question));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok().then(|| answer.trim().to_owned()).filter(|answer| !answer.is_empty())
}
