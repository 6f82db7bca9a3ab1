//! The command line of `manman-worker`: what was typed, and what it comes to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use manman_common::Name;
use manman_common::client::Endpoint;

use manman_worker::announce::Announcement;
use manman_worker::config::{Config, ConfigError, ConfigFile, DockerMode, Find, PortRange, default_data_dir, parse_label};
use manman_worker::identity::machine_name;

/// Runs game servers on this machine for a manman host.
#[derive(Debug, Parser)]
#[command(name = "manman-worker", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the worker until it is told to stop; games go on without it
    Run(RunArgs),
    /// Show what the worker would do next, and do nothing
    Plan {
        #[command(flatten)]
        worker: RunArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve HTTP by processes: each request starts one, which answers on a socket
    Stage(manman_stage::service::StageArgs),
    /// Answer a request or an action, from within its process
    Reply(manman_stage::reply::ReplyArgs),
    /// Sign in to Steam, see what of it is here, or fetch it ahead
    #[command(subcommand)]
    Steam(Steam),
    /// Run any program and show it at the front door for as long as it runs
    #[command(
        after_help = "Example:\n  manman-worker announce --name blog -- python3 -m http.server 8000 …\n  manman-worker announce --name blog --port 8000 -- ./blog\n\nWithout --port the program is told a free one in the variable PORT."
    )]
    Announce(AnnounceArgs),
    /// Say that a worker's memory holds and that this machine is its own, so that its servers start here
    #[command(after_help = "For a worker that can not reach its host, or was moved to this machine with its disk. Not while it runs.")]
    Rebase(SayArgs),
    /// Say that no server may start on this machine any more, until `rebase`
    Fence(SayArgs),
    /// Check what a worker needs of this machine
    Doctor {
        #[command(flatten)]
        worker: RunArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SayArgs {
    #[command(flatten)]
    pub(crate) worker: RunArgs,
    /// The worker's name, for scripts; without it, it is asked for
    #[arg(long, value_name = "NAME")]
    pub(crate) yes: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Steam {
    /// Sign an account in, once per machine: SteamCMD asks for what it needs and keeps the login
    #[command(
        after_help = "Example:\n  manman-worker steam login NAME\n\nGames whose definition says `login: account` are then fetched as this account. The password and the\nSteam Guard code go to SteamCMD's input and are kept by nobody."
    )]
    Login {
        /// The name that the account signs in with
        account: String,
        #[command(flatten)]
        worker: RunArgs,
    },
    /// Show which SteamCMD, which account and which games are here
    Status {
        #[command(flatten)]
        worker: RunArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch SteamCMD, or the newest build of an app, ahead of any server
    #[command(
        after_help = "Examples:\n  manman-worker steam install            SteamCMD itself\n  manman-worker steam install 896660     an app"
    )]
    Install {
        /// The app's number; without it, SteamCMD itself
        app: Option<u32>,
        /// The public one where it is left out
        #[arg(long, value_name = "NAME", requires = "app")]
        branch: Option<String>,
        /// Fetch it as the account that is signed in
        #[arg(long, requires = "app")]
        account: bool,
        /// The build for Windows
        #[arg(long, requires = "app")]
        windows: bool,
        #[command(flatten)]
        worker: RunArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AnnounceArgs {
    /// The orchestrator's inner listener
    #[arg(long, env = "MANMAN_ORCHESTRATOR", value_name = "URL", default_value = "http://127.0.0.1:12000")]
    orchestrator: String,
    /// Under which name it is shown [default: the program's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where the program listens [default: a free port, told as PORT]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// This machine's name or address as the orchestrator reaches it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Holds the name against others: whoever moves it has to show the same secret
    #[arg(long, env = "MANMAN_WAIFU_SECRET", value_name = "SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl AnnounceArgs {
    pub(crate) fn resolve(self) -> Result<Announcement, ResolveError> {
        let Self { orchestrator, name, port, host, secret, command } = self;
        let program =
            || command.first().and_then(|program| std::path::Path::new(program).file_name()?.to_str()).unwrap_or_default().to_owned();
        let name = name.unwrap_or_else(program);
        Ok(Announcement { orchestrator: orchestrator.parse()?, name, host, port, secret, command })
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The host to work for; `#sha256=FINGERPRINT` after an https URL pins its certificate
    #[arg(long, env = "MANMAN_HOST", value_name = "URL")]
    host: Option<String>,
    /// Without a host: ask to join the only one that announces itself on the network
    #[arg(long, env = "MANMAN_FIND", value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = clap::builder::BoolishValueParser::new())]
    find: Option<bool>,
    /// Say hello to this orchestrator, which shows the worker at its front door
    #[arg(long, env = "MANMAN_ORCHESTRATOR", value_name = "URL")]
    orchestrator: Option<String>,
    /// Joins without a person's word; without it, someone accepts the worker on the host
    #[arg(long, env = "MANMAN_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    join_token: Option<String>,
    /// Where the worker keeps its database and its servers [default: ~/.local/share/manman/worker]
    #[arg(long, env = "MANMAN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The worker's name [default: the machine's]
    #[arg(long, env = "MANMAN_WORKER_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Where the worker's own API listens [default: 127.0.0.1:0]
    #[arg(long, env = "MANMAN_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where others reach this machine and its games
    #[arg(long, env = "MANMAN_ADVERTISE", value_name = "IP")]
    advertise: Option<IpAddr>,
    /// A second address of this machine, for friends outside
    #[arg(long, env = "MANMAN_PUBLIC_ADDRESS", value_name = "IP")]
    public_address: Option<IpAddr>,
    /// Whether to run Docker games [default: auto]
    #[arg(long, env = "MANMAN_DOCKER", value_name = "WHEN", value_enum)]
    docker: Option<DockerMode>,
    /// SteamCMD to fetch Steam's games with; without it, it is fetched from Valve on first use
    #[arg(long, env = "MANMAN_STEAMCMD", value_name = "PATH")]
    steamcmd: Option<PathBuf>,
    /// Ports that games may have, such as 27000-28000
    #[arg(long, env = "MANMAN_PORT_RANGE", value_name = "FIRST-LAST")]
    port_range: Option<PortRange>,
    /// A label that people may choose workers by; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// A TOML file with the same settings; flags and variables win over it
    #[arg(long, env = "MANMAN_WORKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`{0}` is not a name for a worker")]
    Name(String, #[source] manman_common::name::NameError),
    #[error(transparent)]
    Host(#[from] manman_common::client::EndpointError),
}

impl ResolveError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Name(..) => Some("choose one with --name: letters, digits, `-`, `_` and `.`"),
            Self::Host(_) => None,
        }
    }
}

impl RunArgs {
    /// Flags over environment (which clap has merged) over file over defaults.
    pub(crate) fn resolve(self) -> Result<Config, ResolveError> {
        let file = self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        // A variable that is set and empty, as compose files have it, says nothing.
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let name = match said(self.name) {
            Some(name) => Some(name.parse::<Name>().map_err(|source| ResolveError::Name(name, source))?),
            None => file.name,
        };
        let data_dir = match self.data.filter(|data| !data.as_os_str().is_empty()).or(file.data) {
            Some(data) => data,
            None => default_data_dir(|variable| std::env::var_os(variable).map(PathBuf::from))?,
        };
        let mut config = Config::new(data_dir);
        config.host = said(self.host).or(file.host).map(|host| host.parse::<Endpoint>()).transpose()?;
        config.find = match self.find.or(file.find) {
            Some(true) => Find::Join,
            Some(false) => Find::Off,
            None => Find::Tell,
        };
        config.orchestrator = said(self.orchestrator).or(file.orchestrator).map(|url| url.parse::<Endpoint>()).transpose()?;
        config.join_token = said(self.join_token).or(file.join_token);
        config.name = name.unwrap_or_else(machine_name);
        config.listen = self.listen.or(file.listen).unwrap_or(config.listen);
        config.advertise = self.advertise.or(file.advertise);
        config.public_address = self.public_address.or(file.public_address);
        config.docker = self.docker.or(file.docker).unwrap_or_default();
        // Where it is run from is another directory than ours.
        config.steamcmd = self
            .steamcmd
            .filter(|path| !path.as_os_str().is_empty())
            .or(file.steamcmd)
            .map(|path| std::path::absolute(&path).unwrap_or(path));
        config.port_range = self.port_range.or(file.port_range);
        config.labels = file.labels;
        config.labels.extend(self.labels);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("worker.toml");
        std::fs::write(&path, "name = 'filed'\nport-range = '1-2'\nhost = 'http://a:1'\n").expect("it is written");
        let path = path.to_string_lossy().into_owned();
        let cli = Cli::parse_from(["manman-worker", "run", "--config", &path, "--data", "/d", "--name", "typed", "--label", "a=b"]);
        let Command::Run(args) = cli.command else { panic!("it is `run`") };
        let config = args.resolve().expect("it is valid");
        assert_eq!(config.name.as_str(), "typed");
        assert_eq!(config.port_range.expect("of the file").bounds(), (1, 2));
        assert_eq!(config.labels["a"], "b");
        assert!(config.host.is_some());
    }

    #[test]
    fn a_name_with_a_slash_is_refused() {
        let cli = Cli::parse_from(["manman-worker", "run", "--data", "/d", "--name", "a/b"]);
        let Command::Run(args) = cli.command else { panic!("it is `run`") };
        assert!(matches!(args.resolve(), Err(ResolveError::Name(..))));
    }
}
