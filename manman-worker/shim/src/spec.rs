//! What to run, as the worker writes it down before it starts a shim.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Signal};

use crate::journal::JournalPlace;
use crate::lease::Lease;
use crate::rung::{RUNGS_MAX, Rung, Step};
use crate::text::{self, BadLine, put, put_display, put_some};

/// A full description of one instance; nothing of the worker's own environment goes into the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The start that this is, as the worker names it.
    pub instance: String,
    /// What a client must say to be heard; random, made by the worker.
    pub nonce: String,
    /// Program and arguments; a program without a slash is looked for in the `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Puts `env` on top of the shim's own environment: for a container, whose image has made one.
    pub inherit_env: bool,
    /// A directory that the game finds under another name, in a mount namespace of its own: for a
    /// game whose user may not pass through the directories above its data.
    pub bind: Option<Bind>,
    /// Where the game starts; where the shim was started if there is none.
    pub cwd: Option<PathBuf>,
    pub user: Option<User>,
    pub stdio: Stdio,
    pub log: LogPlace,
    pub lock: Option<DataLock>,
    pub journal: Option<JournalPlace>,
    /// How long it may run unless a client says otherwise; for ever without one.
    pub lease: Option<Lease>,
    /// Leaves that the game's process enters before it starts: one of v2, or one for each v1 hierarchy.
    pub cgroups: Vec<PathBuf>,
    pub ladder: Vec<Rung>,
    /// How long what the game leaves behind may live on once its own process has ended, before it
    /// is killed; `None` waits for it. As process 1 of a container it is never waited for.
    pub linger: Option<Duration>,
    pub oom_score_adj: Option<i16>,
    pub limits: Vec<Limit>,
    pub no_new_privileges: bool,
    /// Users besides root and the shim's own whose connections are accepted.
    pub peers: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    /// An empty directory that is there.
    pub target: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// stdout and stderr apart.
    Pipes,
    /// A terminal without echo, for games that buffer or refuse to read where there is none.
    Pty { rows: u16, columns: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    pub dir: PathBuf,
    /// A new segment is begun once one has reached this size.
    pub segment_bytes: u64,
    /// The oldest segments are deleted while all of them together are larger.
    pub total_bytes: u64,
}

/// Above it stands which assignment of the server to a worker a start is of, below it the generation of
/// the wish that it follows.
pub const EPOCH_SHIFT: u32 = 32;

/// A file that is flocked for as long as any process of the instance lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLock {
    pub path: PathBuf,
    /// Assignment and generation. A file with a later assignment, or with a stop by this generation or a
    /// later one, refuses.
    pub epoch: u64,
}

/// A resource limit, soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub resource: Resource,
    /// `None` is unlimited.
    pub value: Option<u64>,
}

const RESOURCES: [(&str, Resource); 5] = [
    ("core", Resource::Core),
    ("nofile", Resource::Nofile),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("stack", Resource::Stack),
];

