//! A day of faults at random, from a seed: whatever happened, nothing of it may break an invariant.

mod fate;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use manman_common::client::Client;
use manman_e2e::faults::{Seen, scenario};
use manman_e2e::{Context, Database, FreezeProxy, Result, ensure, eventually_within};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stage::{Stage, kill, seed};
use fate::{Event, Fate, Undo};

const WORKERS: [&str; 3] = ["attic", "cellar", "loft"];
const GAMES: usize = 20;
/// Between two faults, so that something else than the faults happens, too.
const BREATH: Duration = Duration::from_millis(60);
/// For everything to be as it is wished once the faults are over: two minutes and a stop ladder, on
/// two cores that carry thirty processes.
const SETTLES_WITHIN: Duration = Duration::from_secs(180);

struct Day {
    stage: Stage,
    proxies: BTreeMap<&'static str, FreezeProxy>,
    /// The games' servers by name: id and worker.
    worlds: BTreeMap<String, (String, &'static str)>,
    client: Client,
    counts: BTreeMap<&'static str, usize>,
    /// What is to be put right, and when.
    undos: Vec<(Instant, Undo)>,
}

#[test]
fn day_of_faults() -> Result<()> {
    let events: usize = std::env::var("MANMAN_DAY_EVENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let seed = seed();
    let done =
        format!("a day of {events} random faults over {GAMES} games on {} workers and one host, MANMAN_DAY_SEED={seed}", WORKERS.len());
    eprintln!("{done}");
    scenario(0, &done, async |seen| {
        let mut day = Day::set().await?;
        let mut fate = Fate::new(seed);
        let begun = Instant::now();
        // Wishes are no faults; they make the faults matter.
        while day.faults() < events {
            day.put_right(false).await?;
            let event = fate.next(&day.worlds.keys().cloned().collect::<Vec<_>>(), &WORKERS);
            day.befall(event).await?;
            tokio::time::sleep(BREATH).await;
        }
        day.put_right(true).await?;
        seen.saw(format!("in {:.0} s: {}", begun.elapsed().as_secs_f64(), day.told()));
        day.settle(seen).await?;
        day.each_lock_is_held_once(seen)?;
        ensure!(day.stage.alone()? >= GAMES, "fewer games than there are worlds");
        day.stage.holds(seen).await
    })
}

impl Day {
    async fn set() -> Result<Self> {
        let mut stage = Stage::new("always")?;
        stage.database = Some(Database::start().await?);
        stage.start_host(&[], &[]).await?;
        let mut proxies = BTreeMap::new();
        for worker in WORKERS {
            let proxy = FreezeProxy::before(&stage.url).await?;
            stage.start_worker(worker, &["--host", &proxy.url()], &[]).await?;
            proxies.insert(worker, proxy);
        }
        let mut worlds = BTreeMap::new();
        for worker in WORKERS {
            stage.alive(worker).await?;
        }
        for number in 0..GAMES {
            let (name, worker) = (format!("world-{number:02}"), WORKERS[number % WORKERS.len()]);
            // Some obey, some do not, some leave something behind.
            let options = match number % 5 {
                0 => "lines=1,ignore-term,deaf",
                1 => "lines=1,daemon",
                _ => "lines=1",
            };
            let shown = stage.create(&name, worker, options).await?;
            worlds.insert(name, (shown["id"].as_str().context("an id")?.to_owned(), worker));
        }
        for name in worlds.keys() {
            stage.phase(name, "Ready").await?;
        }
        let client = stage.client()?;
        Ok(Self { stage, proxies, worlds, client, counts: BTreeMap::new(), undos: Vec::new() })
    }

    fn faults(&self) -> usize {
        self.counts.iter().filter(|(what, _)| !matches!(**what, "wish" | "line typed")).map(|(_, count)| count).sum()
    }

    fn told(&self) -> String {
        self.counts.iter().map(|(what, count)| format!("{count} × {what}")).collect::<Vec<_>>().join(", ")
    }

    /// Undoes what is due, or all of it.
    async fn put_right(&mut self, all: bool) -> Result<()> {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.undos).into_iter().partition(|(at, _)| all || *at <= now);
        self.undos = later;
        for (_, undo) in due {
            match undo {
                Undo::StartWorker(worker) => {
                    let url = self.proxies.get(worker).context("a proxy")?.url();
                    self.stage.start_worker(worker, &["--host", &url], &[]).await?;
                }
                Undo::ContinueWorker(worker) => {
                    if let Some(program) = self.stage.workers.get(worker) {
                        program.signal(Signal::CONT)?;
                    }
                }
                Undo::StartHost => self.stage.spawn_host(&[], &[])?,
                Undo::ContinueHost => self.stage.host()?.signal(Signal::CONT)?,
                Undo::Thaw(worker) => self.proxies.get(worker).context("a proxy")?.thaw(),
            }
        }
        if all && let Some(host) = &mut self.stage.host {
            host.line("ready", crate::stage::SOON).await?;
        }
        Ok(())
    }

    fn is_touched(&self, worker: Option<&str>) -> bool {
        self.undos.iter().any(|(_, undo)| match undo {
            Undo::StartWorker(of) | Undo::ContinueWorker(of) => worker == Some(*of),
            Undo::StartHost | Undo::ContinueHost => worker.is_none(),
            Undo::Thaw(_) => false,
        })
    }

    fn undo_after(&mut self, after: Duration, undo: Undo) {
        self.undos.push((Instant::now() + after, undo));
    }

    /// Lets it happen, where it can; what can not is no event.
    async fn befall(&mut self, event: Event) -> Result<()> {
        let what = event.name();
        match event {
            Event::KillGame(world) => {
                let Some(pid) = self.stage.pids(&world).first().copied() else { return self.befall_wish(world, "start").await };
                // It may have ended by itself in between.
                let _ = kill(pid, Signal::KILL);
            }
            Event::KillShim(world) => {
                let (id, worker) = self.worlds.get(&world).context("a world")?;
                let Some(pid) = self.stage.shims(worker, Some(id)).first().copied() else { return self.befall_wish(world, "start").await };
                let _ = kill(pid, Signal::KILL);
            }
            Event::KillWorker(worker, away) => {
                if self.is_touched(Some(worker)) {
                    return self.befall_cut(worker, away);
                }
                self.stage.kill_worker(worker).await?;
                self.undo_after(away, Undo::StartWorker(worker));
            }
            Event::StopWorker(worker, away) => {
                if self.is_touched(Some(worker)) {
                    return self.befall_cut(worker, away);
                }
                self.stage.worker(worker)?.signal(Signal::STOP)?;
                self.undo_after(away, Undo::ContinueWorker(worker));
            }
            Event::KillHost(away) => {
                if self.is_touched(None) {
                    return self.befall_cut(WORKERS[0], away);
                }
                self.stage.kill_host().await?;
                self.undo_after(away, Undo::StartHost);
            }
            Event::StopHost(away) => {
                if self.is_touched(None) {
                    return self.befall_cut(WORKERS[1], away);
                }
                self.stage.host()?.signal(Signal::STOP)?;
                self.undo_after(away, Undo::ContinueHost);
            }
            Event::Cut(worker, away) => return self.befall_cut(worker, away),
            Event::CutOneWay(worker, way, away) => {
                self.proxies.get(worker).context("a proxy")?.freeze_one(way);
                self.undo_after(away, Undo::Thaw(worker));
            }
            Event::Type(world) => self.befall_console(world),
            Event::Wish(world, verb) => return self.befall_wish(world, verb).await,
        }
        *self.counts.entry(what).or_default() += 1;
        Ok(())
    }

    fn befall_cut(&mut self, worker: &'static str, away: Duration) -> Result<()> {
        self.proxies.get(worker).context("a proxy")?.freeze();
        self.undo_after(away, Undo::Thaw(worker));
        *self.counts.entry("link cut").or_default() += 1;
        Ok(())
    }

    /// Asks, and does not wait for an answer: the host may be away.
    async fn befall_wish(&mut self, world: String, verb: &'static str) -> Result<()> {
        self.stage.wish(&world, verb != "start");
        let client = self.client.clone();
        tokio::spawn(async move {
            let path = format!("/server/{world}/{verb}");
            let body = json!({});
            let asked = client.call::<Value>(reqwest::Method::POST, &path, Some(&body));
            let _ = tokio::time::timeout(Duration::from_secs(5), asked).await;
        });
        *self.counts.entry("wish").or_default() += 1;
        Ok(())
    }

    /// Types a line that nobody has typed before, and does not wait for an answer either.
    fn befall_console(&self, world: String) {
        let line = format!("line {} of today", self.counts.get("line typed").copied().unwrap_or(0));
        self.stage.types(&world, &line);
        let client = self.client.clone();
        tokio::spawn(async move {
            let path = format!("/server/{world}/command");
            let body = json!({ "command": line });
            let typed = client.call::<Value>(reqwest::Method::POST, &path, Some(&body));
            let _ = tokio::time::timeout(Duration::from_secs(5), typed).await;
        });
    }

    /// Everything is wished running, and gets there.
    async fn settle(&mut self, seen: &mut Seen) -> Result<()> {
        let begun = Instant::now();
        for worker in WORKERS {
            self.stage.alive(worker).await?;
        }
        for name in self.worlds.keys() {
            eventually_within(crate::stage::SOON, "the host takes a wish", async || {
                self.stage.ask(name, "start").await.map_err(|error| format!("{error:#}"))
            })
            .await?;
        }
        let mut asked_again = 0;
        for name in self.worlds.keys() {
            let deadline = SETTLES_WITHIN.saturating_sub(begun.elapsed()).max(Duration::from_secs(20));
            eventually_within(deadline, &format!("{name} runs as it is wished"), async || {
                let shown = self.stage.shown(name).await.map_err(|error| format!("{error:#}"))?;
                let games = self.stage.games(name).len();
                let runs = matches!(shown["phase"].as_str(), Some("Ready" | "Running"));
                if runs && games == 1 && shown["applied_generation"] == shown["generation"] {
                    return Ok(());
                }
                // As a person would: not wait for the next try, and renew what runs in an old shape.
                if shown["phase"] == "Backoff" || shown["phase"] == "Failed" {
                    asked_again += 1;
                    let _ = self.stage.ask(name, "start").await;
                } else if runs && shown["pending_restart"] == true {
                    asked_again += 1;
                    let _ = self.stage.ask(name, "restart").await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                Err(format!("{games} games, {shown}"))
            })
            .await?;
        }
        seen.saw(format!(
            "all {GAMES} as wished {:.0} s after the last fault, {asked_again} of them asked twice",
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn each_lock_is_held_once(&self, seen: &mut Seen) -> Result<()> {
        for (name, (id, worker)) in &self.worlds {
            let path = self.stage.server_dir(worker, id).join("lock");
            ensure!(is_held(&path)?, "nobody holds the lock of {name}");
            let holders = self.stage.games(name);
            ensure!(holders.len() == 1, "{name} has the games {holders:?}");
        }
        seen.saw("each world's lock is held, and by one game");
        Ok(())
    }
}

fn is_held(path: &Path) -> Result<bool> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}
