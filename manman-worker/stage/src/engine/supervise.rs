//! One task a request: from its start until nothing of it is left.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wait4::Wait4 as _;

use super::history::outcome;
use super::launch::{Launch, Process};
use super::leaf::Leaf;
use super::output::{Logs, Sink, drain, feed};
use super::{Answer, Ended, Event, Failure, Inner, Input, Job, OnDisconnect, OnExit, Record, Reply, Stream, Usage, cgi, sweep};
use crate::back;
use crate::clock;
use crate::shim;

/// Between SIGTERM and SIGKILL.
pub(crate) const TERM_GRACE: Duration = Duration::from_secs(2);
/// An answer may still be in the socket when its sender has gone, and words in a pipe whose writers
/// are dead; both are there at once, unless the machine has no time.
const ARRIVING: Duration = Duration::from_millis(250);

/// The ends of a request that are not the process.
pub(crate) struct Ends {
    pub(crate) reply: oneshot::Receiver<Reply>,
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
    pub(crate) ended: oneshot::Sender<Ended>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) caller: CancellationToken,
}

pub(crate) async fn run(inner: Arc<Inner>, id: Uuid, mut job: Job, ends: Ends) {
    let hold = job.hold.take();
    let user = job.stand.user.map(|(uid, _)| uid);
    count_user(&inner, user, 1);
    let logs = Arc::new(Mutex::new(Logs::default()));
    let started_unix = clock::unix_millis();
    let mut request = Request { inner: &inner, id, job: &mut job, logs: &logs, answer: ends.answer, outcome: None };
    let ended = request.live(ends.reply, ends.events, ends.caller).await;
    let mut record = Record::running(id, &request.job.label, started_unix);
    record.end(request.outcome, ended.as_ref());
    logs.lock().unwrap_or_else(PoisonError::into_inner).tell(&mut record);
    inner.metrics.ended(ended.as_ref().map(|ended| &ended.usage));
    inner.history.add(record);
    inner.arbiter.close(id);
    inner.sweep.notify_one();
    count_user(&inner, user, -1);
    drop(hold);
    if let Some(ended) = ended {
        let _ = ends.ended.send(ended);
    }
}

fn count_user(inner: &Inner, user: Option<u32>, change: isize) {
    let Some(uid) = user else { return };
    let mut users = inner.users.lock().unwrap_or_else(PoisonError::into_inner);
    let count = users.entry(uid).or_default();
    *count = count.saturating_add_signed(change);
    if *count == 0 {
        users.remove(&uid);
    }
}

struct Request<'a> {
    inner: &'a Arc<Inner>,
    id: Uuid,
    job: &'a mut Job,
    logs: &'a Arc<Mutex<Logs>>,
    answer: Option<oneshot::Sender<Answer>>,
    outcome: Option<(&'static str, Option<u16>)>,
}

/// The tasks that hold the ends of the pipes.
struct Pipes {
    stdin: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<Option<Bytes>>>,
    stderr: Option<JoinHandle<Option<Bytes>>>,
}

