//! A game for the fault scenarios: it misbehaves as it is told, and bears witness, beside everything
//! that manman writes down itself, of when it ran and whether it was alone.
//!
//! `fault-game --world NAME --witness DIR [--options WORD,WORD=VALUE…]`
//!
//! - `lines=N`      prints so many numbered lines a second (5); `flood` as many as go
//! - `ignore-term`  SIGTERM and SIGINT do nothing
//! - `deaf`         does not read its console
//! - `silent`       prints one line and nothing more
//! - `daemon`       starts a process that leaves its session and its parent, ignores SIGTERM and stays
//! - `eat=BYTES`    holds so much memory, gathered within a second or two
//! - `port=N`       holds a port, TCP and UDP
//! - `save=BYTES`   saves its world of that size each second, and goes on if it can not
//! - `ends=MS`      ends by itself, with code 0 or with `code=N`
//!
//! On its console: `quit` ends it with code 0, `break` with 3, anything else is answered.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, exit};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

struct Told {
    world: String,
    witness: PathBuf,
    options: Vec<String>,
    role: String,
}

impl Told {
    fn read() -> Option<Self> {
        let mut told = Self { world: String::new(), witness: PathBuf::new(), options: Vec::new(), role: "game".to_owned() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next()?;
            match word.as_str() {
                "--world" => told.world = value,
                "--witness" => told.witness = value.into(),
                "--options" => told.options = value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
                "--role" => told.role = value,
                _ => return None,
            }
        }
        (!told.world.is_empty() && told.witness.is_dir()).then_some(told)
    }

    fn has(&self, word: &str) -> bool {
        self.options.iter().any(|option| option == word)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }

    /// This program again, in another role.
    fn again(&self, role: &str) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--world").arg(&self.world).arg("--witness").arg(&self.witness).args(["--role", role]);
        Ok(command)
    }

    fn open(&self, ending: &str) -> std::io::Result<File> {
        let path = self.witness.join(format!("{}.{ending}", self.world));
        shared(&path)
    }

    fn tell(&self, what: &str, more: &str) {
        // Where nobody can be told, the scenario sees that nobody was.
        let Ok(mut file) = self.open("jsonl") else { return };
        let cwd = std::env::current_dir().unwrap_or_default();
        let line = format!(
            "{{\"world\":\"{}\",\"what\":\"{what}\",\"pid\":{},\"ticks\":{},\"boot_ms\":{},\"cwd\":{:?}{more}}}\n",
            self.world,
            std::process::id(),
            ticks(),
            boot_ms(),
            cwd.display().to_string(),
        );
        let _ = file.write_all(line.as_bytes());
    }
}

/// A file that every user's copy of the game can write to.
fn shared(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    // Only its owner may, and only needs to once.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o666));
    Ok(file)
}

fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok()).unwrap_or(0)
}

fn boot_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

fn main() -> ExitCode {
    let Some(told) = Told::read() else {
        let _ = writeln!(std::io::stderr(), "fault-game --world NAME --witness DIR [--options …]");
        return ExitCode::from(64);
    };
    match told.role.as_str() {
        "daemon" => {
            let _ = rustix::process::setsid();
            if let Ok(mut command) = told.again("stayer") {
                let _ = deaf(&mut command).spawn();
            }
            ExitCode::SUCCESS
        }
        "stayer" => stay(&told),
        _ if told.has("ignore-term") && std::env::var_os("MANMAN_FAULT_GAME_DEAF").is_none() => {
            let mut command = Command::new("/bin/sh");
            let _ = deaf(&mut command).env("MANMAN_FAULT_GAME_DEAF", "1").args(std::env::args().skip(1)).exec();
            ExitCode::from(65)
        }
        _ => play(&told),
    }
}

/// A program that is run by a shell with both signals ignored, which an `exec` passes on.
fn deaf(command: &mut Command) -> &mut Command {
    let program = std::env::current_exe().unwrap_or_default();
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    *command = Command::new("/bin/sh");
    command.args(["-c", "trap '' TERM INT; exec \"$0\" \"$@\""]).arg(program).args(words)
}

