//! A stage in a directory of its own, and a client that sends just what it is told to.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_manman-stage");
/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scripts")
}

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until it is so; the last thing seen is in the panic.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = now() + PATIENCE;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if now() > end => panic!("{what}: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A directory with a file, in which a stage may be started.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

impl Home {
    /// `paths` is the part of the file below `paths:`.
    pub(crate) fn new(top: &str, paths: &str) -> Self {
        let home = Self { dir: tempfile::tempdir().expect("a directory") };
        home.write(top, paths);
        home
    }

    pub(crate) fn write(&self, top: &str, paths: &str) {
        self.file("service.yaml", &format!("port: 0\nsocketpath: {}\n{top}\npaths:\n{paths}\n", self.socket().display()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/stage.sock")
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// An executable script of `sh`.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.file(name, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(EXECUTABLE);
        command.args(["stage", "-c"]).arg(self.path("service.yaml")).args(args);
        // Not the one of whoever runs the tests: a Python of a version manager takes a second to start.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("MANMAN_LOG", "debug");
        command
    }

    /// To the end, for a stage that is not to start.
    pub(crate) fn refused(&self, args: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, stdout } = self.command(args).output().expect("it runs");
        assert!(!String::from_utf8_lossy(&stdout).contains("ready"), "the port was open");
        assert!(!self.socket().exists(), "the socket was open");
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    }

    pub(crate) fn start(self) -> Stage {
        self.start_with(&[])
    }

    pub(crate) fn start_with(self, args: &[&str]) -> Stage {
        let command = self.command(args);
        self.start_as(command)
    }

    /// With a number space for processes of its own, which ends with it.
    pub(crate) fn start_in_namespace(self) -> Stage {
        let plain = self.command(&[]);
        let mut command = Command::new("unshare");
        // Not as the first process itself: that one hears no signals.
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "\"$0\" \"$@\"; exit $?"]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.start_as(command)
    }

    fn start_as(self, mut command: Command) -> Stage {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let kept = log.clone();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                kept.lock().expect("no panic").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut ready).expect("it says that it is ready");
        let address = ready.split(' ').find_map(|word| word.strip_prefix("http://")).and_then(|address| address.parse().ok());
        let Some(address) = address else { panic!("`{ready}`, {}", log.lock().expect("no panic")) };
        Stage { home: self, child, address, log }
    }
}

pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the stage said:\n{}", self.log());
        }
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn id(&self) -> String {
        self.header("x-request-id").expect("every answer of a route has one").to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

impl Stage {
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.send("POST", path, &[("content-type", "application/json")], body.as_ref())
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        exchange(TcpStream::connect(self.address).expect("the port is open"), method, path, headers, body)
    }

    /// At the socket.
    pub(crate) fn back(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        exchange(UnixStream::connect(self.home.socket()).expect("the socket is open"), method, path, headers, body)
    }

    pub(crate) fn record(&self, id: &str) -> Value {
        self.get(&format!("/_/requests/{id}")).expect(200).json()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("it lives");
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").expect(200).text();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Until every process of it has gone, dead ones included.
    pub(crate) fn is_empty(&self) {
        eventually("its processes go", || {
            let left = descendants(self.child.id());
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

/// State and command of every process below.
pub(crate) fn descendants(root: u32) -> Vec<String> {
    let all: Vec<(u32, u32, String)> = processes()
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
            let mut rest = rest.split(' ');
            let state = rest.next()?.to_owned();
            Some((pid, rest.next()?.parse().ok()?, format!("{state} {name} {pid}")))
        })
        .collect();
    let mut found = vec![root];
    let mut names = Vec::new();
    while let Some(parent) = found.pop() {
        for (pid, _, name) in all.iter().filter(|(_, of, _)| *of == parent) {
            found.push(*pid);
            names.push(name.clone());
        }
    }
    names
}

pub(crate) fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").expect("it is mounted").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes, of anybody, whose command line has the word.
pub(crate) fn running(word: &str) -> Vec<u32> {
    let has = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word));
    processes().filter(|pid| *pid != std::process::id() && has(pid)).collect()
}

pub(crate) fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let started = now();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("the head is sent");
    // A refusal may come before all of it has been sent.
    let _ = stream.write_all(body);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    parse(&all, started.elapsed())
}

pub(crate) fn parse(all: &[u8], took: Duration) -> Response {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(all)));
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Response { status, headers, body: all[end + 4..].to_vec(), took }
}
