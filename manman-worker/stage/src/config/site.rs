//! What a file comes to on this machine: a table of routes that can be served as it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::ConfigError;
use super::file::{Channel, Cmd, Encoding, File, Inject, LogStdout, Mode, OnDisconnect, OnExit, Operation, Verb};
use crate::command::{Command, split};
use crate::engine::Limits;
use crate::openapi::{Document, Validator};
use crate::template::{Router, Template};

const PORT: u16 = 8080;
/// As in the user's text.
const SOCKET: &str = "/tmp/urocket.sock";
const TIMEOUT: Duration = Duration::from_millis(1000);
const MAX_INFLIGHT: usize = 32;
/// Bodies are held whole: an argument, a schema and a reply all want all of it.
const MAX_BODY: usize = 64 << 20;
const DRAIN: Duration = Duration::from_secs(30);
/// What a process gets of the stage's own environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];
/// What a script may say of its answer; anything that frames the message or the connection is not here.
const REPLY_HEADERS: [&str; 13] = [
    "cache-control",
    "content-disposition",
    "content-language",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
    "content-location",
];
/// Headers that say where a message ends or who is asked; never a script's to set.
const FRAMING: [&str; 9] =
    ["connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive", "proxy-connection", "host"];

#[derive(Debug)]
pub struct Site {
    pub name: String,
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub max_inflight: usize,
    pub queue: usize,
    pub max_body: usize,
    pub strict_peer: bool,
    pub reply_uid: Option<u32>,
    pub reply_headers: BTreeSet<String>,
    pub drain: Duration,
    pub routes: Router<BTreeMap<Verb, Arc<Route>>>,
    /// Said once at the start; `--strict` makes the first of them an error.
    pub warnings: Vec<String>,
}

/// A path and a verb, and the process they start.
#[derive(Debug)]
pub struct Route {
    pub template: String,
    pub verb: Verb,
    pub command: Command,
    pub wd: PathBuf,
    pub env: Vec<(OsString, OsString)>,
    pub channel: Channel,
    pub encoding: Encoding,
    pub timeout: Duration,
    pub on_exit: OnExit,
    pub on_disconnect: OnDisconnect,
    pub limits: Limits,
    pub mode: Mode,
    pub workers: usize,
    pub headers: Vec<String>,
    pub log: LogStdout,
    pub stats: bool,
    pub max_inflight: Option<usize>,
    pub queue: usize,
    pub validate_in: Option<Arc<Validator>>,
    pub validate_out: Option<Arc<Validator>>,
}

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub openapi: Option<PathBuf>,
    pub port: Option<u16>,
    pub strict: bool,
}

impl Site {
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file = File::parse(&text).map_err(|source| ConfigError::Yaml { path: path.to_owned(), source })?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = std::path::absolute(base).map_err(|source| ConfigError::Read { path: base.to_owned(), source })?;
        Self::resolve(file, &base, overrides)
    }

    /// `base` is where the file lies; its relative paths begin there.
    pub fn resolve(file: File, base: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let openapi = overrides.openapi.clone().or_else(|| file.openapi.as_ref().map(|path| base.join(path)));
        let document = openapi.map(|path| Document::read(&path)).transpose()?;
        if let Some(document) = &document {
            warnings.extend(document.warnings().map(str::to_owned));
        }
        let mut routes = Router::default();
        for (path, operations) in file.paths {
            let template = Template::parse(&path).map_err(|source| ConfigError::Template { path: path.clone(), source })?;
            let mut verbs = BTreeMap::new();
            for (verb, operation) in operations {
                let context = Context { base, template: &template, verb, document: document.as_ref(), stats: file.stats.unwrap_or(false) };
                verbs.insert(verb, Arc::new(context.route(operation, &mut warnings)?));
            }
            routes.insert(template, verbs).map_err(|twin| ConfigError::Twins(twin, path))?;
        }
        if let (true, Some(warning)) = (overrides.strict, warnings.first()) {
            return Err(ConfigError::Strict(warning.clone()));
        }
        let max_inflight = file.max_inflight.unwrap_or(MAX_INFLIGHT);
        if max_inflight == 0 {
            return Err(ConfigError::Value { key: "max_inflight", what: "nothing would ever run".to_owned() });
        }
        Ok(Self {
            name: file.servicename.unwrap_or_else(|| "urocket".to_owned()),
            address: SocketAddr::new(file.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), overrides.port.or(file.port).unwrap_or(PORT)),
            socket: base.join(file.socketpath.unwrap_or_else(|| PathBuf::from(SOCKET))),
            max_inflight,
            queue: file.queue.unwrap_or(0),
            max_body: file.max_body.unwrap_or(MAX_BODY),
            strict_peer: file.strict_peer.unwrap_or(false),
            reply_uid: file.reply_uid,
            reply_headers: reply_headers(file.reply_headers)?,
            drain: file.drain.map_or(DRAIN, Duration::from_millis),
            routes,
            warnings,
        })
    }
}

