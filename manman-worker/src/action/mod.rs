//! Actions that are no console lines: a game's scripts, a person's own, and what a worker can do
//! with every server.
//!
//! An action is begun once by its id, whatever becomes of the link or of whoever waits. It is written
//! down before it begins and when it has ended; one whose worker is killed in between is told of as
//! interrupted, and never begun again. One at a time is done with a server.
//!
//! A script runs as the user that owns the server's data, in that directory, with nothing of the
//! worker's environment: what it finds there is in [`script`].

mod builtin;
mod place;
mod script;
mod teller;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manman_common::spec::Does;
use manman_common::wire::{ActionFailure, ActionRun, ActionState, StartAction};
use manman_common::{CommandId, DesiredState, Kind, Problem, ServerId, ServerSpec};
use manman_stage::engine::Engine;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::builtin::recover;
use self::place::Place;
use self::teller::{Teller, event};
use crate::api::error_chain;
use crate::app::Worker;
use crate::clock;
use crate::console::checked_inputs;
use crate::store::{Store, StoreError};

/// What this process was started as, if that is a tool of the worker's own and no worker: the start of
/// a script's process, or the script's `manman-reply`. Every program that runs a worker asks this
/// first, before any thread and any runtime.
pub fn asked_as_tool() -> Option<std::process::ExitCode> {
    manman_stage::shim::asked().or_else(|| {
        let name = std::env::args_os().next()?;
        (std::path::Path::new(&name).file_name()? == place::REPLY).then(|| {
            let reply = <place::Reply as clap::Parser>::parse();
            manman_stage::run_reply(reply.args)
        })
    })
}

/// Of one worker; more are refused, since each may be a tar of a whole world.
const AT_ONCE: usize = 8;
/// For what runs when the worker ends: a killed script is gone in two seconds.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How an action came out.
type Outcome = Result<Value, Failed>;

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    reason: ActionFailure,
    problem: Problem,
}

impl Failed {
    fn new(reason: ActionFailure, problem: Problem) -> Self {
        Self { reason, problem }
    }

    /// Nothing was changed.
    fn refused(problem: Problem) -> Self {
        Self::new(ActionFailure::Refused, problem)
    }

    fn interrupted() -> Self {
        let problem = Problem::new(Kind::Unavailable, "the worker ended while this ran; it was not finished, and is not begun again");
        Self::new(ActionFailure::Interrupted, problem.hint("look at what it has done so far, then ask for it anew"))
    }
}

