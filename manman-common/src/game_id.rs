//! `game_id = install_method:install_identifier`, split at the first `:`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a game gets onto a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InstallMethod {
    Steamcmd,
    Docker,
}

impl InstallMethod {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steamcmd => "steamcmd",
            Self::Docker => "docker",
        }
    }
}

/// What to install and how: `steamcmd:896660`, `docker:localhost:5000/a/b:1.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GameId {
    /// A Steam app id.
    Steamcmd(u32),
    /// An image reference as Docker reads it: `[host[:port]/]path[:tag][@digest]`.
    Docker(ImageReference),
}

/// A checked image reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GameIdError {
    #[error("`{0}` has no install method; write `steamcmd:APP_ID` or `docker:IMAGE`")]
    NoMethod(String),
    #[error("`{0}` is not an install method; there are `steamcmd` and `docker`")]
    UnknownMethod(String),
    #[error("`{0}` is not a Steam app id; that is a number of 1 to 10 digits")]
    AppId(String),
    #[error("`{image}` is not an image reference: {why}")]
    Image { image: String, why: &'static str },
}

/// Longest image reference accepted, in bytes; Docker's own limit on the name is 255.
const IMAGE_MAX: usize = 512;

impl ImageReference {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the image is one of ours: built on this machine from a Dockerfile that travels in
    /// the binary, and never pulled, since that name in a public registry may be a stranger's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.0.starts_with("manman/")
    }

    /// The reference with `:latest` added where it names neither tag nor digest.
    #[must_use]
    pub fn with_tag(&self) -> String {
        let last = self.0.rsplit('/').next().unwrap_or(&self.0);
        if last.contains(':') || last.contains('@') { self.0.clone() } else { format!("{}:latest", self.0) }
    }
}

impl FromStr for ImageReference {
    type Err = GameIdError;

    fn from_str(image: &str) -> Result<Self, GameIdError> {
        let refuse = |why| GameIdError::Image { image: image.to_owned(), why };
        if image.is_empty() {
            return Err(refuse("it is empty"));
        }
        if image.len() > IMAGE_MAX {
            return Err(refuse("it is too long"));
        }
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        if let Some(digest) = digest {
            let hex = digest.strip_prefix("sha256:").ok_or_else(|| refuse("a digest is `sha256:` and 64 hex digits"))?;
            if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(refuse("a digest is `sha256:` and 64 hex digits"));
            }
        }
        // A colon after the last slash begins the tag; one before it is a registry's port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let path = match rest[name_start..].split_once(':') {
            Some((name, tag)) => {
                if !is_tag(tag) {
                    return Err(refuse("a tag has 1 to 128 letters, digits, `_`, `.` or `-`, and begins with none of `.-`"));
                }
                &rest[..name_start + name.len()]
            }
            None => rest,
        };
        let mut segments = path.split('/').peekable();
        let first = segments.peek().copied().unwrap_or_default();
        let has_host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        if has_host {
            if !is_host(first) {
                return Err(refuse("its registry is not a host name with an optional port"));
            }
            segments.next();
        }
        if segments.peek().is_none() || !segments.all(is_path_segment) {
            return Err(refuse("each part of its path has small letters and digits, single separators `.`, `_`, `__` or `-` between them"));
        }
        Ok(Self(image.to_owned()))
    }
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let port_is_sound = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    port_is_sound
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_path_segment(segment: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    let ends_in_words = bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends_in_words
        && segment
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

impl GameId {
    #[must_use]
    pub const fn method(&self) -> InstallMethod {
        match self {
            Self::Steamcmd(_) => InstallMethod::Steamcmd,
            Self::Docker(_) => InstallMethod::Docker,
        }
    }

    /// The part after the method: an app id or an image reference.
    #[must_use]
    pub fn identifier(&self) -> String {
        match self {
            Self::Steamcmd(app) => app.to_string(),
            Self::Docker(image) => image.0.clone(),
        }
    }
}

impl FromStr for GameId {
    type Err = GameIdError;

    fn from_str(text: &str) -> Result<Self, GameIdError> {
        let (method, identifier) = text.split_once(':').ok_or_else(|| GameIdError::NoMethod(shorten(text)))?;
        match method {
            "steamcmd" => {
                let digits = !identifier.is_empty() && identifier.len() <= 10 && identifier.bytes().all(|b| b.is_ascii_digit());
                let app = digits.then(|| identifier.parse().ok()).flatten();
                app.map(Self::Steamcmd).ok_or_else(|| GameIdError::AppId(shorten(identifier)))
            }
            "docker" => identifier.parse().map(Self::Docker),
            other => Err(GameIdError::UnknownMethod(shorten(other))),
        }
    }
}

/// Keeps an error about a hostile identifier readable.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain("…".chars()).collect()
}

impl TryFrom<String> for GameId {
    type Error = GameIdError;

    fn try_from(text: String) -> Result<Self, GameIdError> {
        text.parse()
    }
}

impl From<GameId> for String {
    fn from(id: GameId) -> String {
        id.to_string()
    }
}

impl fmt::Display for GameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.method().as_str())?;
        match self {
            Self::Steamcmd(app) => app.fmt(f),
            Self::Docker(image) => f.write_str(&image.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        for good in [
            "docker:manman/openarena",
            "docker:debian",
            "docker:localhost:5000/a/b:1.2",
            "docker:ghcr.io/some-one/a__b/c.d:V1_2-x",
            "docker:a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "docker:localhost:5000/a/b:1.2@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "steamcmd:896660",
        ] {
            let id: GameId = good.parse().unwrap_or_else(|e| panic!("{good}: {e}"));
            assert_eq!(id.to_string(), good);
        }
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        for bad in [
            "",
            "openarena",
            "lgsm:oa",
            "steamcmd:",
            "steamcmd:abc",
            "steamcmd:12345678901",
            "steamcmd:99999999999",
            "steamcmd:+1",
            "docker:",
            "docker:Upper/case",
            "docker:a b",
            "docker:a:",
            "docker:a//b",
            "docker:/a",
            "docker:a/",
            "docker:a@sha256:zz",
            "docker:host.example:99999/a",
            "docker:-a",
            "docker:a___b",
            "docker:a:b:c",
            "docker:../../etc",
            "docker:a\nb",
        ] {
            assert!(bad.parse::<GameId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn knows_our_own_images() {
        let ours: ImageReference = "manman/openarena".parse().expect("a good reference");
        assert!(ours.is_ours());
        assert_eq!(ours.with_tag(), "manman/openarena:latest");
        let theirs: ImageReference = "localhost:5000/manman/openarena".parse().expect("a good reference");
        assert!(!theirs.is_ours());
        assert_eq!(theirs.with_tag(), "localhost:5000/manman/openarena:latest");
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "(docker|steamcmd|x)?:?[a-z0-9:/@._A-Z-]{0,40}") {
            if let Ok(id) = text.parse::<GameId>() {
                // Leading zeros of an app id are not kept: the number is the identity.
                let again = id.to_string().parse::<GameId>().expect("what we print we read");
                prop_assert_eq!(again, id);
            }
        }
    }
}
