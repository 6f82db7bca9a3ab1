//! What is wrong with an action, whoever wrote it: a definition's author or a person.

use manman_common::spec::{ActionSpec, ConsoleKind, Does, InputSpec};
use manman_common::{Problem, RunSpec};

use super::check::sound_path;
use crate::domain::template::braces;
use crate::domain::variables::{check, whole};

/// Of one server's own.
const ACTIONS_MAX: usize = 64;
/// Longest script; it is stored, and sent to the worker with each change of the spec.
const SCRIPT_MAX: usize = 64 << 10;
/// A day: longer than any backup takes.
const TIMEOUT_MAX: u32 = 24 * 3600;

/// Each fault with its place below the action: `["inputs", "map"]`.
pub(super) fn faults(action: &ActionSpec, console: ConsoleKind) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut say = |path: &[&str], why: &str| found.push((path.iter().map(|part| (*part).to_owned()).collect(), why.to_owned()));
    let ways = [!action.console.is_empty(), !action.argv.is_empty(), action.script.is_some(), action.builtin.is_some()];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        say(&[], "it is one of a `console` line, an `argv`, a `script` and a `builtin`");
        return found;
    }
    let is_script = matches!(action.does(), Does::Argv(_) | Does::Script(_));
    if !is_script && action.timeout_seconds.is_some() {
        say(&["timeout"], "only a script is ended when its time is over");
    }
    if action.timeout_seconds.is_some_and(|timeout| timeout == 0 || timeout > TIMEOUT_MAX) {
        say(&["timeout"], "a script has from 1s to 24h");
    }
    if !action.is_console() && action.answer.is_some() {
        say(&["answer"], "only a console line waits for one; a script answers by itself");
    }
    match action.does() {
        Does::Console(line) => console_faults(action, line, console, &mut say),
        Does::Argv(argv) => argv_faults(argv, &mut say),
        Does::Script(script) => {
            if script.trim().is_empty() || script.contains('\0') || script.len() > SCRIPT_MAX {
                say(&["script"], "a script has 1 byte to 64 KiB, and none of them is zero");
            }
            if script.contains("{{") {
                say(
                    &["script"],
                    "nothing is filled in here: a value could be a command; each input is in its environment, as `INPUT_NAME`",
                );
            }
        }
        Does::Builtin(_) => {
            if !action.inputs.is_empty() {
                say(&["inputs"], "a built-in has inputs of its own");
            }
        }
    }
    if is_script {
        input_names(action, &mut say);
    }
    found
}

fn console_faults(action: &ActionSpec, line: &str, console: ConsoleKind, say: &mut impl FnMut(&[&str], &str)) {
    if console == ConsoleKind::None {
        say(&[], "there is no console to type it into");
    }
    match braces(line) {
        Err(error) => say(&["console"], &error.to_string()),
        Ok(words) => {
            let known = |word: &&str| word.strip_prefix("inputs.").is_some_and(|input| action.inputs.contains_key(input));
            if let Some(word) = words.iter().find(|word| !known(word)) {
                say(&["console"], &format!("`{{{{{word}}}}}` is none of the action's `inputs`"));
            }
        }
    }
    if line.chars().any(char::is_control) {
        say(&["console"], "it is one line");
    }
    for (name, _) in action.inputs.iter().filter(|(_, spec)| spec.secret || spec.exposed.is_some()) {
        say(&["inputs", name], "what is typed into a console stands in the log, so it can be no secret");
    }
}

fn argv_faults(argv: &[String], say: &mut impl FnMut(&[&str], &str)) {
    if let Some(argument) = argv.iter().find(|argument| argument.contains('\0') || argument.contains("{{")) {
        let why = if argument.contains("{{") {
            "nothing is filled in here; each input is in its environment, as `INPUT_NAME`"
        } else {
            "an argument can not hold a zero byte"
        };
        say(&["argv"], why);
    }
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if !program.starts_with('/') && !sound_path(program) {
        say(&["argv"], "what is run is a program of the machine, or lies in the server's directory");
    }
}

/// Names become those of environment variables.
fn input_names(action: &ActionSpec, say: &mut impl FnMut(&[&str], &str)) {
    let mut seen = std::collections::BTreeSet::new();
    for (name, spec) in &action.inputs {
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if !begins || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            say(&["inputs", name], "an input of a script has letters, digits and `_`: it becomes an environment variable");
        }
        if !seen.insert(name.to_ascii_uppercase()) {
            say(&["inputs", name], "another input is the same environment variable");
        }
        if spec.exposed.is_some() {
            say(&["inputs", name], "an input is in no argument, so it is not exposed");
        }
    }
}

/// A person's own actions, with the field of what is wrong.
pub(super) fn check_own(run: &RunSpec, actions: &std::collections::BTreeMap<String, ActionSpec>) -> Result<(), Problem> {
    if actions.len() > ACTIONS_MAX {
        return Err(Problem::invalid("actions", format!("a server has at most {ACTIONS_MAX} actions of its own")));
    }
    for (name, action) in actions {
        let at = format!("actions.{name}");
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            return Err(Problem::invalid("actions", format!("`{name}` is no name of an action: 1 to 64 letters, digits, `_` and `-`")));
        }
        if let Some((path, why)) = faults(action, run.console).into_iter().next() {
            let field = std::iter::once(at).chain(path).collect::<Vec<_>>().join(".");
            return Err(Problem::invalid(field.replace(".timeout", ".timeout_seconds"), why));
        }
        for (input, spec) in &action.inputs {
            if let Some((key, why)) = input_fault(spec) {
                return Err(Problem::invalid(format!("{at}.inputs.{input}.{key}"), why));
            }
        }
    }
    Ok(())
}

fn input_fault(spec: &InputSpec) -> Option<(&'static str, String)> {
    if spec.pattern.as_deref().is_some_and(|pattern| whole(pattern).is_err()) {
        return Some(("pattern", "it is not a regular expression".to_owned()));
    }
    if spec.min.zip(spec.max).is_some_and(|(min, max)| min > max) {
        return Some(("max", "it is less than `min`".to_owned()));
    }
    let default = spec.default.as_deref().filter(|default| !default.is_empty());
    default.and_then(|default| check(spec, default).err()).map(|why| ("default", why))
}
