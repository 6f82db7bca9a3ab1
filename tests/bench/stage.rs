//! The stage beside `webhook`, `fcgiwrap` behind nginx, and a bare loop of starting and waiting.
//!
//! All four start the very same static program, which prints a CGI answer, and read what it prints.
//! Peers that are not installed are left out: `apt-get install webhook fcgiwrap nginx-light`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use manman_e2e::{Context, Result, bail, binary, ensure};

use crate::row;
use crate::stats::{latency, megabytes, percentile, resident};

const SAMPLES: usize = 1000;
const RATE_FOR: Duration = Duration::from_secs(4);
const CLIENTS: usize = 4;
const PARKED: usize = 10_000;
const KILLED: usize = 10_000;

const CGI: &str = "#include <unistd.h>\nint main(void) { static const char a[] = \"Content-Type: text/plain\\n\\nok\\n\"; return write(1, a, sizeof a - 1) < 0; }\n";
const POOL: &str = include_str!("../../manman-worker/stage/examples/pool_worker.rs");

/// A server that is ended, with its children, when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            // A group of its own: what it has forked goes with it.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

struct Peer {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    _servers: Vec<Server>,
}

pub(crate) fn measure() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cgi = dir.path().join("cgi");
    compile(&dir.path().join("cgi.c"), CGI, &["gcc", "-O2", "-static", "-o"], &cgi)?;
    let pool = dir.path().join("pool");
    compile(&dir.path().join("pool.rs"), POOL, &["rustc", "--edition", "2024", "-O", "-o"], &pool)?;
    let stage = stage(dir.path(), &cgi, &pool)?;
    let mut peers = vec![Peer { name: "stage", address: stage.address, path: "/cgi", _servers: Vec::new() }];
    peers.extend(webhook(dir.path(), &cgi)?);
    peers.extend(fcgiwrap(dir.path(), &cgi)?);

    // In turns, so that what else the machine does falls on all of them alike.
    let mut bare = Vec::new();
    let mut took: Vec<Vec<f64>> = peers.iter().map(|_| Vec::new()).collect();
    let mut lines = peers.iter().map(|peer| Line::open(peer.address)).collect::<Result<Vec<_>>>()?;
    for _ in 0..SAMPLES {
        let start = Instant::now();
        spawn(&cgi)?;
        bare.push(start.elapsed().as_secs_f64());
        for ((peer, line), took) in peers.iter().zip(&mut lines).zip(&mut took) {
            let start = Instant::now();
            ensure!(line.get(peer.path)?.ends_with(b"ok\n"), "{} gave something else", peer.name);
            took.push(start.elapsed().as_secs_f64());
        }
    }
    drop(lines);
    let floor = [50.0, 99.0].map(|percent| percentile(&mut bare, percent));
    row("stage: a bare start and wait", &latency(&mut bare), "");
    for (peer, took) in peers.iter().zip(&mut took) {
        let added = [50.0, 99.0].map(|percent| percentile(took, percent));
        let added = format!("over the bare start: p50 {:+.2} ms, p99 {:+.2} ms", (added[0] - floor[0]) * 1e3, (added[1] - floor[1]) * 1e3);
        row(&format!("stage: a request, {}", peer.name), &latency(took), &added);
    }
    let bare = rate(|| spawn(&cgi))?;
    row("stage: bare starts a second, four threads", &format!("{bare:.0}/s"), "");
    for peer in &peers {
        let rate = rate_of(peer.address, peer.path)?;
        row(
            &format!("stage: requests a second, {}", peer.name),
            &format!("{rate:.0}/s"),
            &format!("{:.0} % of bare starts", rate / bare * 100.0),
        );
    }
    row("stage: requests a second, mode pool", &format!("{:.0}/s", rate_of(stage.address, "/pool")?), "wanted: 10,000/s");
    parked(&stage)?;
    killed(&stage)
}

