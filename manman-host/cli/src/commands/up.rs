//! `manman up`: everything on this machine, as tasks of one process.

pub(crate) mod engine;
mod host;
pub(crate) mod lock;
pub(crate) mod ports;
mod preflight;
mod run;
pub(crate) mod service;
pub(crate) mod system;
mod talk;
mod worker;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use manman_common::Name;
use manman_host::config::{INTERNAL_PORT, PUBLIC_PORT};
use manman_worker::config::DockerMode;

use crate::commands::App;
use crate::context;
use crate::failure::Failure;
use crate::parse;

/// The front door where it is open to the home network.
const LAN_PORT: u16 = 8443;

/// Run everything on this machine: host, its database, a worker, the console
///
/// In the foreground, until Ctrl-C; games run on, and the next `up` takes them over again. `manman down`
/// stops the games, too. What the machine lacks (PostgreSQL, Docker Engine) is shown with the command
/// that installs it, and installed if you agree.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman up\n  manman up --yes                  install what is missing without asking\n  manman up --lan                  open to the home network, with TLS\n  manman up --service              install it as a systemd service instead"
)]
pub(crate) struct Up {
    /// Where console, API and joining workers come in [default: 127.0.0.1:8080, with --lan 0.0.0.0:8443]
    #[arg(long, env = "MANMAN_PUBLIC", value_name = "ADDRESS", value_parser = address)]
    public: Option<SocketAddr>,
    /// Where this machine's own programs come in [default: 127.0.0.1:12000]
    #[arg(long, env = "MANMAN_INTERNAL", value_name = "ADDRESS", value_parser = address)]
    internal: Option<SocketAddr>,
    /// Use this PostgreSQL instead of a private one
    #[arg(long, env = "MANMAN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where PostgreSQL's `postgres` and `initdb` are
    #[arg(long, env = "MANMAN_PG_BIN", value_name = "DIR", conflicts_with = "database_url")]
    pg_bin: Option<PathBuf>,
    /// Whether to run Docker games: `auto` goes on without an engine
    #[arg(long, env = "MANMAN_DOCKER", value_name = "WHEN", value_enum, default_value = "auto")]
    docker: DockerMode,
    /// SteamCMD to fetch Steam's games with; without it, it is fetched from Valve on first use
    #[arg(long, env = "MANMAN_STEAMCMD", value_name = "PATH")]
    steamcmd: Option<PathBuf>,
    /// The name of this machine's worker [default: the machine's]
    #[arg(long, env = "MANMAN_WORKER_NAME", value_name = "NAME")]
    worker_name: Option<Name>,
    /// A folder with definitions of games of your own; may be given again [beside `games` in the data directory]
    #[arg(long, env = "MANMAN_GAMES", value_name = "DIR", value_delimiter = ':')]
    games: Vec<PathBuf>,
    /// After its own start the host calls no worker stale for so long [default: 90s]
    #[arg(long, env = "MANMAN_SETTLE", value_name = "TIME", value_parser = parse::duration)]
    settle: Option<Duration>,
    /// A worker whose database went back in time on its own machine is trusted again after so long without a rival [default: 10m]
    #[arg(long, env = "MANMAN_REBASE_AFTER", value_name = "TIME", value_parser = parse::duration, hide = true)]
    rebase_after: Option<Duration>,
    /// Open the front door to the home network, with TLS from a certificate of its own
    #[arg(long)]
    lan: bool,
    /// Announce the host to the network that its front door is open to [default: yes with --lan]
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = clap::builder::BoolishValueParser::new())]
    mdns: Option<bool>,
    /// Install and start a systemd service that does all this with every start of the machine
    #[arg(long)]
    service: bool,
    /// Agree to every installation and start of what is missing
    #[arg(short, long)]
    yes: bool,
}

/// `127.0.0.1:8080`, `8080`, `:8080`, `[::1]:8080`, `localhost:8080`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port_alone = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port_alone.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| format!("`{text}` is not an address with a port; write `127.0.0.1:8080` or `0.0.0.0:8080`"))
}

impl Up {
    fn public_address(&self) -> SocketAddr {
        let default = if self.lan { (Ipv4Addr::UNSPECIFIED, LAN_PORT) } else { (Ipv4Addr::LOCALHOST, PUBLIC_PORT) };
        self.public.unwrap_or_else(|| SocketAddr::from(default))
    }

    fn internal_address(&self) -> SocketAddr {
        self.internal.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, INTERNAL_PORT)))
    }

    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let data = app.data_dir()?;
        context::make_data_dir(&data)?;
        if self.service {
            service::check()?;
            if let Some(holder) = lock::holder(&data).filter(|holder| service::unit_of(holder.pid).is_none()) {
                return Err(Failure::new(format!("could not install a service for `{}`", data.display()))
                    .why(format!("`manman up` runs there in the foreground (pid {})", holder.pid))
                    .hint("end it first with Ctrl-C; its games run on"));
            }
            self.preflight(&data).await?;
            return service::install(&data, &self.service_options()).await;
        }
        talk::begin();
        let mut lock = lock::Lock::take(&data)?;
        lock.write(None)?;
        self.preflight(&data).await?;
        ports::check("--public", self.public_address())?;
        ports::check("--internal", self.internal_address())?;
        Box::pin(run::run(self, app, &data, &mut lock)).await
    }

    async fn preflight(&self, data: &std::path::Path) -> Result<(), Failure> {
        if self.database_url.is_none() {
            preflight::postgres(self.pg_bin.as_deref(), self.yes)?;
        }
        preflight::docker(self.docker, self.yes, data).await
    }

    /// What the service's own `up` must be told.
    fn service_options(&self) -> Vec<String> {
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let mut options = Vec::new();
        let mut add = |option: &str, value: Option<String>| {
            if let Some(value) = value {
                options.extend([option.to_owned(), value]);
            }
        };
        add("--public", self.public.map(|address| address.to_string()));
        add("--internal", self.internal.map(|address| address.to_string()));
        add("--database-url", self.database_url.clone());
        add("--pg-bin", self.pg_bin.clone().map(|path| text(path.into_os_string())));
        let docker = match self.docker {
            DockerMode::On => Some("on"),
            DockerMode::Off => Some("off"),
            DockerMode::Auto => None,
        };
        add("--docker", docker.map(str::to_owned));
        add("--worker-name", self.worker_name.as_ref().map(ToString::to_string));
        if let Some(path) = &self.steamcmd {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            add("--steamcmd", Some(text(path.into_os_string())));
        }
        for folder in &self.games {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            add("--games", Some(text(folder.into_os_string())));
        }
        add("--settle", self.settle.map(|settle| format!("{}ms", settle.as_millis())));
        add("--rebase-after", self.rebase_after.map(|after| format!("{}ms", after.as_millis())));
        if let Some(mdns) = self.mdns {
            options.push(format!("--mdns={}", if mdns { "yes" } else { "no" }));
        }
        if self.lan {
            options.push("--lan".to_owned());
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_port_alone() {
        for good in ["8080", ":8080", "127.0.0.1:8080", "localhost:8080"] {
            assert_eq!(address(good), Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))), "{good}");
        }
        assert!(address("[::1]:0").is_ok());
        for bad in ["", "host", "70000", "1.2.3.4"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
