//! The network between host and worker (rows 14–16).

use std::time::{Duration, Instant};

use manman_e2e::faults::scenario;
use manman_e2e::netns::{Cable, on};
use manman_e2e::{Context, Database, FreezeProxy, Program, Result, Way, anyhow, ensure, eventually_within, follow};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::host::more_beats;
use crate::stage::{GAME, SOON, Stage, kill};

/// What the table allows for both ends to drop a session.
pub(crate) const DROPPED_WITHIN: Duration = Duration::from_secs(45);

/// Host and worker on a database and behind a proxy of the scenario's own, the worker alive.
pub(crate) struct Split {
    pub(crate) stage: Stage,
    pub(crate) proxy: FreezeProxy,
    pub(crate) worker: String,
}

impl Split {
    pub(crate) async fn new(restart: &str) -> Result<Self> {
        Self::with(restart, &[], false).await
    }

    /// The same, with these words in the host's environment, and a proxy that tangles from the first
    /// frame on.
    pub(crate) async fn with(restart: &str, environment: &[(&str, &str)], tangled: bool) -> Result<Self> {
        let mut stage = Stage::new(restart)?;
        stage.database = Some(Database::start().await?);
        stage.start_host(&[], environment).await?;
        let proxy = FreezeProxy::before(&stage.url).await?;
        proxy.tangle(tangled);
        let mut split = Self { stage, proxy, worker: String::new() };
        split.start_worker(&[]).await?;
        split.linked().await?;
        split.worker = split.stage.home.worker_id("attic").await?;
        Ok(split)
    }

    pub(crate) async fn start_worker(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let url = self.proxy.url();
        self.stage.start_worker("attic", &["--host", &url], environment).await
    }

    /// Alive and linked.
    pub(crate) async fn linked(&self) -> Result<Value> {
        self.stage.worker_until("attic", "alive and linked", |seen| seen["status"] == "alive" && seen["linked"] == true).await
    }

    /// Fails if an event of the worker's is missing, doubled or out of order in the host's database;
    /// waits until all are there. How many there are.
    pub(crate) async fn whole_history(&self) -> Result<i64> {
        whole_history(self.stage.database.as_ref().context("a database of its own")?, &self.worker).await
    }
}

/// The worker's own numbers of its events, as the host has stored them, have no hole, and grow with
/// the host's: unique they are by the table's own constraint.
pub(crate) async fn whole_history(database: &Database, worker: &str) -> Result<i64> {
    let of = format!("from event where worker_id = '{worker}' and worker_seq is not null");
    eventually_within(SOON, "the worker's events are without a hole", async || {
        let rows =
            database.rows(&format!("select count(*), coalesce(max(worker_seq), 0) {of}")).await.map_err(|error| format!("{error:#}"))?;
        match rows.first().and_then(|row| row.split_once('|')) {
            Some((count, newest)) if count == newest => Ok(()),
            _ => Err(format!("count and newest are {rows:?}")),
        }
    })
    .await?;
    let swapped =
        format!("select count(*) from (select worker_seq, lag(worker_seq) over (order by id) as before {of}) e where before > worker_seq");
    ensure!(database.number(&swapped).await? == 0, "events are stored in another order than they happened in");
    database.number(&format!("select count(*) {of}")).await
}

/// Waits until a program has said this so many times, and gives the last.
pub(crate) async fn says(program: &Program, words: &str, times: usize, within: Duration) -> Result<String> {
    eventually_within(within, &format!("`{words}` is said {times} times"), async || {
        let said = program.said();
        let found: Vec<_> = said.iter().filter(|line| line.contains(words)).collect();
        match found.get(times - 1) {
            Some(line) => Ok((*line).clone()),
            None => Err(said.iter().rev().take(5).cloned().collect::<Vec<_>>()),
        }
    })
    .await
}

pub(crate) const BROKE: &str = "the link to the host broke";

