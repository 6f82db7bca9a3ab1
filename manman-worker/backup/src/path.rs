//! A path below a server's directory, as bytes: games write names in whatever encoding they like.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Greatest length of a path, as the kernel has it.
const MAX_PATH: usize = 4095;
/// Greatest length of one name, as the kernel has it.
const MAX_NAME: usize = 255;

/// Relative, of plain names: no `..`, no `.`, no empty name. Only [`RelPath::checked`] says so; what was
/// read from an archive is not checked before [`Manifest`](crate::manifest::Manifest) is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() {
            return Self(name.to_vec());
        }
        Self([&self.0, &b"/"[..], name].concat())
    }

    /// The folder and the name; the folder of a name at the top is empty.
    pub(crate) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        }
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (parent, _) = self.split();
        (!parent.is_empty()).then(|| Self(parent.to_vec()))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The first `count` names.
    pub(crate) fn first(&self, count: usize) -> Self {
        let names: Vec<&[u8]> = self.names().take(count).collect();
        Self(names.join(&b'/'))
    }

    /// Why it may not be used beneath a directory.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.0.is_empty() {
            return Some("it is empty");
        }
        if self.0.len() > MAX_PATH {
            return Some("it is longer than 4095 bytes");
        }
        if self.0.contains(&0) {
            return Some("it holds a NUL");
        }
        if self.0[0] == b'/' {
            return Some("it is absolute");
        }
        self.names().find_map(|name| match name {
            b"" => Some("it holds an empty name"),
            b"." => Some("it holds `.`"),
            b".." => Some("it leads out by `..`"),
            name if name.len() > MAX_NAME => Some("one of its names is longer than 255 bytes"),
            _ => None,
        })
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).escape_debug().fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// In JSON text where it is text, else `{"hex": …}`.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Form<T> {
    Text(T),
    Bytes { hex: String },
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Form::Text(text),
            Err(_) => Form::Bytes { hex: hex::to(&self.0) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::<String>::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_bytes())),
            Form::Bytes { hex } => hex::from(&hex).map(Self).ok_or_else(|| serde::de::Error::custom("a path that is no hex")),
        }
    }
}

pub(crate) mod hex {
    use std::fmt::Write;

    pub(crate) fn to(bytes: &[u8]) -> String {
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(crate) fn from(text: &str) -> Option<Vec<u8>> {
        if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
    }
}
