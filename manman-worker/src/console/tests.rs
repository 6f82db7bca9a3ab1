use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use manman_common::logs::LogStream;
use manman_common::spec::{ActionSpec, InputKind, InputSpec, StopMode, StopRung};
use manman_common::status::{ExitRecord, Usage};
use manman_common::wire::DriverReport;
use manman_common::{DesiredState, Generation, InstallMethod, InstanceId, ServerId, Timestamp};
use manman_worker_core::InstanceRef;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::clock;
use crate::driver::{OutputBatch, OutputCursor, OutputLine, ProgressSink, RungSink};
use crate::logs::Retention;
use crate::reconcile::signals;

/// A game that answers each line with two of its own, into its log.
struct Echo {
    book: LogBook,
    typed: Mutex<Vec<String>>,
}

#[async_trait]
impl Driver for Echo {
    fn method(&self) -> InstallMethod {
        InstallMethod::Docker
    }
    async fn report(&self) -> DriverReport {
        DriverReport { method: InstallMethod::Docker, ready: true, version: None, problem: None }
    }
    fn changes(&self) -> Arc<Notify> {
        Arc::default()
    }
    async fn list(&self) -> Result<Vec<Instance>, DriverError> {
        Ok(Vec::new())
    }
    fn install_key(&self, _: &ServerSpec) -> String {
        String::new()
    }
    async fn install(&self, _: &ServerSpec, _: ProgressSink) -> Result<(), DriverError> {
        Ok(())
    }
    async fn start(&self, _: &ServerSpec, _: InstanceId) -> Result<InstanceRef, DriverError> {
        Ok(InstanceRef::Container(String::new()))
    }
    async fn stop(&self, _: &Instance, _: &[StopRung], _: StopMode, _: RungSink) -> Result<ExitRecord, DriverError> {
        Ok(ExitRecord::default())
    }
    async fn remove(&self, _: &Instance) -> Result<(), DriverError> {
        Ok(())
    }
    async fn purge(&self, _: ServerId) -> Result<(), DriverError> {
        Ok(())
    }
    async fn write_line(&self, _: &Instance, line: &str) -> Result<(), DriverError> {
        self.typed.lock().expect("no panic").push(line.to_owned());
        if line != "silence" {
            let line = |text: String| OutputLine {
                stream: LogStream::Stdout,
                time: "2026-11-20T12:00:00.000000000Z".to_owned(),
                text: Bytes::from(text),
            };
            self.book.append(&[line(format!("heard {}", line_text(&self.typed))), line("done".to_owned())]).expect("it is written");
        }
        Ok(())
    }
    async fn output(
        &self,
        _: &Instance,
        _: Option<OutputCursor>,
    ) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
        Ok(Box::pin(futures_util::stream::empty()))
    }
    async fn usage(&self, _: &Instance) -> Result<Usage, DriverError> {
        Ok(Usage::default())
    }
    async fn ports_bound(&self, _: &Instance, _: &ServerSpec) -> Result<bool, DriverError> {
        Ok(true)
    }
}

fn line_text(typed: &Mutex<Vec<String>>) -> String {
    typed.lock().expect("no panic").last().cloned().unwrap_or_default()
}

fn spec() -> ServerSpec {
    let run = json!({
        "game_id": "docker:manman/x",
        "stop": [{"console": "quit", "wait_seconds": 5}, {"signal": "TERM", "wait_seconds": 5}],
    });
    ServerSpec {
        id: ServerId::from_uuid(clock::new_uuid()),
        name: "x".parse().expect("a name"),
        generation: Generation::new(1),
        desired: DesiredState::Running,
        stop_mode: StopMode::Graceful,
        restart_seq: 0,
        purge: false,
        epoch: 1,
        lease_seconds: None,
        run: serde_json::from_value(run).expect("a spec"),
    }
}

