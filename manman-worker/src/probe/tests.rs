//! With the engine and the games of this machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use manman_common::logs::{LogQuery, records};
use manman_common::spec::{PortSpec, Protocol, QuerySpec, StopMode, StopRung, StopStep};
use manman_common::{LogSeq, ServerSpec};
use manman_worker_core::Instance;

use super::Supervisor;
use crate::clock;
use crate::console::{Console, Target};
use crate::driver::Driver;
use crate::driver::docker::tests::game::{Rig, no_rungs, spec};
use crate::logs::{LogBooks, LogItem, LogReader, LogSession, Read, Retention};
use crate::reconcile::signals::{self, Observed, SignalReceiver, Supervision, Watched};

struct Watch {
    books: LogBooks,
    supervisor: Arc<Supervisor>,
    console: Console,
    signals: SignalReceiver,
}

impl Watch {
    fn new(rig: &Rig) -> Self {
        let books = LogBooks::new(rig.dir.path(), Retention::default());
        let (sender, signals) = signals::channel();
        Self {
            console: Console::new(books.clone(), sender.clone()),
            supervisor: Supervisor::new(books.clone(), sender, crate::metrics::Metrics::in_memory()),
            books,
            signals,
        }
    }

    async fn wait_for<T>(&mut self, what: &str, found: impl Fn(&Observed) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let wait = async {
            while let Some(signal) = self.signals.recv().await {
                if let Some(found) = found(&signal.observed) {
                    return Some(found);
                }
                seen.push(signal.observed);
            }
            None
        };
        let waited = tokio::time::timeout(Duration::from_secs(90), wait).await;
        waited.ok().flatten().unwrap_or_else(|| panic!("no {what}; there were {seen:?}"))
    }

    fn texts(&self, spec: &ServerSpec) -> Vec<String> {
        let book = self.books.open(spec.id).expect("a log");
        let mut reader = LogReader::new(&book, LogSeq::new(1));
        let mut texts = Vec::new();
        while let Read::Chunk(chunk) = reader.read(1 << 20).expect("it reads") {
            texts.extend(records(&chunk).map(|record| record.text_lossy().into_owned()));
        }
        texts
    }
}

fn watched(rig: &Arc<Rig>, spec: &ServerSpec, instance: &Instance) -> Watched {
    Watched {
        instance: instance.clone(),
        spec: Arc::new(spec.clone()),
        driver: Arc::clone(&rig.driver) as Arc<dyn Driver>,
        was_ready: false,
    }
}

fn is_ready(observed: &Observed) -> Option<()> {
    (*observed == Observed::Ready).then_some(())
}

#[tokio::test]
async fn a_game_is_ready_by_its_log_also_for_the_next_worker() {
    let rig = Arc::new(Rig::new());
    let mut spec = spec();
    spec.run.ready.log = Some("^up and".to_owned());
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    watch.wait_for("Ready", is_ready).await;
    let usage = watch.wait_for("Usage", |observed| if let Observed::Usage(usage) = observed { Some(*usage) } else { None }).await;
    assert!(usage.memory_bytes > 0);
    let target = Target { spec: &spec, instance: &instance, driver: &*rig.driver };
    let request = serde_json::from_value(serde_json::json!({"command": "hello"})).expect("a request");
    let answer = watch.console.send(&target, &request).await.expect("an answer");
    assert_eq!(answer.answer.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["said: hello "]);

    // The worker is gone, and the game goes on talking.
    drop(watch);
    rig.driver.write_line(&instance, "while away").await.expect("it takes a line");
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    watch.wait_for("Ready", is_ready).await;
    rig.driver
        .stop(&instance, &[StopRung { step: StopStep::Console("quit".to_owned()), wait_seconds: 20 }], StopMode::Graceful, no_rungs())
        .await
        .expect("it stops");
    tokio::time::timeout(Duration::from_secs(20), watch.supervisor.drain(spec.id, instance.id)).await.expect("it is drained");
    let texts = watch.texts(&spec);
    let count = |text: &str| texts.iter().filter(|line| *line == text).count();
    for once in ["up and running", "careful", "said: hello ", "said: while away", "bye", &format!("instance {} started", instance.id)] {
        assert_eq!(count(once), 1, "`{once}` in {texts:?}");
    }
    watch.supervisor.unwatch(spec.id, instance.id);
    watch.supervisor.purge(spec.id).await.expect("it is purged");
    watch.supervisor.note(spec.id, "too late".to_owned());
    watch.supervisor.purge(spec.id).await.expect("twice, too");
}

