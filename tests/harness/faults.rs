//! A fault scenario: what was done, what was seen, kept for the table.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What a scenario leaves in `target/faults`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Of the table of faults; 0 for what stands in none.
    pub row: u8,
    pub name: String,
    pub done: String,
    pub seen: Vec<String>,
    pub seconds: f64,
    /// `held`, `not here: …` or `FAILED: …`.
    pub outcome: String,
}

/// Takes down what a scenario sees.
#[derive(Debug, Default)]
pub struct Seen {
    saw: Vec<String>,
    not_here: Option<String>,
}

impl Seen {
    /// A fact for the table, short.
    pub fn saw(&mut self, what: impl Into<String>) {
        self.saw.push(what.into());
    }

    /// Something of the scenario that this machine can not do, and what was done instead.
    pub fn not_here(&mut self, why: impl Into<String>) {
        self.not_here = Some(why.into());
    }
}

/// Runs a scenario of the table's row `row` (0 for none) on a runtime of its own, and writes down
/// how it went. Its name is that of the test function around it.
pub fn scenario<F>(row: u8, done: &str, scenario: F) -> Result<()>
where
    F: AsyncFnOnce(&mut Seen) -> Result<()>,
{
    let name = name_of(std::any::type_name::<F>());
    let begun = Instant::now();
    let mut seen = Seen::default();
    let result = crate::story(scenario(&mut seen));
    let outcome = match (&result, &seen.not_here) {
        (Err(error), _) => format!("FAILED: {error:#}").chars().take(600).collect(),
        (Ok(()), Some(why)) => format!("not here: {why}"),
        (Ok(()), None) => "held".to_owned(),
    };
    let told = Told { row, name: name.clone(), done: done.to_owned(), seen: seen.saw, seconds: begun.elapsed().as_secs_f64(), outcome };
    let folder = crate::target().join("faults");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(&told)?)?;
    for seen in &told.seen {
        eprintln!("{name}: {seen}");
    }
    if result.is_err() {
        eprintln!("to run it again: tests/faults/run {name}");
    }
    result
}

/// The last segment of a closure's path that is a function's name.
fn name_of(path: &str) -> String {
    let segments = path.split("::").filter(|segment| !segment.starts_with('{'));
    segments.last().unwrap_or("scenario").to_owned()
}
