//! Why a configuration file could not be written. No message holds a value: it may be a password.

use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
#[error("could not write {what}the configuration file `{path}`", what = Subject(key.as_deref()))]
pub struct FilesError {
    /// As the definition has it.
    pub path: String,
    /// The key that it is about; absent where it is about the file.
    pub key: Option<String>,
    #[source]
    pub cause: Cause,
}

struct Subject<'a>(Option<&'a str>);

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(key) => write!(f, "`{key}` into "),
            None => Ok(()),
        }
    }
}

impl FilesError {
    pub(crate) fn of_file(path: &str, cause: Cause) -> Self {
        Self { path: path.to_owned(), key: None, cause }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        self.cause.hint()
    }

    /// Whether it is about the machine, where the same again may do better, and not about the file or
    /// what is to be in it.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self.cause, Cause::Io { .. })
    }

    /// Whether the disk, and not the file or the definition, is what stands in the way.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.cause, Cause::Io { errno: Errno::NOSPC | Errno::DQUOT, .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the path is not one below the server's directory")]
    Path,
    #[error("a symbolic link on the way leads out of the server's directory, or the file is one")]
    Link,
    #[error("it is no regular file")]
    NotAFile,
    #[error("it is larger than 64 MiB")]
    TooLarge,
    #[error("could not {doing}: {errno}")]
    Io { doing: &'static str, errno: Errno },
    #[error("its text is not UTF-8")]
    NotUtf8,
    #[error("the value has a character that the file's encoding can not hold")]
    Encoding,
    #[error("the file can not be read as {format} at line {line}: {why}")]
    Syntax { format: &'static str, line: usize, why: String },
    #[error("the key is not one of this format: {0}")]
    Key(&'static str),
    #[error("the value can not stand in this format: {0}")]
    Value(&'static str),
    #[error("the file holds {there} at this key, and the value is {given}")]
    Type { there: &'static str, given: &'static str },
    #[error("the way to the key is closed: {0}")]
    Way(&'static str),
    #[error("the file is written in a way that can not be changed at this key alone")]
    NotProven,
}

impl Cause {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { doing, errno }
    }

    fn hint(&self) -> String {
        match self {
            Self::Path => "correct the path in the game's definition: relative, without `..`",
            Self::Link => "put a regular file, and real folders, in the place of the link",
            Self::NotAFile => "move away what stands in its place",
            Self::TooLarge => "a configuration file of this size is most likely not one; move it away",
            Self::Io { errno: Errno::NOSPC | Errno::DQUOT, .. } => "make room on the disk; the old file is whole",
            Self::Io { errno: Errno::ACCESS | Errno::PERM, .. } => "give the file and its folder to the user that the worker runs as",
            Self::Io { errno: Errno::ROFS, .. } => "mount the file system writable",
            Self::Io { .. } => "look at the disk and the kernel's log of this machine",
            Self::NotUtf8 => "save the file as UTF-8",
            Self::Encoding => "save the file as UTF-8, or use plain letters in the value",
            Self::Syntax { .. } => "correct the file by hand, or move it away so that the game makes a new one",
            Self::Key(_) => "correct the key in the game's definition",
            Self::Value(_) => "give the variable another value",
            Self::Type { .. } | Self::Way(_) => "correct the file by hand, or the key and value in the game's definition",
            Self::NotProven => "set the key in the file by hand, with the value that is asked for",
        }
        .to_owned()
    }
}
