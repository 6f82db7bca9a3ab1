//! What the shape of a definition alone does not tell. All of it is found in one go.

mod inputs;
mod play;

use manman_common::game_id::GameId;
use manman_common::spec::{FileFormat, Platform};

use super::at::At;
use super::bare;
use super::definition::Definition;
use super::ports::{PortFault, number_of};
use super::values::SetValue;
use crate::domain::template::{self, Word};

/// Each fault with its place.
pub(super) fn faults(definition: &Definition) -> Vec<(At, String)> {
    let mut check = Check { definition, faults: Vec::new() };
    check.method();
    check.ports();
    check.inputs();
    check.start();
    check.files();
    check.play();
    check.data();
    check.faults
}

struct Check<'a> {
    definition: &'a Definition,
    faults: Vec<(At, String)>,
}

/// Which words may stand somewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    All,
    /// Only what players may know: a link is shown to everybody.
    Public,
}

impl Check<'_> {
    fn say(&mut self, at: At, why: impl Into<String>) {
        self.faults.push((at, why.into()));
    }

    fn template(&mut self, at: &At, text: &str, reach: Reach) {
        let words = match template::words(text) {
            Ok(words) => words,
            Err(error) => return self.say(at.clone(), error.to_string()),
        };
        for word in words {
            match word {
                Word::Variable(name) if reach == Reach::Public => {
                    self.say(at.clone(), format!("`{name}`: a link takes no variables, for everybody sees it"));
                }
                Word::Variable(name) if !self.definition.variables.contains_key(name) => {
                    self.say(at.clone(), format!("there is no variable `{name}`"));
                }
                Word::Port(name) if !self.definition.ports.contains_key(name) => {
                    self.say(at.clone(), format!("there is no port `{name}`"));
                }
                Word::Memory if reach == Reach::Public || self.definition.resources.memory.is_none() => {
                    self.say(at.clone(), "`limits.memory` has no value here; `resources.memory` gives it one");
                }
                Word::Variable(_) | Word::Port(_) | Word::ServerName | Word::ServerId | Word::ServerIp | Word::Memory => {}
            }
        }
    }

    fn method(&mut self) {
        let definition = self.definition;
        if definition.name.trim().is_empty() || definition.name.chars().count() > 64 || definition.name.chars().any(char::is_control) {
            self.say(At::of(&["name"]), "a name has 1 to 64 characters on one line");
        }
        match &definition.game {
            GameId::Steamcmd(_) => {
                if definition.steam.is_none() {
                    self.say(At::of(&["game"]), "a game of SteamCMD needs `steam: {login: anonymous}` or `{login: account}`");
                }
                if definition.docker.is_some() {
                    self.say(At::of(&["docker"]), "a game of SteamCMD runs in no container");
                }
            }
            GameId::Docker(_) => {
                if definition.steam.is_some() {
                    self.say(At::of(&["steam"]), "an image is not brought by SteamCMD");
                }
                if definition.platform != Platform::Linux {
                    self.say(At::of(&["platform"]), "a container is Linux");
                }
                for (key, set) in [
                    ("dir", definition.start.dir.is_some()),
                    ("tty", definition.start.tty),
                    ("expect", !definition.start.expect.is_empty()),
                ] {
                    if set {
                        self.say(At::of(&["start", key]), "only a process has it; of a container `docker` tells");
                    }
                }
                if let Some((field, why)) = definition.docker.as_ref().and_then(bare::docker_fault) {
                    let at = field.strip_prefix("docker.mounts[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
                    let at = at.map_or_else(|| At::of(&["docker", "data"]), |index| At::of(&["docker", "mounts"]).index(index));
                    self.say(at, why);
                }
            }
        }
        if let Some(branch) = definition.steam.as_ref().and_then(|steam| steam.branch.as_ref())
            && !plain_word(branch)
        {
            self.say(At::of(&["steam", "branch"]), "a branch has letters, digits, `.`, `_` and `-`");
        }
    }

    fn ports(&mut self) {
        let mut seen: Vec<(&str, u16, super::PortProtocol)> = Vec::new();
        for (name, port) in &self.definition.ports {
            let at = At::of(&["ports", name]);
            if !plain_word(name) {
                self.say(at.clone(), "a port's name has letters, digits, `_` and `-`");
            }
            if port.container.is_some() && matches!(self.definition.game, GameId::Steamcmd(_)) {
                self.say(at.key("container"), "a process has no number but that of its machine");
            }
            let number = match number_of(self.definition, name) {
                Ok(number) => number,
                Err(PortFault::Default(error)) => {
                    self.say(at.key("default"), error.to_string());
                    continue;
                }
                Err(fault @ (PortFault::Circle(_) | PortFault::Missing(_) | PortFault::Range(_))) => {
                    self.say(at.key("default"), fault.to_string());
                    continue;
                }
            };
            let shares = |other: &super::PortProtocol| other.protocols().iter().any(|one| port.protocol.protocols().contains(one));
            if let Some((other, ..)) = seen.iter().find(|(_, taken, protocol)| *taken == number && shares(protocol)) {
                self.say(at.key("default"), format!("{number} is the port `{other}` already"));
            }
            seen.push((name, number, port.protocol));
        }
    }

    fn start(&mut self) {
        let start = &self.definition.start;
        let steam = matches!(self.definition.game, GameId::Steamcmd(_));
        let argv = At::of(&["start", "argv"]);
        if steam && start.argv.is_empty() {
            self.say(At::of(&["start"]), "`argv` is needed: what to run");
        }
        for (index, argument) in start.argv.iter().enumerate() {
            let at = argv.index(index);
            self.template(&at, argument, Reach::All);
            if argument.contains('\0') {
                self.say(at, "an argument can not hold a zero byte");
            }
        }
        if let Some(program) = start.argv.first().filter(|_| steam) {
            // An absolute one is a program of the machine.
            let sound = program.starts_with('/') || sound_path(program);
            if program.contains("{{") {
                self.say(argv.index(0), "what is run can not be a template");
            } else if !sound {
                self.say(argv.index(0), format!("`{program}` leads out of the server's directory"));
            }
        }
        let shell = start.argv.iter().position(|argument| {
            let name = argument.rsplit('/').next().unwrap_or_default();
            matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh")
        });
        if let Some(shell) = shell.filter(|_| steam)
            && let Some(index) = start.argv.iter().skip(shell).position(|argument| argument.contains("{{"))
        {
            self.say(argv.index(shell + index), "a shell would read this value as a command; name the program itself");
        }
        for (name, value) in &start.env {
            let at = At::of(&["start", "env", name]);
            self.template(&at, value, Reach::All);
            if !bare::is_env_name(name) || value.contains('\0') {
                self.say(at, "it is not an environment variable");
            }
        }
        if let Some(dir) = start.dir.as_ref().filter(|dir| !sound_path(dir)) {
            self.say(At::of(&["start", "dir"]), format!("`{dir}` leads out of the server's directory"));
        }
        if steam && start.expect.is_empty() {
            self.say(At::of(&["start"]), "`expect` is needed: what must be there once the game is installed");
        }
        for (index, path) in start.expect.iter().enumerate().filter(|(_, path)| !sound_path(path)) {
            self.say(At::of(&["start", "expect"]).index(index), format!("`{path}` leads out of the server's directory"));
        }
    }

    fn files(&mut self) {
        for (index, file) in self.definition.files.iter().enumerate() {
            let at = At::of(&["files"]).index(index);
            self.template(&at.key("path"), &file.path, Reach::All);
            if !sound_path(&file.path) {
                self.say(at.key("path"), format!("`{}` leads out of the server's directory", file.path));
            }
            if file.set.is_empty() {
                self.say(at.key("set"), "nothing is set");
            }
            for (key, value) in &file.set {
                let here = at.key("set").key(key);
                if let Some(why) = key_fault(file.format, key) {
                    self.say(here.clone(), why);
                }
                match value {
                    SetValue::Text(text) => {
                        self.template(&here, text, Reach::All);
                        if !has_types(file.format) && text.chars().any(|c| matches!(c, '\n' | '\r' | '\0')) {
                            self.say(here.clone(), "a value of this format has one line");
                        }
                        if file.format == FileFormat::Line && !line_fits(key, text) {
                            self.say(here, "the line does not begin with its key, so the next start would write it again");
                        }
                    }
                    SetValue::Truth(_) | SetValue::Integer(_) if has_types(file.format) => {}
                    SetValue::Truth(_) | SetValue::Integer(_) => self.say(here, "this format knows only text, so put it in quotes"),
                }
            }
        }
    }

    fn data(&mut self) {
        let data = &self.definition.data;
        for (key, globs) in [("save", &data.save), ("logs", &data.logs)] {
            for (index, glob) in globs.iter().enumerate() {
                let at = At::of(&["data", key]).index(index);
                if glob.contains("{{") {
                    self.say(at, "no template may stand here");
                } else if !sound_path(glob) {
                    self.say(at, format!("`{glob}` leads out of the server's directory"));
                }
            }
        }
    }
}

