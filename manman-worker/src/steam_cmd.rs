//! `manman-worker steam`: signs an account in, says what is here, fetches ahead. It may run beside a
//! worker on the same directory: SteamCMD's lock keeps the two apart.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Mutex;

use manman_common::spec::{Platform, SteamLogin};
use manman_common::status::Progress;
use manman_steam::{App, Ask, Secret, Steam, SteamError};
use rustix::termios::{LocalModes, OptionalActions, Termios};
use serde::Serialize;

use crate::config::Config;
use crate::report::Report;

/// What was done, in one line.
#[derive(Debug, Serialize)]
pub struct Done {
    done: String,
}

impl Report for Done {
    fn to_lines(&self) -> String {
        format!("{}\n", self.done)
    }
}

/// What there is of Steam.
#[derive(Debug, Serialize)]
pub struct Status {
    steamcmd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    account: Option<String>,
    apps: Vec<AppStatus>,
}

#[derive(Debug, Serialize)]
struct AppStatus {
    /// App, branch and platform.
    app: String,
    /// Absent while it is being brought, or after that broke off.
    build: Option<String>,
}

impl Report for Status {
    fn to_lines(&self) -> String {
        let mut text = String::new();
        // Writing into a String can not fail.
        let _ = match (&self.steamcmd, &self.problem) {
            (Some(found), _) => writeln!(text, "SteamCMD  {found}"),
            (None, problem) => writeln!(text, "SteamCMD  {}", problem.as_deref().unwrap_or("not usable")),
        };
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "    hint: {hint}");
        }
        let _ = writeln!(text, "account   {}", self.account.as_deref().unwrap_or("none signed in (`manman-worker steam login NAME`)"));
        for app in &self.apps {
            let _ = writeln!(
                text,
                "app       {}  {}",
                app.app,
                app.build.as_ref().map_or("not whole".to_owned(), |build| format!("build {build}"))
            );
        }
        text
    }

    fn is_sound(&self) -> bool {
        self.problem.is_none()
    }
}

/// An app to fetch ahead.
#[derive(Debug)]
pub struct Wanted {
    pub app: u32,
    pub branch: Option<String>,
    pub account: bool,
    pub windows: bool,
}

pub async fn login(config: &Config, account: &str) -> Result<Done, SteamError> {
    let steam = open(config);
    make_data_dir(config);
    steam.login(account, ask).await?;
    Ok(Done { done: format!("signed in as {account}; SteamCMD keeps the login in {}", steam.config().dir.join("home").display()) })
}

pub fn status(config: &Config) -> Result<Status, SteamError> {
    let steam = open(config);
    let (found, problem) = match steam.report() {
        Ok(found) => (Some(found), None),
        Err(problem) => (None, Some(problem)),
    };
    let apps = steam.apps()?.into_iter().map(|(app, build)| AppStatus { app, build }).collect();
    let (problem, hint) = problem.map_or((None, None), |problem| (Some(problem.reason), Some(problem.hint)));
    Ok(Status { steamcmd: found, problem, hint, account: steam.account()?, apps })
}

pub async fn install(config: &Config, wanted: Option<Wanted>) -> Result<Done, SteamError> {
    let steam = open(config);
    make_data_dir(config);
    let Some(wanted) = wanted else {
        let program = steam.fetch_tool(talker()).await?;
        return Ok(Done { done: format!("SteamCMD is at {program}") });
    };
    let login = if wanted.account { SteamLogin::Account } else { SteamLogin::Anonymous };
    let platform = if wanted.windows { Platform::WindowsProton } else { Platform::Linux };
    let app = App::new(wanted.app, wanted.branch)?.with_login(login).with_platform(platform);
    let installed = steam.fetch_app(&app, talker()).await?;
    Ok(Done { done: format!("app {} is here, build {}", app.key(), installed.build) })
}

fn open(config: &Config) -> Steam {
    let home = std::env::home_dir();
    Steam::new(config.steam(home.as_deref()))
}

/// A worker that never ran has no directory yet; what is wrong with it shows when it is used.
fn make_data_dir(config: &Config) {
    let _ = std::fs::create_dir_all(&config.data_dir);
}

/// Says each step once, and each tenth of it.
fn talker() -> impl Fn(Progress) + Send + Sync {
    let last = Mutex::new((String::new(), 0));
    move |progress: Progress| {
        let name: String = progress.step.chars().take_while(|c| !c.is_ascii_digit()).collect();
        let tenth = progress.percent.unwrap_or(0) / 10;
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last != (name.clone(), tenth) {
            *last = (name, tenth);
            let percent = progress.percent.map_or_else(String::new, |percent| format!("{percent:3} %  "));
            eprintln!("{percent}{}", progress.step);
        }
    }
}

/// Asks on the terminal. A password is not shown as it is typed.
fn ask(what: Ask) -> io::Result<Secret> {
    let question = match what {
        Ask::Password => "Steam password: ",
        Ask::MailCode => "Steam Guard code from your mail: ",
        Ask::AppCode => "Steam Guard code from the Steam app: ",
        Ask::Phone => {
            eprintln!("confirm the login in the Steam app on your phone");
            return Ok(Secret::default());
        }
    };
    let stdin = io::stdin();
    if stdin.is_terminal() {
        eprint!("{question}");
        io::stderr().flush()?;
    }
    let _quiet = (what == Ask::Password && stdin.is_terminal()).then(Quiet::begin).transpose()?;
    let mut line = String::new();
    if stdin.lock().read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is nobody to ask"));
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(Secret::new(line))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        eprintln!();
    }
}