#[tokio::test]
async fn openarena_tells_its_map_and_players_and_when_it_no_longer_answers() {
    let rig = Arc::new(Rig::new());
    let free = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut spec = spec();
    spec.run.game_id = "docker:manman/openarena".parse().expect("a game");
    spec.run.env = BTreeMap::new();
    spec.run.argv =
        format!("+set dedicated 1 +set net_port {port} +set sv_maxclients 6 +map oa_dm1").split(' ').map(str::to_owned).collect();
    spec.run.ports = vec![PortSpec { name: "game".to_owned(), protocol: Protocol::Udp, port, container_port: None }];
    spec.run.query = Some(QuerySpec { protocol: "quake3".to_owned(), port });
    spec.run.ready.query = true;
    spec.run.ready.log = Some("^[0-9]+ items registered".to_owned());
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    let players =
        watch.wait_for("Players", |observed| if let Observed::Players(players) = observed { Some(players.clone()) } else { None }).await;
    assert_eq!((players.online, players.max), (0, 6));
    let extra = watch.wait_for("Extra", |observed| if let Observed::Extra(extra) = observed { Some(extra.clone()) } else { None }).await;
    assert_eq!(extra.get("map"), Some(&serde_json::json!("oa_dm1")), "{extra:?}");
    watch.wait_for("Ready", is_ready).await;
    let target = Target { spec: &spec, instance: &instance, driver: &*rig.driver };
    let request = serde_json::from_value(serde_json::json!({"command": "status"})).expect("a request");
    let answer = watch.console.send(&target, &request).await.expect("an answer");
    assert!(answer.answer.iter().any(|line| line.text.contains("map: oa_dm1")), "{answer:?}");
    rig.kill(&instance).await;
    let reason =
        watch.wait_for("Unready", |observed| if let Observed::Unready { reason } = observed { Some(reason.clone()) } else { None });
    assert!(reason.await.contains("no longer answers"));
}

