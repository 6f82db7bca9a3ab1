//! A worker that hangs must not be felt by its games.

use std::time::Duration;

use manman_e2e::{Home, Result, ensure, eventually, follow, story};
use rustix::process::Signal;

#[test]
fn a_stopped_worker_slows_no_game_and_loses_no_line() -> Result<()> {
    story(async {
        let mut home = Home::up().await?;
        home.printer("loud", &["10000", "200000"]).await?;
        let client = home.client()?;
        follow(&client, "loud", "since_seq=0", Duration::from_secs(60), |t| t.lines.len() > 5_000).await?;

        // Twelve of the twenty seconds that the game prints for.
        home.program()?.signal(Signal::STOP)?;
        tokio::time::sleep(Duration::from_secs(12)).await;
        home.program()?.signal(Signal::CONT)?;

        let transcript = eventually("the log is whole", async || {
            follow(&client, "loud", "since_seq=0", Duration::from_secs(60), |t| t.printed().any(|text| text.starts_with("printed "))).await
        })
        .await?;
        ensure!(transcript.whole()? == 200_000, "not all lines");
        let told = transcript.printed().find(|text| text.starts_with("printed ")).unwrap_or_default().to_owned();
        // `printed 200000 lines in 20.001 s, slowest write 0.001 s`
        let numbers: Vec<f64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        ensure!(numbers.len() >= 3 && numbers[1] < 20.4 && numbers[2] < 1.0, "the game was slowed: {told}");
        Ok(())
    })
}
