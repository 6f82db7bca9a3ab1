//! The invariants of the table of faults, over a whole history.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, History, Process, What};

/// What must not be: the invariant that is broken, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

/// A wish may be on its way for this long before its game ends.
const WISH_HOLDS_MS: u64 = 180_000;

/// Everything that is wrong; nothing where all invariants hold.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut journal = history.journal.clone();
    journal.sort_by_key(|entry| entry.at_ms);
    let mut found = Found::default();
    instances_never_overlap(&journal, history, &mut found);
    epochs_never_fall(&journal, &mut found);
    commands_are_done_once(history, &mut found);
    only_our_processes_are_signalled(&journal, &mut found);
    each_end_is_recorded_once(&journal, history, &mut found);
    nothing_ends_unasked(&journal, history, &mut found);
    what_is_wished_is_there(history, &mut found);
    no_event_is_lost_or_doubled(history, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, invariant: &'static str, what: String) {
        self.0.push(Violation { invariant, what });
    }
}

struct Run<'a> {
    begin: &'a Entry,
    epoch: u64,
    process: Process,
    ends: Vec<&'a Entry>,
}

/// Instances by server, in the order in which they began.
fn runs(journal: &[Entry]) -> BTreeMap<&str, Vec<Run<'_>>> {
    let mut runs: BTreeMap<&str, Vec<Run<'_>>> = BTreeMap::new();
    for entry in journal {
        let of_server = runs.entry(&entry.server).or_default();
        match &entry.what {
            What::Begins { epoch, process } => of_server.push(Run { begin: entry, epoch: *epoch, process: *process, ends: Vec::new() }),
            What::Ends { .. } => {
                let its = |run: &&mut Run<'_>| run.begin.instance == entry.instance && run.begin.machine == entry.machine;
                if let Some(run) = of_server.iter_mut().find(its) {
                    run.ends.push(entry);
                }
            }
            What::Adopts { .. } | What::Signalled { .. } => {}
        }
    }
    runs
}

/// I1: of one server no two instances at a time, on whatever machines.
fn instances_never_overlap(journal: &[Entry], history: &History, found: &mut Found) {
    for (server, runs) in runs(journal) {
        for (at, run) in runs.iter().enumerate() {
            for later in &runs[at + 1..] {
                if run.ends.first().is_none_or(|end| end.at_ms > later.begin.at_ms) {
                    found.add(
                        "I1",
                        format!(
                            "{server}: {} on {} began at {} ms while {} on {} ran",
                            later.begin.instance, later.begin.machine, later.begin.at_ms, run.begin.instance, run.begin.machine
                        ),
                    );
                }
            }
        }
    }
    for entry in &history.witness {
        if entry.alone == Some(false) {
            found.add("I1", format!("{}: pid {} was not alone at {} ms: {:?}", entry.world, entry.pid, entry.boot_ms, entry.others));
        }
    }
}

/// I2: a server never begins under a lower epoch than one under which it has run.
fn epochs_never_fall(journal: &[Entry], found: &mut Found) {
    for (server, runs) in runs(journal) {
        for pair in runs.windows(2) {
            if pair[1].epoch < pair[0].epoch {
                found.add("I2", format!("{server}: epoch {} on {} after {}", pair[1].epoch, pair[1].begin.machine, pair[0].epoch));
            }
        }
    }
}

/// I3: a command takes effect once at most, and is answered.
fn commands_are_done_once(history: &History, found: &mut Found) {
    for wish in &history.wishes {
        match wish.once {
            Some((done, _)) if done > 1 => {
                found.add("I3", format!("{}: a command of {} ms was done {done} times", wish.server, wish.at_ms))
            }
            Some((_, 0)) => found.add("I3", format!("{}: a command of {} ms was never answered", wish.server, wish.at_ms)),
            Some(_) | None => {}
        }
    }
}

/// I4: whoever gets a signal is a process of that server, by pid and start.
fn only_our_processes_are_signalled(journal: &[Entry], found: &mut Found) {
    let ours: BTreeSet<(&str, Process)> = journal
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Begins { process, .. } | What::Adopts { process } => Some((entry.server.as_str(), *process)),
            What::Signalled { .. } | What::Ends { .. } => None,
        })
        .collect();
    for entry in journal {
        if let What::Signalled { process } = entry.what
            && !ours.contains(&(entry.server.as_str(), process))
        {
            found.add("I4", format!("{}: {process:?} got a signal of {} and is nobody's of it", entry.server, entry.instance));
        }
    }
}

