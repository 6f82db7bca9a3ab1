//! Brings Steam's games to a machine: fetches SteamCMD, tells it what to fetch, names what went
//! wrong, and lays a good build out for each server.
//!
//! What it decides: nothing about when. The driver asks for an install or for news of a newer build.
//!
//! The layout below `dir` (the worker's `steam` directory):
//! - `cmd/` SteamCMD, unless the machine's owner named one; `home/` its HOME with its login cache
//! - `apps/KEY/base/` one install per app, branch and platform, `apps/KEY/installed.json` the word
//!   that it is whole: written last, gone before anything is changed
//! - `servers/ID.json` what was laid out for a server, out of reach of its game
//!
//! Invariants: one SteamCMD at a time (`lock`, inherited by it, so that one that outlives a killed
//! worker is found and ended, never doubled); a build without its marker is never laid out; a file
//! that a game could write to is never shared.

mod acf;
mod app;
mod base;
mod beneath;
mod class;
mod error;
mod fetch;
mod lock;
mod login;
mod output;
mod place;
mod record;
mod session;
mod tool;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use manman_common::spec::{Platform, RunSpec, SteamSpec, UpdatePolicy};
use manman_common::status::Progress;
use manman_common::{Generation, ServerId};
use tokio::time::Instant;

pub use app::App;
pub use error::{Failure, SteamError, SteamErrorKind};
pub use login::{Ask, Secret};
pub use tool::{Problem, find_proton};

/// Where Valve publishes SteamCMD. There is no checksum beside it.
pub const STEAMCMD_URL: &str = "https://steamcdn-a.akamaihd.net/client/installer/steamcmd_linux.tar.gz";

#[derive(Clone, Debug)]
pub struct SteamConfig {
    /// The worker's data directory; nothing is written out of it.
    pub root: PathBuf,
    /// Where everything of Steam lies, below `root`.
    pub dir: PathBuf,
    /// SteamCMD of the machine's owner; without it one is fetched on first use.
    pub steamcmd: Option<PathBuf>,
    /// Where it is fetched from.
    pub url: String,
    /// What runs Windows games here; without it they are refused.
    pub proton: Option<PathBuf>,
    /// How long an install may stand still. There is no limit on the whole: lines are slow, games are large.
    pub inactive_after: Duration,
    /// Between two tries of one install.
    pub pause: Duration,
}

impl SteamConfig {
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let root = data_dir.into();
        Self {
            dir: root.join("steam"),
            root,
            steamcmd: None,
            url: STEAMCMD_URL.to_owned(),
            proton: None,
            // Ten minutes: verifying one file of 40 GB on a slow disk moves no figure for four.
            inactive_after: Duration::from_mins(10),
            pause: Duration::from_secs(5),
        }
    }
}

/// A game as it now lies in a server's directory, or in the shared base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Steam's number of the build.
    pub build: String,
}

/// SteamCMD and the games it brought here.
pub struct Steam {
    config: SteamConfig,
    known: Mutex<Known>,
}

/// What is remembered while the worker runs; all of it can be learned again.
#[derive(Default)]
struct Known {
    /// By key: the newest build that Steam told of.
    newest: BTreeMap<String, String>,
    /// Servers that are to have the newest build at their next install.
    asked: BTreeSet<ServerId>,
    /// Until when Steam refuses logins.
    refused_until: Option<Instant>,
}

/// SteamCMD needs ten seconds for an answer, and a minute where it finds its first server gone.
const NEWS_WITHIN: Duration = Duration::from_secs(90);