/// Whether the format tells numbers and truth values from text.
pub(super) const fn has_types(format: FileFormat) -> bool {
    match format {
        FileFormat::Json | FileFormat::Yaml | FileFormat::Toml => true,
        FileFormat::Properties | FileFormat::Ini | FileFormat::Xml | FileFormat::Line => false,
    }
}

/// Relative, and nowhere on its way upwards.
pub(super) fn sound_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.chars().any(char::is_control) && path.split('/').all(|part| part != "..")
}

fn plain_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn key_fault(format: FileFormat, key: &str) -> Option<&'static str> {
    if key.is_empty() || key.contains("{{") || key.chars().any(char::is_control) {
        return Some("a key is a plain text on one line");
    }
    let sound = match format {
        FileFormat::Ini => key.rsplit_once('.').is_some_and(|(section, name)| !section.is_empty() && !name.is_empty()),
        FileFormat::Xml => key.starts_with('/') && key.len() > 1,
        FileFormat::Json | FileFormat::Yaml | FileFormat::Toml => key.split('.').all(|part| !part.is_empty()),
        FileFormat::Properties | FileFormat::Line => true,
    };
    let why = match format {
        FileFormat::Ini => "a key of an ini file is `section.key`, or `[sec.tion].key`",
        FileFormat::Xml => "a key of an XML file is a path, such as `/root/child/@attribute`",
        FileFormat::Json | FileFormat::Yaml | FileFormat::Toml => "a part of the key is empty",
        FileFormat::Properties | FileFormat::Line => "it is no key",
    };
    (!sound).then_some(why)
}

fn line_fits(key: &str, line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(key.trim_start()) || line.starts_with("{{")
}