/// I5: each end once, with its code or with the cause for having none, here and at the host.
fn each_end_is_recorded_once(journal: &[Entry], history: &History, found: &mut Found) {
    let running: BTreeSet<&str> = history.settled.iter().filter_map(|settled| settled.instance.as_deref()).collect();
    for (server, runs) in runs(journal) {
        for run in runs {
            let instance = run.begin.instance.as_str();
            match run.ends.as_slice() {
                [] if !history.settled.is_empty() && !running.contains(instance) => {
                    found.add("I5", format!("{server}: {instance} (pid {}) does not run and has no end", run.process.pid));
                }
                [] => {}
                [end] => {
                    if let What::Ends { code: None, signal: None, cause: None, .. } = end.what {
                        found.add("I5", format!("{server}: {instance} ended without code or cause"));
                    }
                }
                ends => found.add("I5", format!("{server}: {instance} ended {} times", ends.len())),
            }
        }
    }
    let mut ends: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for event in history.stored.iter().filter(|event| is_an_end(&event.kind)) {
        if let Some(instance) = &event.instance {
            *ends.entry((&event.server, instance)).or_default() += 1;
        }
    }
    for ((server, instance), times) in ends.iter().filter(|(_, times)| **times > 1) {
        found.add("I5", format!("{server}: the host has {times} ends of {instance}"));
    }
    if history.stored.is_empty() {
        return;
    }
    // What has been told to have started has an end, or runs.
    for event in history.stored.iter().filter(|event| event.kind == "server.started") {
        let Some(instance) = event.instance.as_deref() else { continue };
        if !ends.contains_key(&(event.server.as_str(), instance)) && !running.contains(instance) && !history.settled.is_empty() {
            found.add("I5", format!("{}: the host knows no end of {instance}, which does not run", event.server));
        }
    }
}

fn is_an_end(kind: &str) -> bool {
    matches!(kind, "server.stopped" | "server.crashed" | "server.exited" | "server.ended" | "server.finished")
}

/// I6: no autonomous game is asked to end by anything but a person's wish.
fn nothing_ends_unasked(journal: &[Entry], history: &History, found: &mut Found) {
    let leased: BTreeSet<&str> = history.settled.iter().filter(|settled| settled.leased).map(|settled| settled.server.as_str()).collect();
    for entry in journal {
        let What::Ends { asked: true, .. } = entry.what else { continue };
        let wished = history.wishes.iter().any(|wish| {
            wish.ends_it && wish.server == entry.server && wish.at_ms <= entry.at_ms && entry.at_ms - wish.at_ms <= WISH_HOLDS_MS
        });
        if !wished && !leased.contains(entry.server.as_str()) {
            found.add(
                "I6",
                format!("{}: {} was asked to end at {} ms, and nobody had wished it", entry.server, entry.instance, entry.at_ms),
            );
        }
    }
}

/// I7: once faults are over, what runs is what is wished.
fn what_is_wished_is_there(history: &History, found: &mut Found) {
    for settled in &history.settled {
        if settled.wanted && settled.applied != settled.generation {
            found.add("I7", format!("{}: generation {} is wished and {} runs", settled.server, settled.generation, settled.applied));
        }
        if settled.wanted != settled.instance.is_some() {
            found.add("I7", format!("{}: wanted is {} and its instance {:?}", settled.server, settled.wanted, settled.instance));
        }
    }
}

/// I8: a worker's events are at the host without a gap and each once.
fn no_event_is_lost_or_doubled(history: &History, found: &mut Found) {
    let mut seqs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in history.stored.iter().filter(|event| event.seq > 0) {
        seqs.entry(&event.worker).or_default().push(event.seq);
    }
    for (worker, mut seqs) in seqs.clone() {
        seqs.sort_unstable();
        for pair in seqs.windows(2) {
            if pair[0] == pair[1] {
                found.add("I8", format!("{worker}: event {} is there twice", pair[0]));
            } else if pair[1] != pair[0] + 1 {
                found.add("I8", format!("{worker}: after event {} comes {}", pair[0], pair[1]));
            }
        }
    }
    for (worker, last) in &history.told {
        let there = seqs.get(worker.as_str()).and_then(|seqs| seqs.iter().max()).copied().unwrap_or(0);
        if there < *last {
            found.add("I8", format!("{worker}: told up to event {last}, the host has up to {there}"));
        }
    }
    let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
    for event in history.stored.iter().filter(|event| event.kind == "server.started") {
        if let Some(instance) = event.instance.as_deref()
            && !told.insert((&event.server, instance))
        {
            found.add("I8", format!("{}: {instance} has started twice", event.server));
        }
    }
}

#[cfg(test)]
mod tests;
