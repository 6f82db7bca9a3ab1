//! What the games wrote down themselves.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A line of tests/faults/game.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Witness {
    pub world: String,
    /// `begins`, `hears`, `ends`, `stays` (of a process that left its game).
    pub what: String,
    pub pid: i32,
    pub ticks: u64,
    pub boot_ms: u64,
    pub cwd: String,
    /// Of a beginning: no other copy of the world, no other game in its directory, nothing left of an earlier one.
    pub alone: Option<bool>,
    #[serde(default)]
    pub others: Vec<String>,
    pub code: Option<i32>,
    /// What was typed on its console.
    pub line: Option<String>,
}

impl Witness {
    /// Every world's testimony in a directory, by time.
    pub fn read(folder: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            for line in std::fs::read_to_string(&path)?.lines() {
                all.push(serde_json::from_str(line).with_context(|| format!("{line:?} in {}", path.display()))?);
            }
        }
        all.sort_by_key(|entry: &Self| entry.boot_ms);
        Ok(all)
    }
}
