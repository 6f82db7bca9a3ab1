//! What SteamCMD prints, line by line.
//!
//! Nothing of it is documented and all of it comes from outside: bytes that are no UTF-8, colours in
//! the middle, a decimal comma, two lines glued together, prompts without a line's end. So a line is
//! known by what it holds, and what is not known is no line's fault.

use crate::error::Failure;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    Progress(Step),
    /// SteamCMD brings itself up to date.
    SelfUpdate(Option<u8>),
    /// `fully installed` or `already up to date`, with the app's number.
    Success(u32),
    /// The app's state bits where SteamCMD gave up.
    AppState(u32),
    /// Why the install was refused, in SteamCMD's words.
    InstallFailed(String),
    LoginFailed(String),
    LoggedIn,
    /// The version of SteamCMD itself.
    Banner(String),
    /// The person's phone has to confirm.
    AwaitsPhone,
    Other,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) percent: f32,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// What SteamCMD waits for on its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Password,
    MailCode,
    AppCode,
}

impl Line {
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(step) = after(text, "Update state (0x").and_then(Step::parse) {
            return Self::Progress(step);
        }
        if let Some(rest) = after(text, "Success! App '") {
            return leading_number(rest).map_or(Self::Other, Self::Success);
        }
        if let Some(rest) = after(text, "tate is 0x") {
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            return u32::from_str_radix(&digits, 16).map_or(Self::Other, Self::AppState);
        }
        if let Some(rest) = after(text, "ERROR! Failed to install app") {
            return Self::InstallFailed(in_brackets(rest).unwrap_or(rest).trim().to_owned());
        }
        if text.contains("ERROR! Timed out waiting for AppInfo update") {
            return Self::InstallFailed("Timed out waiting for AppInfo update".to_owned());
        }
        if text.contains("Disk write failure") {
            return Self::InstallFailed("Disk write failure".to_owned());
        }
        if let Some(rest) = after(text, "Login Failure:") {
            return Self::LoginFailed(rest.trim().to_owned());
        }
        for word in ["FAILED (", "ERROR ("] {
            if let Some(reason) = after(text, word).and_then(|rest| rest.split(')').next()) {
                return Self::LoginFailed(reason.to_owned());
            }
        }
        if let Some(rest) = after(text, "FAILED login with result code") {
            return Self::LoginFailed(rest.trim().to_owned());
        }
        if text.contains("Waiting for user info...OK") || text.contains("Logged in OK") {
            return Self::LoggedIn;
        }
        if text.contains("Please confirm the login in the Steam Mobile app") {
            return Self::AwaitsPhone;
        }
        if let Some(rest) = after(text, "Steam Console Client (c) Valve Corporation") {
            return Self::Banner(rest.trim_start_matches(" - version ").chars().take_while(char::is_ascii_digit).collect());
        }
        if text.starts_with('[') && (text.contains("Downloading update") || text.contains("Checking for available update")) {
            let percent = text.trim_start_matches(['[', ' ']).split('%').next().and_then(|digits| digits.trim().parse().ok());
            return Self::SelfUpdate(percent.filter(|percent| *percent <= 100));
        }
        Self::Other
    }
}

impl Step {
    /// `61) downloading, progress: 45.12 (1234 / 5678)`
    fn parse(rest: &str) -> Option<Self> {
        let (_, rest) = rest.split_once(')')?;
        let (name, rest) = rest.split_once(", progress:")?;
        let (percent, rest) = rest.trim_start().split_once(' ')?;
        let percent: f32 = percent.replace(',', ".").parse().ok()?;
        let (done, total) = in_brackets(rest)?.split_once('/')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let percent = if percent.is_finite() { percent.clamp(0.0, 100.0) } else { return None };
        let name: String = name.trim().chars().filter(|c| !c.is_control()).take(40).collect();
        Some(Self { name, percent, done: number(done)?, total: number(total)? })
    }
}

impl Prompt {
    /// Whether what stands after the last line's end asks for something.
    pub(crate) fn of(partial: &str) -> Option<Self> {
        let text = partial.trim_end();
        if text.ends_with("password:") {
            Some(Self::Password)
        } else if text.ends_with("Two-factor code:") {
            Some(Self::AppCode)
        } else if text.ends_with("Steam Guard code:") {
            Some(Self::MailCode)
        } else {
            None
        }
    }
}

/// What a refused login is called.
pub(crate) fn login_failure(reason: &str) -> Failure {
    let reason = reason.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["rate limit", "too many"]) {
        Failure::RateLimit
    } else if has(&["cached credentials", "expired", "revoked"]) {
        Failure::LoginExpired
    } else if has(&["two-factor", "guard", "auth code", "logon denied", "login denied"]) {
        Failure::GuardNeeded
    } else if has(&["invalid password", "account not found", "invalid name"]) {
        Failure::InvalidPassword
    } else {
        // No Connection, Timeout, Service Unavailable, Try another CM, and words not seen yet.
        Failure::NoConnection
    }
}

/// What a refused install is called.
pub(crate) fn install_failure(reason: &str) -> Failure {
    let reason = reason.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["no subscription", "no license"]) {
        Failure::NoSubscription
    } else if has(&["invalid platform"]) {
        Failure::InvalidPlatform
    } else if has(&["missing configuration", "missing config"]) {
        Failure::MissingConfiguration
    } else if has(&["disk", "not enough space", "no space"]) {
        Failure::DiskFull
    } else if has(&["timed out", "timeout", "connection", "unavailable", "busy"]) {
        Failure::NoConnection
    } else {
        Failure::Unexplained
    }
}

/// What the bits of an app's state say, for a person.
pub(crate) fn state_words(state: u32) -> String {
    const WORDS: [(u32, &str); 12] = [
        (0x1, "not installed"),
        (0x2, "update required"),
        (0x4, "installed"),
        (0x10, "update optional"),
        (0x20, "files missing"),
        (0x40, "shared only"),
        (0x80, "files corrupt"),
        (0x100, "update running"),
        (0x200, "update paused"),
        (0x400, "update started"),
        (0x800, "uninstalling"),
        (0x2000, "running"),
    ];
    let words: Vec<&str> = WORDS.iter().filter(|(bit, _)| state & bit != 0).map(|(_, word)| *word).collect();
    if words.is_empty() { "no state".to_owned() } else { words.join(", ") }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.find(mark).map(|at| &text[at + mark.len()..])
}

fn in_brackets(text: &str) -> Option<&str> {
    text.split_once('(')?.1.split(')').next()
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Cuts bytes into lines as they come.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

/// Longer ones are cut; SteamCMD's own have 200 bytes.
const LINE_MAX: usize = 16 << 10;

impl Lines {
    /// Whole lines, without their ends and without colours; empty ones are left out.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') || self.rest.len() >= LINE_MAX {
                let line = plain(&std::mem::take(&mut self.rest));
                if !line.trim().is_empty() {
                    lines.push(line);
                }
            }
            if !matches!(byte, b'\n' | b'\r') {
                self.rest.push(*byte);
            }
        }
        lines
    }

    /// What stands after the last line's end.
    pub(crate) fn partial(&self) -> String {
        plain(&self.rest)
    }

    pub(crate) fn forget_partial(&mut self) {
        self.rest.clear();
    }
}

/// Text without escape sequences and other control characters; what is no UTF-8 is shown, not fatal.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if !c.is_control() || c == '\t' {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests;