fn with_actions() -> ServerSpec {
    let mut spec = spec();
    let input =
        |kind, pattern: Option<&str>| InputSpec { kind, pattern: pattern.map(str::to_owned), required: true, ..InputSpec::default() };
    let kick = ActionSpec {
        label: "Kick".to_owned(),
        console: "kick {{inputs.who}} {{ inputs.number }}".to_owned(),
        inputs: [
            ("who".to_owned(), input(InputKind::Text, Some("[a-z]{1,8}|x"))),
            (
                "number".to_owned(),
                InputSpec { min: Some(1), max: Some(9), default: Some("3".to_owned()), ..input(InputKind::Integer, None) },
            ),
        ]
        .into(),
        ..ActionSpec::default()
    };
    let login = ActionSpec {
        label: "Login".to_owned(),
        console: "login {{inputs.word}}".to_owned(),
        inputs: [("word".to_owned(), InputSpec { secret: true, ..InputSpec::default() })].into(),
        ..ActionSpec::default()
    };
    spec.run.actions =
        [("kick".to_owned(), kick.clone()), ("login".to_owned(), login), ("old".to_owned(), ActionSpec { disabled: true, ..kick })].into();
    spec
}

struct Rig {
    console: Console,
    echo: Echo,
    signals: signals::SignalReceiver,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new(spec: &ServerSpec) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let books = LogBooks::new(dir.path(), Retention::default());
        let (sender, signals) = signals::channel();
        let echo = Echo { book: books.open(spec.id).expect("a log"), typed: Mutex::default() };
        Self { console: Console::new(books, sender), echo, signals, _dir: dir }
    }

    async fn send(&self, spec: &ServerSpec, request: serde_json::Value) -> Result<CommandAnswer, Problem> {
        let instance = Instance {
            server: spec.id,
            id: clock::new_instance_id(),
            reference: InstanceRef::Container(String::new()),
            state: InstanceState::Running { since: Timestamp::EPOCH },
            generation: spec.generation,
            restart_seq: 0,
            run_hash: 0,
            degraded: false,
        };
        let request = serde_json::from_value(request).expect("a request");
        self.console.send(&Target { spec, instance: &instance, driver: &self.echo }, &request).await
    }
}

#[tokio::test]
async fn a_line_is_answered_by_what_follows_it() {
    let spec = spec();
    let mut rig = Rig::new(&spec);
    let answer = rig.send(&spec, json!({"command": "say hi"})).await.expect("an answer");
    assert_eq!(answer.sent, ["say hi"]);
    let texts: Vec<_> = answer.answer.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["heard say hi", "done"]);

    assert_eq!(rig.send(&spec, json!({"command": "silence"})).await.expect("none").answer, []);
    assert_eq!(rig.send(&spec, json!({"command": "fast", "answer_ms": 0})).await.expect("none").answer, []);
    let both = rig.send(&spec, json!({"commands": ["one", "two"]})).await.expect("an answer");
    assert_eq!((both.sent.len(), both.answer.len()), (2, 4));
    let raw = rig.send(&spec, json!({"type": 200, "body": {"command": "raw"}})).await.expect("an answer");
    assert_eq!(raw.sent, ["raw"]);
    assert!(rig.signals.try_recv().is_err());
    rig.send(&spec, json!({"command": " quit"})).await.expect("an answer");
    assert_eq!(rig.signals.try_recv().map(|signal| signal.observed), Ok(Observed::TypedStop));
}

#[tokio::test]
async fn what_is_no_line_is_refused_by_name() {
    let mut spec = spec();
    let rig = Rig::new(&spec);
    for (request, field) in [
        (json!({"command": "say hi\nquit"}), "command"),
        (json!({"command": "\u{1b}[2J"}), "command"),
        (json!({"command": ""}), "command"),
        (json!({"command": "x".repeat(5000)}), "command"),
        (json!({"commands": ["fine", "a\u{2028}b"]}), "commands[1]"),
        (json!({"commands": []}), "commands"),
        (json!({"action": "dance"}), "action"),
        (json!({"type": "START"}), "type"),
        (json!({"type": 201}), "type"),
        (json!({"type": "COMMAND", "body": {"x": 1}}), "body"),
    ] {
        let problem = rig.send(&spec, request.clone()).await.expect_err("it is refused");
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{request}");
    }
    spec.run.console = ConsoleKind::None;
    assert_eq!(rig.send(&spec, json!({"command": "x"})).await.expect_err("no console").status, 409);
    assert_eq!(rig.echo.typed.lock().expect("no panic").len(), 0, "nothing of it reached the game");
}