#[test]
fn f14_one_way_partitions_drop_the_session_at_both_ends() -> Result<()> {
    scenario(14, "two network namespaces; packets worker->host dropped, then host->worker", async |seen| {
        let cable = Cable::new("p").await?;
        let mut stage = Stage::new("always")?;
        let data = stage.home.data().to_owned();
        let mut command = on(&cable.host, "manman-host")?;
        command.args(["run", "--lan", "--settle", "0s", "--data"]).arg(&data).arg("--games").arg(data.join("definitions"));
        let mut host = Program::spawn("manman-host", &mut command)?;
        host.line("ready", SOON).await?;
        let line = says(&host, "#sha256=", 1, SOON).await?;
        let (_, pin) = line.split_once("#sha256=").context("a join line has the fingerprint")?;
        let url = format!("https://10.77.0.1:8443#sha256={}", pin.split_whitespace().next().unwrap_or_default());
        stage.host = Some(host);
        let manman = async |words: &[&str]| -> Result<Value, String> {
            let mut command = on(&cable.host, "manman").map_err(|error| format!("{error:#}"))?;
            let output = command.arg("--data").arg(&data).args(words).arg("--json").output().await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
        };
        let worker_is = async |what: &str, within: Duration, enough: &dyn Fn(&Value) -> bool| {
            eventually_within(within, &format!("attic is {what}"), async || {
                let shown = manman(&["worker", "show", "attic"]).await?;
                if enough(&shown) { Ok(()) } else { Err(shown.to_string()) }
            })
            .await
        };
        let up = |shown: &Value| shown["status"] == "alive" && shown["linked"] == true;

        let token = manman(&["worker", "token"]).await.map_err(|error| anyhow!(error))?;
        let steamcmd = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
        let mut command = on(&cable.worker, "manman-worker")?;
        command.args([
            "run",
            "--docker",
            "off",
            "--name",
            "attic",
            "--host",
            &url,
            "--join-token",
            token["token"].as_str().unwrap_or_default(),
        ]);
        command.arg("--steamcmd").arg(steamcmd).arg("--data").arg(stage.data_of("attic"));
        stage.workers.insert("attic".to_owned(), Program::spawn("worker attic", &mut command)?);
        let joined = worker_is("alive and linked", SOON, &up).await;
        joined.with_context(|| format!("at {url} the worker said {:?}", stage.workers.get("attic").map(Program::said)))?;
        let made = manman(&["server", "create", GAME, "--name", "world", "--worker", "attic", "--wait=90s"]).await;
        let made = made.map_err(|error| anyhow!(error))?;
        ensure!(made["phase"] == "Ready", "{made:#}");
        let pid = stage.pid("world")?;

        for (broken, (muted, what)) in (1..).zip([(&cable.worker, "worker->host"), (&cable.host, "host->worker")]) {
            let began = Instant::now();
            cable.mute(muted).await?;
            worker_is("unknown, its link dropped", DROPPED_WITHIN, &|shown| shown["status"] == "unknown" && shown["linked"] == false)
                .await?;
            let host_saw = began.elapsed();
            says(stage.worker("attic")?, BROKE, broken, DROPPED_WITHIN.saturating_sub(host_saw)).await?;
            let both_saw = began.elapsed();
            ensure!(stage.pid("world")? == pid, "{what}: the game did not live through it");
            cable.unmute(muted).await?;
            worker_is("alive and linked again", SOON, &up).await?;
            let game = eventually_within(SOON, "the game is seen again", async || {
                let shown = manman(&["server", "show", "world"]).await?;
                if shown["phase"] == "Ready" { Ok(shown) } else { Err(shown.to_string()) }
            })
            .await?;
            ensure!(game["restarts"] == 0 && game["instance"] == made["instance"] && stage.pid("world")? == pid, "{what}: {game:#}");
            seen.saw(format!(
                "{what}: the host dropped it after {:.0} s, both had after {:.0} s; back {:.0} s after the cable was; same pid, 0 restarts",
                host_saw.as_secs_f64(),
                both_saw.as_secs_f64(),
                (began.elapsed() - both_saw).as_secs_f64(),
            ));
        }
        ensure!(stage.alone()? == 1, "the game was started more than once");
        Ok(())
    })
}

