//! The history of a scenario, from everybody who wrote some of it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use manman_e2e::faults::Seen;
use manman_e2e::history::{Entry, History, Process, Settled, Stored, What, Wish, Witness, check};
use manman_e2e::{Context, Result, bail, eventually_within};
use manman_shim::journal::{self, Event};
use manman_shim::spec::EPOCH_SHIFT;
use serde_json::Value;

use crate::stage::{Stage, boot_ms};

impl Stage {
    /// Checks every invariant over all that has happened since the stage was set; workers and host
    /// have to run, and what was wished has to be there.
    pub(crate) async fn holds(&self, seen: &mut Seen) -> Result<()> {
        let (mut history, mut violations) = (History::default(), Vec::new());
        // What has just happened may still be on its way to the host.
        let settled = eventually_within(Duration::from_secs(20), "the history holds", async || {
            history = self.history().await.map_err(|error| format!("{error:#}"))?;
            violations = check(&history);
            if violations.is_empty() { Ok(()) } else { Err(format!("{} violations", violations.len())) }
        })
        .await;
        if !violations.is_empty() {
            let kept = manman_e2e::target().join("faults").join(format!("history-{}.txt", std::process::id()));
            std::fs::create_dir_all(kept.parent().context("it has one")?)?;
            std::fs::write(&kept, format!("{violations:#?}\n\n{history:#?}"))?;
            bail!("{} violations, the history is in {}: {violations:#?}", violations.len(), kept.display());
        }
        settled?;
        let begun = history.journal.iter().filter(|entry| matches!(entry.what, What::Begins { .. })).count();
        seen.saw(format!(
            "history of {begun} instances, {} lines of journals, {} events, {} words of the games themselves: I1–I8 hold",
            history.journal.len(),
            history.stored.len(),
            history.witness.len()
        ));
        Ok(())
    }

