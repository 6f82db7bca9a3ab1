//! What is started: a command is split once, when the file is read, and found once.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// Linux's limit of one argument, with its closing NUL (MAX_ARG_STRLEN, 32 pages).
pub const ARGUMENT_MAX: usize = 131_072 - 1;

/// Stands for the payload in a command, as a whole argument and never as part of one.
pub const PAYLOAD: &str = "{{jsonpayload}}";

/// An executable that is there, and its arguments. No shell has read it and none will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Absolute, so that starting it searches nothing.
    pub program: PathBuf,
    /// As it was typed; the process sees it as its own name.
    pub name: OsString,
    pub args: Vec<OsString>,
    /// Which argument the payload replaces; it is appended if none.
    pub payload_at: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command is empty")]
    Empty,
    #[error("`{0}` has an open quote")]
    Quote(String),
    #[error("`{0}` has a NUL")]
    Nul(String),
    #[error("no executable `{name}` in {place}")]
    Missing { name: String, place: String },
    #[error("`{}` is not executable", .0.display())]
    NotExecutable(PathBuf),
    #[error("`{PAYLOAD}` has to be a whole argument, and `{0}` is more than that")]
    PartOfArgument(String),
    #[error("`{PAYLOAD}` stands twice")]
    Twice,
    #[error("`{PAYLOAD}` would be read by the shell `{0}`")]
    InShell(String),
}

/// Splits as a shell does, which then is not asked.
pub fn split(line: &str) -> Result<Vec<String>, CommandError> {
    shlex::split(line).ok_or_else(|| CommandError::Quote(line.to_owned()))
}

impl Command {
    /// Looks for the executable as the process would: beside `wd` if it has a slash, else in `path`.
    pub fn find(words: &[String], wd: &Path, path: Option<&OsStr>) -> Result<Self, CommandError> {
        let (name, rest) = words.split_first().filter(|(name, _)| !name.is_empty()).ok_or(CommandError::Empty)?;
        if let Some(word) = words.iter().find(|word| word.contains('\0')) {
            return Err(CommandError::Nul(word.replace('\0', "\\0")));
        }
        let payload_at = placeholder(name, rest)?;
        let program = if name.contains('/') { beside(name, wd)? } else { searched(name, path)? };
        Ok(Self { program, name: name.into(), args: rest.iter().map(OsString::from).collect(), payload_at })
    }

    /// Whether what follows is no option any more, whatever it begins with.
    pub fn ends_options(&self) -> bool {
        let before = self.payload_at.map_or(self.args.as_slice(), |at| &self.args[..at]);
        before.last().is_some_and(|last| last == "--")
    }

    /// The arguments with the payload among them.
    pub fn with_payload(&self, payload: &[u8]) -> Vec<OsString> {
        let mut args = self.args.clone();
        let payload = OsStr::from_bytes(payload).to_owned();
        match self.payload_at.and_then(|at| args.get_mut(at)) {
            Some(place) => *place = payload,
            None => args.push(payload),
        }
        args
    }
}

fn placeholder(name: &str, rest: &[String]) -> Result<Option<usize>, CommandError> {
    if name.contains(PAYLOAD) {
        return Err(CommandError::PartOfArgument(name.to_owned()));
    }
    let shell = is_shell(name) || (name.ends_with("busybox") && rest.first().is_some_and(|applet| is_shell(applet)));
    let mut found = None;
    for (at, word) in rest.iter().enumerate() {
        if !word.contains("{{") {
            continue;
        }
        // A shell's own text is refused however the placeholder is spelled: `{{jsonpayload}}` in it,
        // or the whole of it.
        let script = shell && at > 0 && rest[at - 1].starts_with('-') && rest[at - 1].contains('c');
        if script && word.replace(' ', "").contains(PAYLOAD) {
            return Err(CommandError::InShell(name.to_owned()));
        }
        if word == PAYLOAD {
            if found.replace(at).is_some() {
                return Err(CommandError::Twice);
            }
        } else if word.contains(PAYLOAD) {
            return Err(CommandError::PartOfArgument(word.clone()));
        }
    }
    Ok(found)
}

fn is_shell(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    matches!(base, "sh" | "bash" | "dash" | "zsh" | "ksh" | "mksh" | "ash" | "fish" | "csh" | "tcsh")
}

fn beside(name: &str, wd: &Path) -> Result<PathBuf, CommandError> {
    let program = wd.join(name);
    match std::fs::metadata(&program) {
        Ok(meta) if meta.is_file() => {}
        _ => return Err(CommandError::Missing { name: name.to_owned(), place: format!("`{}`", wd.display()) }),
    }
    if rustix::fs::access(&program, Access::EXEC_OK).is_err() {
        return Err(CommandError::NotExecutable(program));
    }
    Ok(program)
}

fn searched(name: &str, path: Option<&OsStr>) -> Result<PathBuf, CommandError> {
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let found = std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| std::fs::metadata(file).is_ok_and(|meta| meta.is_file()) && rustix::fs::access(file, Access::EXEC_OK).is_ok());
    found.ok_or_else(|| CommandError::Missing { name: name.to_owned(), place: format!("the PATH {}", path.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(words: &[&str]) -> Result<Command, CommandError> {
        Command::find(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), Path::new("/"), None)
    }

    #[test]
    fn a_shell_never_reads_the_payload() {
        assert!(matches!(find(&["sh", "-c", "echo {{jsonpayload}}"]), Err(CommandError::InShell(_))));
        assert!(matches!(find(&["/bin/sh", "-ec", "{{jsonpayload}}"]), Err(CommandError::InShell(_))));
        assert!(matches!(find(&["echo", "x={{jsonpayload}}"]), Err(CommandError::PartOfArgument(_))));
        assert!(matches!(find(&["echo", "{{jsonpayload}}", "{{jsonpayload}}"]), Err(CommandError::Twice)));
        let command = find(&["sh", "-c", "cat \"$1\"", "sh", "{{jsonpayload}}"]).expect("that is an argument of the script");
        assert_eq!(command.with_payload(b"a b")[3], "a b");
    }

    #[test]
    fn the_payload_is_one_argument() {
        let command = find(&["echo", "--"]).expect("echo is there");
        assert!(command.ends_options());
        let args = command.with_payload(b"$(touch /tmp/p) '\";\n\xff");
        assert_eq!(args.len(), 2);
        assert_eq!(args[1].as_bytes(), b"$(touch /tmp/p) '\";\n\xff");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(find(&["manman-no-such"]), Err(CommandError::Missing { .. })));
        assert!(matches!(find(&["./etc/passwd"]), Err(CommandError::NotExecutable(_))));
        assert!(matches!(split("a 'b"), Err(CommandError::Quote(_))));
        assert_eq!(split("a 'b c' \"d\\\"\"").expect("quotes match"), ["a", "b c", "d\""]);
    }
}
