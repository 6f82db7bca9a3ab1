//! `manman-host run | registry | orchestrator | migrate | restored | check`: flags before environment before file before defaults.

mod check;
mod file;
mod orchestrator;
mod registry;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Database, FrontDoorConfig, INTERNAL_PORT, LAN_PORT, PUBLIC_PORT, Tls};
use crate::games::parse_duration;
use crate::run::{Host, HostError, chain};
use crate::{database, tls};

pub use file::{FileConfig, FileError};

/// The control plane of manman: which game servers there should be, and where.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  manman-host run\n  manman-host run --lan\n  manman-host check --database-url postgres://manman@db/manman"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Runs the host until Ctrl-C; games run on
    Run(orchestrator::FrontDoorArgs),
    /// Runs the orchestrator alone: the front door of a home's services, and their databases
    Orchestrator(orchestrator::OrchestratorArgs),
    /// Runs the registry alone: who is alive and where; no database, one fixed port
    Registry(registry::RegistryArgs),
    /// Brings the database up to date, and ends
    Migrate,
    /// Says that the database was restored from a backup: workers stop and delete nothing until a person has looked
    Restored,
    /// Reads the configuration, looks at database, ports and certificate, and says what is wrong
    Check,
}

/// What may be said of a host, by flag or environment; all of it may stand in the file, too.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// A TOML file with the same settings [default: host.toml in the data directory]
    #[arg(long, global = true, env = "MANMAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the host keeps its files [default: $XDG_DATA_HOME/manman or ~/.local/share/manman]
    #[arg(long, global = true, env = "MANMAN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where console, API and joining workers come in [default: 127.0.0.1:8080, with --lan 0.0.0.0:8443]
    #[arg(long, global = true, env = "MANMAN_PUBLIC", value_name = "ADDRESS")]
    public: Option<SocketAddr>,
    /// Where this machine's own programs come in [default: 127.0.0.1:12000]
    #[arg(long, global = true, env = "MANMAN_INTERNAL", value_name = "ADDRESS")]
    internal: Option<SocketAddr>,
    /// Use this PostgreSQL instead of a private one
    #[arg(long, global = true, env = "MANMAN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Say hello to this orchestrator, and ask it for the database
    #[arg(long, global = true, env = "MANMAN_ORCHESTRATOR", value_name = "URL")]
    orchestrator: Option<String>,
    /// A PostgreSQL role with CREATEDB and CREATEROLE, for the databases that waifus ask for
    #[arg(long, global = true, env = "MANMAN_PROVISION_URL", value_name = "URL", hide_env_values = true)]
    provision_url: Option<String>,
    /// Where PostgreSQL's `postgres` and `initdb` are
    #[arg(long, global = true, env = "MANMAN_PG_BIN", value_name = "DIR", conflicts_with = "database_url")]
    pg_bin: Option<PathBuf>,
    /// A folder with definitions of games of your own; may be given again [beside `games` in the data directory]
    #[arg(long, global = true, env = "MANMAN_GAMES", value_name = "DIR", value_delimiter = ':')]
    games: Vec<PathBuf>,
    /// Open the front door to the home network, with TLS from a certificate of its own
    #[arg(long, global = true, env = "MANMAN_LAN", value_parser = clap::builder::FalseyValueParser::new())]
    lan: bool,
    /// Announce the host to the network that its front door is open to [default: yes with --lan]
    #[arg(long, global = true, env = "MANMAN_MDNS", value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = clap::builder::BoolishValueParser::new())]
    mdns: Option<bool>,
    /// A certificate in PEM form for the front door
    #[arg(long, global = true, env = "MANMAN_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM form
    #[arg(long, global = true, env = "MANMAN_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// After its own start the host calls no worker stale for so long [default: 90s]
    #[arg(long, global = true, env = "MANMAN_SETTLE", value_name = "TIME", value_parser = parse_duration)]
    settle: Option<Duration>,
    /// A worker whose database went back in time on its own machine is trusted again after so long without a rival [default: 10m]
    #[arg(long, global = true, env = "MANMAN_REBASE_AFTER", value_name = "TIME", value_parser = parse_duration)]
    rebase_after: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("found no data directory: HOME is not set")]
    NoHome,
    #[error("`tls_cert` and `tls_key` go together, and one of them is missing")]
    HalfTls,
}

