//! Paths as they are routed: normalised once, and what is internal stays inside.
//!
//! There are two readings of a path. The *forwarded* one resolves dot segments (encoded ones too)
//! and doubled slashes, and nothing else: it is what is routed by and what the waifu gets, so no
//! route is chosen by a path that the waifu does not see. The *suspicious* one reads as the most
//! lenient server might (decodes until nothing changes, takes `\` for `/`, cuts parameters at `;`,
//! knows no case) and only ever says no.

use std::borrow::Cow;

/// How often an attacker may have encoded; who needs more hides something.
const DECODE_MAX: usize = 5;

/// What begins a segment that is for the inside alone.
const INTERNAL: &[u8] = b"__internal";

/// A path that may be routed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    /// Begins with `/`, has no dot segment and no empty one but perhaps the last.
    pub path: Cow<'a, str>,
    /// Some reading of it has a segment that begins with `__internal`: to the outside it is unknown.
    pub internal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("a path begins with `/`")]
    NoSlash,
    #[error("a `%` in the path is not followed by two hex digits")]
    Escape,
    #[error("the path is encoded over and over")]
    TooDeep,
    #[error("the path holds a control character")]
    Control,
    #[error("the path holds bytes that no UTF-8 has")]
    Overlong,
    #[error("the path holds a dot segment in disguise")]
    Ambiguous,
}

/// Normalises the path of a request, without its query.
pub fn normalise(path: &str) -> Result<Normal<'_>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NoSlash);
    }
    if is_plain(path.as_bytes()) {
        return Ok(Normal { path: Cow::Borrowed(path), internal: false });
    }
    let forwarded = resolve(path)?;
    let suspicious = decode_fully(forwarded.as_bytes())?;
    if suspicious.iter().any(|byte| byte.is_ascii_control()) {
        return Err(PathError::Control);
    }
    if has_overlong(&suspicious) {
        return Err(PathError::Overlong);
    }
    let suspicious = fold_wide(&suspicious);
    let mut internal = false;
    for segment in suspicious.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // Those that every server knows are resolved already; these only some would.
        if matches!(name, b"." | b"..") {
            return Err(PathError::Ambiguous);
        }
        internal |= name.get(..INTERNAL.len()).is_some_and(|start| start.eq_ignore_ascii_case(INTERNAL));
    }
    Ok(Normal { path: Cow::Owned(forwarded), internal })
}

/// The common case, decided without an allocation: nothing in it can have two readings.
fn is_plain(path: &[u8]) -> bool {
    let harmless = path.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';'));
    harmless && !path.windows(2).any(|pair| matches!(pair, b"//" | b"/." | b"__"))
}

/// Resolves dot segments, as RFC 3986 section 5.2.4 does, and drops empty segments.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false;
    for segment in path.split('/').skip(1) {
        folder = true;
        match &*decode_once(segment.as_bytes())? {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                folder = false;
            }
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if folder {
        resolved.push('/');
    }
    Ok(resolved)
}

fn decode_fully(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut decoded = decode_once(path)?.into_owned();
    for _ in 1..DECODE_MAX {
        // What was decoded may hold a plain `%`, as in `100%25`; from here on it is no error.
        let again = decode_leniently(&decoded);
        if again == decoded {
            return Ok(decoded);
        }
        decoded = again;
    }
    if decode_leniently(&decoded) == decoded { Ok(decoded) } else { Err(PathError::TooDeep) }
}

fn decode_once(text: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if !text.contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    for (at, byte) in text.iter().enumerate() {
        if *byte == b'%' && escape_at(text, at).is_none() {
            return Err(PathError::Escape);
        }
    }
    Ok(Cow::Owned(decode_leniently(text)))
}

fn decode_leniently(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, escape_at(text, at)) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn escape_at(text: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| text.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(1)? << 4 | digit(2)?).ok()
}

/// UTF-8 that says a short character in more bytes than it needs: some decoders see a `/` in it.
fn has_overlong(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, 0xc0 | 0xc1))
        || text.windows(2).any(|pair| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

/// The full-width forms U+FF01 to U+FF5E stand for ASCII in the eyes of some frameworks.
fn fold_wide(text: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = match rest {
            [0xef, 0xbc, last @ 0x81..=0xbf, after @ ..] => {
                folded.push(last - 0x81 + b'!');
                after
            }
            [0xef, 0xbd, last @ 0x80..=0x9e, after @ ..] => {
                folded.push(last - 0x80 + b'`');
                after
            }
            _ => {
                folded.push(*byte);
                after
            }
        };
    }
    folded
}

#[cfg(test)]
mod tests;