pub(crate) struct Actions {
    store: Store,
    data_dir: PathBuf,
    /// Opened by the first script, since it has threads of its own.
    engine: OnceCell<(Engine, Place)>,
    running: Mutex<HashMap<CommandId, watch::Receiver<ActionRun>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a run is made of.
struct Begun {
    spec: ServerSpec,
    action: manman_common::spec::ActionSpec,
    inputs: BTreeMap<String, String>,
    teller: Teller,
}

impl Actions {
    pub(crate) fn new(store: Store, data_dir: PathBuf) -> Self {
        Self {
            store,
            data_dir,
            engine: OnceCell::new(),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Tells of what an earlier run of this worker has left unfinished, and ends what is left of it.
    pub(crate) async fn take_over(&self) -> Result<(), StoreError> {
        let cut_off = self.store.actions_cut_off().await?;
        if cut_off.is_empty() {
            return Ok(());
        }
        // Opening it ends the processes of a script whose worker was killed.
        if let Err(problem) = self.engine().await {
            tracing::warn!(%problem, "what is left of interrupted actions can not be ended");
        }
        for run in cut_off {
            tracing::warn!(server.id = %run.server_id, action = run.action, action.id = %run.id, "an action was interrupted by the end of its worker");
            self.write_end(&run, &Err(Failed::interrupted())).await;
        }
        Ok(())
    }

    /// Begins an action, or finds the run that was begun under this id.
    pub(crate) async fn start(
        &self,
        worker: &Arc<Worker>,
        spec: &ServerSpec,
        id: CommandId,
        start: StartAction,
    ) -> Result<watch::Receiver<ActionRun>, Problem> {
        if let Some(known) = self.find(spec.id, id).await? {
            return Ok(known);
        }
        let StartAction { action: name, inputs, actor } = start;
        let action = spec.run.action(&name).ok_or_else(|| unknown(spec, &name))?.into_owned();
        if action.disabled {
            return Err(Problem::new(Kind::Conflict, format!("the action `{name}` is disabled")));
        }
        if spec.desired == DesiredState::Deleted {
            return Err(Problem::new(Kind::Conflict, format!("server `{}` is being deleted", spec.name)));
        }
        let inputs = checked_inputs(&name, &action, &inputs)?;
        if matches!(action.does(), Does::Console(_)) {
            return Err(Problem::new(Kind::Invalid, format!("the action `{name}` is a line for the game's console")).field("action"));
        }
        let is_secret = |input: &str| action.inputs.get(input).is_some_and(|spec| spec.secret);
        let shown = |(input, value): (&String, &String)| {
            let value = if is_secret(input) && !value.is_empty() { "***".to_owned() } else { value.clone() };
            (input.clone(), value)
        };
        let run = ActionRun {
            id,
            server_id: spec.id,
            action: name,
            actor: actor.chars().filter(|c| !c.is_control()).take(200).collect(),
            inputs: inputs.iter().map(shown).collect(),
            state: ActionState::Running,
            progress: None,
            answer: Value::Null,
            reason: None,
            problem: None,
            began_at: clock::now(),
            ended_at: None,
        };
        let secrets =
            inputs.iter().filter(|(input, value)| is_secret(input) && !value.is_empty()).map(|(_, value)| value.clone()).collect();
        let (teller, told) = Teller::new(run.clone(), secrets);
        self.take_place(&action, spec, &told)?;
        match self.store.action_begin(run.clone(), event("server.action_started", &run, "begins")).await {
            Ok(true) => {}
            Ok(false) => {
                self.leave_place(id);
                return self.find(spec.id, id).await?.ok_or_else(|| Problem::new(Kind::Conflict, "this action is over and forgotten"));
            }
            Err(error) => {
                self.leave_place(id);
                return Err(not_stored(&error));
            }
        }
        tracing::info!(server.id = %spec.id, action = run.action, action.id = %id, actor = run.actor, "an action begins");
        crate::failpoint::reach("action.begun");
        let begun = Begun { spec: spec.clone(), action, inputs, teller };
        self.tasks.spawn(run_to_end(Arc::clone(worker), begun));
        Ok(told)
    }

    /// A run by its id, as it is now and as it changes.
    pub(crate) async fn find(&self, server: ServerId, id: CommandId) -> Result<Option<watch::Receiver<ActionRun>>, Problem> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(running) = running.filter(|running| running.borrow().server_id == server) {
            return Ok(Some(running));
        }
        let ended = self.store.action_find(server, id).await.map_err(|error| not_stored(&error))?;
        Ok(ended.map(|run| watch::channel(run).1))
    }

    /// Ends what runs, as interrupted; nothing new is begun.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(END_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("an action does not end; the next start of this worker tells of it");
        }
        if let Some((engine, _)) = self.engine.get() {
            engine.stop().await;
        }
    }

    async fn engine(&self) -> Result<&(Engine, Place), Problem> {
        let open = async || {
            let place = Place::find(&self.data_dir).map_err(|error| cannot_open(&error))?;
            let engine = Engine::open(place.options()).map_err(|error| cannot_open(&error))?;
            Ok((engine, place))
        };
        self.engine.get_or_try_init(open).await
    }

