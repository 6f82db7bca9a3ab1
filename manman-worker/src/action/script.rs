//! One script, from its environment to what it answered.
//!
//! It finds in its environment, and nothing else:
//!
//! | name | what |
//! |---|---|
//! | `SERVER_ID`, `SERVER_NAME`, `GAME_ID` | whose action it is; it begins in that server's directory, which is `HOME` |
//! | `ACTION` | the action's name |
//! | `INPUT_NAME` | each input, checked: its name in capitals; one that was not given is empty |
//! | `PORT_NAME` | each port of the server on its machine |
//! | `ACTION_ID`, `ACTOR` | the run, and who asked for it |
//! | `REQUEST_ID`, `UROCKET_SOCKET`, `DEADLINE_MS` | how and until when it answers: `POST /uri/$REQUEST_ID`, and `…/progress` before |
//! | `PATH`, `HOME`, `USER`, `LANG`, `TZ` | as every program expects them |
//!
//! Its answer is what it posts, or what it has printed when it ends with code 0. A line on stdout or
//! stderr that begins with `progress: ` tells how far it is, with a percentage if that follows:
//! `progress: 40% packing`.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use manman_common::spec::Does;
use manman_common::wire::ActionFailure;
use manman_common::{Kind, Problem};
use manman_stage::command::Command;
use manman_stage::engine::{Answer, Engine, Event, Failure, Job, Limits, OnDisconnect, OnExit, Reply, Stand};
use serde_json::Value;

use super::place::{Place, interpreter};
use super::{Begun, Failed, Outcome};

/// Where an action says nothing of its own.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Ceilings of a script and all that it starts. It shares its machine with games.
const MEMORY: u64 = 1 << 30;
const PIDS: u64 = 128;
const FILES: u64 = 1024;
/// Of what a failed script has printed on stderr, in characters.
const TAIL_MAX: usize = 400;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/games";

pub(super) async fn run(engine: &Engine, place: &Place, data_dir: &Path, begun: &Begun) -> Outcome {
    let data = data_dir.join("servers").join(begun.spec.id.to_string()).join("data");
    if !data.is_dir() {
        let problem = Problem::new(Kind::Conflict, format!("server `{}` has no files yet", begun.spec.name));
        return Err(Failed::refused(problem.hint("it has them once its game is installed")));
    }
    let spawn = |why: String| Failed::new(ActionFailure::Spawn, Problem::new(Kind::Conflict, why));
    let stand = place.stand(begun.spec.id, &data).map_err(|error| spawn(format!("the server's user can not be found: {error}")))?;
    let run = begun.teller.now();
    let (words, text) = match begun.action.does() {
        Does::Script(script) => {
            let text = place.write(run.id, script, &stand).map_err(|error| spawn(format!("the script can not be written: {error}")))?;
            let mut words = interpreter(script);
            words.push(text.script.display().to_string());
            (words, Some(text))
        }
        Does::Argv(argv) => (argv.to_vec(), None),
        Does::Console(_) | Does::Builtin(_) => return Err(spawn("it is no script".to_owned())),
    };
    let path = format!("{}:{PATH}", place.tools().display());
    let command = Command::find(&words, &data, Some(path.as_ref())).map_err(|error| spawn(error.to_string()))?;
    let mut job = Job::new(format!("action {}", run.action), command, &data);
    job.env = environment(begun, &data, &stand, &path);
    job.timeout = begun.action.timeout_seconds.map_or(TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
    job.on_exit = OnExit::NoContent;
    job.on_disconnect = OnDisconnect::Kill;
    job.limits = Limits {
        memory: Some(begun.spec.run.limits.memory_bytes.map_or(MEMORY, |bytes| bytes.min(MEMORY))),
        cpu: None,
        pids: Some(PIDS),
        files: Some(FILES),
    };
    job.lines = true;
    job.stand = stand;
    let limit = job.timeout;
    let mut running = engine.start(job);
    let id = running.id;
    while let Some(event) = running.event().await {
        match event {
            Event::Progress(text) => posted(begun, &text),
            Event::Line { stream: _, text } => {
                if let Some(told) = text.strip_prefix("progress:") {
                    spoken(begun, told);
                }
            }
        }
    }
    let answer = running.answer().await;
    drop(text);
    match answer {
        // It ended well and has posted nothing: what it has printed is its answer.
        Answer::Reply(reply) if reply.status == 204 && reply.body.is_empty() => {
            let printed = engine.record(id).map(|record| record.stdout).unwrap_or_default();
            let said: Vec<&str> = printed.lines().filter(|line| !line.starts_with("progress:")).collect();
            Ok(value(begun, said.join("\n").trim()))
        }
        Answer::Reply(reply) => answered(begun, &reply),
        Answer::Failed(failure) => Err(failed(begun, &failure, limit)),
    }
}

fn environment(begun: &Begun, data: &Path, stand: &Stand, path: &str) -> Vec<(OsString, OsString)> {
    let Begun { spec, inputs, teller, .. } = begun;
    let run = teller.now();
    let home = stand.place.as_deref().unwrap_or(data);
    let mut env: Vec<(OsString, OsString)> = vec![
        ("SERVER_ID".into(), spec.id.to_string().into()),
        ("SERVER_NAME".into(), spec.name.to_string().into()),
        ("GAME_ID".into(), spec.run.game_id.to_string().into()),
        ("ACTION".into(), run.action.into()),
        ("ACTION_ID".into(), run.id.to_string().into()),
        ("ACTOR".into(), run.actor.into()),
        ("PATH".into(), path.into()),
        ("HOME".into(), home.into()),
        ("USER".into(), "manman".into()),
        ("LANG".into(), "C.UTF-8".into()),
    ];
    env.extend(std::env::var_os("TZ").map(|zone| ("TZ".into(), zone)));
    env.extend(inputs.iter().map(|(name, value)| (name_of("INPUT", name), value.into())));
    env.extend(spec.run.ports.iter().map(|port| (name_of("PORT", &port.name), port.port.to_string().into())));
    env
}

fn name_of(kind: &str, name: &str) -> OsString {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("{kind}_{name}").into()
}

/// JSON such as `{"percent": 40, "step": "packing"}`, or any text.
fn posted(begun: &Begun, text: &str) {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => {
            let percent = fields.get("percent").and_then(Value::as_u64).map(|percent| u8::try_from(percent).unwrap_or(100));
            let step = ["step", "message", "text"].into_iter().find_map(|key| fields.get(key)?.as_str());
            begun.teller.say(percent, step.unwrap_or_default());
        }
        Ok(Value::String(text)) => spoken(begun, &text),
        Ok(_) | Err(_) => spoken(begun, text),
    }
}

