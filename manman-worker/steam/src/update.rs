//! Has SteamCMD bring an app to its base, and says what came of it.

use std::collections::VecDeque;
use std::time::Duration;

use manman_common::spec::{Platform, SteamLogin};
use manman_common::status::Progress;
use tokio::time::Instant;

use crate::app::App;
use crate::base::{Base, Marker};
use crate::error::{DISK_HINT, Failure, SteamError};
use crate::lock::Lock;
use crate::output::{Line, Step, install_failure, login_failure, state_words};
use crate::session::{Event, Input, Session};
use crate::tool::{self, Tool};
use crate::{Report, Steam, acf, login};

/// How often one install is tried before the caller is told; each try goes on where the last stopped.
const TRIES: u32 = 3;
/// How often SteamCMD may ask to be started again because it updated itself.
const RESTARTS: u32 = 3;
/// What an install needs beyond its files: the manifest, records, a game's first log.
const FREE_AT_LEAST: u64 = 64 << 20;
/// Of `app_info_print`; the largest app's has 300 KB.
const TEXT_MAX: usize = 8 << 20;

/// What one run of SteamCMD told.
#[derive(Debug, Default)]
struct Heard {
    success: bool,
    state: Option<u32>,
    install_failed: Option<String>,
    login_failed: Option<String>,
    /// What was still to be written where the disk had no room for it.
    short_of: Option<u64>,
    /// Whether the need of space has been looked at.
    measured: bool,
    inactive: bool,
    code: Option<i32>,
    ended: String,
    /// Everything, where that was asked for.
    text: String,
    last: VecDeque<String>,
}

impl Steam {
    /// Brings the newest build to the base. Until it is whole, the base has no marker.
    pub(crate) async fn bring(&self, app: &App, base: &Base, progress: Report<'_>) -> Result<Marker, SteamError> {
        self.refuse_while_limited()?;
        let lock = Lock::take(&self.config, progress).await?;
        let tool = tool::ready(&self.config, &lock, progress).await?;
        if base.free().is_some_and(|free| free < FREE_AT_LEAST) {
            return Err(disk_full(app, base, None));
        }
        let before = base.marker()?;
        base.unmark()?;
        let result = self.tries(app, base, &lock, &tool, before.is_none(), progress).await;
        if let Err(error) = &result {
            if error.failure == Failure::DiskFull {
                base.clean();
            }
            // Steam did not answer, say: what was here before is as good as it was.
            if let Some(before) = before
                && base.is_untouched(&before)?
            {
                base.mark(&before)?;
            }
        }
        let marker = result?;
        base.mark(&marker)?;
        self.known().newest.insert(app.key(), marker.build.clone());
        Ok(marker)
    }

    /// The newest build of the app's branch, as Steam says.
    pub(crate) async fn newest(&self, app: &App) -> Result<String, SteamError> {
        self.refuse_while_limited()?;
        let lock = Lock::take(&self.config, &|_| {}).await?;
        let tool = tool::ready(&self.config, &lock, &|_| {}).await?;
        let what = || format!("the newest build of app {} could not be learned", app.id());
        let mut answer = None;
        for _ in 0..2 {
            // The first run sometimes prints nothing of an app that it has just fetched the news of.
            let mut arguments = self.login_arguments(app)?;
            arguments.extend(["+app_info_update", "1", "+app_info_print"].map(str::to_owned));
            arguments.extend([app.id().to_string(), "+quit".to_owned()]);
            let heard = self.run(app, None, &lock, &tool, &arguments, &|_| {}).await?;
            if let Some(error) = self.refusal(app, &heard) {
                return Err(error);
            }
            answer = acf::branch_build(&heard.text, app.id(), app.branch())
                .map_err(|error| SteamError::new(Failure::Unexplained, what()).caused_by(error))?;
            if answer.is_some() {
                break;
            }
            if acf::is_known(&heard.text, app.id()).is_ok_and(|known| known == Some(true)) {
                let what = format!("app {} has no branch `{}`, or none that this login may see", app.id(), app.branch());
                return Err(SteamError::new(Failure::MissingConfiguration, what).hint("leave `branch` out for the public one"));
            }
        }
        answer.ok_or_else(|| SteamError::new(Failure::Unexplained, what()).hint("Steam told nothing of it; try again later"))
    }