impl Request<'_> {
    async fn live(&mut self, mut reply: oneshot::Receiver<Reply>, events: mpsc::Sender<Event>, caller: CancellationToken) -> Option<Ended> {
        let started = Instant::now();
        let mut leaf = if self.job.limits.is_none() { Leaf::default() } else { self.inner.groups.make(self.id, &self.job.limits) };
        let mut process = match self.inner.launcher.launch(self.launch(&leaf)).await {
            Ok(process) => process,
            Err(error) => {
                leaf.clear().await;
                self.say(Answer::Failed(Failure::Spawn(spawn_text(&error))));
                return None;
            }
        };
        self.inner.metrics.spawned(started.elapsed());
        let pid = process.pid;
        self.inner.arbiter.set_process(self.id, pid.as_raw_nonzero().get(), Some(self.logs.clone()));
        let mut pipes = self.pipes(&mut process, &events);
        drop(events);
        let exit = match process.pidfd.take().and_then(watched) {
            Some(exit) => exit,
            None => return self.give_up(process, leaf).await,
        };
        self.watch(pid, &exit, &mut reply, &caller, started + self.job.timeout).await;
        // It has ended and nobody has waited for it: its pid and its group are still its own.
        let status = waitid(WaitId::PidFd(exit.get_ref().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG);
        let (code, signal) = status.ok().flatten().map_or((None, None), |status| (status.exit_status(), status.terminating_signal()));
        let _ = kill_process_group(pid, Signal::KILL);
        let out_of_memory = leaf.is_out_of_memory();
        let stdout = pipes.finish().await;
        if self.answer.is_some() {
            self.last_word(&mut reply, (code, signal, out_of_memory), stdout).await;
        }
        self.inner.arbiter.expire(self.id);
        leaf.clear().await;
        if !self.inner.options.alone {
            sweep::of_request(self.id);
        }
        let file = process.file.take();
        let usage = reap(self.inner, process, self.id, started.elapsed());
        drop(file);
        Some(Ended { code, signal, usage })
    }

    fn launch(&mut self, leaf: &Leaf) -> Launch {
        let job = &mut *self.job;
        let mut env = std::mem::take(&mut job.env);
        let deadline = clock::unix_millis().saturating_add(u64::try_from(job.timeout.as_millis()).unwrap_or(u64::MAX));
        env.push(("REQUEST_ID".into(), self.id.to_string().into()));
        env.push(("UROCKET_SOCKET".into(), self.inner.options.socket.clone().into()));
        env.push(("UROCKET_STAGE".into(), "1".into()));
        env.push(("DEADLINE_MS".into(), deadline.to_string().into()));
        let (mut args, mut file, mut stdin) = (Vec::new(), None, false);
        match &job.input {
            Input::Argument(payload) => args = job.command.with_payload(payload),
            Input::None => args.clone_from(&job.command.args),
            Input::Stdin(_) => (args, stdin) = (job.command.args.clone(), true),
            Input::File(payload) => (args, file) = (job.command.args.clone(), Some(payload.clone())),
        }
        let (mut program, mut name) = (job.command.program.clone(), job.command.name.clone());
        if self.inner.options.bound || !leaf.dirs().is_empty() || !leaf.rlimits.is_empty() || !job.stand.is_plain() {
            let own = &self.inner.options.shim;
            args = shim::args(own.get(1..).unwrap_or_default(), leaf.dirs(), &leaf.rlimits, &job.stand, (&program, &name), args);
            program = own.first().map(Into::into).unwrap_or_default();
            name = program.clone().into();
        }
        Launch { id: self.id, program, name, args, env, wd: job.wd.clone(), stdin, file }
    }

    fn pipes(&self, process: &mut Process, events: &mpsc::Sender<Event>) -> Pipes {
        let stdin = match (&self.job.input, process.stdin.take()) {
            (Input::Stdin(payload), Some(pipe)) => Some(tokio::spawn(feed(pipe, payload.clone()))),
            _ => None,
        };
        let drained = |pipe: Option<OwnedFd>, stream| {
            let whole = (stream == Stream::Stdout && self.job.on_exit == OnExit::Stdout).then(|| self.max_body());
            let sink = Sink {
                id: self.id,
                label: self.job.label.clone(),
                stream,
                logs: self.logs.clone(),
                log: self.job.log,
                events: self.job.lines.then(|| events.clone()),
                whole,
            };
            pipe.map(|pipe| tokio::spawn(drain(pipe, sink)))
        };
        Pipes { stdin, stdout: drained(process.stdout.take(), Stream::Stdout), stderr: drained(process.stderr.take(), Stream::Stderr) }
    }

    fn max_body(&self) -> usize {
        self.inner.policy.read().unwrap_or_else(PoisonError::into_inner).max_body
    }

    /// Until the process has ended, which it is told to when its time is over.
    async fn watch(
        &mut self,
        pid: Pid,
        exit: &AsyncFd<OwnedFd>,
        reply: &mut oneshot::Receiver<Reply>,
        caller: &CancellationToken,
        deadline: Instant,
    ) {
        let mut kill_at = None;
        let mut waiting = true;
        loop {
            let ending = kill_at.is_some();
            // Cancel-safe: all are levels. In this order, so that an answer that came before the end
            // is heard before it.
            tokio::select! {
                biased;
                answer = &mut *reply, if waiting => {
                    waiting = false;
                    if let Ok(reply) = answer {
                        self.say(Answer::Reply(reply));
                    }
                }
                _ = exit.readable() => return,
                () = sleep_until(deadline), if !ending => {
                    self.inner.arbiter.expire(self.id);
                    if self.answer.is_some() {
                        self.say(Answer::Failed(Failure::Timeout));
                    }
                    kill_at = Some(self.terminate(pid, "timeout"));
                }
                () = caller.cancelled(), if !ending && self.answer.is_some() && self.job.on_disconnect == OnDisconnect::Kill => {
                    self.inner.arbiter.expire(self.id);
                    self.answer = None;
                    kill_at = Some(self.terminate(pid, "disconnect"));
                }
                () = self.inner.stop.cancelled(), if !ending => {
                    self.inner.arbiter.expire(self.id);
                    self.say(Answer::Failed(Failure::Stopping));
                    kill_at = Some(self.terminate(pid, "stop"));
                }
                () = sleep_until(kill_at.unwrap_or(deadline)), if ending => {
                    let _ = kill_process_group(pid, Signal::KILL);
                    // What sleeps in the kernel can not die yet; it is asked again.
                    kill_at = Some(Instant::now() + TERM_GRACE);
                }
            }
        }
    }

    fn terminate(&self, pid: Pid, why: &'static str) -> Instant {
        tracing::debug!(request.id = %self.id, request.label = %self.job.label, why, "a process is ended");
        self.inner.metrics.killed(why);
        let _ = kill_process_group(pid, Signal::TERM);
        // One that is stopped would not hear it.
        let _ = kill_process_group(pid, Signal::CONT);
        Instant::now() + TERM_GRACE
    }

    /// The process has ended without an answer: the last chance, and then what its end means.
    async fn last_word(&mut self, reply: &mut oneshot::Receiver<Reply>, exit: (Option<i32>, Option<i32>, bool), stdout: Option<Bytes>) {
        let (code, signal, out_of_memory) = exit;
        let arriving = self.inner.arriving.load(Ordering::Acquire) > 0;
        if arriving || self.job.on_exit == OnExit::Error {
            // Cancel-safe: what has settled is asked for once more below.
            let settled = timeout(ARRIVING, back::settle(self.inner));
            let heard = tokio::select! {
                biased;
                heard = &mut *reply => heard.ok(),
                _ = settled => reply.try_recv().ok(),
            };
            if let Some(reply) = heard {
                return self.say(Answer::Reply(reply));
            }
        }
        let answer = match self.job.on_exit {
            OnExit::Stdout if code == Some(0) => match stdout {
                Some(output) => {
                    let policy = self.inner.policy.read().unwrap_or_else(PoisonError::into_inner).clone();
                    cgi::reply(output, |name| name.starts_with("x-") || policy.reply_headers.contains(name))
                        .map_or_else(|why| Answer::Failed(Failure::BadOutput(why)), Answer::Reply)
                }
                None => Answer::Failed(Failure::BadOutput("it is too long".to_owned())),
            },
            OnExit::NoContent if code == Some(0) => {
                Answer::Reply(Reply { status: 204, content_type: None, headers: Vec::new(), body: Bytes::new(), is_error: false })
            }
            OnExit::Error | OnExit::Stdout | OnExit::NoContent => {
                let stderr_tail = self.logs.lock().unwrap_or_else(PoisonError::into_inner).stderr_tail();
                Answer::Failed(Failure::Exited { code, signal, out_of_memory, stderr_tail })
            }
        };
        self.say(answer);
    }

    /// The first answer is the one; nobody waits for a second.
    fn say(&mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            self.outcome = Some(outcome(&answer));
            let _ = sender.send(answer);
        }
    }

    /// Nobody can be told when it ends, so it ends now.
    async fn give_up(&mut self, process: Process, mut leaf: Leaf) -> Option<Ended> {
        let _ = kill_process_group(process.pid, Signal::KILL);
        let usage = reap(self.inner, process, self.id, Duration::ZERO);
        leaf.clear().await;
        self.say(Answer::Failed(Failure::Spawn("the process could not be watched".to_owned())));
        Some(Ended { code: None, signal: None, usage })
    }
}

