//! A game whose shim was killed. What it prints still comes here, and what is typed still goes there,
//! over the copies of its stdio that this worker holds; who holds none lets its game meet a closed pipe.
//! The worker that started the shim is the game's parent now, and learns how it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::SecondsFormat;
use manman_common::logs::{LINE_MAX, LogStream};
use manman_shim::files;
use manman_shim::identity::{boot_id, pid_namespace, stat};
use manman_shim::journal::{Event, JournalPlace, Writer};
use manman_shim::launch::{Look, look};
use manman_shim::record::{Exit, State};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::held::Held;
use super::rundir::RunDir;
use super::{blocking, lapse, retry};
use crate::clock;
use crate::driver::OutputLine;
use crate::logs::LogBook;

const CHUNK: usize = 64 * 1024;

/// Goes on with its log until the game has ended.
pub(super) async fn follow(held: &Held, book: &LogBook, game: OwnedFd, state: &State) {
    let taken = book.clone();
    let instance = held.run.about.instance;
    let back = blocking(move || {
        taken.take_back().map_err(|error| retry("could not take a log back", error))?;
        let words =
            format!("the shim of instance {instance} was killed: the worker goes on with its log, and its exit code may stay unknown");
        taken.note(&words).map_err(|error| retry("could not write a log", error))
    });
    if let Err(error) = back.await {
        tracing::warn!(%instance, %error, "the log of a game without a shim can not be gone on with");
    }
    held.tell_lines();
    // Its input is held, too: closed, it would end most games.
    let (streams, mut others) = outputs(held.take_stdio());
    // While it is open, the game does not see its input end. A terminal has one end for both.
    held.keep_input(others.pop().or_else(|| streams.first()?.0.try_clone().ok()));
    let watched = game.try_clone().and_then(super::readable);
    let ends = async {
        match watched {
            // A pidfd is readable once its process has ended.
            Ok(game) => drop(game.readable().await),
            Err(error) => tracing::warn!(%instance, %error, "the end of a game without a shim is seen by looking alone"),
        }
    };
    let copies = futures_util::future::join_all(streams.into_iter().map(|(end, stream)| copy(held, book, end, stream)));
    // Cancel-safe: what a dead game's children print later is nobody's.
    tokio::select! {
        () = ends => {}
        never = lapse::keep(held, &game, state) => match never {},
        _ = async { copies.await; std::future::pending::<()>().await } => {}
    }
}

/// Writes the exit record that the shim could not write, where the game was our child. Blocks on the
/// disk.
pub(super) fn collect(run: &RunDir, state: &State) -> io::Result<()> {
    let run_dir = run.path.as_path();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Another may have come first.
    if !matches!(look(run_dir)?, Look::Abandoned { child: None, exit: None, .. }) || state.pid_namespace != pid_namespace()? {
        return Ok(());
    }
    // A dead child keeps its pid until it is waited for, so it can not come to mean another process.
    let is_it = stat(state.child.pid).is_ok_and(|found| found.start_ticks == state.child.start_ticks && found.state == b'Z');
    let Some(pid) = Pid::from_raw(state.child.pid).filter(|_| is_it) else { return Ok(()) };
    let ended = match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(ended)) => ended,
        // Somebody else's child: it alone is told.
        Ok(None) | Err(Errno::CHILD) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let exit = Exit {
        instance: state.instance.clone(),
        code: ended.exit_status(),
        signal: ended.terminating_signal(),
        core: ended.dumped(),
        started: Some(state.started.clone()),
        ended: clock::now().to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true),
        boot_id: boot_id()?,
        lease: lapse::has_lapsed(run_dir),
        ..Exit::default()
    };
    journal(run, state).note(&Event::Exit { code: exit.code, signal: exit.signal, oom: false, lease: exit.lease, empty: false });
    files::replace(run_dir, files::EXIT, &exit.to_text(), 0o600)
}

/// For what this worker does in a dead shim's place.
pub(super) fn journal(run: &RunDir, state: &State) -> Writer {
    let place = JournalPlace { dir: run.journal_dir(), server: run.about.server.to_string() };
    Writer::open(&place, &state.instance, state.epoch, 0)
}

/// The ends from which the game's output comes, a terminal's master or two pipes, and the others.
fn outputs(stdio: Vec<OwnedFd>) -> (Vec<(OwnedFd, LogStream)>, Vec<OwnedFd>) {
    let reads = |end: &OwnedFd| fcntl_getfl(end).is_ok_and(|flags| flags & OFlags::ACCMODE != OFlags::WRONLY);
    let (outputs, others) = stdio.into_iter().partition::<Vec<_>, _>(reads);
    (outputs.into_iter().zip([LogStream::Stdout, LogStream::Stderr]).collect(), others)
}

async fn copy(held: &Held, book: &LogBook, end: OwnedFd, stream: LogStream) {
    let Ok(end) = super::readable(end) else { return };
    let mut rest: Vec<u8> = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let Ok(mut ready) = end.readable().await else { return };
        let read = match ready.try_io(|end| Ok(rustix::io::read(end.get_ref(), &mut chunk)?)) {
            Ok(Ok(0)) => break,
            Ok(Ok(read)) => read,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal whose other end is closed says EIO.
            Ok(Err(_)) => break,
            Err(_would_block) => continue,
        };
        rest.extend_from_slice(&chunk[..read]);
        append(held, book, stream, whole_lines(&mut rest)).await;
    }
    if !rest.is_empty() {
        append(held, book, stream, vec![Bytes::from(rest)]).await;
    }
}

/// Takes the whole lines out, and what is too long to wait for its end.
fn whole_lines(rest: &mut Vec<u8>) -> Vec<Bytes> {
    let mut lines = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = rest.drain(..=end).take(end).collect();
        lines.push(Bytes::from(line));
    }
    if rest.len() > LINE_MAX {
        lines.push(Bytes::from(std::mem::take(rest)));
    }
    lines
}

async fn append(held: &Held, book: &LogBook, stream: LogStream, texts: Vec<Bytes>) {
    let time = clock::now().to_chrono().to_rfc3339_opts(SecondsFormat::Nanos, true);
    let lines: Vec<OutputLine> = texts.into_iter().map(|text| OutputLine { stream, time: time.clone(), text }).collect();
    let book = book.clone();
    let written = blocking(move || book.append(&lines).map_err(|error| retry("could not write a log", error))).await;
    if let Err(error) = written {
        tracing::warn!(instance = %held.run.about.instance, %error, "lines of a game without a shim are lost");
    }
    held.tell_lines();
}
