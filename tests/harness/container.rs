//! Docker through its own tool, as an independent witness.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::process::run;

/// `docker ARGS…`, and what it printed.
pub async fn docker(arguments: &[&str]) -> Result<String> {
    let output = run(Path::new("docker"), |command| {
        command.args(arguments);
    })
    .await?;
    output.success().map(|text| text.trim().to_owned()).with_context(|| format!("docker {}", arguments.join(" ")))
}

/// A container as `docker inspect` shows it.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub inspect: Value,
}

impl Container {
    #[must_use]
    pub fn pid(&self) -> u64 {
        self.inspect["State"]["Pid"].as_u64().unwrap_or_default()
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.inspect["State"]["Running"].as_bool().unwrap_or_default()
    }

    #[must_use]
    pub fn started_at(&self) -> &str {
        self.inspect["State"]["StartedAt"].as_str().unwrap_or_default()
    }

    #[must_use]
    pub fn label(&self, label: &str) -> &str {
        self.inspect["Config"]["Labels"][label].as_str().unwrap_or_default()
    }
}

/// The containers, dead ones too, that carry `label=value`.
pub async fn containers_of(label: &str, value: &str) -> Result<Vec<Container>> {
    let filter = format!("label={label}={value}");
    let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]).await?;
    let mut containers = Vec::new();
    for id in ids.lines() {
        // One may vanish between the two looks; then it is not there.
        let Ok(text) = docker(&["inspect", id]).await else { continue };
        let inspect: Vec<Value> = serde_json::from_str(&text)?;
        let inspect = inspect.into_iter().next().ok_or_else(|| anyhow!("docker inspect {id} said nothing"))?;
        containers.push(Container { id: id.to_owned(), inspect });
    }
    Ok(containers)
}