    async fn tries(
        &self,
        app: &App,
        base: &Base,
        lock: &Lock,
        tool: &Tool,
        first: bool,
        progress: Report<'_>,
    ) -> Result<Marker, SteamError> {
        let mut validate = first || app.validate();
        let mut tried = 1;
        loop {
            let error = match self.app_update(app, base, lock, tool, validate, progress).await {
                Ok(marker) => return Ok(marker),
                Err(error) => error,
            };
            let again = match error.failure {
                // The first run after SteamCMD was fetched, or a manifest that Steam no longer gives out.
                Failure::MissingConfiguration | Failure::AppState(_) | Failure::Inactive | Failure::Unexplained | Failure::NoConnection => {
                    true
                }
                _ => false,
            };
            if !again || tried >= TRIES {
                return Err(error);
            }
            tracing::warn!(steam.app = app.id(), %error, "an install is tried again, with every file looked at");
            progress(Progress { percent: None, step: format!("trying again: {error}") });
            tried += 1;
            validate = true;
            if let Failure::AppState(state) = error.failure
                && state & 0x2 != 0
                && tried == TRIES
            {
                base.forget_manifest()?;
            }
            tokio::time::sleep(self.config.pause).await;
        }
    }

    async fn app_update(
        &self,
        app: &App,
        base: &Base,
        lock: &Lock,
        tool: &Tool,
        validate: bool,
        progress: Report<'_>,
    ) -> Result<Marker, SteamError> {
        let Some(directory) = base.path().to_str().map(str::to_owned) else {
            return Err(SteamError::new(Failure::Tool, "SteamCMD takes no directory whose name is not plain text"));
        };
        let mut arguments = vec!["+force_install_dir".to_owned(), directory];
        let mut login = self.login_arguments(app)?;
        // Before the login, or SteamCMD complains; after the settings, which stand first.
        let settings: Vec<String> = login.drain(..6).collect();
        let mut all = settings;
        all.append(&mut arguments);
        all.append(&mut login);
        all.extend(app.update_arguments(validate));
        all.push("+quit".to_owned());
        progress(Progress { percent: Some(0), step: "asking Steam".to_owned() });
        let heard = self.run(app, Some(base), lock, tool, &all, progress).await?;
        self.judge(app, base, &heard)
    }

    /// The settings (three pairs) and the login.
    fn login_arguments(&self, app: &App) -> Result<Vec<String>, SteamError> {
        let platform = match app.platform() {
            Platform::Linux => "linux",
            Platform::WindowsProton => "windows",
        };
        let account = match app.login() {
            SteamLogin::Anonymous => "anonymous".to_owned(),
            SteamLogin::Account => login::account(&self.config)?.ok_or_else(|| {
                SteamError::new(
                    Failure::NoAccount,
                    format!("app {} needs a Steam account that owns it, and none is signed in on this machine", app.id()),
                )
                .hint(login::LOGIN_HINT)
            })?,
        };
        let words = [
            "+@ShutdownOnFailedCommand",
            "1",
            "+@NoPromptForPassword",
            "1",
            "+@sSteamCmdForcePlatformType",
            platform,
            "+login",
            account.as_str(),
        ];
        Ok(words.map(str::to_owned).to_vec())
    }

    /// One run, again if SteamCMD updated itself. The base is given where files are brought to it.
    async fn run(
        &self,
        app: &App,
        base: Option<&Base>,
        lock: &Lock,
        tool: &Tool,
        arguments: &[String],
        progress: Report<'_>,
    ) -> Result<Heard, SteamError> {
        let mut bar = Bar::default();
        for _ in 0..=RESTARTS {
            let mut heard = Heard::default();
            let mut session = Session::start(&self.config, tool, Input::Lock(lock), arguments)?;
            let mut moved = Instant::now();
            loop {
                // Cancel-safe: `next` keeps what it has read.
                let Ok(event) = tokio::time::timeout_at(moved + self.config.inactive_after, session.next()).await else {
                    tracing::warn!(steam.app = app.id(), "SteamCMD stands still and is ended");
                    session.kill().await?;
                    heard.inactive = true;
                    break;
                };
                match event? {
                    Event::Ended(status) => {
                        heard.code = status.code();
                        heard.ended = status.to_string();
                        break;
                    }
                    // Nobody is there to answer: it reads an end and fails by itself.
                    Event::Prompt(_) => heard.login_failed = Some("No cached credentials".to_owned()),
                    Event::Line(line) => {
                        if heard.last.back() != Some(&line) {
                            moved = Instant::now();
                        }
                        heard.line(&line, base.is_none());
                        match Line::parse(&line) {
                            Line::Progress(step) => {
                                if base.is_some_and(|base| heard.measure(&step, base.free())) {
                                    session.kill().await?;
                                    lock.end_leftovers();
                                    return Ok(heard);
                                }
                                progress(bar.at(&step));
                            }
                            Line::SelfUpdate(percent) => {
                                progress(Progress { percent, step: "bringing SteamCMD up to date".to_owned() });
                            }
                            Line::AwaitsPhone => heard.login_failed = Some("Steam Guard: confirm on the phone".to_owned()),
                            _ => {}
                        }
                    }
                }
            }
            lock.end_leftovers();
            if heard.code != Some(42) {
                return Ok(heard);
            }
            tracing::info!("SteamCMD updated itself and is started again");
        }
        Err(SteamError::new(Failure::Tool, "SteamCMD updated itself again and again")
            .hint("remove the `steam/cmd` directory of the worker's data"))
    }