fn compile(source: &Path, text: &str, compiler: &[&str], output: &Path) -> Result<()> {
    std::fs::write(source, text)?;
    let (program, args) = compiler.split_first().context("a compiler")?;
    ensure!(Command::new(program).args(args).arg(output).arg(source).status()?.success(), "{program} fails");
    Ok(())
}

fn spawn(program: &Path) -> Result<()> {
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    ensure!(output.stdout.ends_with(b"ok\n"), "it printed something else");
    Ok(())
}

struct Stage {
    server: Server,
    address: SocketAddr,
}

fn stage(dir: &Path, cgi: &Path, pool: &Path) -> Result<Stage> {
    let script = dir.join("any.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\ncase $REQUEST_ID in *[0-5]) echo '{}'; exit 0;; *[6-7]) kill -9 $$;; *[89]) sleep 200.5 & exit 1;;\n\
         *[ab]) (setsid sleep 200.5 &); exit 0;; *c) (env -i setsid /bin/sleep 200.5 &) ; exit 0;; *) sleep 200.5;; esac\n",
    )?;
    std::fs::write(
        dir.join("service.yaml"),
        format!(
            "port: 0\nsocketpath: {dir}/stage.sock\nmax_inflight: 64\nqueue: 20000\npaths:
  /cgi: {{get: {{inject: {{cmd: {cgi}, on-exit: stdout, encoding: raw}}}}}}
  /pool: {{get: {{inject: {{cmd: {pool}, mode: pool, workers: 2, encoding: raw, timeout: 10000}}}}}}
  /park: {{get: {{inject: {{cmd: sleep 60, timeout: 60000}}, max_inflight: 1, queue: 20000}}}}
  /kill: {{get: {{inject: {{cmd: [sh, {script}], on-exit: stdout, timeout: 100}}}}}}\n",
            dir = dir.display(),
            cgi = cgi.display(),
            pool = pool.display(),
            script = script.display(),
        ),
    )?;
    let mut child = Command::new(binary("manman-worker")?)
        .args(["stage", "-c"])
        .arg(dir.join("service.yaml"))
        .env("MANMAN_LOG", "error")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().context("it is piped")?).read_line(&mut ready)?;
    let address = ready.split(' ').find_map(|word| word.strip_prefix("http://")).context("the stage did not start")?.parse()?;
    Ok(Stage { server: Server(child), address })
}

fn webhook(dir: &Path, cgi: &Path) -> Result<Option<Peer>> {
    let hooks = serde_json::json!([{ "id": "cgi", "execute-command": cgi, "include-command-output-in-response": true }]);
    std::fs::write(dir.join("hooks.json"), hooks.to_string())?;
    let address = free()?;
    let port = address.port().to_string();
    let started =
        Command::new("webhook").args(["-ip", "127.0.0.1", "-port", &port, "-hooks"]).arg(dir.join("hooks.json")).process_group(0).spawn();
    let Ok(child) = started else { return Ok(None) };
    let servers = vec![Server(child)];
    opens(address)?;
    Ok(Some(Peer { name: "webhook", address, path: "/hooks/cgi", _servers: servers }))
}