fn stay(told: &Told) -> ExitCode {
    let mark = told.open("tree");
    if let Ok(mark) = &mark {
        let _ = flock(mark, FlockOperation::LockShared);
    }
    told.tell("stays", "");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Who is here besides this process; the marks are held for as long as it lives.
fn marks(told: &Told) -> (Vec<File>, Vec<String>) {
    let mut held = Vec::new();
    let mut others = Vec::new();
    let here = std::env::current_dir().unwrap_or_default().join(".fault-game");
    for (what, file) in [("another copy of this world", told.open("mark")), ("another game in this directory", shared(&here))] {
        match file {
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => held.push(file),
                Err(_) => others.push(what.to_owned()),
            },
            Err(error) => others.push(format!("{what}: nobody knows, {error}")),
        }
    }
    match told.open("tree") {
        Ok(tree) if flock(&tree, FlockOperation::NonBlockingLockExclusive).is_err() => {
            others.push("what an earlier one has started".to_owned())
        }
        _ => {}
    }
    (held, others)
}

fn play(told: &Told) -> ExitCode {
    let (held, others) = marks(told);
    told.tell("begins", &format!(",\"alone\":{},\"others\":{others:?}", others.is_empty()));
    let say = |text: &str| {
        let mut out = std::io::stdout().lock();
        // With nobody left to read it a game goes on.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    say("world is up\n");
    if told.has("daemon")
        && let Ok(mut command) = told.again("daemon")
    {
        let _ = command.status();
    }
    let mut ports = Vec::new();
    if let Some(port) = told.number("port").and_then(|port| u16::try_from(port).ok()) {
        let tcp = std::net::TcpListener::bind(("0.0.0.0", port));
        let udp = std::net::UdpSocket::bind(("0.0.0.0", port));
        if tcp.is_err() || udp.is_err() {
            told.tell("no port", "");
        }
        ports.push((tcp, udp));
    }
    if !told.has("deaf") {
        std::thread::spawn(listen);
    }
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    let mut hunger = told.number("eat").unwrap_or(0);
    let begun = Instant::now();
    let end = told.number("ends").map(Duration::from_millis);
    let pause = Duration::from_millis(1000 / told.number("lines").unwrap_or(5).clamp(1, 1000));
    let mut number = 0_u64;
    let mut saved = begun;
    loop {
        if end.is_some_and(|end| begun.elapsed() >= end) {
            break;
        }
        if hunger > 0 {
            let bite = hunger.min(16 << 20);
            eaten.push(vec![1; usize::try_from(bite).unwrap_or(0)]);
            hunger -= bite;
        }
        if let Some(bytes) = told.number("save")
            && saved.elapsed() >= Duration::from_secs(1)
        {
            saved = Instant::now();
            let world = vec![b'w'; usize::try_from(bytes).unwrap_or(0)];
            let written = std::fs::write("world.new", world).and_then(|()| std::fs::rename("world.new", "world.cfg"));
            say(&written.map_or_else(|error| format!("not saved: {error}\n"), |()| "saved\n".to_owned()));
        }
        if !told.has("silent") {
            number += 1;
            say(&format!("line {number:09}\n"));
        }
        if !told.has("flood") {
            std::thread::sleep(pause);
        }
    }
    drop((held, eaten, ports));
    let code = told.number("code").and_then(|code| u8::try_from(code).ok()).unwrap_or(0);
    told.tell("ends", &format!(",\"code\":{code}"));
    ExitCode::from(code)
}

fn listen() {
    let told = Told::read();
    let finish = |code: i32| {
        if let Some(told) = &told {
            told.tell("ends", &format!(",\"code\":{code}"));
        }
        exit(code);
    };
    for line in std::io::stdin().lock().lines() {
        match line.as_deref().map(str::trim) {
            Ok("quit") => finish(0),
            Ok("break") => finish(3),
            Ok(text) => {
                if let Some(told) = &told {
                    told.tell("hears", &format!(",\"line\":{text:?}"));
                }
                let mut out = std::io::stdout().lock();
                let _ = writeln!(out, "got {text}").and_then(|()| out.flush());
            }
            Err(_) => return,
        }
    }
}