    pub(crate) async fn history(&self) -> Result<History> {
        let mut history = History { witness: self.witness()?, ..History::default() };
        let mut names = BTreeMap::new();
        let mut page = String::new();
        loop {
            let list: Value = self.client()?.call(reqwest::Method::GET, &format!("/server?limit=200{page}"), None::<&()>).await?;
            for server in list["items"].as_array().context("a list of servers")? {
                let id = server["id"].as_str().context("an id")?.to_owned();
                names.insert(server["name"].as_str().context("a name")?.to_owned(), id.clone());
                history.settled.push(Settled {
                    server: id,
                    generation: server["generation"].as_u64().context("a generation")?,
                    applied: server["applied_generation"].as_u64().unwrap_or(0),
                    instance: server["instance"].as_str().map(str::to_owned),
                    wanted: server["desired"] == "running",
                    leased: !server["lease_seconds"].is_null(),
                });
            }
            match list["next"].as_str() {
                Some(next) => page = format!("&cursor={next}"),
                None => break,
            }
        }
        history.wishes.clone_from(&self.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        for wish in &mut history.wishes {
            if let Some(id) = names.get(&wish.server) {
                wish.server.clone_from(id);
            }
        }
        self.read_consoles(&names, &mut history);
        let machines = self.home.data().join("workers");
        for machine in folders(&machines)? {
            for server in folders(&machine.join("servers"))? {
                read_journal(&machine, &server, &mut history)?;
            }
            if let Some((worker, last)) = told(&machine.join("worker.sqlite"))? {
                history.told.insert(worker, last);
            }
        }
        // Whatever a game says to have begun is its server's own.
        for entry in history.witness.clone() {
            let Some(server) = names.get(&entry.world) else { continue };
            history.journal.push(Entry {
                at_ms: entry.boot_ms,
                machine: String::new(),
                server: server.clone(),
                instance: String::new(),
                what: What::Adopts { process: Process { pid: entry.pid, ticks: entry.ticks } },
            });
        }
        self.read_events(&mut history).await?;
        close_the_unseen(&mut history);
        Ok(history)
    }

    /// What was typed once is heard once at most, by whichever instance.
    fn read_consoles(&self, servers: &BTreeMap<String, String>, history: &mut History) {
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (world, line) in &typed {
            let times = typed.iter().filter(|(of, what)| of == world && what == line).count();
            let is_it = |entry: &&Witness| entry.what == "hears" && entry.world == *world && entry.line.as_ref() == Some(line);
            let heard = history.witness.iter().filter(is_it).count();
            // Whoever was cut off in between was told that nobody knows.
            let once = (u32::try_from(1 + heard.saturating_sub(times)).unwrap_or(u32::MAX), 1);
            let server = servers.get(world).cloned().unwrap_or_default();
            history.wishes.push(Wish { server, once: Some(once), ..Wish::default() });
        }
    }

    async fn read_events(&self, history: &mut History) -> Result<()> {
        let Some(database) = &self.database else { return Ok(()) };
        let rows = database
            .rows(
                "select id, coalesce(worker_seq, 0), coalesce(worker_id::text, ''), coalesce(server_id::text, ''), kind, \
                 coalesce(data->>'instance', '') from event order by id",
            )
            .await?;
        for row in rows {
            let columns: Vec<&str> = row.split('|').collect();
            let [id, seq, worker, server, kind, instance] = columns[..] else { bail!("a row of events: {row}") };
            history.stored.push(Stored {
                id: id.parse()?,
                seq: seq.parse()?,
                worker: worker.to_owned(),
                server: server.to_owned(),
                kind: kind.to_owned(),
                instance: Some(instance.to_owned()).filter(|instance| !instance.is_empty()),
            });
        }
        Ok(())
    }
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(Vec::new()) };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort_unstable();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_journal(machine: &Path, server: &Path, history: &mut History) -> Result<()> {
    let path = server.join("journal");
    let found = journal::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut asked: BTreeMap<String, bool> = BTreeMap::new();
    for line in found.lines {
        let what = match line.event {
            Event::Started { pid, ticks } => {
                What::Begins { epoch: line.epoch.unwrap_or(0) >> EPOCH_SHIFT, process: Process { pid, ticks } }
            }
            Event::Signal { pid, ticks, .. } => What::Signalled { process: Process { pid, ticks } },
            Event::Stop { asked: by } => {
                asked.insert(line.instance, by == "ladder" || by == "kill");
                continue;
            }
            Event::Exit { code, signal, lease, empty: true, .. } => {
                let cause = (code.is_none() && signal.is_none()).then(|| "the shim knows none".to_owned());
                What::Ends { code, signal, cause, asked: asked.get(&line.instance).copied().unwrap_or(false) && !lease }
            }
            _ => continue,
        };
        let at_ms = u64::try_from(line.at.as_millis())?;
        history.journal.push(Entry { at_ms, machine: name(machine), server: name(server), instance: line.instance, what });
    }
    Ok(())
}

/// The worker's id and the number of its last event.
fn told(database: &Path) -> Result<Option<(String, u64)>> {
    if !database.exists() {
        return Ok(None);
    }
    let connection = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (value, seq): (String, i64) =
        connection.query_row("SELECT value, event_seq FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let meta: Value = serde_json::from_str(&value)?;
    let worker = meta["worker_id"].as_str().or_else(|| meta["registration"]["worker_id"].as_str());
    Ok(worker.map(|worker| (worker.to_owned(), u64::try_from(seq).unwrap_or(0))))
}

/// An instance whose shim was killed has no end in its journal. Its end is then what the host was
/// told of it, at the latest just before the next one of that server began.
fn close_the_unseen(history: &mut History) {
    let ended: Vec<String> =
        history.journal.iter().filter(|entry| matches!(entry.what, What::Ends { .. })).map(|entry| entry.instance.clone()).collect();
    let mut begun: Vec<Entry> = history.journal.iter().filter(|entry| matches!(entry.what, What::Begins { .. })).cloned().collect();
    begun.sort_by_key(|entry| entry.at_ms);
    for (at, begin) in begun.iter().enumerate() {
        if ended.contains(&begin.instance) {
            continue;
        }
        let is_told = |event: &&Stored| {
            matches!(event.kind.as_str(), "server.crashed" | "server.stopped") && event.instance.as_deref() == Some(begin.instance.as_str())
        };
        if history.stored.iter().find(is_told).is_none() {
            continue;
        }
        let next = begun[at + 1..].iter().find(|later| later.server == begin.server).map_or_else(boot_ms, |later| later.at_ms);
        let cause = Some("its shim was killed; told by the worker".to_owned());
        // Nobody but the games' own marks can say that two did not overlap here, and they do.
        history.journal.push(Entry { at_ms: next, what: What::Ends { code: None, signal: None, cause, asked: false }, ..begin.clone() });
    }
}