fn fcgiwrap(dir: &Path, cgi: &Path) -> Result<Option<Peer>> {
    let (address, socket) = (free()?, dir.join("fcgi.sock"));
    let wrap = Command::new("fcgiwrap")
        .args(["-c", "4", "-s"])
        .arg(format!("unix:{}", socket.display()))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let Ok(wrap) = wrap else { return Ok(None) };
    let mut servers = vec![Server(wrap)];
    std::fs::write(
        dir.join("nginx.conf"),
        format!(
            "user root; daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000; server {{ listen {address}; location / {{
fastcgi_pass unix:{socket}; fastcgi_param SCRIPT_FILENAME {cgi}; fastcgi_param REQUEST_METHOD $request_method; }} }} }}\n",
            dir = dir.display(),
            socket = socket.display(),
            cgi = cgi.display(),
        ),
    )?;
    let Ok(nginx) = Command::new("nginx").arg("-c").arg(dir.join("nginx.conf")).process_group(0).spawn() else { return Ok(None) };
    servers.push(Server(nginx));
    opens(address)?;
    Ok(Some(Peer { name: "fcgiwrap behind nginx", address, path: "/cgi", _servers: servers }))
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn opens(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < end, "{address} does not open");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A connection that is kept.
struct Line {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Line {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { address, reader: BufReader::new(stream) })
    }

    fn send(&mut self, path: &str) -> Result<()> {
        Ok(self.reader.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes())?)
    }

    fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.send(path)?;
        let (mut length, mut chunked, mut close, mut line) = (None, false, false, String::new());
        loop {
            line.clear();
            ensure!(self.reader.read_line(&mut line)? > 0, "{} hung up", self.address);
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            match text.split_once(": ") {
                Some(("content-length", value)) => length = value.parse::<usize>().ok(),
                Some(("transfer-encoding", "chunked")) => chunked = true,
                Some(("connection", "close")) => close = true,
                _ => {}
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        self.reader.read_exact(&mut body)?;
        while chunked {
            line.clear();
            self.reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16)?;
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..size]);
            chunked = size > 0;
        }
        if close {
            *self = Self::open(self.address)?;
        }
        Ok(body)
    }
}

fn rate_of(address: SocketAddr, path: &str) -> Result<f64> {
    let lines = std::sync::Mutex::new((0..CLIENTS * 4).map(|_| Line::open(address)).collect::<Result<Vec<_>>>()?);
    thread_local!(static OWN: std::cell::RefCell<Option<Line>> = const { std::cell::RefCell::new(None) });
    rate(|| {
        OWN.with_borrow_mut(|own| {
            if own.is_none() {
                *own = lines.lock().ok().and_then(|mut lines| lines.pop());
            }
            let Some(line) = own else { bail!("more threads than connections") };
            line.get(path).map(drop)
        })
    })
}

/// How often a second, by four threads together.
fn rate(work: impl Fn() -> Result<()> + Sync) -> Result<f64> {
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        work()?;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(RATE_FOR);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

fn metric(stage: &Stage, name: &str) -> Result<f64> {
    let text = String::from_utf8(Line::open(stage.address)?.get("/metrics")?)?;
    let line = text.lines().find(|line| line.starts_with(name)).context("no such metric")?;
    Ok(line.rsplit(' ').next().context("a value")?.parse()?)
}

/// Requests that wait for one process, each on a connection of its own.
fn parked(stage: &Stage) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?;
    let pid = stage.server.0.id().cast_signed();
    let before = resident(pid)?;
    let mut lines = Vec::new();
    for _ in 0..=PARKED {
        let mut line = Line::open(stage.address)?;
        line.send("/park")?;
        lines.push(line);
    }
    let end = Instant::now() + Duration::from_secs(30);
    // The one that runs holds the route's only place; all others wait for it.
    while metric(stage, "urocket_waiting ")? < PARKED as f64 {
        ensure!(Instant::now() < end, "they do not all wait");
        std::thread::sleep(Duration::from_millis(50));
    }
    row(
        "stage: resident with 10,000 parked requests",
        &megabytes(resident(pid)?),
        &format!("{} before; wanted: under 62.9 MB (60 MiB)", megabytes(before)),
    );
    Ok(())
}

fn killed(stage: &Stage) -> Result<()> {
    let left = AtomicU64::new(KILLED as u64);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut line = Line::open(stage.address)?;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                line.get("/kill")?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    std::thread::sleep(Duration::from_secs(3));
    let pid = stage.server.0.id();
    let (mut zombies, mut orphans) = (0, 0);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| rest.split(' ').collect());
        zombies += u32::from(fields.first() == Some(&"Z") && fields.get(1) == Some(&pid.to_string().as_str()));
        orphans += u32::from(
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x00200.5\0" || line == b"/bin/sleep\x00200.5\0"),
        );
    }
    row("stage: left of 10,000 requests with random kills", &format!("{zombies} zombies, {orphans} orphans"), "wanted: none");
    Ok(())
}
