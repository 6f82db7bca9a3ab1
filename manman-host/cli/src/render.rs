//! Log lines on their way to a person or a pipe: fast, and safe on a terminal.

use std::io::{self, IsTerminal, Write};

use manman_common::logs::{LogRecord, LogStream};

use crate::escape;
use crate::failure::Failure;
use crate::style::{self, Colour, paint, printable};

const RESET: &[u8] = b"\x1b[0m";

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// One line of a game. A pipe gets its bytes as they are, a terminal what is harmless.
pub(crate) fn text(text: &[u8], terminal: bool, out: &mut Vec<u8>) {
    if terminal {
        if escape::filter(text, out) {
            out.extend_from_slice(RESET);
        }
    } else {
        out.extend_from_slice(text);
    }
    out.push(b'\n');
}

pub(crate) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// How lines are to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) timestamps: bool,
    pub(crate) json: bool,
    pub(crate) terminal: bool,
}

impl Look {
    pub(crate) fn record(self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        if self.json {
            // A line is made of text and numbers, which always are JSON.
            let _ = serde_json::to_writer(&mut *out, &record.to_line());
            out.push(b'\n');
            return;
        }
        if self.timestamps {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        text(record.text, self.terminal, out);
    }
}

/// A word of the manager about the log, for stderr or above the prompt.
pub(crate) fn manager_word(record: &LogRecord<'_>) -> String {
    debug_assert_eq!(record.stream, LogStream::Manager);
    word(&record.text_lossy())
}

pub(crate) fn word(text: &str) -> String {
    let line = format!("-- {} --", printable(text).replace('\n', " "));
    paint(&line, Colour::Dim, style::stderr_has_colour()).into_owned()
}

#[cfg(test)]
mod tests {
    use manman_common::LogSeq;

    use super::*;

    fn shown(look: Look, text: &[u8]) -> String {
        let record = LogRecord { seq: LogSeq::new(7), time: "2026-11-20T12:00:00.000000001Z", stream: LogStream::Stdout, text };
        let mut out = Vec::new();
        look.record(&record, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_pipe_gets_the_bytes_and_a_terminal_the_colours() {
        let plain = Look { timestamps: false, json: false, terminal: false };
        assert_eq!(shown(plain, b"\x1b[2J\x1b[31mred"), "\x1b[2J\x1b[31mred\n");
        assert_eq!(shown(Look { terminal: true, ..plain }, b"\x1b[2J\x1b[31mred"), "\x1b[31mred\x1b[0m\n");
        assert_eq!(shown(Look { timestamps: true, ..plain }, b"hi"), "2026-11-20T12:00:00.000000001Z hi\n");
        assert_eq!(
            shown(Look { json: true, ..plain }, b"hi"),
            "{\"seq\":7,\"time\":\"2026-11-20T12:00:00.000000001Z\",\"stream\":\"stdout\",\"text\":\"hi\"}\n"
        );
    }
}