#[tokio::test]
async fn openarena_answers_over_rcon_and_quits_by_it() {
    let rig = Arc::new(Rig::new());
    let free = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut spec = spec();
    spec.run.game_id = "docker:manman/openarena".parse().expect("a game");
    spec.run.env = BTreeMap::new();
    spec.run.argv =
        format!("+set dedicated 1 +set net_port {port} +set rconPassword hunter2 +map oa_dm1").split(' ').map(str::to_owned).collect();
    spec.run.ports = vec![PortSpec { name: "game".to_owned(), protocol: Protocol::Udp, port, container_port: None }];
    spec.run.query = Some(QuerySpec { protocol: "quake3".to_owned(), port });
    spec.run.ready.query = true;
    spec.run.console = manman_common::spec::ConsoleKind::Quake3Rcon;
    spec.run.console_access = Some(manman_common::spec::ConsoleAccess { port, secret: Some("hunter2".to_owned()) });
    spec.run.stop = vec![StopRung { step: StopStep::Console("quit".to_owned()), wait_seconds: 20 }];
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    watch.wait_for("Ready", is_ready).await;
    let target = Target { spec: &spec, instance: &instance, driver: &*rig.driver };
    let send = async |line: &str| {
        let request = serde_json::from_value(serde_json::json!({"command": line})).expect("a request");
        watch.console.send(&target, &request).await
    };
    let answer = send("status").await.expect("an answer");
    assert!(answer.answer.iter().any(|line| line.text.contains("map: oa_dm1")), "{answer:?}");
    // More than one datagram.
    let answer = send("cvarlist").await.expect("an answer");
    let texts: Vec<_> = answer.answer.iter().map(|line| line.text.as_str()).collect();
    assert!(texts.len() > 200 && texts.last().is_some_and(|last| last.contains("cvar indexes")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("hunter2")), "the list of variables has the password in it");
    let answer = send("echo a \"b c\" ;status").await.expect("an answer");
    assert!(!answer.answer.iter().any(|line| line.text.contains("map:")), "{answer:?}");
    let mut wrong = spec.clone();
    wrong.run.console_access = Some(manman_common::spec::ConsoleAccess { port, secret: Some("wrong".to_owned()) });
    let mut other = instance.clone();
    other.id = clock::new_instance_id();
    let target = Target { spec: &wrong, instance: &other, driver: &*rig.driver };
    let request = serde_json::from_value(serde_json::json!({"command": "status"})).expect("a request");
    let problem = watch.console.send(&target, &request).await.expect_err("it is refused");
    assert!(problem.status == 409 && problem.detail.contains("password"), "{problem:?}");
    let climbed =
        watch.supervisor.climb(&spec, &instance, &*rig.driver, &StopStep::Console("quit".to_owned()), Duration::from_secs(20)).await;
    assert_eq!(climbed, Ok(crate::reconcile::signals::Climbed::Told));
    let exit = rig.driver.stop(&instance, &[], StopMode::Graceful, no_rungs()).await.expect("it stops");
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn without_a_rule_the_ports_decide() {
    let rig = Arc::new(Rig::new());
    let mut spec = spec();
    spec.run.ports = vec![PortSpec { name: "game".to_owned(), protocol: Protocol::Udp, port: 0, container_port: Some(4711) }];
    let free = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    spec.run.ports[0].port = free.local_addr().expect("its address").port();
    drop(free);
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    watch.wait_for("Usage", |observed| matches!(observed, Observed::Usage(_)).then_some(())).await;
    assert!(watch.signals.try_recv().map(|signal| signal.observed) != Ok(Observed::Ready));
    rig.driver.write_line(&instance, "listen 4711").await.expect("it takes a line");
    watch.wait_for("Ready", is_ready).await;
}

/// `cargo nextest run --run-ignored only -p manman-worker latency_of_a_line`
#[tokio::test]
#[ignore = "a measurement of ten seconds"]
async fn latency_of_a_line() {
    const LINES: usize = 200;
    let rig = Arc::new(Rig::new());
    let spec = spec();
    let instance = rig.start(&spec).await;
    let watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    let book = watch.books.open(spec.id).expect("a log");
    let mut session = LogSession::open(&book, &LogQuery::default()).expect("a session");
    let game = Arc::clone(&rig);
    tokio::spawn(async move {
        for n in 0..LINES {
            game.driver.write_line(&instance, &format!("number {n}")).await.expect("it takes a line");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut took = Vec::new();
    while took.len() < LINES {
        let LogItem::Chunk(chunk) = session.next(64 * 1024).await.expect("it reads") else { continue };
        let now = clock::now();
        for record in records(&chunk).filter(|record| record.text.starts_with(b"said: number")) {
            took.push(now.since(record.time.parse().expect("a time")));
        }
    }
    took.sort_unstable();
    eprintln!("from the engine's time to a reader of the log: p50 {:?}, p99 {:?}", took[LINES / 2], took[LINES * 99 / 100]);
}

#[tokio::test]
async fn players_are_counted_by_the_log_and_remembered_from_it() {
    let rig = Arc::new(Rig::new());
    let mut spec = spec();
    spec.run.players = Some(manman_common::spec::PlayersRule {
        join: "^said: join (?P<player>.+)$".to_owned(),
        leave: "^said: leave (?P<player>.+)$".to_owned(),
    });
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    for line in ["join Ada", "join Bob the \u{7}Second", "leave Ada", "leave nobody"] {
        rig.driver.write_line(&instance, line).await.expect("it takes a line");
    }
    let named = |names: &'static [&'static str]| {
        move |observed: &Observed| match observed {
            Observed::Players(players) if players.names == names && players.online as usize == names.len() => Some(()),
            _ => None,
        }
    };
    let mut told = Vec::new();
    watch.wait_for("Ada's leaving", |observed| (*observed == Observed::Left { player: "Ada".to_owned() }).then_some(())).await;
    watch.wait_for("one player", named(&["Bob the Second"])).await;
    drop(watch);
    // The next worker knows who is there, and tells of nobody's coming again.
    rig.driver.write_line(&instance, "join Eve").await.expect("it takes a line");
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    watch
        .wait_for("two players", move |observed| {
            if let Observed::Joined { player } | Observed::Left { player } = observed {
                note.lock().expect("no panic").push(player.clone());
            }
            named(&["Bob the Second", "Eve"])(observed)
        })
        .await;
    told.append(&mut seen.lock().expect("no panic"));
    assert!(told.iter().all(|player| player == "Eve"), "{told:?}");
}

#[tokio::test]
async fn a_game_that_goes_silent_is_told_of_and_heard_again() {
    let rig = Arc::new(Rig::new());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("its address").port();
    let mute = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let silenced = Arc::clone(&mute);
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 2048]) {
            if !silenced.load(std::sync::atomic::Ordering::SeqCst) {
                let _ = socket.send_to(b"\xff\xff\xff\xffstatusResponse\n\\sv_maxclients\\8\n", from);
            }
        }
    });
    let mut spec = spec();
    spec.run.query = Some(QuerySpec { protocol: "quake3".to_owned(), port });
    spec.run.ready.query = true;
    spec.run.hang = Some(manman_common::spec::HangRule { silent_seconds: 4 });
    let instance = rig.start(&spec).await;
    let mut watch = Watch::new(&rig);
    watch.supervisor.watch(watched(&rig, &spec, &instance));
    watch.wait_for("Ready", is_ready).await;
    mute.store(true, std::sync::atomic::Ordering::SeqCst);
    let seconds =
        watch.wait_for("Silent", |observed| if let Observed::Silent { seconds } = observed { Some(*seconds) } else { None }).await;
    assert!((4..60).contains(&seconds), "{seconds}");
    mute.store(false, std::sync::atomic::Ordering::SeqCst);
    // `Ready` again stands for an answer.
    watch.wait_for("an answer", |observed| (*observed == Observed::Answers || *observed == Observed::Ready).then_some(())).await;
}
