//! The words of the file. Each key may be written `validate-in`, `validate_in` or `validatein`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The whole file. A key that is not here is an error that names its line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(alias = "service-name", alias = "service_name")]
    pub servicename: Option<String>,
    pub port: Option<u16>,
    pub bind: Option<IpAddr>,
    #[serde(alias = "socket-path", alias = "socket_path")]
    pub socketpath: Option<PathBuf>,
    pub openapi: Option<PathBuf>,
    #[serde(alias = "max-inflight", alias = "maxinflight")]
    pub max_inflight: Option<usize>,
    /// How many may wait for their turn; more are answered 429.
    pub queue: Option<usize>,
    pub stats: Option<bool>,
    /// Longest body of a request and of a reply, in bytes.
    #[serde(alias = "max-body", alias = "maxbody")]
    pub max_body: Option<usize>,
    #[serde(alias = "strict-peer", alias = "strictpeer")]
    pub strict_peer: Option<bool>,
    /// A second user who may answer.
    #[serde(alias = "reply-uid", alias = "replyuid")]
    pub reply_uid: Option<u32>,
    /// Headers that a script may set, beside the usual ones.
    #[serde(alias = "reply-headers", alias = "replyheaders", default)]
    pub reply_headers: Vec<String>,
    /// How long a stage that ends waits for what is under way, in milliseconds.
    pub drain: Option<u64>,
    #[serde(default)]
    pub paths: BTreeMap<String, BTreeMap<Verb, Operation>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    #[serde(alias = "validate-in", alias = "validate_in", default)]
    pub validatein: bool,
    #[serde(alias = "validate-out", alias = "validate_out", default)]
    pub validateout: bool,
    #[serde(alias = "log-stdout", alias = "log_stdout", default)]
    pub logstdout: LogStdout,
    #[serde(alias = "in")]
    pub inject: Inject,
    #[serde(alias = "out")]
    pub outtake: Option<String>,
    pub stats: Option<bool>,
    #[serde(alias = "max-inflight", alias = "maxinflight")]
    pub max_inflight: Option<usize>,
    pub queue: Option<usize>,
}

/// How the process is started.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    pub wd: Option<PathBuf>,
    #[serde(default, deserialize_with = "environment")]
    pub env: Vec<(String, String)>,
    pub cmd: Cmd,
    #[serde(default)]
    pub channel: Channel,
    #[serde(default)]
    pub encoding: Encoding,
    /// Milliseconds until the caller hears 504.
    pub timeout: Option<u64>,
    #[serde(alias = "on-exit", alias = "onexit", default)]
    pub on_exit: OnExit,
    #[serde(alias = "on-disconnect", alias = "ondisconnect", default)]
    pub on_disconnect: OnDisconnect,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub mode: Mode,
    /// With `mode: pool`, how many processes are kept.
    pub workers: Option<usize>,
    /// Headers of the request that become `HTTP_NAME` in the environment.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// A command line, or its words.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Cmd {
    Line(String),
    Words(Vec<String>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// The payload is one argument.
    #[default]
    Cmdline,
    Stdin,
    /// The payload is a file whose path is in `UROCKET_PAYLOAD`.
    File,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A payload that is no JSON is refused.
    #[default]
    Json,
    Raw,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One process a request.
    #[default]
    Spawn,
    /// Processes that stay and fetch their requests.
    Pool,
}

/// What it means that a process ends well without having answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OnExit {
    #[default]
    #[serde(rename = "error", alias = "502")]
    Error,
    /// What it has printed is the answer, as with CGI.
    #[serde(rename = "stdout")]
    Stdout,
    #[serde(rename = "204")]
    NoContent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    #[default]
    Kill,
    Continue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStdout {
    #[default]
    No,
    Yes,
    /// Only for requests that carry `X-URocket-Log: stdout`.
    Header,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes, or a number with `k`, `M` or `G` (of 1024).
    #[serde(default, deserialize_with = "size")]
    pub memory: Option<u64>,
    /// Cores, such as 0.5.
    pub cpu: Option<f64>,
    pub pids: Option<u64>,
    /// Open files of each process.
    pub files: Option<u64>,
}

/// A verb of HTTP, in the file in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    Query,
}

