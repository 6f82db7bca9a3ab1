//! Lines that are typed: on a terminal with editing and history, or from a pipe.

use std::fs::DirBuilder;
use std::io::{self, BufRead};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::mpsc;

use super::{Screen, TYPED_AHEAD};
use crate::failure::Failure;

const HISTORY_LINES: usize = 1_000;

/// Longest line of a pipe; a game's own limit is far below.
const LINE_MAX: usize = 64 * 1024;

/// Chunks on their way to the screen; the log waits when the terminal is slow.
const ON_THE_WAY: usize = 16;

type LineEditor = Editor<(), FileHistory>;

/// Prints above the line being typed. Dropping it gives the terminal back as it was found.
pub(super) struct Above {
    printer: mpsc::Sender<String>,
    found: Option<Termios>,
}

impl Above {
    pub(super) async fn print(&self, text: String) {
        // The printer is gone when the person has left; then nobody looks.
        let _ = self.printer.send(text).await;
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        // The thread that reads may still be at it, with the terminal in raw mode.
        if let Some(found) = &self.found {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, found);
            // Bracketed paste is the editor's own, and ends with it.
            let _ = io::Write::write_all(&mut io::stdout(), b"\x1b[?2004l");
        }
    }
}

pub(super) fn by_a_person(prompt: &str, history: PathBuf) -> Result<(mpsc::Receiver<String>, Screen), Failure> {
    let failed = |error: ReadlineError| {
        Failure::new("could not use the terminal").because(&error).hint("lines from a pipe work: `echo status | manman console NAME`")
    };
    let found = tcgetattr(io::stdin()).ok();
    let config = Config::builder().max_history_size(HISTORY_LINES).map_err(failed)?.auto_add_history(true).build();
    let mut editor: LineEditor = Editor::with_config(config).map_err(failed)?;
    // There is none the first time, and a broken one is no reason not to type.
    let _ = editor.load_history(&history);
    let printer = editor.create_external_printer().map_err(failed)?;
    let (line, lines) = mpsc::channel(TYPED_AHEAD);
    let (text, texts) = mpsc::channel(ON_THE_WAY);
    let prompt = prompt.to_owned();
    let spawned = thread::Builder::new()
        .name("typed".into())
        .spawn(move || read(editor, &prompt, &history, &line))
        .and_then(|_| thread::Builder::new().name("screen".into()).spawn(move || print(printer, texts)));
    spawned.map_err(|error| Failure::new("could not start to read what you type").because(&error))?;
    Ok((lines, Screen::Above(Above { printer: text, found })))
}

fn read(mut editor: LineEditor, prompt: &str, history: &Path, line: &mpsc::Sender<String>) {
    // Ctrl-C, Ctrl-D and a terminal that went away all mean to leave.
    while let Ok(text) = editor.readline(prompt) {
        if line.blocking_send(text).is_err() {
            break;
        }
        save(&mut editor, history);
    }
}

fn save(editor: &mut LineEditor, history: &Path) {
    // Typed lines may hold passwords of games: the directory is the person's alone. That it can not be
    // written costs nothing but the history.
    if let Some(parent) = history.parent() {
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    }
    let _ = editor.save_history(history);
}

fn print(mut printer: impl ExternalPrinter, mut texts: mpsc::Receiver<String>) {
    while let Some(text) = texts.blocking_recv() {
        if printer.print(text).is_err() {
            break;
        }
    }
}

pub(super) fn by_a_pipe() -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel(TYPED_AHEAD);
    // Not a blocking task of the runtime: it would be waited for at the end.
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match io::Read::take(&mut stdin, LINE_MAX as u64).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if line.blocking_send(text).is_err() {
                return;
            }
        }
    });
    lines
}