    /// What a run of `app_update` comes to. Neither its exit code nor its word alone are enough.
    fn judge(&self, app: &App, base: &Base, heard: &Heard) -> Result<Marker, SteamError> {
        if let Some(error) = self.refusal(app, heard) {
            return Err(error);
        }
        if heard.short_of.is_some() {
            return Err(disk_full(app, base, heard.short_of));
        }
        if let Some(state) = heard.state {
            // 0x202 and its like say "paused", most of the time for want of space.
            if base.free().is_some_and(|free| free < FREE_AT_LEAST) {
                return Err(disk_full(app, base, None));
            }
            let what = format!("Steam gave up on app {} at state {state:#x} ({})", app.id(), state_words(state));
            return Err(SteamError::new(Failure::AppState(state), what).hint(state_hint(state, base)));
        }
        if let Some(reason) = &heard.install_failed {
            return Err(match install_failure(reason) {
                Failure::NoSubscription => SteamError::new(
                    Failure::NoSubscription,
                    format!("Steam does not give app {} to this login (No subscription)", app.id()),
                )
                .hint(match app.login() {
                    SteamLogin::Anonymous => "it needs an account that owns the game: set `steam.login: account` in its definition, and run `manman-worker steam login NAME` on this machine",
                    SteamLogin::Account => "sign in an account that owns the game with `manman-worker steam login NAME`",
                }),
                Failure::DiskFull => disk_full(app, base, None),
                Failure::InvalidPlatform => {
                    SteamError::new(Failure::InvalidPlatform, format!("Steam has no build of app {} for this platform", app.id()))
                        .hint("`platform: windows-proton` in the definition takes the one for Windows")
                }
                Failure::MissingConfiguration => {
                    SteamError::new(Failure::MissingConfiguration, format!("Steam has no configuration of app {} for this login", app.id()))
                        .hint("look at the app's number and branch; a fresh SteamCMD says this once in a while, so try again")
                }
                failure => SteamError::new(failure, format!("Steam could not install app {} ({reason})", app.id())).hint("try again later"),
            });
        }
        if heard.inactive {
            let what = format!("the install of app {} stood still for {} and was ended", app.id(), minutes(self.config.inactive_after));
            return Err(
                SteamError::new(Failure::Inactive, what).hint("it goes on where it stopped; look at the network if this happens again")
            );
        }
        let whole = base.whole()?.filter(|_| heard.success);
        let Some(manifest) = whole else {
            let last = heard.last.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
            let what = format!("SteamCMD ended ({}) without having installed app {}; its last words: {last}", heard.ended, app.id());
            return Err(SteamError::new(Failure::Unexplained, what).hint("its own logs are in `steam/home` of the worker's data"));
        };
        if let Some(missing) = app.missing(base.directory()) {
            let what = format!("Steam calls app {} installed, and it has no `{}`", app.id(), missing.display());
            return Err(SteamError::new(Failure::Incomplete, what)
                .hint("the definition's `start.expect` does not fit this build, or the account may not have the game's files"));
        }
        Ok(Marker { build: manifest.build, size: manifest.size })
    }

    /// A login that Steam refused.
    fn refusal(&self, app: &App, heard: &Heard) -> Option<SteamError> {
        let reason = heard.login_failed.as_ref()?;
        let failure = match login_failure(reason) {
            // With the name alone there is no password to be wrong: what was kept is no longer good.
            Failure::InvalidPassword if app.login() == SteamLogin::Account => Failure::LoginExpired,
            failure => failure,
        };
        if failure == Failure::RateLimit {
            self.known().refused_until = Some(Instant::now() + crate::error::RATE_LIMIT_PAUSE);
        }
        Some(login::refused(failure, reason))
    }