impl Verb {
    pub const ALL: [Self; 10] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options, Self::Trace, Self::Connect, Self::Query];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Query => "QUERY",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|verb| verb.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| D::Error::custom(format!("`{text}` is no verb of HTTP")))
    }
}

impl<'de> Deserialize<'de> for LogStdout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Flag(bool),
            Text(String),
        }
        match Word::deserialize(deserializer)? {
            Word::Flag(true) => Ok(Self::Yes),
            Word::Flag(false) => Ok(Self::No),
            Word::Text(text) if text == "header" => Ok(Self::Header),
            Word::Text(text) => Err(D::Error::custom(format!("logstdout is `true`, `false` or `header`, not `{text}`"))),
        }
    }
}

/// `- NAME=VALUE` as in the user's text, or a map.
fn environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Map(BTreeMap<String, String>),
    }
    let pairs: Vec<(String, String)> = match Written::deserialize(deserializer)? {
        Written::List(list) => {
            let pair = |entry: String| match entry.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(D::Error::custom(format!("`{entry}` of env is not NAME=VALUE"))),
            };
            list.into_iter().map(pair).collect::<Result<_, _>>()?
        }
        Written::Map(map) => map.into_iter().collect(),
    };
    match pairs.iter().find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')) {
        Some((name, _)) => Err(D::Error::custom(format!("`{}` of env is no name with a value", name.escape_default()))),
        None => Ok(pairs),
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(bytes) => Ok(Some(bytes)),
        Written::Text(text) => parse_size(&text).map(Some).ok_or_else(|| D::Error::custom(format!("`{text}` is no size such as 64M"))),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim().trim_end_matches(['B', 'b', 'i']) {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl File {
    pub fn parse(text: &str) -> Result<Self, Box<serde_saphyr::Error>> {
        serde_saphyr::from_str(text).map_err(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(
            ["64M", "1k", "7", "2GiB", "x", "9x", "99999999999G"].map(parse_size),
            [Some(64 << 20), Some(1024), Some(7), Some(2 << 30), None, None, None]
        );
    }

    #[test]
    fn every_spelling_is_the_same_key() {
        for (a, b, c) in
            [("validate-in", "validate-out", "inject"), ("validate_in", "validate_out", "in"), ("validatein", "validateout", "in")]
        {
            let text = format!(
                "paths:\n  get/pets:\n    GET:\n      {a}: true\n      {b}: true\n      {c}: {{cmd: echo, on-exit: 204, env: {{A: b}}}}\n      logstdout: header\n      out: usocket://uri/{{req_id}}\n"
            );
            let file = File::parse(&text).expect("it is valid");
            let operation = &file.paths["get/pets"][&Verb::Get];
            assert!(operation.validatein && operation.validateout && operation.logstdout == LogStdout::Header, "{text}");
            assert_eq!(operation.inject.env, [("A".to_owned(), "b".to_owned())]);
            assert_eq!(operation.inject.on_exit, OnExit::NoContent);
        }
    }

    #[test]
    fn what_is_misspelt_is_named_with_its_line() {
        for (text, line, word) in [
            ("port: 1\nsocktpath: /x\n", "2", "socktpath"),
            ("paths:\n  /a:\n    get:\n      inject: {cmd: a, chanel: stdin}\n", "4", "chanel"),
            ("paths:\n  /a:\n    fetch:\n      inject: {cmd: a}\n", "3", "fetch"),
            ("paths:\n  /a:\n    get:\n      inject:\n        cmd: a\n        encoding: xml\n", "6", "xml"),
            ("paths:\n  /a:\n    get:\n      inject:\n        cmd: a\n        env: [A]\n", "6", "NAME=VALUE"),
        ] {
            let error = File::parse(text).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains(line), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(paths|port|/a|get|inject|cmd|env|: |\n|  |- |[a-z{}\\[\\]'\"&*!|>%@]){0,60}") {
            let _ = File::parse(&text);
        }

        #[test]
        fn a_port_is_a_port(port in any::<u32>()) {
            let file = File::parse(&format!("port: {port}\n"));
            prop_assert_eq!(file.is_ok(), port <= 65535);
        }
    }
}
