//! Which host is meant, and who we are to it.
//!
//! The order: `--host` and `--token`, then `MANMAN_HOST` and `MANMAN_TOKEN`, then the data
//! directory's own `context.toml`. A token of that file is shown to the host of that file alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use manman_common::client::{Client, Endpoint};
use serde::{Deserialize, Serialize};

use crate::args::Globals;
use crate::failure::Failure;

const FILE: &str = "context.toml";

/// What `manman up` or `manman login URL` has left for later commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    pub(crate) url: String,
    /// The host's inner listener; a host elsewhere has none for us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) internal_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// What the environment says, so that tests need not touch their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) host: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) xdg_data_home: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        // An empty variable is one that is not set: `MANMAN_HOST= manman …` is how people unset it.
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            host: text("MANMAN_HOST"),
            token: text("MANMAN_TOKEN"),
            data: path("MANMAN_DATA"),
            // The XDG specification: a relative path is to be ignored.
            xdg_data_home: path("XDG_DATA_HOME").filter(|path| path.is_absolute()),
            home: path("HOME"),
        }
    }
}

/// The host that a command talks to, and where that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) said_by: String,
}

pub(crate) fn data_dir(globals: &Globals, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(dir) = globals.data.clone().or_else(|| environment.data.clone()) {
        return std::path::absolute(&dir).map_err(|error| Failure::new(format!("could not resolve `{}`", dir.display())).because(&error));
    }
    let base = environment.xdg_data_home.clone().or_else(|| Some(environment.home.as_ref()?.join(".local/share")));
    base.map(|base| base.join("manman"))
        .ok_or_else(|| Failure::usage("found no data directory: HOME is not set").hint("name one with --data DIR or MANMAN_DATA"))
}

pub(crate) fn target(globals: &Globals, environment: &Environment) -> Result<Target, Failure> {
    let dir = data_dir(globals, environment)?;
    let stored = Context::read(&dir)?;
    let (url, said_by) = match (&globals.host, &environment.host, &stored) {
        (Some(host), _, _) => (host.clone(), "--host".to_owned()),
        (None, Some(host), _) => (host.clone(), "MANMAN_HOST".to_owned()),
        (None, None, Some(context)) => (context.url.clone(), format!("`{}`", dir.join(FILE).display())),
        (None, None, None) => {
            return Err(Failure::unreachable(format!("found no host: there is no `{}`", dir.join(FILE).display())).hint(
                "start one on this machine with `manman up`, sign in to one elsewhere with `manman login URL`, or name it with --host",
            ));
        }
    };
    let stored_token = stored
        .filter(|context| same_host(&context.url, &url) || context.internal_url.as_deref().is_some_and(|inner| same_host(inner, &url)));
    let token = globals.token.clone().or_else(|| environment.token.clone()).or_else(|| stored_token.and_then(|context| context.token));
    Ok(Target { url, token, said_by })
}

fn same_host(one: &str, other: &str) -> bool {
    match (one.parse::<Endpoint>(), other.parse::<Endpoint>()) {
        // Only the same certificate makes it the same host.
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl Target {
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        self.url.parse().map_err(|error| Failure::usage(format!("could not read the host's address from {}", self.said_by)).because(&error))
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(self.endpoint()?, self.token.clone())
            .map_err(|error| Failure::new(format!("could not talk to {}", self.url)).because(&error))
    }
}

impl Context {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::new(format!("could not read `{}`", path.display())).because(&error)),
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            Failure::new(format!("could not understand `{}`", path.display()))
                .why(error.message().to_owned())
                .hint("correct the line or delete the file; `manman up` writes it anew")
        })
    }

    /// Whole or not at all, and readable by its owner alone: it holds a token.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = Self::path(dir);
        let text = toml::to_string(self).map_err(|error| Failure::new(format!("could not write `{}`", path.display())).because(&error))?;
        write_private(&path, &text)
    }
}

pub(crate) fn make_data_dir(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Failure::new(format!("could not make the data directory `{}`", dir.display())).because(&error).hint("name another with --data DIR")
    })
}

/// A file with mode 0600, replaced in one step.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("could not write `{}`", path.display())).because(&error);
    let draft = path.with_extension("toml.new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stored(dir: &Path) {
        Context { url: "http://127.0.0.1:8080".into(), internal_url: Some("http://127.0.0.1:12000".into()), token: Some("stored".into()) }
            .write(dir)
            .expect("it is written");
    }

    fn globals(dir: &Path) -> Globals {
        Globals { data: Some(dir.to_owned()), ..Globals::default() }
    }

    #[test]
    fn flags_then_environment_then_file() {
        let dir = tempfile::tempdir().expect("a directory");
        stored(dir.path());
        let mut globals = globals(dir.path());
        let mut environment = Environment::default();
        let found = target(&globals, &environment).expect("the file");
        assert_eq!((found.url.as_str(), found.token.as_deref()), ("http://127.0.0.1:8080", Some("stored")));

        environment.host = Some("http://a:1".into());
        environment.token = Some("env".into());
        let found = target(&globals, &environment).expect("the environment");
        assert_eq!((found.url.as_str(), found.token.as_deref()), ("http://a:1", Some("env")));

        globals.host = Some("http://b:1".into());
        globals.token = Some("flag".into());
        let found = target(&globals, &environment).expect("the flags");
        assert_eq!((found.url.as_str(), found.token.as_deref()), ("http://b:1", Some("flag")));
    }

    #[test]
    fn a_stored_token_is_not_shown_to_a_stranger() {
        let dir = tempfile::tempdir().expect("a directory");
        stored(dir.path());
        let mut globals = globals(dir.path());
        globals.host = Some("http://stranger:8080".into());
        assert_eq!(target(&globals, &Environment::default()).expect("a target").token, None);
        globals.host = Some("127.0.0.1:12000".into());
        assert_eq!(target(&globals, &Environment::default()).expect("a target").token.as_deref(), Some("stored"));
    }

    #[test]
    fn nothing_known_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let failure = target(&globals(dir.path()), &Environment::default()).expect_err("there is no host");
        assert_eq!(failure.exit, crate::failure::Exit::Unreachable);
        assert!(failure.hint.expect("a hint").contains("manman up"));
    }

    #[test]
    fn the_file_is_the_owners_alone_and_survives() {
        let dir = tempfile::tempdir().expect("a directory");
        stored(dir.path());
        stored(dir.path());
        let mode = fs::metadata(Context::path(dir.path())).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(Context::path(dir.path())).expect("the file");
        assert_eq!(text, "url = \"http://127.0.0.1:8080\"\ninternal_url = \"http://127.0.0.1:12000\"\ntoken = \"stored\"\n");
        fs::write(Context::path(dir.path()), "url = 7").expect("it is written");
        assert!(Context::read(dir.path()).is_err());
    }

    #[test]
    fn the_data_directory() {
        let environment = Environment { home: Some("/home/me".into()), ..Environment::default() };
        assert_eq!(data_dir(&Globals::default(), &environment).expect("a directory"), Path::new("/home/me/.local/share/manman"));
        let environment = Environment { xdg_data_home: Some("/x".into()), ..environment };
        assert_eq!(data_dir(&Globals::default(), &environment).expect("a directory"), Path::new("/x/manman"));
        let environment = Environment { data: Some("/d".into()), ..environment };
        assert_eq!(data_dir(&Globals::default(), &environment).expect("a directory"), Path::new("/d"));
        assert_eq!(data_dir(&globals(Path::new("/f")), &environment).expect("a directory"), Path::new("/f"));
        assert!(data_dir(&Globals::default(), &Environment::default()).is_err());
    }
}