#[test]
fn f15_black_hole_is_noticed_by_both_and_left_by_one_reconnect() -> Result<()> {
    scenario(15, "a proxy holds every byte and sends no FIN until both ends have noticed; a game crashes meanwhile", async |seen| {
        let mut split = Split::new("always").await?;
        let before = split.stage.game("world", "attic", "").await?;
        let quiet = split.stage.game("quiet", "attic", "").await?;
        let (pid, quiet_pid) = (split.stage.pid("world")?, split.stage.pid("quiet")?);
        let links = split.proxy.links();
        ensure!(links.open == 1, "{links:?}");

        let began = Instant::now();
        split.proxy.freeze();
        kill(pid, Signal::KILL)?;
        split
            .stage
            .worker_until("attic", "unknown, its link dropped", |seen| seen["status"] == "unknown" && seen["linked"] == false)
            .await?;
        let host_saw = began.elapsed();
        says(split.stage.worker("attic")?, BROKE, 1, DROPPED_WITHIN).await?;
        let both_saw = began.elapsed();
        ensure!(both_saw < DROPPED_WITHIN, "it took {both_saw:?}");
        // The crash was seen to by the worker alone.
        let second = eventually_within(SOON, "the crashed game is back", async || {
            split
                .stage
                .pid("world")
                .map_err(|error| format!("{error:#}"))
                .and_then(|now| if now == pid { Err("the old one".to_owned()) } else { Ok(now) })
        })
        .await?;

        split.proxy.thaw();
        split.linked().await?;
        // Whatever was held up has arrived, and what comes now is steady.
        more_beats(&split.stage, 3).await?;
        let after = split.proxy.links();
        ensure!(after.open == 1, "{after:?} after {links:?}");
        ensure!(after.opened == links.opened + 1, "more than one reconnect: {after:?} after {links:?}");
        let shown = split.stage.phase("world", "Ready").await?;
        ensure!(shown["instance"] != before["instance"] && split.stage.pid("world")? == second, "{shown:#}");
        let untouched = split.stage.shown("quiet").await?;
        ensure!(
            untouched["instance"] == quiet["instance"] && untouched["restarts"] == 0 && split.stage.pid("quiet")? == quiet_pid,
            "{untouched:#}"
        );
        let events = split.whole_history().await?;
        let crashes = split.stage.count("server.crashed", Some(&before["id"])).await?;
        ensure!(crashes == 1, "{crashes} crashes are told of");
        ensure!(split.stage.alone()? == 3, "not three starts");
        seen.saw(format!("noticed by the host after {:.0} s, by both after {:.0} s", host_saw.as_secs_f64(), both_saw.as_secs_f64()));
        seen.saw(format!(
            "one reconnect; {events} events of the worker, none missing, none twice, the crash once; the other game untouched"
        ));
        Ok(())
    })
}

