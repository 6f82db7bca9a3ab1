use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use manman_common::client::{Client, Endpoint};
use serde::Serialize;

use crate::commands::{App, refused, up};
use crate::context::{self, Context};
use crate::failure::Failure;
use crate::output;

/// Print a link that opens the console, once; with a URL, sign in to a host elsewhere
///
/// The link is good for one browser. With a URL, later commands talk to that host; the token is asked
/// for, or taken from --token, MANMAN_TOKEN or a pipe, and kept in the data directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manman login\n  manman login https://192.168.1.10:8443#sha256=ab12…")]
pub(crate) struct Login {
    /// A host elsewhere; `#sha256=…` after it names the certificate it must show
    url: Option<String>,
}

#[derive(Serialize)]
struct SignedIn {
    url: String,
    context: String,
}

impl Login {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        match self.url {
            None => link(app).await,
            Some(url) => sign_in(app, &url).await,
        }
    }
}

async fn link(app: &App) -> Result<(), Failure> {
    let client = app.client()?;
    let link = client.login_link().await.map_err(|error| refused("could not make a login link", error))?;
    app.output.done(&link, &link.url)
}

async fn sign_in(app: &App, url: &str) -> Result<(), Failure> {
    let endpoint: Endpoint = url.parse().map_err(|error| Failure::usage("could not read that address").because(&error))?;
    let dir = app.data_dir()?;
    if up::lock::holder(&dir).is_some() {
        return Err(Failure::new(format!("could not sign in to {endpoint}"))
            .why(format!("`{}` belongs to the host that `manman up` runs on this machine", dir.display()))
            .hint("name another directory for this one: --data DIR"));
    }
    let token = app.globals.token.clone().or_else(|| app.environment.token.clone()).map_or_else(ask_token, Ok)?;
    if endpoint.url().scheme() == "http" && !endpoint.is_loopback() {
        output::warn("this address is not encrypted: everybody on the way can read the token");
    }
    let failed = |error| refused(format!("could not sign in to {endpoint}"), error);
    let client = Client::new(endpoint.clone(), Some(token.clone())).map_err(failed)?;
    let status = client.host_status().await.map_err(failed)?;
    context::make_data_dir(&dir)?;
    Context { url: endpoint.to_string(), internal_url: None, token: Some(token) }.write(&dir)?;
    let signed_in = SignedIn { url: endpoint.to_string(), context: Context::path(&dir).display().to_string() };
    app.output.done(&signed_in, &format!("signed in to {endpoint} (manman {}); kept in {}", status.version, signed_in.context))
}

fn ask_token() -> Result<String, Failure> {
    let hint = "make one on the host with `manman token create`, and give it with --token or MANMAN_TOKEN";
    ask_secret("token: ").ok_or_else(|| Failure::usage("a host elsewhere wants a token").hint(hint))
}

/// A line of stdin, which a terminal does not show; `None` where there is none.
pub(crate) fn ask_secret(prompt: &str) -> Option<String> {
    let stdin = io::stdin();
    let person = stdin.is_terminal();
    let mut line = String::new();
    if person {
        let _ = write!(io::stderr().lock(), "{prompt}");
    }
    let hidden = Hidden::new(person);
    let read = stdin.lock().read_line(&mut line);
    drop(hidden);
    if person {
        let _ = writeln!(io::stderr().lock());
    }
    let secret = line.trim().to_owned();
    (read.is_ok() && !secret.is_empty()).then_some(secret)
}

/// What is typed is not shown until this is dropped.
struct Hidden(Option<rustix::termios::Termios>);

impl Hidden {
    fn new(person: bool) -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let found = person.then(|| tcgetattr(io::stdin()).ok()).flatten();
        if let Some(found) = &found {
            let mut silent = found.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(found)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(found) = &self.0 {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, found);
        }
    }
}
