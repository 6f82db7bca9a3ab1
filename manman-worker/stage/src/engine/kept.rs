//! One life of a process of a pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::os::fd::AsFd as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::launch::Launch;
use super::leaf::Leaf;
use super::output::{Logs, Sink, drain};
use super::supervise::{TERM_GRACE, reap, watched};
use super::{Failure, Inner, Stream};
use crate::config::{LogStdout, Route};
use crate::shim;

/// For what it printed before it ended; a process that left its group may hold the pipe for longer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Comes back when it has gone, with what its requests are told.
pub(crate) async fn live(
    inner: &Arc<Inner>,
    route: &Route,
    id: Uuid,
    known: impl Fn(i32),
    kill: &Notify,
    stop: &CancellationToken,
) -> Failure {
    let started = Instant::now();
    let mut leaf = if route.limits.is_none() { Leaf::default() } else { inner.groups.make(id, &route.limits) };
    let mut process = match inner.launcher.launch(launch(inner, route, id, &leaf)).await {
        Ok(process) => process,
        Err(error) => {
            leaf.clear().await;
            return Failure::Spawn(error.to_string());
        }
    };
    let pid = process.pid;
    known(pid.as_raw_nonzero().get());
    let logs = Arc::new(Mutex::new(Logs::default()));
    let label = format!("{} {}", route.verb, route.template);
    let mut last_words = None;
    for (pipe, stream) in [(process.stdout.take(), Stream::Stdout), (process.stderr.take(), Stream::Stderr)] {
        let sink =
            Sink { id, label: label.clone(), stream, logs: logs.clone(), log: route.log != LogStdout::No, events: None, whole: None };
        // Ends with the pipe's last writer.
        let drained = pipe.map(|pipe| tokio::spawn(drain(pipe, sink)));
        if matches!(stream, Stream::Stderr) {
            last_words = drained;
        }
    }
    let (mut code, mut signal) = (None, None);
    if let Some(exit) = process.pidfd.take().and_then(watched) {
        let mut kill_at: Option<Instant> = None;
        loop {
            let ending = kill_at.is_some();
            // Cancel-safe: all are levels.
            tokio::select! {
                biased;
                _ = exit.readable() => break,
                () = async { tokio::select! { () = kill.notified() => {} () = stop.cancelled() => {} } }, if !ending => {
                    let _ = kill_process_group(pid, Signal::TERM);
                    let _ = kill_process_group(pid, Signal::CONT);
                    kill_at = Some(Instant::now() + TERM_GRACE);
                }
                () = sleep_until(kill_at.unwrap_or(started)), if ending => {
                    let _ = kill_process_group(pid, Signal::KILL);
                    kill_at = Some(Instant::now() + TERM_GRACE);
                }
            }
        }
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if let Some(status) = waitid(WaitId::PidFd(exit.get_ref().as_fd()), how).ok().flatten() {
            (code, signal) = (status.exit_status(), status.terminating_signal());
        }
    }
    let _ = kill_process_group(pid, Signal::KILL);
    let out_of_memory = leaf.is_out_of_memory();
    leaf.clear().await;
    let usage = reap(inner, process, id, started.elapsed());
    inner.metrics.ended(Some(&usage));
    if let Some(drained) = last_words {
        let _ = timeout(LAST_WORDS, drained).await;
    }
    let stderr_tail = logs.lock().unwrap_or_else(PoisonError::into_inner).stderr_tail();
    Failure::Exited { code, signal, out_of_memory, stderr_tail }
}

fn launch(inner: &Inner, route: &Route, id: Uuid, leaf: &Leaf) -> Launch {
    let mut env = route.env.clone();
    env.push(("UROCKET_SOCKET".into(), inner.options.socket.clone().into()));
    env.push(("UROCKET_STAGE".into(), "1".into()));
    env.push(("UROCKET_NEXT".into(), format!("/next/{id}").into()));
    let command = &route.command;
    let (mut program, mut name, mut args) = (command.program.clone(), command.name.clone(), command.args.clone());
    if inner.options.bound || !leaf.dirs().is_empty() || !leaf.rlimits.is_empty() {
        let own = &inner.options.shim;
        args = shim::args(own.get(1..).unwrap_or_default(), leaf.dirs(), &leaf.rlimits, &shim::Stand::default(), (&program, &name), args);
        program = own.first().map(Into::into).unwrap_or_default();
        name = program.clone().into();
    }
    Launch { id, program, name, args, env, wd: route.wd.clone(), stdin: false, file: None }
}
