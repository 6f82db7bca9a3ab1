//! The host and its database: away, restarted, slow; and clocks (rows 7–10, 17, 18, 22).

mod away;
mod clocks;
mod crowd;
mod restarts;

use manman_e2e::{Result, anyhow, eventually_within};

use crate::stage::{SOON, Stage};

/// What `/metrics` says under a name; answered without a database.
async fn metric(stage: &Stage, name: &str) -> Result<u64, String> {
    let token = stage.home.context("token").map_err(|error| error.to_string())?;
    let answer = reqwest::Client::new().get(format!("{}/metrics", stage.url)).bearer_auth(token).send().await;
    let text = answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|count| count.trim().parse().ok()).ok_or_else(|| text.chars().take(200).collect())
}

/// Waits for so many further beats of workers.
pub(crate) async fn more_beats(stage: &Stage, count: u64) -> Result<()> {
    let before = metric(stage, "manman_beats_total").await.map_err(|error| anyhow!(error))?;
    eventually_within(SOON, "further beats come", async || {
        let now = metric(stage, "manman_beats_total").await?;
        if now >= before + count { Ok(()) } else { Err(format!("{now} after {before}")) }
    })
    .await
}