#[tokio::test]
async fn an_action_is_typed_and_checked() {
    let spec = with_actions();
    let rig = Rig::new(&spec);
    let kick = |inputs: serde_json::Value| json!({"action": "kick", "inputs": inputs});
    assert_eq!(rig.send(&spec, kick(json!({"who": "bob"}))).await.expect("it is typed").sent, ["kick bob 3"]);
    assert_eq!(rig.send(&spec, kick(json!({"who": "x", "number": 9}))).await.expect("it is typed").sent, ["kick x 9"]);
    let numbered = rig.send(&spec, json!({"type": 201, "body": {"inputs": {"who": "bob", "number": "4"}}})).await;
    assert_eq!(numbered.expect("the first action").sent, ["kick bob 4"]);
    for (inputs, field) in [
        (json!({}), "inputs.who"),
        (json!({"who": ""}), "inputs.who"),
        (json!({"who": "Bob"}), "inputs.who"),
        (json!({"who": "xy z"}), "inputs.who"),
        (json!({"who": "bob\n"}), "inputs.who"),
        (json!({"who": {"a": 1}}), "inputs.who"),
        (json!({"who": "bob", "number": 10}), "inputs.number"),
        (json!({"who": "bob", "number": 1.5}), "inputs.number"),
        (json!({"who": "bob", "more": 1}), "inputs.more"),
    ] {
        let problem = rig.send(&spec, kick(inputs.clone())).await.expect_err("it is refused");
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{inputs}");
    }
    assert_eq!(rig.send(&spec, json!({"action": "old", "inputs": {"who": "bob"}})).await.expect_err("disabled").status, 409);
    let secret = rig.send(&spec, json!({"action": "login", "inputs": {"word": "{{inputs.word}}"}})).await.expect("it is typed");
    assert_eq!(secret.sent, ["login ***"]);
    assert_eq!(line_text(&rig.echo.typed), "login {{inputs.word}}", "a value is no template");
}

/// A game whose console is a Source server's, of the peers that the protocol is tested with.
fn remote_spec(port: u16) -> ServerSpec {
    let mut spec = spec();
    spec.run.console = ConsoleKind::SourceRcon;
    spec.run.console_access = Some(manman_common::spec::ConsoleAccess { port, secret: Some(rcon::tests::peers::SECRET.to_owned()) });
    let action = |console: &str, answer: Option<&str>| ActionSpec {
        console: console.to_owned(),
        answer: answer.map(str::to_owned),
        ..ActionSpec::default()
    };
    spec.run.actions = [
        ("save".to_owned(), action("save", Some("^World saved$"))),
        ("logged".to_owned(), action("echo begun", Some("^it is in the log$"))),
        ("never".to_owned(), action("echo begun", Some("^this does not come$"))),
    ]
    .into();
    spec
}

#[tokio::test]
async fn a_remote_console_answers_with_its_reply_and_the_log_keeps_it() {
    let port = rcon::tests::peers::source(rcon::tests::peers::Manners::default()).await;
    let spec = remote_spec(port);
    let mut rig = Rig::new(&spec);
    let answer = rig.send(&spec, json!({"commands": ["echo one", "many 2"], "answer_ms": 0})).await.expect("an answer");
    let texts: Vec<_> = answer.answer.iter().map(|line| (line.stream, line.text.as_str())).collect();
    let m = LogStream::Manager;
    assert_eq!(texts, [(m, "one"), (m, "line 0 of 2"), (m, "line 1 of 2")]);
    let kept = rig.console.books.open(spec.id).expect("a log");
    let query = manman_common::logs::LogQuery { follow: Some(false), ..Default::default() };
    let mut session = crate::logs::LogSession::open(&kept, &query).expect("a session");
    let crate::logs::LogItem::Chunk(chunk) = session.next(4096).await.expect("it reads") else { panic!("no chunk") };
    let kept: Vec<_> = manman_common::logs::records(&chunk).map(|record| record.text_lossy().into_owned()).collect();
    assert_eq!(kept, ["> echo one", "one", "> many 2", "line 0 of 2", "line 1 of 2"]);
    assert!(rig.signals.try_recv().is_err());

    // The stop command is a wish, and a game that ends has no more to say.
    let answer = rig.send(&spec, json!({"command": "quit"})).await.expect("it is told");
    assert_eq!((answer.sent.len(), answer.answer.len()), (1, 0));
    assert_eq!(rig.signals.try_recv().map(|signal| signal.observed), Ok(Observed::TypedStop));
    assert_eq!(rig.echo.typed.lock().expect("no panic").len(), 0, "nothing of it went to stdin");

    let mut wrong = spec.clone();
    wrong.run.console_access =
        Some(manman_common::spec::ConsoleAccess { port: rcon::tests::peers::nobody(), secret: Some("s3cret".to_owned()) });
    let problem = rig.send(&wrong, json!({"command": "quit"})).await.expect_err("nobody is there");
    assert!(problem.status == 503 && !format!("{problem:?} {wrong:?}").contains("s3cret"), "{problem:?}");
    assert!(rig.signals.try_recv().is_err(), "what was never told is no stop");
    wrong.run.console_access = None;
    assert_eq!(rig.send(&wrong, json!({"command": "x"})).await.expect_err("no port").status, 409);
}