impl Spec {
    /// A spec with what has no sensible default; the rest may be set afterwards.
    #[must_use]
    pub fn new(instance: impl Into<String>, nonce: impl Into<String>, argv: Vec<OsString>, log: LogPlace) -> Self {
        Self {
            instance: instance.into(),
            nonce: nonce.into(),
            argv,
            env: Vec::new(),
            inherit_env: false,
            bind: None,
            cwd: None,
            user: None,
            stdio: Stdio::Pipes,
            log,
            lock: None,
            journal: None,
            lease: None,
            cgroups: Vec::new(),
            ladder: vec![Rung { step: Step::Signal(Signal::TERM), wait: Duration::from_secs(10) }],
            linger: None,
            oom_score_adj: None,
            limits: Vec::new(),
            no_new_privileges: true,
            peers: Vec::new(),
        }
    }

    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, "instance", &self.instance);
        put(&mut out, "nonce", &self.nonce);
        for arg in &self.argv {
            put(&mut out, "arg", arg.as_bytes());
        }
        for (name, value) in &self.env {
            put(&mut out, "env", [name.as_bytes(), b"=", value.as_bytes()].concat());
        }
        put_display(&mut out, "inherit_env", u8::from(self.inherit_env));
        if let Some(bind) = &self.bind {
            put(&mut out, "bind_source", bind.source.as_os_str().as_bytes());
            put(&mut out, "bind_target", bind.target.as_os_str().as_bytes());
        }
        if let Some(cwd) = &self.cwd {
            put(&mut out, "cwd", cwd.as_os_str().as_bytes());
        }
        if let Some(user) = &self.user {
            put_display(&mut out, "uid", user.uid);
            put_display(&mut out, "gid", user.gid);
            for group in &user.groups {
                put_display(&mut out, "group", group);
            }
        }
        match self.stdio {
            Stdio::Pipes => put(&mut out, "stdio", "pipes"),
            Stdio::Pty { rows, columns } => put_display(&mut out, "stdio", format_args!("pty {rows} {columns}")),
        }
        put(&mut out, "log_dir", self.log.dir.as_os_str().as_bytes());
        put_display(&mut out, "log_segment_bytes", self.log.segment_bytes);
        put_display(&mut out, "log_total_bytes", self.log.total_bytes);
        if let Some(lock) = &self.lock {
            put(&mut out, "lock", lock.path.as_os_str().as_bytes());
            put_display(&mut out, "epoch", lock.epoch);
        }
        if let Some(journal) = &self.journal {
            put(&mut out, "journal_dir", journal.dir.as_os_str().as_bytes());
            put(&mut out, "journal_server", &journal.server);
        }
        if self.lease.is_some() {
            let (until, kill_at) = Lease::millis(self.lease);
            put_display(&mut out, "lease_until_ms", until);
            put_display(&mut out, "lease_kill_ms", kill_at);
        }
        for leaf in &self.cgroups {
            put(&mut out, "cgroup", leaf.as_os_str().as_bytes());
        }
        for rung in &self.ladder {
            put_display(&mut out, "rung", rung);
        }
        put_some(&mut out, "linger_ms", self.linger.map(|linger| linger.as_millis()));
        put_some(&mut out, "oom_score_adj", self.oom_score_adj);
        for limit in &self.limits {
            let name = RESOURCES.iter().find(|(_, known)| *known == limit.resource).map_or("", |(name, _)| name);
            match limit.value {
                Some(value) => put_display(&mut out, "limit", format_args!("{name} {value}")),
                None => put_display(&mut out, "limit", format_args!("{name} unlimited")),
            }
        }
        put_display(&mut out, "no_new_privileges", u8::from(self.no_new_privileges));
        for peer in &self.peers {
            put_display(&mut out, "peer", peer);
        }
        out
    }

    pub fn parse(content: &[u8]) -> Result<Self, SpecError> {
        let mut draft = Draft::default();
        for field in text::fields(content) {
            let (key, value) = field.map_err(SpecError::Line)?;
            if value.contains(&0) {
                return Err(SpecError::bad(key, &value));
            }
            draft.take(key, &value)?;
        }
        draft.finish()
    }
}

/// A spec of which some fields may still be missing.
#[derive(Default)]
struct Draft {
    instance: Option<String>,
    nonce: Option<String>,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    inherit_env: bool,
    bind_source: Option<PathBuf>,
    bind_target: Option<PathBuf>,
    cwd: Option<PathBuf>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Vec<u32>,
    stdio: Option<Stdio>,
    log_dir: Option<PathBuf>,
    log_segment_bytes: Option<u64>,
    log_total_bytes: Option<u64>,
    lock: Option<PathBuf>,
    epoch: Option<u64>,
    journal_dir: Option<PathBuf>,
    journal_server: Option<String>,
    lease_until: Option<u64>,
    lease_kill: Option<u64>,
    cgroups: Vec<PathBuf>,
    ladder: Vec<Rung>,
    linger: Option<Duration>,
    oom_score_adj: Option<i16>,
    limits: Vec<Limit>,
    no_new_privileges: bool,
    peers: Vec<u32>,
}

