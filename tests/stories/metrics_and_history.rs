//! What a server has used and what it has printed, long after it did: kept over a crash, and found
//! again by number, by time and by what is in it.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use manman_common::client::Client;
use manman_common::logs::{LogGap, LogLine, LogMessage};
use manman_common::wire::{LogPointer, MetricsHistory};
use manman_e2e::{Home, Result, bail, ensure, eventually_within, follow, story};
use tokio_tungstenite::tungstenite::Message;

/// Samples are taken every ten seconds.
const SAMPLED: Duration = Duration::from_secs(90);
const LINES: u64 = 4_000;

async fn metrics(client: &Client, path: &str) -> Result<MetricsHistory> {
    Ok(client.call(reqwest::Method::GET, path, None::<&()>).await?)
}

/// The times at which something was measured, with the memory in use.
fn measured(history: &MetricsHistory) -> Vec<(i64, u64)> {
    let step = i64::from(history.step_seconds);
    (0..).zip(&history.series.memory).filter_map(|(index, memory)| Some((history.from + index * step, (*memory)?))).collect()
}

/// All lines and gaps that a question has for an answer.
async fn ask(client: &Client, query: &str) -> Result<(Vec<LogLine>, Vec<LogGap>)> {
    let mut socket = client.websocket(&format!("/server/chatty/log/stream?{query}")).await?;
    let (mut lines, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match tokio::time::timeout(Duration::from_secs(30), socket.next()).await? {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text)? {
                LogMessage::Lines { items } => lines.extend(items),
                LogMessage::Gap(gap) => gaps.push(gap),
                LogMessage::End { .. } => return Ok((lines, gaps)),
            },
            Some(Ok(_)) => {}
            ended => bail!("the answer to {query} broke off: {ended:?}"),
        }
    }
}

/// What the game answers, and after how long.
async fn talk(home: &Home) -> Result<(String, Duration)> {
    let began = Instant::now();
    let answer = home.manman(&["send", "chatty", "are you there?"]).await?.success()?;
    Ok((answer, began.elapsed()))
}