#[tokio::test]
async fn an_action_is_done_when_its_answer_is_seen() {
    use crate::reconcile::signals::Climbed;
    let port = rcon::tests::peers::source(rcon::tests::peers::Manners { mirrors: false, ..Default::default() }).await;
    let spec = remote_spec(port);
    let rig = Rig::new(&spec);
    let answer = rig.send(&spec, json!({"action": "save"})).await.expect("an answer");
    assert_eq!((answer.done, answer.answer.len()), (Some(Done::Reply), 2));

    let book = rig.echo.book.clone();
    let game = tokio::spawn(async move {
        let line = |text: &str| OutputLine {
            stream: LogStream::Stdout,
            time: "2026-11-20T12:00:00Z".to_owned(),
            text: Bytes::from(text.to_owned()),
        };
        // What was printed before it was asked is no answer, and when that is nobody here knows.
        loop {
            book.append(&[line("chatter"), line("it is in the log"), line("more")]).expect("it is written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = rig.send(&spec, json!({"action": "logged"})).await.expect("an answer");
    game.abort();
    let texts: Vec<_> = answer.answer.iter().map(|line| line.text.as_str()).collect();
    assert_eq!((answer.done, texts.last()), (Some(Done::Log), Some(&"it is in the log")));
    // The console's own answer may come later than the log's line, and is not waited for then.
    assert!(texts.len() == 1 || texts == ["begun", "it is in the log"], "{texts:?}");

    let instance = Instance {
        server: spec.id,
        id: clock::new_instance_id(),
        reference: InstanceRef::Container(String::new()),
        state: InstanceState::Running { since: Timestamp::EPOCH },
        generation: spec.generation,
        restart_seq: 0,
        run_hash: 0,
        degraded: false,
    };
    let target = Target { spec: &spec, instance: &instance, driver: &rig.echo };
    let climb = async |step: StopStep, seconds| rig.console.climb(&target, &step, Duration::from_secs(seconds)).await;
    assert_eq!(climb(StopStep::Action("never".to_owned()), 1).await, Ok(Climbed::Unanswered));
    assert_eq!(climb(StopStep::Action("save".to_owned()), 5).await, Ok(Climbed::Done));
    assert_eq!(climb(StopStep::Console("quit".to_owned()), 5).await, Ok(Climbed::Told));
    assert!(climb(StopStep::Action("dance".to_owned()), 5).await.is_err());
}

#[tokio::test]
async fn an_action_on_stdin_waits_for_the_log() {
    let mut spec = remote_spec(1);
    spec.run.console = ConsoleKind::Stdin;
    if let Some(action) = spec.run.actions.get_mut("save") {
        action.answer = Some("^done$".to_owned());
    }
    let rig = Rig::new(&spec);
    let answer = rig.send(&spec, json!({"action": "save"})).await.expect("an answer");
    assert_eq!((answer.done, answer.answer.len()), (Some(Done::Log), 2));
}
