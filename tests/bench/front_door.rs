//! The front door beside nginx and Caddy, on the same upstream in the same run: requests a second,
//! how long each takes, a gigabyte on its way, and what it all costs when nobody asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manman_e2e::{Context as _, Program, Result, binary, eventually, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::row;
use crate::stats::{megabytes, percentile, processor_time, resident};

const CONNECTIONS: usize = 32;
const MEASURED: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const BIG: u64 = 1 << 30;

pub(crate) async fn measure() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("manman-").tempdir()?;
    let Some(nginx) = installed("nginx") else {
        row("front door", "nginx is not installed: `apt-get install nginx-light`", "");
        return Ok(());
    };
    // Others must be able to read it: nginx' workers are nobody.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::File::create(folder.path().join("big"))?.set_len(BIG)?;
    let (upstream_port, proxy_port) = (free_port()?, free_port()?);
    let _upstream = start_nginx(&nginx, folder.path(), "upstream", &upstream(folder.path(), upstream_port)).await?;
    let _proxy = start_nginx(&nginx, folder.path(), "proxy", &proxy(upstream_port, proxy_port)).await?;
    let (caddy_port, caddy) = (free_port()?, installed("caddy"));
    let _caddy = match &caddy {
        Some(caddy) => Some(start_caddy(caddy, folder.path(), upstream_port, caddy_port).await?),
        None => None,
    };

    let mut command = Command::new(binary("manman-host")?);
    command
        .args(["orchestrator", "--no-database", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"));
    let mut ours = Program::spawn("manman-host orchestrator", &mut command)?;
    let address = |line: String| line.rsplit('/').next().map(str::to_owned).context("an address");
    let public = address(ours.line("ready", Duration::from_secs(30)).await?)?;
    let internal = address(ours.line("internal", Duration::from_secs(30)).await?)?;
    let pid = ours.pid().map_or(0, rustix::process::Pid::as_raw_pid);
    let hello = serde_json::json!({ "name": "up", "host": format!("127.0.0.1:{upstream_port}") });
    reqwest::Client::builder()
        .build()?
        .post(format!("http://{internal}/__internal/hello"))
        .json(&hello)
        .send()
        .await?
        .error_for_status()?;

    let idle = resident(pid)?;
    let before = processor_time(pid)?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = processor_time(pid)?.saturating_sub(before).as_secs_f64() / 10.0;
    row("front door: idle", &format!("{} resident, {:.2} % of a core", megabytes(idle), used * 100.0), "30 MiB is the limit");

    // In turns, so that whatever else this machine does falls on all of them.
    let mut targets =
        vec![("direct", format!("127.0.0.1:{upstream_port}"), "/small"), ("nginx", format!("127.0.0.1:{proxy_port}"), "/up/small")];
    if caddy.is_some() {
        targets.push(("caddy", format!("127.0.0.1:{caddy_port}"), "/up/small"));
    }
    targets.push(("front door", public.clone(), "/up/small"));
    let mut best: Vec<(f64, f64, f64)> = vec![(0.0, 0.0, 0.0); targets.len()];
    for _ in 0..ROUNDS {
        for ((_, address, path), best) in targets.iter().zip(&mut best) {
            let (rate, mut samples) = load(address, path).await?;
            if rate > best.0 {
                *best = (rate, percentile(&mut samples, 50.0) * 1e3, percentile(&mut samples, 99.0) * 1e3);
            }
        }
    }
    let nginx_rate = best[1].0;
    for ((name, ..), (rate, median, tail)) in targets.iter().zip(&best) {
        let figure = format!("{rate:.0} requests/s, p50 {median:.2} ms, p99 {tail:.2} ms");
        row(&format!("{name}: a small answer, {CONNECTIONS} connections"), &figure, &format!("{:.2} times nginx", rate / nginx_rate));
    }

    let before = resident(pid)?;
    let (through_nginx, _) = big(&format!("127.0.0.1:{proxy_port}"), "/up/big", 0).await?;
    let (through_us, most) = big(&public, "/up/big", pid).await?;
    row(
        "front door: 1 GiB down",
        &format!("{:.0} MB/s, memory from {} to {} at most", BIG as f64 / through_us / 1e6, megabytes(before), megabytes(most)),
        &format!("{:.0} MB/s through nginx", BIG as f64 / through_nginx / 1e6),
    );
    Ok(())
}

fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

const COMMON: &str = "daemon off; worker_processes auto; error_log stderr error;\nevents { worker_connections 4096; }\n";

fn upstream(folder: &Path, port: u16) -> String {
    let root = folder.display();
    format!(
        "{COMMON}http {{ access_log off; keepalive_requests 1000000000; sendfile on; server {{ listen 127.0.0.1:{port} backlog=4096; \
         location = /small {{ return 200 '{}'; }} location = /__internal/health {{ return 204; }} location /big {{ root {root}; }} }} }}\n",
        "x".repeat(100)
    )
}

fn proxy(upstream: u16, port: u16) -> String {
    format!(
        "{COMMON}http {{ access_log off; keepalive_requests 1000000000; upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location /up/ {{ proxy_pass http://up/; proxy_http_version 1.1; proxy_set_header Connection ''; \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering on; }} }} }}\n"
    )
}

async fn start_nginx(program: &Path, folder: &Path, name: &str, config: &str) -> Result<Program> {
    let home = folder.join(name);
    std::fs::create_dir_all(home.join("tmp"))?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/tmp/{kind}; ", home.display()))
        .concat();
    let config = format!("pid {}/pid;\n{}", home.display(), config.replacen("http { ", &format!("http {{ {temporary}"), 1));
    std::fs::write(home.join("nginx.conf"), config)?;
    let started = Program::spawn(name, Command::new(program).arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf")))?;
    eventually(&format!("nginx ({name}) is up"), async || if home.join("pid").exists() { Ok(()) } else { Err(started.said()) }).await?;
    Ok(started)
}

async fn start_caddy(program: &Path, folder: &Path, upstream: u16, port: u16) -> Result<Program> {
    let config = format!(
        "{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n handle_path /up/* {{\n reverse_proxy 127.0.0.1:{upstream}\n }}\n}}\n"
    );
    let file = folder.join("Caddyfile");
    std::fs::write(&file, config)?;
    let started = Program::spawn("caddy", Command::new(program).args(["run", "--adapter", "caddyfile", "--config"]).arg(&file))?;
    eventually("caddy is up", async || {
        TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| format!("{error}: {:?}", started.said()))
    })
    .await?;
    Ok(started)
}

/// Requests over kept connections, one after the other on each.
async fn load(address: &str, path: &str) -> Result<(f64, Vec<f64>)> {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, request) = (address.to_owned(), format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"));
        clients.spawn(async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 16 * 1024];
            let mut samples = Vec::new();
            while began.elapsed() < MEASURED {
                let start = Instant::now();
                stream.write_all(request.as_bytes()).await?;
                let mut length = 0;
                while !whole(&buffer[..length])? {
                    let read = stream.read(&mut buffer[length..]).await?;
                    anyhow::ensure!(read > 0, "the connection ended");
                    length += read;
                }
                samples.push(start.elapsed().as_secs_f64());
            }
            anyhow::Ok(samples)
        });
    }
    let mut all = Vec::new();
    while let Some(samples) = clients.join_next().await {
        all.extend(samples??);
    }
    Ok((all.len() as f64 / began.elapsed().as_secs_f64(), all))
}

/// Whether these bytes are one whole answer, which must be a good one.
fn whole(bytes: &[u8]) -> Result<bool> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    anyhow::ensure!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(bytes));
    Ok(bytes.len() - end - 4 >= 100)
}

/// Seconds for a gigabyte, and the most memory that the process had meanwhile.
async fn big(address: &str, path: &str, pid: i32) -> Result<(f64, u64)> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut length, mut most, mut reads) = (0_u64, 0, 0_u64);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        length += read as u64;
        reads += 1;
        if pid != 0 && reads % 256 == 0 {
            most = most.max(resident(pid)?);
        }
    }
    anyhow::ensure!(length > BIG, "only {length} bytes came");
    Ok((start.elapsed().as_secs_f64(), most))
}
