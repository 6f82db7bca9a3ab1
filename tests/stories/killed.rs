//! SIGKILL of everything of ours, with games running.

use std::time::Duration;

use manman_e2e::{Context, Home, Result, containers_of_server, ensure, eventually, follow, story};

const NAMES: [&str; 3] = ["one", "two", "three"];

#[test]
fn games_outlive_a_sigkill_and_are_adopted_with_their_whole_log() -> Result<()> {
    story(async {
        let mut home = Home::up().await?;
        let mut before = Vec::new();
        for name in NAMES {
            // 200 lines a second for 40 s: the outage falls in the middle.
            let server = home.printer(name, &["200", "8000"]).await?;
            let id = server["id"].as_str().context("an id")?.to_owned();
            home.manman(&["server", "start", name, "--wait=60s"]).await?.success()?;
            before.push((id.clone(), containers_of_server(&id).await?.remove(0)));
        }
        home.program()?.kill().await?;

        // The games print on, with nobody there.
        for (_, container) in &before {
            eventually("the outage is long enough to matter", async || {
                let count = manman_e2e::docker(&["logs", "--tail", "1", &container.id]).await.unwrap_or_default();
                let number: u32 = count.get(5..14).and_then(|n| n.parse().ok()).unwrap_or_default();
                if number > 2_500 { Ok(()) } else { Err(number) }
            })
            .await?;
        }
        home.start(&[]).await?;
        for (id, container) in &before {
            let after = eventually("the server is Ready again", async || {
                let server = home.json(&["server", "show", id]).await.map_err(|error| format!("{error:#}"))?;
                if server["phase"] == "Ready" { Ok(server) } else { Err(server["phase"].to_string()) }
            })
            .await?;
            ensure!(after["restarts"] == 0, "{after:#}");
            let now = containers_of_server(id).await?;
            ensure!(now.len() == 1 && now[0].id == container.id && now[0].pid() == container.pid(), "not the same container: {now:?}");
        }
        let client = home.client()?;
        for name in NAMES {
            let transcript = follow(&client, name, "since_seq=0", Duration::from_secs(90), |t| {
                t.lines.last().is_some_and(|line| line.text.starts_with("printed 8000 lines"))
            })
            .await?;
            ensure!(transcript.whole()? == 8_000, "{} lines", transcript.lines.len());
        }
        Ok(())
    })
}