impl Pipes {
    /// Reads what is left. A stranger may hold a pipe open for ever; that is not waited for.
    async fn finish(&mut self) -> Option<Bytes> {
        if let Some(stdin) = self.stdin.take() {
            stdin.abort();
        }
        let [stdout, stderr] = [self.stdout.take(), self.stderr.take()];
        let (stdout, _) = tokio::join!(last(stdout), last(stderr));
        stdout
    }
}

async fn last(task: Option<JoinHandle<Option<Bytes>>>) -> Option<Bytes> {
    let mut task = task?;
    match timeout(ARRIVING, &mut task).await {
        Ok(output) => output.ok().flatten(),
        Err(_) => {
            task.abort();
            None
        }
    }
}

/// The one place where a process is waited for; after it, its pid may be anybody's.
pub(crate) fn reap(inner: &Inner, process: Process, id: Uuid, wall: Duration) -> Usage {
    let pid = process.pid;
    let usage = process.child.wait4();
    inner.launcher.roots.remove(pid, id);
    match usage {
        Ok(used) => Usage { user: used.rusage.utime, system: used.rusage.stime, max_rss: used.rusage.maxrss, wall },
        Err(error) => {
            tracing::error!(request.id = %id, %error, "a process could not be waited for");
            Usage { wall, ..Usage::default() }
        }
    }
}

/// `None` if the runtime can watch no more.
#[expect(deprecated, reason = "what takes its place is unsafe code, needed for descriptors that are not owned; this one is")]
pub(super) fn watched(pidfd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

fn spawn_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        // E2BIG: the arguments and the environment together.
        Some(7) => "its arguments and its environment are too long".to_owned(),
        _ => error.to_string(),
    }
}