/// The whole configuration: what was said here, else in the file, else the defaults.
pub fn configure(options: Options) -> Result<Config, ConfigError> {
    // The file may name another data directory, but it is looked for in the one that is known.
    let known_data = options.data.clone().or_else(default_data);
    let file = match (&options.config, &known_data) {
        (Some(path), _) => FileConfig::read(path)?,
        (None, Some(data)) => FileConfig::read_if_there(&data.join("host.toml"))?,
        (None, None) => FileConfig::default(),
    };
    let default = Config::default();
    let lan = options.lan || file.lan.unwrap_or(false);
    let tls = match (options.tls_cert.or(file.tls_cert), options.tls_key.or(file.tls_key)) {
        (Some(certificate), Some(key)) => Tls::Files { certificate, key },
        (None, None) if lan => Tls::Own,
        (None, None) => Tls::Off,
        (Some(_), None) | (None, Some(_)) => return Err(ConfigError::HalfTls),
    };
    let public = if lan { (Ipv4Addr::UNSPECIFIED, LAN_PORT) } else { (Ipv4Addr::LOCALHOST, PUBLIC_PORT) };
    // A URL on the command line is not overruled by binaries in the file, nor the other way round.
    let orchestrator = options.orchestrator.or(file.orchestrator).filter(|url| !url.is_empty());
    let database = match (options.database_url, options.pg_bin) {
        (Some(url), _) => Database::External { url },
        (None, Some(pg_bin)) => Database::Embedded { pg_bin: Some(pg_bin) },
        (None, None) => match file.database_url {
            Some(url) => Database::External { url },
            None if file.pg_bin.is_none() && orchestrator.is_some() => {
                Database::Asked { orchestrator: orchestrator.clone().unwrap_or_default() }
            }
            None => Database::Embedded { pg_bin: file.pg_bin },
        },
    };
    let front_door = FrontDoorConfig {
        main_domain: file.main_domain,
        trusted_proxies: file.trusted_proxies,
        tls_dir: file.tls_dir,
        provision_url: options.provision_url.or(file.provision_url),
        database_address: None,
        database_quota: file.database_quota,
        incident_webhook: file.incident_webhook,
        caddy: file.caddy,
        orchestrator,
    };
    Ok(Config {
        front_door,
        mdns: options.mdns.or(file.mdns).unwrap_or(lan),
        public: options.public.or(file.public).unwrap_or_else(|| public.into()),
        internal: options.internal.or(file.internal).unwrap_or_else(|| (Ipv4Addr::LOCALHOST, INTERNAL_PORT).into()),
        tls,
        data: Some(options.data.or(file.data).or(known_data).ok_or(ConfigError::NoHome)?),
        database,
        games: if options.games.is_empty() { file.games } else { options.games },
        settle: options.settle.or(file.settle).unwrap_or(default.settle),
        rebase_after: options.rebase_after.or(file.rebase_after).unwrap_or(default.rebase_after),
        ..default
    })
}

fn default_data() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")))?;
    Some(base.join("manman"))
}

/// The program: reads its arguments, does it, and says how it went.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match configure(cli.options) {
        Ok(config) => config,
        Err(error) => {
            tell(&chain(&error), None);
            return ExitCode::from(2);
        }
    };
    let outcome = match cli.command {
        Command::Run(door) => {
            let mut config = config;
            door.apply(&mut config);
            Box::pin(run(config)).await
        }
        Command::Orchestrator(args) => Box::pin(orchestrator::run(args, config)).await,
        Command::Registry(args) => registry::run(args, config).await,
        Command::Migrate => migrate(config).await,
        Command::Restored => restored(config).await,
        Command::Check => return check::check(&config).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&chain(&error), error.hint().as_deref());
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), HostError> {
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));
    let host = Box::pin(Host::start(config)).await?;
    announce(&host).await?;
    host.run(shutdown).await
}

/// One line per thing that a person may want to know; the last one begins with `ready`.
async fn announce(host: &Host) -> Result<(), HostError> {
    let Some(bound) = host.bound() else { return Ok(()) };
    say(&format!("database  {}", host.app().database));
    say(&format!("internal  {}", bound.internal_url));
    if let Some(line) = host.join_line() {
        say(&format!("join      {line}"));
    }
    let console = if host.is_first_start() { host.login_link().await?.url } else { bound.public_url.clone() };
    say(&format!("ready     {console}"));
    Ok(())
}

async fn migrate(config: Config) -> Result<(), HostError> {
    let opened = database::open(&config).await?;
    say(&format!("the database ({}) is up to date", opened.words));
    opened.pool.close().await;
    match opened.embedded {
        Some(embedded) => embedded.stop().await.map_err(HostError::DatabaseStop),
        None => Ok(()),
    }
}

async fn restored(config: Config) -> Result<(), HostError> {
    let opened = database::open(&config).await?;
    let renewed = crate::fleet::timeline::renew_by_hand(&opened.pool).await.map_err(HostError::Prepare);
    opened.pool.close().await;
    if let Some(embedded) = opened.embedded {
        embedded.stop().await.map_err(HostError::DatabaseStop)?;
    }
    renewed?;
    say("the host takes a new timeline; look at each worker with `manman worker rebase NAME`");
    Ok(())
}

async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        tracing::error!("signals can not be waited for; the host ends by SIGKILL alone");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("it ends; games run on");
    shutdown.cancel();
}

/// A closed stdout is nobody's loss.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn tell(error: &str, hint: Option<&str>) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {error}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

/// For `check`: whether the certificate can be used.
fn try_tls(config: &Config) -> Result<bool, tls::TlsError> {
    match &config.tls {
        // It is made at the first start; nothing can be wrong with it before.
        Tls::Own if config.data.as_ref().is_some_and(|data| !data.join("host/tls.crt").exists()) => Ok(true),
        Tls::Own | Tls::Files { .. } => tls::identity(&config.tls, config.data.as_deref(), None).map(|identity| identity.is_some()),
        Tls::Off => Ok(false),
    }
}

#[cfg(test)]
mod tests;