/// `40% packing`, or any text.
fn spoken(begun: &Begun, text: &str) {
    let text = text.trim();
    let percent = text.split_once('%').and_then(|(number, rest)| Some((number.parse::<u8>().ok()?, rest)));
    match percent {
        Some((percent, rest)) => begun.teller.say(Some(percent), rest),
        None => begun.teller.say(None, text),
    }
}

/// JSON as it is, other text as text.
fn value(begun: &Begun, text: &str) -> Value {
    let text = begun.teller.hide(text);
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

fn answered(begun: &Begun, reply: &Reply) -> Outcome {
    let text = String::from_utf8_lossy(&reply.body);
    if !reply.is_error && reply.status < 400 {
        return Ok(value(begun, &text));
    }
    let said: String = begun.teller.hide(text.trim()).chars().take(TAIL_MAX).collect();
    let detail =
        if said.is_empty() { format!("the script answered with status {}", reply.status) } else { format!("the script says: {said}") };
    Err(Failed::new(ActionFailure::Error, Problem::new(Kind::BadGateway, detail)))
}

fn failed(begun: &Begun, failure: &Failure, limit: Duration) -> Failed {
    match failure {
        Failure::Timeout => {
            let detail = format!("the script took longer than {} s and was ended", limit.as_secs());
            Failed::new(ActionFailure::Timeout, Problem::new(Kind::Timeout, detail))
        }
        Failure::Exited { stderr_tail, .. } => {
            let problem = Problem::new(Kind::BadGateway, failure.to_string().replace("process", "script"));
            let tail = begun.teller.hide(stderr_tail.trim());
            let skipped = tail.chars().count().saturating_sub(TAIL_MAX);
            let tail: String = tail.chars().skip(skipped).collect();
            Failed::new(ActionFailure::Exit, if tail.is_empty() { problem } else { problem.hint(format!("it said: {tail}")) })
        }
        Failure::Spawn(why) => {
            Failed::new(ActionFailure::Spawn, Problem::new(Kind::Conflict, format!("the script could not be started: {why}")))
        }
        Failure::BadOutput(why) => Failed::new(ActionFailure::Exit, Problem::new(Kind::BadGateway, why.clone())),
        Failure::Stopping => Failed::interrupted(),
    }
}
