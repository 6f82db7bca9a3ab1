//! The format of every file in a run directory: one `key=value` per line.
//!
//! A key is `[a-z0-9_]+` and may repeat; a value is any bytes, with `\n` and `\\` for line feed and
//! backslash. Readers of records pass over keys that they do not know, so that fields may be added;
//! the reader of a spec refuses them, since there they can only be a mistake.

use std::borrow::Cow;
use std::fmt;

/// Appends one field.
pub fn put(out: &mut Vec<u8>, key: &str, value: impl AsRef<[u8]>) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    for &byte in value.as_ref() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            other => out.push(other),
        }
    }
    out.push(b'\n');
}

/// Appends one field whose value prints as text.
pub fn put_display(out: &mut Vec<u8>, key: &str, value: impl fmt::Display) {
    put(out, key, value.to_string());
}

/// Appends the field if there is a value.
pub fn put_some(out: &mut Vec<u8>, key: &str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        put_display(out, key, value);
    }
}

/// A line that is no field, by its number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine(pub usize);

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not key=value", self.0)
    }
}

impl std::error::Error for BadLine {}

/// The fields in their order.
pub fn fields(text: &[u8]) -> impl Iterator<Item = Result<(&str, Cow<'_, [u8]>), BadLine>> {
    text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()).map(|(index, line)| {
        let bad = BadLine(index + 1);
        let equals = line.iter().position(|byte| *byte == b'=').ok_or(bad)?;
        let key = std::str::from_utf8(&line[..equals]).map_err(|_| bad)?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            return Err(bad);
        }
        Ok((key, unescape(&line[equals + 1..]).ok_or(bad)?))
    })
}

fn unescape(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'\\') {
        return Some(Cow::Borrowed(value));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(Cow::Owned(plain))
}

/// A value as text that parses.
pub(crate) fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive() {
        let mut text = Vec::new();
        let every: Vec<u8> = (1..=255).collect();
        put(&mut text, "arg", &every);
        put(&mut text, "arg", b"");
        put(&mut text, "env", b"A=\\n\n=B");
        let read: Vec<_> = fields(&text).map(|field| field.expect("a field")).collect();
        assert_eq!(read, [("arg", Cow::from(&every)), ("arg", Cow::from(b"".as_slice())), ("env", Cow::from(b"A=\\n\n=B".as_slice()))]);
    }

    #[test]
    fn a_line_that_is_no_field_is_named() {
        for (text, line) in [("a=1\nb\n", 2), ("=1\n", 1), ("a=\\x\n", 1), ("a=\\", 1), ("A b=1", 1)] {
            assert_eq!(fields(text.as_bytes()).find_map(Result::err), Some(BadLine(line)), "{text:?}");
        }
    }
}
