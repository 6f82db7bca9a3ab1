//! Host and worker with nothing to do, and how fast each gives its first answer.

use std::time::{Duration, Instant};

use manman_e2e::{Home, Program, Result, WorkerProcess, binary, eventually, free_port};
use tokio::process::Command;

use crate::row;
use crate::stats::{megabytes, percentile, processor_time, resident};

const WATCHED: Duration = Duration::from_secs(30);
const STARTS: usize = 10;

pub(crate) async fn measure() -> Result<()> {
    let home = Home::empty()?;
    let host = home.host(&[]).await?;
    let token = home.join_token().await?;
    let worker = home.worker("idle", &host.url, &["--join-token", &token]).await?;
    eventually("the worker is alive", async || {
        let seen = home.client().map_err(|e| e.to_string())?.worker_show("idle").await.map_err(|e| e.to_string())?;
        if seen.linked { Ok(()) } else { Err(seen.status.as_str().to_owned()) }
    })
    .await?;
    let pids = [("idle host, without Postgres", host.program.pid()), ("idle worker, Docker and SQLite open", worker.program.pid())];
    let mut before = Vec::new();
    for (_, pid) in pids {
        before.push(pid.map(|pid| processor_time(pid.as_raw_pid())).transpose()?.unwrap_or_default());
    }
    tokio::time::sleep(WATCHED).await;
    let shell = baseline().await?;
    for ((name, pid), before) in pids.into_iter().zip(before) {
        let Some(pid) = pid.map(rustix::process::Pid::as_raw_pid) else { continue };
        let used = processor_time(pid)?.saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64();
        let memory = resident(pid)?;
        let ratio = memory as f64 / shell as f64;
        row(
            name,
            &format!("{} resident, {:.2} % of a core", megabytes(memory), used * 100.0),
            &format!("{ratio:.1} times a waiting shell ({})", megabytes(shell)),
        );
    }
    drop(worker);
    start_of_the_worker(&home, &host.url).await
}

/// What a process that only waits takes here.
async fn baseline() -> Result<u64> {
    let mut shell = Program::spawn("sh", Command::new("sh").args(["-c", "echo here; while :; do sleep 60; done"]))?;
    shell.line("here", Duration::from_secs(5)).await?;
    let pid = shell.pid().map_or(0, rustix::process::Pid::as_raw_pid);
    resident(pid)
}

/// From the spawn of the worker to the first answer of its own listener.
async fn start_of_the_worker(home: &Home, url: &str) -> Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let port = free_port()?;
        let start = Instant::now();
        let data = home.data().join("workers").join(format!("start{number}"));
        let worker = WorkerProcess::start(&data, &format!("start{number}"), url, &["--listen", &format!("127.0.0.1:{port}")]).await?;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let http = reqwest::Client::builder().build()?;
        http.get(format!("http://127.0.0.1:{port}/status")).send().await?;
        ours.push(start.elapsed().as_secs_f64());
        drop(worker);
        let start = Instant::now();
        Command::new(binary("manman-worker")?).arg("--version").output().await?;
        bare.push(start.elapsed().as_secs_f64());
    }
    let (ours, bare) = (percentile(&mut ours, 50.0), percentile(&mut bare, 50.0));
    row("worker: start to first answer", &format!("{:.1} ms", ours * 1e3), &format!("{:.1} ms for its --version", bare * 1e3));
    Ok(())
}