    /// One at a time for a server, so that a restore never meets a backup; a mere list disturbs nobody.
    fn take_place(
        &self,
        action: &manman_common::spec::ActionSpec,
        spec: &ServerSpec,
        told: &watch::Receiver<ActionRun>,
    ) -> Result<(), Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::new(Kind::Unavailable, "the worker is going down"));
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_look(action) {
            let busy = running.values().find(|run| {
                let run = run.borrow();
                run.server_id == spec.id && spec.run.action(&run.action).is_none_or(|action| !is_look(&action))
            });
            if let Some(busy) = busy {
                let busy = busy.borrow();
                let detail = format!("the action `{}` is being done with `{}`, and one is done at a time", busy.action, spec.name);
                return Err(Problem::new(Kind::Conflict, detail).hint(format!("it is GET /server/{}/action/{}", spec.id, busy.id)));
            }
        }
        if running.len() >= AT_ONCE {
            return Err(Problem::new(Kind::TooManyRequests, format!("{AT_ONCE} actions are being done on this worker")).retry_after(5));
        }
        let run = told.borrow().id;
        running.insert(run, told.clone());
        Ok(())
    }

    fn leave_place(&self, id: CommandId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    async fn write_end(&self, run: &ActionRun, outcome: &Outcome) -> ActionRun {
        let run = ended(run, outcome);
        let word = match (&run.state, &run.problem) {
            (ActionState::Failed, Some(problem)) => format!("failed: {problem}"),
            (ActionState::Failed, None) => "failed".to_owned(),
            (ActionState::Running | ActionState::Done | ActionState::Unknown, _) => "is done".to_owned(),
        };
        if let Err(error) = self.store.action_end(run.clone(), event("server.action", &run, &word)).await {
            tracing::error!(error = error_chain(&error), action.id = %run.id, "the end of an action can not be stored");
        }
        run
    }
}

fn is_look(action: &manman_common::spec::ActionSpec) -> bool {
    action.builtin == Some(manman_common::spec::Builtin::Backups)
}

/// The whole life of a run. It is a task of its own: nobody's leaving ends it.
async fn run_to_end(worker: Arc<Worker>, begun: Begun) {
    let actions = &worker.actions;
    let teller = begun.teller.clone();
    let work = async {
        match begun.action.does() {
            Does::Builtin(builtin) => builtin::run(&worker, builtin, &begun).await,
            Does::Argv(_) | Does::Script(_) => match actions.engine().await {
                Ok((engine, place)) => script::run(engine, place, &actions.data_dir, &begun).await,
                Err(problem) => Err(Failed::new(ActionFailure::Spawn, problem)),
            },
            Does::Console(_) => Err(Failed::refused(Problem::new(Kind::Internal, "a console line is not run here"))),
        }
    };
    // Cancel-safe: a script is killed when its `Running` is dropped, a built-in looks at its own flag.
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = actions.stop.cancelled() => Err(Failed::interrupted()),
        // Never ends: it only tells.
        () = teller.herald(&actions.store) => Err(Failed::interrupted()),
    };
    let before = teller.now();
    let run = actions.write_end(&before, &outcome).await;
    let (id, server, state) = (run.id, run.server_id, run.state);
    teller.set(run);
    actions.leave_place(id);
    tracing::info!(server.id = %server, action = before.action, action.id = %id, ?state, "an action has ended");
}

fn ended(run: &ActionRun, outcome: &Outcome) -> ActionRun {
    let mut run = ActionRun { ended_at: Some(clock::now()), ..run.clone() };
    match outcome {
        Ok(answer) => {
            run.state = ActionState::Done;
            run.answer.clone_from(answer);
        }
        Err(Failed { reason, problem }) => {
            run.state = ActionState::Failed;
            run.reason = Some(*reason);
            run.problem = Some(problem.clone());
        }
    }
    run
}

fn unknown(spec: &ServerSpec, name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::invalid("action", format!("server `{}` has no action `{name}`", spec.name))
        .hint(format!("there are {}", spec.run.action_names().join(", ")))
}

fn not_stored(error: &StoreError) -> Problem {
    tracing::error!(error = error_chain(error), "an action can not be stored or read");
    Problem::new(Kind::Unavailable, "the worker can not store it")
}

fn cannot_open(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = error_chain(error), "scripts can not be run");
    Problem::new(Kind::Unavailable, format!("this worker can not run scripts: {}", error_chain(error)))
}
