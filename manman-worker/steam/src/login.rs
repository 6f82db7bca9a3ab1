//! Signs a Steam account in, once per machine. What a person answers goes to SteamCMD's input and
//! nowhere else: not to a command line, not to a disk of ours. SteamCMD keeps what Steam gives it for
//! the next time in its own home; we keep the account's name.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::SteamConfig;
use crate::error::{Failure, SteamError};
use crate::lock::Lock;
use crate::output::{Line, Prompt, login_failure};
use crate::session::{Event, Input, Session};
use crate::tool;

/// What Steam wants of the person who signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Password,
    /// The code that Steam has sent by mail.
    MailCode,
    /// The code that the Steam app on the phone shows.
    AppCode,
    /// Nothing to type: the phone has to confirm. What is answered is not looked at.
    Phone,
}

/// What was typed. It is not shown, and overwritten when it is no longer needed.
#[derive(Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}

pub(crate) const LOGIN_HINT: &str = "run `manman-worker steam login NAME` on this machine, then start the server again";

/// SteamCMD asks again after a wrong answer; a person gets this many tries before Steam counts them.
const QUESTIONS_MAX: u32 = 6;

/// How long a phone may take, and Steam after it. Answers of a person do not count.
const STEAM_ANSWERS_WITHIN: Duration = Duration::from_mins(3);

pub(crate) async fn login(
    config: &SteamConfig,
    account: &str,
    mut ask: impl FnMut(Ask) -> io::Result<Secret> + Send,
) -> Result<(), SteamError> {
    check_name(account)?;
    let lock = Lock::take(config, &|_| {}).await?;
    let tool = tool::ready(config, &lock, &|_| {}).await?;
    let arguments = ["+@ShutdownOnFailedCommand", "1", "+login", account, "+quit"].map(str::to_owned);
    let mut session = Session::start(config, &tool, Input::Terminal, &arguments)?;
    let mut heard = Instant::now();
    let mut asked = 0;
    let (mut is_in, mut failed) = (false, None);
    loop {
        // Cancel-safe: `next` keeps what it has read.
        let Ok(event) = tokio::time::timeout_at(heard + STEAM_ANSWERS_WITHIN, session.next()).await else {
            session.kill().await?;
            return Err(SteamError::new(Failure::Inactive, format!("Steam did not answer to the login of `{account}`"))
                .hint("look at the network, or at the phone that should confirm, and try again"));
        };
        match event? {
            Event::Ended(_) => break,
            Event::Line(line) => match Line::parse(&line) {
                Line::LoggedIn => (is_in, failed) = (true, None),
                Line::LoginFailed(reason) => failed = Some(reason),
                Line::AwaitsPhone => drop(ask(Ask::Phone).map_err(unanswered)?),
                _ => {}
            },
            Event::Prompt(prompt) => {
                asked += 1;
                if asked > QUESTIONS_MAX {
                    session.kill().await?;
                    break;
                }
                let answer = ask(match prompt {
                    Prompt::Password => Ask::Password,
                    Prompt::MailCode => Ask::MailCode,
                    Prompt::AppCode => Ask::AppCode,
                })
                .map_err(unanswered)?;
                if answer.0.iter().any(|byte| byte.is_ascii_control()) {
                    return Err(SteamError::new(Failure::InvalidPassword, "an answer to Steam can hold no control characters"));
                }
                session.answer(&answer.0).map_err(|error| SteamError::io("SteamCMD takes no answer", error))?;
            }
        }
        heard = Instant::now();
    }
    if !is_in || failed.is_some() {
        let reason = failed.unwrap_or_else(|| "no login".to_owned());
        let failure = match login_failure(&reason) {
            Failure::LoginExpired => Failure::InvalidPassword,
            failure => failure,
        };
        return Err(refused(failure, &reason));
    }
    let path = account_path(config);
    fs::write(&path, account).map_err(|error| SteamError::io(format!("the account's name can not be kept at {}", path.display()), error))
}

/// The name of the account that has signed in.
pub(crate) fn account(config: &SteamConfig) -> Result<Option<String>, SteamError> {
    let path = account_path(config);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SteamError::io(format!("the account's name can not be read at {}", path.display()), error)),
        Ok(name) => {
            let name = name.trim().to_owned();
            check_name(&name)?;
            Ok(Some(name))
        }
    }
}

fn account_path(config: &SteamConfig) -> PathBuf {
    config.dir.join("account")
}

/// It stands in SteamCMD's command line.
fn check_name(account: &str) -> Result<(), SteamError> {
    let is_sound =
        (1..=64).contains(&account.len()) && account.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if is_sound && !account.starts_with(['-', '.']) && account != "anonymous" {
        Ok(())
    } else {
        Err(SteamError::new(Failure::InvalidPassword, format!("`{}` is not the name of a Steam account", account.escape_debug()))
            .hint("it is the name that you sign in with, not the one that friends see, and no mail address"))
    }
}

fn unanswered(error: io::Error) -> SteamError {
    SteamError::new(Failure::GuardNeeded, "Steam asked for something and got no answer").hint("run this on a terminal").caused_by(error)
}

/// A login that Steam refused, in its words and ours.
pub(crate) fn refused(failure: Failure, reason: &str) -> SteamError {
    let (what, hint) = match failure {
        Failure::InvalidPassword => ("Steam knows no account of this name and password", "type both as in Steam's own client"),
        Failure::LoginExpired => ("the login that SteamCMD kept on this machine is no longer good", LOGIN_HINT),
        Failure::GuardNeeded => ("Steam Guard asks for a code or for the phone", LOGIN_HINT),
        Failure::RateLimit => ("Steam refuses logins from this address for a while", "wait half an hour; more tries make it longer"),
        _ => ("Steam can not be reached or does not answer", "look at the network and at Steam's status, then try again"),
    };
    let reason: String = reason.chars().take(120).collect();
    SteamError::new(failure, format!("{what} ({reason})")).hint(hint)
}
