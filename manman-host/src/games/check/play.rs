//! The running game: when it is ready, who plays, how it is talked to and stopped.

use manman_common::spec::{ActionSpec, ConsoleKind, Protocol, StopStep};

use super::inputs::regex_words;
use super::{Check, Reach};
use crate::games::action;
use crate::games::at::At;
use crate::games::definition::Action;
use crate::games::secret;

impl Check<'_> {
    pub(super) fn play(&mut self) {
        self.ready();
        self.console();
        self.actions();
        self.stop();
        if let Some(url) = &self.definition.url {
            self.template(&At::of(&["url"]), url, Reach::Public);
        }
    }

    fn ready(&mut self) {
        let definition = self.definition;
        if let Some(log) = &definition.ready.log {
            self.expression(At::of(&["ready", "log"]), log);
        }
        if definition.ready.within.is_some_and(|within| within.is_zero()) {
            self.say(At::of(&["ready", "within"]), "a game needs some time");
        }
        match (&definition.query, &definition.ready.query) {
            (Some(query), Some(ready)) if query.protocol != *ready => {
                self.say(At::of(&["ready", "query"]), format!("it is not the `query.protocol`, which is `{}`", query.protocol));
            }
            (None, Some(_)) if definition.ports.is_empty() => self.say(At::of(&["ready", "query"]), "there is no port to ask at"),
            (Some(_) | None, Some(_) | None) => {}
        }
        if let Some(query) = &definition.query
            && !definition.ports.contains_key(&query.port)
        {
            self.say(At::of(&["query", "port"]), format!("there is no port `{}`", query.port));
        }
        if let Some(players) = &definition.players {
            for (key, text) in [("join", &players.join), ("leave", &players.leave)] {
                let at = At::of(&["players", key]);
                if let Some(regex) = self.expression(at.clone(), text)
                    && !regex.capture_names().flatten().any(|name| name == "player")
                {
                    self.say(at, "it has no group `(?P<player>…)`");
                }
            }
        }
        if let Some(hang) = definition.hang {
            if definition.query.is_none() && !definition.console.input.is_remote() {
                self.say(At::of(&["hang"]), "neither a query nor a console over the network tells whether the game hangs");
            }
            if hang.silent.as_secs() == 0 {
                self.say(At::of(&["hang", "silent"]), "less than a second of silence tells nothing");
            }
        }
    }

    fn expression(&mut self, at: At, text: &str) -> Option<regex::Regex> {
        match regex::Regex::new(text) {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.say(at, regex_words(&error));
                None
            }
        }
    }

    fn console(&mut self) {
        let definition = self.definition;
        let console = &definition.console;
        if !console.input.is_remote() {
            for (key, set) in [("port", console.port.is_some()), ("secret", console.secret.is_some())] {
                if set {
                    self.say(At::of(&["console", key]), "only a console over the network has it");
                }
            }
            return;
        }
        let wanted = if console.input == ConsoleKind::Quake3Rcon { Protocol::Udp } else { Protocol::Tcp };
        match console.port.as_ref().map(|name| (name, definition.ports.get(name))) {
            None => self.say(At::of(&["console"]), "a console over the network needs a `port`"),
            Some((name, None)) => self.say(At::of(&["console", "port"]), format!("there is no port `{name}`")),
            Some((name, Some(port))) if !port.protocol.protocols().contains(&wanted) => {
                self.say(At::of(&["console", "port"]), format!("the port `{name}` is not {}, which this console speaks", wanted.as_str()));
            }
            Some((_, Some(_))) => {}
        }
        match console.secret.as_ref().map(|name| (name, definition.variables.get(name))) {
            // Some games ask for none where none is set.
            None if console.input == ConsoleKind::Telnet => {}
            None => self.say(At::of(&["console"]), "a console over the network needs a `secret`, the variable with its password"),
            Some((name, None)) => self.say(At::of(&["console", "secret"]), format!("there is no variable `{name}`")),
            Some((name, Some(spec))) if !spec.secret => {
                self.say(At::of(&["console", "secret"]), format!("the variable `{name}` is not `secret`"));
            }
            Some((name, Some(spec))) => {
                if !secret::can_be_made(spec) {
                    self.say(
                        At::of(&["variables", name]),
                        "a password of letters and digits would not pass, and one is made where nobody gives it",
                    );
                }
            }
        }
    }

    fn actions(&mut self) {
        let definition = self.definition;
        for (name, action) in &definition.actions {
            let at = At::of(&["actions", name]);
            // The inputs that a built-in brings are its own, and what the file adds is a fault.
            let spec = ActionSpec { inputs: action.inputs.clone(), ..action.spec() };
            for (path, why) in action::faults(&spec, definition.console.input) {
                self.say(path.iter().fold(at.clone(), |at, key| at.key(key)), why);
            }
            if let Some(answer) = &action.answer {
                self.expression(at.key("answer"), answer);
            }
        }
    }

    fn stop(&mut self) {
        let definition = self.definition;
        let mut local = None;
        for (index, rung) in definition.stop.iter().enumerate() {
            let at = At::of(&["stop"]).index(index);
            let step = match rung.step() {
                Ok(step) => step,
                Err(why) => {
                    self.say(at, why);
                    continue;
                }
            };
            let by_worker = match &step {
                StopStep::Console(line) => {
                    if definition.console.input == ConsoleKind::None {
                        self.say(at.key("console"), "there is no console to type it into");
                    }
                    if line.is_empty() || line.contains("{{") || line.chars().any(char::is_control) {
                        self.say(at.key("console"), "it is one line, without templates");
                    }
                    definition.console.input.is_remote()
                }
                StopStep::Action(name) => {
                    let usable = |action: &&Action| action.inputs.is_empty() && !action.disabled && action.spec().is_console();
                    if definition.actions.get(name).filter(usable).is_none() {
                        self.say(at.key("action"), format!("`{name}` is no action without inputs that is typed into the console"));
                    }
                    true
                }
                StopStep::Signal(_) => false,
            };
            match (by_worker, local) {
                (true, Some(before)) => self.say(
                    at,
                    format!("actions and consoles over the network come before all other rungs, and rung {} is one of those", before + 1),
                ),
                (true, None) | (false, Some(_)) => {}
                (false, None) => local = Some(index),
            }
        }
    }
}