pub(crate) type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl Steam {
    #[must_use]
    pub fn new(config: SteamConfig) -> Self {
        Self { config, known: Mutex::default() }
    }

    #[must_use]
    pub fn config(&self) -> &SteamConfig {
        &self.config
    }

    /// Whether this machine can fetch Steam's games: what SteamCMD there is, or why there can be none.
    pub fn report(&self) -> Result<String, Problem> {
        tool::report(&self.config)
    }

    /// App, branch and platform: what one base is shared by. Of specs with equal keys one install is enough.
    #[must_use]
    pub fn install_key(run: &RunSpec) -> String {
        App::of(run).map_or_else(|_| run.game_id.to_string(), |app| app.key())
    }

    /// Brings the game into `server_dir`: fetches a build that is not here yet, or that is older than
    /// [`Self::update_available`] said, then lays it out. `owner` is the user that the game runs as.
    ///
    /// A server that has a whole build keeps it where a newer one can not be brought.
    ///
    /// May be called again after a crash at any line, and dropped at any `.await`.
    pub async fn install(
        &self,
        run: &RunSpec,
        server: ServerId,
        server_dir: &Path,
        owner: Option<(u32, u32)>,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Installed, SteamError> {
        let app = App::of(run)?;
        self.refuse_without_proton(&app)?;
        let base = base::Base::open(&self.config, &app)?;
        let _held = base.lock(&self.config, &progress).await?;
        let here = self.installed(run, server, server_dir)?;
        if self.known().asked.remove(&server) && base.marker()?.is_some() {
            progress(Progress { percent: Some(0), step: "asking Steam for a newer build".to_owned() });
            self.ask_for_news(&app).await;
        }
        let brought = match base.marker()? {
            Some(marker) if !self.is_outdated(&app, &marker.build) => Ok(marker),
            Some(_) | None => self.bring(&app, &base, &progress).await,
        };
        let marker = match (brought, here) {
            (Ok(marker), _) => marker,
            (Err(error), Some(here)) => {
                tracing::warn!(server.id = %server, %error, build = here.build, "a newer build could not be brought; the server keeps its own");
                return Ok(here);
            }
            (Err(error), None) => return Err(error),
        };
        place::place(&self.config, &app, &base, &marker, server, server_dir, owner, &progress).await?;
        Ok(Installed { build: marker.build })
    }

    /// Has the next install for this server ask Steam for a newer build, and bring it if there is one.
    pub fn want_newest(&self, server: ServerId) {
        self.known().asked.insert(server);
    }

    /// The build that is whole and laid out for this server, if there is one: what a start relies on.
    /// Looks at a record and the expected files, nothing more.
    pub fn installed(&self, run: &RunSpec, server: ServerId, server_dir: &Path) -> Result<Option<Installed>, SteamError> {
        let app = App::of(run)?;
        let Some(laid) = record::Laid::read(&self.config, server)? else { return Ok(None) };
        if !laid.complete || laid.key != app.key() {
            return Ok(None);
        }
        let directory = beneath::open(&self.config.root, server_dir)?;
        Ok(app.missing(&directory).is_none().then_some(Installed { build: laid.build }))
    }

    /// What a start relies on, as [`Self::installed`], and the moment for updates: where this is a
    /// start that a person asked for (the spec's generation is another than at the last one), and the
    /// spec's policy is not `manual`, the answer is `None` once. The install that follows asks Steam
    /// for a newer build, and brings it if there is one. With `manual`, it is `None` once after a
    /// person has brought a newer build to this machine. A crash restart never updates.
    pub fn for_start(
        &self,
        run: &RunSpec,
        server: ServerId,
        server_dir: &Path,
        generation: Generation,
    ) -> Result<Option<Installed>, SteamError> {
        let Some(here) = self.installed(run, server, server_dir)? else { return Ok(None) };
        let Some(mut laid) = record::Laid::read(&self.config, server)? else { return Ok(None) };
        let before = laid.started.replace(generation.get());
        if before == Some(generation.get()) {
            return Ok(Some(here));
        }
        laid.write(&self.config, server)?;
        let is_first = before.is_none();
        let wants_news = match run.update {
            UpdatePolicy::Start | UpdatePolicy::Idle => true,
            UpdatePolicy::Manual => false,
        };
        if !is_first && wants_news {
            self.known().asked.insert(server);
            return Ok(None);
        }
        let base = base::Base::open(&self.config, &App::of(run)?)?;
        Ok(base.marker()?.is_none_or(|marker| marker.build == here.build).then_some(here))
    }

    /// A Steam that does not answer keeps nobody from playing.
    async fn ask_for_news(&self, app: &App) {
        match tokio::time::timeout(NEWS_WITHIN, self.newest(app)).await {
            Ok(Ok(newest)) => drop(self.known().newest.insert(app.key(), newest)),
            Ok(Err(error)) => tracing::warn!(steam.app = app.id(), %error, "Steam could not be asked for a newer build"),
            Err(_) => tracing::warn!(steam.app = app.id(), "Steam did not say in time whether there is a newer build"),
        }
    }

    /// Asks Steam for the newest build of the spec's branch; `Some` where the server has another one.
    /// A following [`Self::install`] brings it.
    pub async fn update_available(&self, run: &RunSpec, server: ServerId) -> Result<Option<String>, SteamError> {
        let app = App::of(run)?;
        let newest = self.newest(&app).await?;
        self.known().newest.insert(app.key(), newest.clone());
        let here = record::Laid::read(&self.config, server)?.filter(|laid| laid.complete && laid.key == app.key());
        Ok((here.is_none_or(|laid| laid.build != newest)).then_some(newest))
    }

    /// Brings the newest build of an app to this machine ahead of any server.
    pub async fn fetch_app(&self, app: &App, progress: impl Fn(Progress) + Send + Sync) -> Result<Installed, SteamError> {
        let base = base::Base::open(&self.config, app)?;
        let _held = base.lock(&self.config, &progress).await?;
        let marker = self.bring(app, &base, &progress).await?;
        Ok(Installed { build: marker.build })
    }

    /// Fetches SteamCMD where there is none yet, and has it bring itself up to date.
    pub async fn fetch_tool(&self, progress: impl Fn(Progress) + Send + Sync) -> Result<String, SteamError> {
        let lock = lock::Lock::take(&self.config, &progress).await?;
        let tool = tool::ready(&self.config, &lock, &progress).await?;
        Ok(tool.program().display().to_string())
    }

    /// Signs an account in for good: SteamCMD keeps what Steam gives it, we keep the name alone.
    /// `ask` is asked for what Steam wants to know; what it answers goes to SteamCMD's input.
    pub async fn login(&self, account: &str, ask: impl FnMut(Ask) -> std::io::Result<Secret> + Send) -> Result<(), SteamError> {
        login::login(&self.config, account, ask).await
    }

    /// The account that was signed in on this machine.
    pub fn account(&self) -> Result<Option<String>, SteamError> {
        login::account(&self.config)
    }

    /// The apps of which there is a base here, with the build of each that is whole.
    pub fn apps(&self) -> Result<Vec<(String, Option<String>)>, SteamError> {
        base::all(&self.config)
    }

    /// Forgets what was laid out for a server whose directory is gone.
    pub fn forget(&self, server: ServerId) -> Result<(), SteamError> {
        record::Laid::remove(&self.config, server)
    }

    fn refuse_without_proton(&self, app: &App) -> Result<(), SteamError> {
        match app.platform() {
            Platform::Linux => Ok(()),
            Platform::WindowsProton if self.config.proton.is_some() => Ok(()),
            Platform::WindowsProton => Err(SteamError::new(
                Failure::NoProton,
                format!("app {} has a build for Windows alone, and this machine has no Proton to run it", app.id()),
            )
            .hint("install Proton (such as GE-Proton below ~/.steam/root/compatibilitytools.d), or choose another machine")),
        }
    }

    fn is_outdated(&self, app: &App, build: &str) -> bool {
        self.known().newest.get(&app.key()).is_some_and(|newest| newest != build)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What of a spec is Steam's; the default where a definition says nothing of it.
pub(crate) fn steam_spec(run: &RunSpec) -> SteamSpec {
    run.steam.clone().unwrap_or_default()
}
