//! `manman-worker rebase` and `manman-worker fence`: what a person at the machine says of a data
//! directory while no worker is at work on it, with no host needed.

use std::fmt::Write as _;

use manman_common::{DesiredState, ServerSpec};
use serde::Serialize;

use crate::app::RunError;
use crate::config::Config;
use crate::driver::Stops;
use crate::driver::shim::fence;
use crate::identity::DataDir;
use crate::machine;
use crate::report::Report;
use crate::standing::Standing;
use crate::store::Store;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// This machine is the worker's own, and what its database says holds.
    Rebase,
    /// Nothing may start here.
    Fence,
}

/// A directory with nobody at work on it, and what the word would change.
pub struct Asked {
    // Held, so that no worker starts before the word is stored.
    directory: DataDir,
    /// What is to run here by its database.
    wanted: Vec<ServerSpec>,
    store: Store,
    word: Word,
    machine: manman_common::session::Machine,
    /// To be typed by whoever means it.
    pub name: String,
    /// Said before it is asked for.
    pub before: String,
}

/// What holds from the next start of the worker on.
#[derive(Debug, Serialize)]
pub struct Said {
    text: &'static str,
}

impl Report for Said {
    fn to_lines(&self) -> String {
        format!("{}\n", self.text)
    }

    fn is_sound(&self) -> bool {
        true
    }
}

/// Looks at the directory; refuses while a worker runs on it.
pub async fn ask(config: &Config, word: Word) -> Result<Asked, RunError> {
    let directory = DataDir::open(&config.data_dir)?;
    let store = Store::open(directory.path())?.store;
    let loaded = store.load().await?;
    let name = loaded.meta.name.clone().unwrap_or_else(|| config.name.clone()).to_string();
    let mut before = String::new();
    // Writing into a String can not fail.
    match Standing::of(&loaded.meta).attention(&name) {
        Some((text, _)) => drop(writeln!(before, "now: {text}")),
        None => drop(writeln!(before, "now: the worker does as it is told")),
    }
    let specs = loaded.records.into_values().map(|record| record.spec);
    let wanted: Vec<ServerSpec> = specs.filter(|spec| spec.desired == DesiredState::Running).collect();
    let names: Vec<&str> = wanted.iter().map(|spec| spec.name.as_str()).collect();
    let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let _ = match word {
        Word::Rebase => writeln!(
            before,
            "then: these servers start here with the next start of the worker: {list}\n\
             If this directory was copied, and the first machine still runs them, every one of their worlds then runs twice."
        ),
        Word::Fence => writeln!(before, "then: what runs goes on until it is stopped, and none of these starts here again: {list}"),
    };
    let machine = machine::this_machine(directory.path());
    Ok(Asked { directory, wanted, store, word, machine, name, before })
}

impl Asked {
    /// Stores the word.
    pub async fn confirmed(self) -> Result<Said, RunError> {
        let (word, machine) = (self.word, self.machine);
        if word == Word::Rebase {
            // Stops that this database has forgotten no longer count.
            let servers = self.directory.path().join("servers");
            for spec in &self.wanted {
                let place = servers.join(spec.id.to_string());
                fence::take_up(&place, spec, Stops::All)
                    .map_err(|error| RunError::File { path: place, source: std::io::Error::other(error) })?;
            }
        }
        self.store
            .update_meta(move |meta| match word {
                Word::Rebase => {
                    meta.trust.started_on(machine);
                    meta.trust.rebased_here();
                    meta.fenced = false;
                }
                Word::Fence => meta.fenced = true,
            })
            .await?;
        Ok(Said {
            text: match word {
                Word::Rebase => "rebased: the worker goes by what it remembers, until its host says otherwise",
                Word::Fence => "fenced: nothing starts here until `manman-worker rebase`",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use manman_common::session::Quarantine;
    use manman_worker_core::Mode;

    use super::*;

    #[tokio::test]
    async fn a_person_at_the_machine_fences_it_and_takes_that_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = Config::new(directory.path());
        let mode = || Standing::of(&crate::store::peek(directory.path()).expect("a database")).mode();

        let asked = ask(&config, Word::Fence).await.expect("nobody is at work");
        assert!(matches!(ask(&config, Word::Fence).await, Err(RunError::Identity(_))), "not while somebody is");
        asked.confirmed().await.expect("stored");
        assert_eq!(mode(), Mode::Frozen);

        let asked = ask(&config, Word::Rebase).await.expect("nobody is at work");
        assert!(asked.before.contains("fenced"), "{}", asked.before);
        asked.store.update_meta(|meta| meta.trust.quarantine = Some(Quarantine::OtherMachine)).await.expect("stored");
        asked.confirmed().await.expect("stored");
        assert_eq!(mode(), Mode::Normal);
    }
}