#[test]
fn what_was_used_and_printed_is_found_again() -> Result<()> {
    story(async {
        let mut home = Home::up().await?;
        home.printer("chatty", &["200", &LINES.to_string()]).await?;
        home.manman(&["server", "start", "chatty", "--wait=60s"]).await?.success()?;
        let client = home.client()?;

        // Samples of the server, and of the machine that it is on.
        let before = eventually_within(SAMPLED, "the server was sampled twice", async || {
            let history = metrics(&client, "/server/chatty/metrics").await.map_err(|error| format!("{error:#}"))?;
            if measured(&history).len() >= 2 { Ok(history) } else { Err(format!("{:?}", measured(&history))) }
        })
        .await?;
        ensure!(before.series.memory.len() == 360 && before.series.disk.is_empty(), "{} points", before.series.memory.len());
        ensure!(before.series.rx.iter().flatten().next().is_some(), "a container's network is counted");
        ensure!(measured(&before).iter().all(|(_, memory)| (1..1 << 30).contains(memory)), "{:?}", measured(&before));
        let workers = home.json(&["worker", "list"]).await?;
        let path = format!("/worker/{}/metrics?range=day", workers[0]["id"].as_str().unwrap_or_default());
        let machine = metrics(&client, &path).await?;
        let cpu = machine.series.cpu.iter().flatten().next_back();
        // Ticks are counted whole: a machine that has no idle time may come out a little above all it has.
        let most = machine.limits.cpu.unwrap_or_default() * 1.1;
        ensure!(cpu.is_some_and(|cpu| (0.001..most).contains(cpu)), "{cpu:?} of {:?}", machine.limits);
        ensure!(machine.step_seconds == 120 && machine.series.disk.iter().flatten().next().is_some(), "no disk");

        // Killed and started again: they are still there, and more are taken.
        home.program()?.kill().await?;
        home.start(&[]).await?;
        let client = home.client()?;
        eventually_within(SAMPLED, "the samples go on", async || {
            let after = metrics(&client, "/server/chatty/metrics").await.map_err(|error| format!("{error:#}"))?;
            let (old, new) = (measured(&before), measured(&after));
            if let Some(lost) = old.iter().find(|sample| !new.contains(sample)) {
                return Err(format!("{lost:?} is not among {new:?}"));
            }
            if new.len() > old.len() { Ok(()) } else { Err(format!("{new:?}")) }
        })
        .await?;

        // Scrolled back to its beginning, the log has each line once.
        let printed = |transcript: &manman_e2e::Transcript| transcript.printed().any(|text| text.starts_with("printed "));
        let mut whole = follow(&client, "chatty", "since_seq=0", Duration::from_secs(90), printed).await?;
        ensure!(whole.whole()? == LINES, "{} lines", whole.lines.len());
        let end = whole.lines.last().map_or(0, |line| line.seq.get());
        let (mut back, mut oldest) = (Vec::new(), end + 1);
        loop {
            let (page, gaps) = ask(&client, &format!("before_seq={oldest}&limit=700")).await?;
            ensure!(gaps.is_empty() && page.len() <= 700, "{} lines, {gaps:?}", page.len());
            let Some(first) = page.first() else { break };
            oldest = first.seq.get();
            back.splice(0..0, page);
        }
        ensure!(back == whole.lines, "{} lines back, {} forth", back.len(), whole.lines.len());

        // A time leads to its line.
        let at = &whole.lines[whole.lines.len() / 2].time[..23];
        let expected = whole.lines.iter().find(|line| line.time.as_str() >= at).map(|line| line.seq);
        let pointer: LogPointer = client.call(reqwest::Method::GET, &format!("/server/chatty/log?at={at}Z"), None::<&()>).await?;
        ensure!(pointer.at_seq == expected, "{:?} and not {expected:?}", pointer.at_seq);
        let (page, _) = ask(&client, &format!("at={at}Z&limit=3")).await?;
        ensure!(page.first().map(|line| line.seq) == expected && page.len() == 3, "{page:?}");

        // A search gives its newest hits first, page by page.
        whole.lines.retain(|line| line.text.get(..14).is_some_and(|start| start.ends_with("77")));
        let expected: Vec<_> = whole.lines.iter().rev().map(|line| line.seq).collect();
        ensure!(expected.len() == 40, "{} hits", expected.len());
        let (mut found, mut before) = (Vec::new(), end + 1);
        while found.len() < expected.len() {
            let (page, gaps) = ask(&client, &format!("grep=^LINE%20[0-9]*77%20&ignore_case=true&limit=15&before_seq={before}")).await?;
            ensure!(gaps.is_empty() && !page.is_empty(), "{} hits, {gaps:?}", page.len());
            found.extend(page.iter().map(|line| line.seq));
            before = found.last().map_or(0, |seq| seq.get());
        }
        ensure!(found == expected, "{found:?}");
        let told = home.manman(&["logs", "chatty", "--grep", "77 ....", "--limit", "2"]).await?;
        ensure!(
            told.stdout.contains("line 000003877 ") && told.stdout.contains("line 000003977 ") && told.stdout.lines().count() == 2,
            "{told:?}"
        );
        ensure!(told.stderr.contains("--before"), "{told:?}");

        // All of it, as a file.
        let url = format!("{}/server/chatty/log/download?format=text", home.context("url")?);
        let file = reqwest::Client::new().get(url).bearer_auth(home.context("token")?).send().await?.error_for_status()?;
        let name = file.headers().get("content-disposition").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        ensure!(name.contains("chatty-") && name.ends_with(".log\""), "{name}");
        let text = file.text().await?;
        ensure!(text.lines().filter(|line| line.starts_with("line 00000")).count() as u64 == LINES, "{} bytes", text.len());

        // Hundreds of thousands of lines: a search without a hit ends, and holds up nobody.
        home.manman(&["send", "chatty", "burst 200000"]).await?.success()?;
        follow(&client, "chatty", "tail=1", Duration::from_secs(120), |t| t.printed().any(|text| text.starts_with("burst of "))).await?;
        let began = Instant::now();
        let searching = ask(&client, "grep=(nowhere|at all)&limit=5");
        let (searched, others) = tokio::join!(searching, talk(&home));
        let ((hits, gaps), (answer, waited)) = (searched?, others?);
        ensure!(hits.len() <= 1 && gaps.len() <= 1, "{hits:?} {gaps:?}");
        ensure!(began.elapsed() < Duration::from_secs(15) && waited < Duration::from_secs(8), "{:?}, {waited:?}", began.elapsed());
        ensure!(answer.contains("are you there?"), "{answer}");

        // A purge takes the samples with it.
        home.manman(&["server", "delete", "chatty", "--force", "--purge"]).await?.success()?;
        Ok(())
    })
}