    fn refuse_while_limited(&self) -> Result<(), SteamError> {
        match self.known().refused_until {
            Some(until) if until > Instant::now() => Err(login::refused(Failure::RateLimit, "Rate Limit Exceeded")),
            _ => Ok(()),
        }
    }
}

impl Heard {
    fn line(&mut self, line: &str, keep: bool) {
        match Line::parse(line) {
            Line::Success(_) => self.success = true,
            Line::AppState(state) => self.state = Some(state),
            Line::InstallFailed(reason) => self.install_failed = Some(reason),
            Line::LoginFailed(reason) => self.login_failed = Some(reason),
            // It came through after all, at the second or third connection.
            Line::LoggedIn => self.login_failed = None,
            Line::Progress(_) | Line::SelfUpdate(_) | Line::Banner(_) | Line::AwaitsPhone | Line::Other => {}
        }
        if keep && self.text.len() + line.len() < TEXT_MAX {
            self.text.push_str(line);
            self.text.push('\n');
        }
        self.last.push_back(line.chars().take(200).collect());
        if self.last.len() > 4 {
            self.last.pop_front();
        }
    }

    /// Whether the disk has no room for what this step is about to write. Only the first look counts:
    /// later steps count what has its place on the disk by then.
    fn measure(&mut self, step: &Step, free: Option<u64>) -> bool {
        if self.measured || step.name != "preallocating" || step.total == 0 {
            return false;
        }
        self.measured = true;
        let needs = step.total.saturating_sub(step.done);
        self.short_of = free.is_some_and(|free| free < needs).then_some(needs);
        self.short_of.is_some()
    }
}

fn disk_full(app: &App, base: &Base, needs: Option<u64>) -> SteamError {
    let free = base.free().map_or_else(|| "unknown".to_owned(), megabytes);
    let what = match needs {
        Some(needs) => {
            format!("app {} needs {} more on the disk, and {free} are free at {}", app.id(), megabytes(needs), base.path().display())
        }
        None => format!("the disk is full for app {}: {free} are free at {}", app.id(), base.path().display()),
    };
    SteamError::new(Failure::DiskFull, what).hint(DISK_HINT)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

fn minutes(time: Duration) -> String {
    if time.as_secs() >= 60 { format!("{} min", time.as_secs() / 60) } else { format!("{} s", time.as_secs()) }
}

fn state_hint(state: u32, base: &Base) -> String {
    let (path, free) = (base.path(), base.free().map_or_else(|| "unknown".to_owned(), megabytes));
    if state & 0x200 != 0 {
        format!("most of the time this means that the disk is too small ({free} are free) or {} can not be written", path.display())
    } else if state & 0x400 != 0 {
        "the download broke off: look at the network and try again, it goes on where it stopped".to_owned()
    } else {
        "Steam did not give out the newest build; try again later".to_owned()
    }
}

/// One bar for all of an install's steps, which each count to 100: it never goes back.
#[derive(Debug, Default)]
struct Bar {
    percent: u8,
}

impl Bar {
    fn at(&mut self, step: &Step) -> Progress {
        // Downloading is nearly all of the time; what is laid out afterwards has the last two.
        let (from, to) = match step.name.as_str() {
            "reconfiguring" => (0.0, 1.0),
            "verifying install" | "validating" => (1.0, 4.0),
            "preallocating" => (4.0, 8.0),
            "downloading" => (8.0, 90.0),
            "staging" => (90.0, 92.0),
            "verifying update" | "verifying" => (92.0, 95.0),
            "committing" => (95.0, 98.0),
            _ => (0.0, 0.0),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 98")]
        let now = (from + (to - from) * step.percent / 100.0) as u8;
        self.percent = self.percent.max(now);
        let step = match step.total {
            0 => step.name.clone(),
            total => format!("{} {} of {}", step.name, megabytes(step.done), megabytes(total)),
        };
        Progress { percent: Some(self.percent), step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_never_goes_back() {
        let step = |name: &str, percent: f32| Step { name: name.to_owned(), percent, done: 0, total: 0 };
        let mut bar = Bar::default();
        let mut last = 0;
        for step in [
            step("reconfiguring", 0.0),
            step("preallocating", 100.0),
            step("downloading", 0.0),
            step("downloading", 50.0),
            step("something new", 0.0),
            step("downloading", 100.0),
            step("verifying update", 3.0),
            step("committing", 100.0),
        ] {
            let percent = bar.at(&step).percent.expect("it is known");
            assert!(percent >= last, "{step:?}");
            last = percent;
        }
        assert_eq!(last, 98);
    }
}
