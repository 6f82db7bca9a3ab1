//! Variables and inputs of actions: their rules, what they name, and where secrets go.

use manman_common::spec::{InputKind, InputSpec};

use super::{Check, Reach};
use crate::domain::template::{self, Word};
use crate::domain::variables::{check, order, whole};
use crate::games::at::At;

impl Check<'_> {
    pub(super) fn inputs(&mut self) {
        let definition = self.definition;
        for (name, spec) in &definition.variables {
            let at = At::of(&["variables", name]);
            let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
            if !begins || !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
                self.say(at.clone(), "a variable's name has capital letters, digits and `_`");
            }
            self.input(&at, spec);
            let Some(default) = &spec.default else { continue };
            self.template(&at.key("default"), default, Reach::All);
            if spec.secret && !default.is_empty() {
                self.say(at.key("default"), "a secret that stands in a definition is none");
            }
            if !spec.secret && !self.secrets_in(default).is_empty() {
                self.say(at.key("default"), "what names a secret is `secret` itself");
            }
        }
        if let Err(circle) = order(&definition.variables) {
            let why = match circle.as_slice() {
                [one] => format!("`{one}` names itself"),
                several => format!("{} name each other in a circle", several.join(", ")),
            };
            for name in &circle {
                self.say(At::of(&["variables", name, "default"]), why.clone());
            }
        }
        self.argv_secrets();
        for (name, action) in &definition.actions {
            for (input, spec) in &action.inputs {
                let at = At::of(&["actions", name, "inputs", input]);
                self.input(&at, spec);
            }
        }
    }

    fn input(&mut self, at: &At, spec: &InputSpec) {
        if let Some(pattern) = &spec.pattern
            && let Err(error) = whole(pattern)
        {
            self.say(at.key("pattern"), regex_words(&error));
            return;
        }
        if let (Some(min), Some(max)) = (spec.min, spec.max)
            && min > max
        {
            self.say(at.key("max"), format!("{max} is less than `min`"));
            return;
        }
        if spec.kind == InputKind::Text && (spec.min.is_some_and(|min| min < 0) || spec.max.is_some_and(|max| max < 0)) {
            self.say(at.key(if spec.min.is_some_and(|min| min < 0) { "min" } else { "max" }), "a length is never below 0");
        }
        if spec.exposed.is_some() && !spec.secret {
            self.say(at.key("exposed"), "only a `secret` can be exposed");
        }
        // A default with a template is looked at when it is filled in.
        if let Some(default) = spec.default.as_ref().filter(|default| !default.is_empty() && !default.contains("{{"))
            && let Err(why) = check(spec, default)
        {
            self.say(at.key("default"), why);
        }
    }

    /// Names of the secret variables that a text is filled in with.
    fn secrets_in<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let named = template::words(text).unwrap_or_default().into_iter().filter_map(|word| match word {
            Word::Variable(name) => self.definition.variables.get(name).filter(|spec| spec.secret).map(|_| name),
            Word::Port(_) | Word::ServerName | Word::ServerId | Word::ServerIp | Word::Memory => None,
        });
        named.collect()
    }

    /// Whoever can list the machine's processes reads their arguments, so a definition has to say it.
    fn argv_secrets(&mut self) {
        let definition = self.definition;
        let mut seen = Vec::new();
        for (index, argument) in definition.start.argv.iter().enumerate() {
            for name in self.secrets_in(argument) {
                seen.push(name);
                if definition.variables.get(name).is_some_and(|spec| spec.exposed.is_none()) {
                    self.say(
                        At::of(&["start", "argv"]).index(index),
                        format!("others of the machine can read the secret `{name}` here; its variable must say `exposed: argv`"),
                    );
                }
            }
        }
        for (name, _) in definition.variables.iter().filter(|(name, spec)| spec.exposed.is_some() && !seen.contains(&name.as_str())) {
            self.say(At::of(&["variables", name, "exposed"]), "it does not stand in `start.argv`");
        }
    }
}

/// The parser's own words are a picture of several lines; its last line says it.
pub(super) fn regex_words(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("it is not a regular expression: {last}")
}