impl Draft {
    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), SpecError> {
        let number = || text::parsed(value).ok_or_else(|| SpecError::bad(key, value));
        let small = || text::parsed(value).ok_or_else(|| SpecError::bad(key, value));
        let path = || PathBuf::from(OsStr::from_bytes(value));
        match key {
            "instance" => self.instance = Some(word(key, value)?),
            "nonce" => self.nonce = Some(word(key, value)?),
            "arg" => self.argv.push(OsString::from_vec(value.to_vec())),
            "env" => {
                let equals = value.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(|| SpecError::bad(key, value))?;
                self.env.push((OsString::from_vec(value[..equals].to_vec()), OsString::from_vec(value[equals + 1..].to_vec())));
            }
            "inherit_env" => self.inherit_env = truth(key, value)?,
            "bind_source" => self.bind_source = Some(path()),
            "bind_target" => self.bind_target = Some(path()),
            "cwd" => self.cwd = Some(path()),
            "uid" => self.uid = Some(small()?),
            "gid" => self.gid = Some(small()?),
            "group" => self.groups.push(small()?),
            "stdio" => self.stdio = Some(stdio(value).ok_or_else(|| SpecError::bad(key, value))?),
            "log_dir" => self.log_dir = Some(path()),
            "log_segment_bytes" => self.log_segment_bytes = Some(number()?),
            "log_total_bytes" => self.log_total_bytes = Some(number()?),
            "lock" => self.lock = Some(path()),
            "epoch" => self.epoch = Some(number()?),
            "journal_dir" => self.journal_dir = Some(path()),
            "journal_server" => self.journal_server = Some(word(key, value)?),
            "lease_until_ms" => self.lease_until = Some(number()?),
            "lease_kill_ms" => self.lease_kill = Some(number()?),
            "cgroup" => self.cgroups.push(path()),
            "rung" if self.ladder.len() < RUNGS_MAX => {
                let rung = std::str::from_utf8(value).ok().and_then(Rung::parse);
                self.ladder.push(rung.ok_or_else(|| SpecError::bad(key, value))?);
            }
            "linger_ms" => self.linger = Some(Duration::from_millis(number()?)),
            "oom_score_adj" => self.oom_score_adj = Some(text::parsed(value).ok_or_else(|| SpecError::bad(key, value))?),
            "limit" => self.limits.push(limit(value).ok_or_else(|| SpecError::bad(key, value))?),
            "no_new_privileges" => self.no_new_privileges = truth(key, value)?,
            "peer" => self.peers.push(small()?),
            _ => return Err(SpecError::Unknown(key.to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Spec, SpecError> {
        let user = match (self.uid, self.gid) {
            (Some(uid), Some(gid)) => Some(User { uid, gid, groups: self.groups }),
            (Some(_), None) => return Err(SpecError::Missing("gid")),
            (None, Some(_)) => return Err(SpecError::Missing("uid")),
            (None, None) if self.groups.is_empty() => None,
            (None, None) => return Err(SpecError::Missing("uid")),
        };
        let lock = both(self.lock, "lock", self.epoch, "epoch")?.map(|(path, epoch)| DataLock { path, epoch });
        let bind = both(self.bind_source, "bind_source", self.bind_target, "bind_target")?;
        let bind = bind.map(|(source, target)| Bind { source, target });
        let journal = both(self.journal_dir, "journal_dir", self.journal_server, "journal_server")?;
        let journal = journal.map(|(dir, server)| JournalPlace { dir, server });
        let lease = both(self.lease_until, "lease_until_ms", self.lease_kill, "lease_kill_ms")?;
        let lease = lease.and_then(|(until, kill_at)| Lease::from_millis(until, kill_at));
        if self.argv.first().is_none_or(|program| program.is_empty()) {
            return Err(SpecError::Missing("arg"));
        }
        Ok(Spec {
            instance: self.instance.ok_or(SpecError::Missing("instance"))?,
            nonce: self.nonce.ok_or(SpecError::Missing("nonce"))?,
            argv: self.argv,
            env: self.env,
            inherit_env: self.inherit_env,
            bind,
            cwd: self.cwd,
            user,
            stdio: self.stdio.ok_or(SpecError::Missing("stdio"))?,
            log: LogPlace {
                dir: self.log_dir.ok_or(SpecError::Missing("log_dir"))?,
                segment_bytes: self.log_segment_bytes.ok_or(SpecError::Missing("log_segment_bytes"))?,
                total_bytes: self.log_total_bytes.ok_or(SpecError::Missing("log_total_bytes"))?,
            },
            lock,
            journal,
            lease,
            cgroups: self.cgroups,
            ladder: self.ladder,
            linger: self.linger,
            oom_score_adj: self.oom_score_adj,
            limits: self.limits,
            no_new_privileges: self.no_new_privileges,
            peers: self.peers,
        })
    }
}

/// Two fields of which one means nothing.
fn both<A, B>(a: Option<A>, a_key: &'static str, b: Option<B>, b_key: &'static str) -> Result<Option<(A, B)>, SpecError> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(SpecError::Missing(b_key)),
        (None, Some(_)) => Err(SpecError::Missing(a_key)),
    }
}

/// Text of an instance or a nonce: it stands in files and frames, so it is kept plain and short.
fn word(key: &str, value: &[u8]) -> Result<String, SpecError> {
    let plain = (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(value).into_owned()).ok_or_else(|| SpecError::bad(key, value))
}

fn truth(key: &str, value: &[u8]) -> Result<bool, SpecError> {
    match value {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(SpecError::bad(key, value)),
    }
}

fn stdio(value: &[u8]) -> Option<Stdio> {
    let text = std::str::from_utf8(value).ok()?;
    if text == "pipes" {
        return Some(Stdio::Pipes);
    }
    let (rows, columns) = text.strip_prefix("pty ")?.split_once(' ')?;
    Some(Stdio::Pty { rows: rows.parse().ok()?, columns: columns.parse().ok()? })
}

fn limit(value: &[u8]) -> Option<Limit> {
    let (name, value) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let (_, resource) = RESOURCES.iter().find(|(known, _)| *known == name)?;
    let value = if value == "unlimited" { None } else { Some(value.parse().ok()?) };
    Some(Limit { resource: *resource, value })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    Line(BadLine),
    Unknown(String),
    Missing(&'static str),
    Value { key: String, value: String },
}

impl SpecError {
    fn bad(key: &str, value: &[u8]) -> Self {
        // A nonce is a secret and an environment may hold some: their values stay out of messages.
        let shown = if matches!(key, "nonce" | "env") { "…".into() } else { String::from_utf8_lossy(value) };
        Self::Value { key: key.to_owned(), value: shown.chars().take(200).collect() }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(bad) => bad.fmt(f),
            Self::Unknown(key) => write!(f, "`{key}` is no key of a spec, or there are too many of it"),
            Self::Missing(key) => write!(f, "`{key}` is missing"),
            Self::Value { key, value } => write!(f, "`{key}` can not be `{value}`"),
        }
    }
}

impl std::error::Error for SpecError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Spec {
        let log = LogPlace { dir: "/log".into(), segment_bytes: 1 << 26, total_bytes: 1 << 30 };
        let mut spec = Spec::new("0193", "n0nce", vec!["./start.sh".into(), "a b\nc\\".into(), "".into()], log);
        spec.env = vec![("A".into(), "1=2\n".into()), ("B".into(), "".into())];
        spec.bind = Some(Bind { source: "/root/data".into(), target: "/run/game".into() });
        spec.cwd = Some("/data".into());
        spec.user = Some(User { uid: 1000, gid: 1001, groups: vec![1001, 7] });
        spec.stdio = Stdio::Pty { rows: 40, columns: 200 };
        spec.lock = Some(DataLock { path: "/data/.manman/lock".into(), epoch: 7 });
        spec.journal = Some(JournalPlace { dir: "/data/../journal".into(), server: "0192".to_owned() });
        spec.lease = Lease::from_millis(1_000_000, 1_030_000);
        spec.cgroups = vec!["/sys/fs/cgroup/memory/x".into(), "/sys/fs/cgroup/freezer/x".into()];
        spec.ladder.insert(0, Rung { step: Step::Console("save-all".to_owned()), wait: Duration::from_secs(30) });
        spec.linger = Some(Duration::from_millis(1500));
        spec.oom_score_adj = Some(-5);
        spec.limits = vec![Limit { resource: Resource::Core, value: Some(0) }, Limit { resource: Resource::Nofile, value: None }];
        spec.peers = vec![12, 13];
        spec
    }

    #[test]
    fn a_spec_survives_its_text() {
        let spec = full();
        assert_eq!(Spec::parse(&spec.to_text()), Ok(spec));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = String::from_utf8(full().to_text()).expect("plain text");
        for (from, to, message) in [
            ("uid=1000\n", "", "`uid` is missing"),
            ("epoch=7\n", "", "`epoch` is missing"),
            ("journal_server=0192\n", "", "`journal_server` is missing"),
            ("lease_until_ms=1000000\n", "", "`lease_until_ms` is missing"),
            ("arg=", "argh=", "`argh` is no key of a spec, or there are too many of it"),
            ("rung=30000 console save-all", "rung=1 action save", "`rung` can not be `1 action save`"),
            ("nonce=n0nce", "nonce=\u{1}", "`nonce` can not be `…`"),
            ("stdio=pty 40 200", "stdio=pty 40", "`stdio` can not be `pty 40`"),
            ("cwd=/data\n", "cwd\n", "line 11 is not key=value"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert_eq!(Spec::parse(bad.as_bytes()).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