#[test]
fn f16_frames_doubled_and_swapped_change_nothing_twice() -> Result<()> {
    scenario(16, "a proxy sends every frame of the link twice and swaps neighbours, both ways, from the first on", async |seen| {
        let split = Split::with("always", &[], true).await?;
        for name in ["one", "two", "three"] {
            split.stage.create(name, "attic", "silent").await?;
        }
        for name in ["one", "two", "three"] {
            split.stage.phase(name, "Ready").await?;
        }
        let client = split.stage.client()?;
        for number in 0..20 {
            let body = json!({"command": format!("word {number}"), "answer_ms": 0});
            client.call::<Value>(reqwest::Method::POST, "/server/one/command", Some(&body)).await?;
        }
        let two = split.stage.shown("two").await?;
        split.stage.ask("two", "restart").await?;
        split.stage.until("two", "another instance, Ready", |seen| seen["phase"] == "Ready" && seen["instance"] != two["instance"]).await?;
        split.stage.ask("three", "stop").await?;
        split.stage.phase("three", "Stopped").await?;
        kill(split.stage.pid("one")?, Signal::KILL)?;
        split.stage.until("one", "back after its crash", |seen| seen["phase"] == "Ready" && seen["restarts"] == 1).await?;
        more_beats(&split.stage, 2).await?;
        let doubled = split.proxy.doubled();
        ensure!(doubled > 50, "only {doubled} frames went twice");
        split.proxy.tangle(false);

        let mut starts = std::collections::BTreeMap::new();
        for entry in split.stage.witness()?.into_iter().filter(|entry| entry.alone.is_some()) {
            *starts.entry(entry.world).or_insert(0) += 1;
        }
        let starts: Vec<(&str, i32)> = starts.iter().map(|(world, count)| (world.as_str(), *count)).collect();
        ensure!(starts == [("one", 2), ("three", 1), ("two", 2)], "the games were started {starts:?}");
        split.stage.alone()?;
        let events = split.whole_history().await?;
        // A batch that is told of twice is not sent twice for it.
        let batches = split.proxy.frames(Way::ToHost).into_iter().filter(|frame| frame["frame"] == "events").count();
        ensure!(i64::try_from(batches)? <= events, "{events} events went in {batches} frames");
        let crashes = split.stage.count("server.crashed", None).await?;
        ensure!(crashes == 1, "{crashes} crashes are told of");
        // Asked over the link as it is now, of what was said over the tangled one.
        let transcript = follow(&client, "one", "since_seq=0", SOON, |t| t.printed().any(|text| text == "got word 19")).await?;
        let got: Vec<&str> = transcript.printed().filter(|text| text.starts_with("got word ")).collect();
        let wanted: Vec<String> = (0..20).map(|number| format!("got word {number}")).collect();
        ensure!(got == wanted, "the game read {got:?}");
        let links = split.proxy.links();
        seen.saw(format!("{doubled} frames doubled and swapped; 20 console lines read once each, in order; one restart, one crash"));
        seen.saw(format!("{events} events, none missing, none twice; {} link(s) in all", links.opened));
        Ok(())
    })
}

#[test]
fn f16_a_lost_welcome_is_asked_for_again_with_the_token_before() -> Result<()> {
    scenario(16, "the answer to a worker's registration is lost, twice in a row; then the worker restarts as ever", async |seen| {
        let mut split = Split::new("always").await?;
        let game = split.stage.game("world", "attic", "").await?;
        let pid = split.stage.pid("world")?;
        for (round, losses) in [0, 1, 2, 0].into_iter().enumerate() {
            let before = split.linked().await?;
            let lost = split.proxy.lost_registrations();
            split.stage.kill_worker("attic").await?;
            split.proxy.lose_registrations(losses);
            split.start_worker(&[]).await?;
            let wanted = before["session_epoch"].as_u64().context("an epoch")? + 1 + losses as u64;
            let after = split
                .stage
                .worker_until("attic", "alive in its new session", |seen| {
                    seen["status"] == "alive" && seen["linked"] == true && seen["session_epoch"].as_u64() >= Some(wanted)
                })
                .await?;
            ensure!(split.proxy.lost_registrations() == lost + losses, "not so many answers were lost");
            ensure!(after["session_epoch"].as_u64() == Some(wanted), "round {round}: {after:#}");
            ensure!(after.get("quarantine").is_none_or(Value::is_null), "round {round}: {after:#}");
            let shown = split.stage.phase("world", "Ready").await?;
            ensure!(shown["restarts"] == 0 && shown["instance"] == game["instance"] && split.stage.pid("world")? == pid, "{shown:#}");
        }
        // It still takes wishes: nothing of all this was a quarantine.
        split.stage.ask("world", "stop").await?;
        split.stage.phase("world", "Stopped").await?;
        let events = split.whole_history().await?;
        seen.saw(format!("no quarantine after 1 and after 2 lost answers; same pid throughout; {events} events without a hole"));
        Ok(())
    })
}