fn reply_headers(more: Vec<String>) -> Result<BTreeSet<String>, ConfigError> {
    let mut names: BTreeSet<String> = REPLY_HEADERS.map(str::to_owned).into();
    for name in more {
        let name = name.to_ascii_lowercase();
        if FRAMING.contains(&name.as_str()) || hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(ConfigError::Value { key: "reply-headers", what: format!("`{name}` is not a script's to set") });
        }
        names.insert(name);
    }
    Ok(names)
}

struct Context<'a> {
    base: &'a Path,
    template: &'a Template,
    verb: Verb,
    document: Option<&'a Document>,
    stats: bool,
}

impl Context<'_> {
    fn wrong(&self, what: impl Into<String>) -> ConfigError {
        ConfigError::Route { route: self.name(), what: what.into() }
    }

    fn name(&self) -> String {
        format!("{} {}", self.verb, self.template.as_str())
    }

    fn route(&self, operation: Operation, warnings: &mut Vec<String>) -> Result<Route, ConfigError> {
        let Operation { validatein, validateout, logstdout, inject, outtake, stats, max_inflight, queue } = operation;
        if let Some(outtake) = outtake {
            check_outtake(&outtake).map_err(|what| self.wrong(what))?;
        }
        if max_inflight == Some(0) {
            return Err(self.wrong("max_inflight is 0, so nothing would ever run"));
        }
        let validator = self.validator(validatein || validateout, warnings)?;
        let Inject { wd, env, cmd, channel, encoding, timeout, on_exit, on_disconnect, limits, mode, workers, headers } = inject;
        let wd = wd.map_or_else(|| self.base.to_owned(), |wd| self.base.join(wd));
        if !wd.is_dir() {
            return Err(self.wrong(format!("the working directory `{}` is not there", wd.display())));
        }
        let words = match cmd {
            Cmd::Line(line) => split(&line).map_err(|source| ConfigError::Command { route: self.name(), source })?,
            Cmd::Words(words) => words,
        };
        let env = environment(env);
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let command = Command::find(&words, &wd, path).map_err(|source| ConfigError::Command { route: self.name(), source })?;
        if command.payload_at.is_some() && channel != Channel::Cmdline {
            return Err(self.wrong("the payload is an argument, so its channel is `cmdline`"));
        }
        if mode == Mode::Pool && on_exit != OnExit::Error {
            return Err(self.wrong("a process of a pool answers on the socket, so `on-exit` does not go with it"));
        }
        if let Some(header) = headers.iter().find(|header| is_never_environment(header)) {
            return Err(self.wrong(format!("the header `{header}` never becomes a variable: programs take HTTP_PROXY for their proxy")));
        }
        let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
        if timeout.is_zero() {
            return Err(self.wrong("a timeout of 0 ms leaves no time to answer"));
        }
        if limits.cpu.is_some_and(|cpu| !(cpu.is_finite() && cpu >= 0.01)) {
            return Err(self.wrong("limits.cpu is a number of cores, 0.01 at least"));
        }
        Ok(Route {
            template: self.template.as_str().to_owned(),
            verb: self.verb,
            command,
            wd,
            env,
            channel,
            encoding,
            timeout,
            on_exit,
            on_disconnect,
            limits: Limits { memory: limits.memory, cpu: limits.cpu, pids: limits.pids, files: limits.files },
            mode,
            workers: workers.unwrap_or(2).clamp(1, 256),
            headers,
            log: logstdout,
            stats: stats.unwrap_or(self.stats),
            max_inflight,
            queue: queue.unwrap_or(0),
            validate_in: validator.clone().filter(|_| validatein),
            validate_out: validator.filter(|_| validateout),
        })
    }

    fn validator(&self, wanted: bool, warnings: &mut Vec<String>) -> Result<Option<Arc<Validator>>, ConfigError> {
        let Some(document) = self.document else {
            return if wanted { Err(self.wrong("validation is asked for and there is no `openapi` file")) } else { Ok(None) };
        };
        let Some(operation) = document.operation(self.template.as_str(), self.verb) else {
            let what = format!("{} is not in the OpenAPI file", self.name());
            warnings.push(if wanted { format!("{what}, so it is not validated") } else { what });
            return Ok(None);
        };
        if wanted { Ok(Some(Arc::new(Validator::compile(document, operation, warnings)?))) } else { Ok(None) }
    }
}

/// Of all the ways to answer there is one: `usocket://…{req_id}…`.
fn check_outtake(outtake: &str) -> Result<(), String> {
    let Some(path) = outtake.strip_prefix("usocket://") else {
        return Err(format!("the outtake `{outtake}` is of another scheme; only `usocket://` is served"));
    };
    if !path.split('/').any(|segment| segment == "{req_id}") {
        return Err(format!("the outtake `{outtake}` has no segment `{{req_id}}`, so no answer would find its request"));
    }
    Ok(())
}

pub(crate) fn is_never_environment(header: &str) -> bool {
    header.eq_ignore_ascii_case("proxy")
}

/// The few variables that are handed down, under those of the file.
fn environment(own: Vec<(String, String)>) -> Vec<(OsString, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let mut all: BTreeMap<OsString, OsString> = inherited.collect();
    all.entry(OsStr::new("PATH").to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
    all.extend(own.into_iter().map(|(name, value)| (name.into(), value.into())));
    all.into_iter().collect()
}
