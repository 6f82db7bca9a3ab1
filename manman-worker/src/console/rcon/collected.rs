//! A reply as it comes in, bounded.

use regex::bytes::Regex;

/// Most that is kept of a reply; a list of all variables of a game is a tenth of it.
const BYTES_MAX: usize = 256 * 1024;

/// Lines that are kept of it.
const LINES_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Collected {
    bytes: Vec<u8>,
    /// Before this no line is left to be looked at.
    looked: usize,
    cut: bool,
}

impl Collected {
    /// Whether there was room for all of it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let room = BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
        !self.cut
    }

    /// Whether a line matches that was not complete at the last look.
    pub(crate) fn matches(&mut self, pattern: &Regex) -> bool {
        let fresh = &self.bytes[self.looked..];
        let found = fresh.split(|b| *b == b'\n').any(|line| pattern.is_match(line.strip_suffix(b"\r").unwrap_or(line)));
        if let Some(end) = fresh.iter().rposition(|b| *b == b'\n') {
            self.looked += end + 1;
        }
        found
    }

    /// Whether any line matches.
    pub(crate) fn shows(&self, pattern: &Regex) -> bool {
        self.bytes.split(|b| *b == b'\n').any(|line| pattern.is_match(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    pub(crate) fn ends_with_prompt(&self) -> bool {
        let last = self.bytes.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        last.trim_ascii_end().ends_with(b">") && last.len() <= 64
    }

    /// Lines for people: no control characters, no blank end, `secret` nowhere in them.
    pub(crate) fn lines(&self, secret: Option<&str>) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        // Plain first: a control character in its middle must not carry the word past this.
        let plain = |line: &str| {
            let line = line.chars().filter(|c| *c == '\t' || !c.is_control()).collect::<String>();
            secret.map_or(line.clone(), |secret| line.replace(secret, "***"))
        };
        let mut lines: Vec<String> = text.split('\n').take(LINES_MAX + 1).map(plain).collect();
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        if self.cut || lines.len() > LINES_MAX {
            lines.truncate(LINES_MAX);
            lines.push("(the reply is longer than what is taken of one)".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_once_it_is_there() {
        let pattern = Regex::new("^World saved$").expect("a pattern");
        let mut reply = Collected::default();
        assert!(reply.push(b"INF saving\r\nWorld sa"));
        assert!(!reply.matches(&pattern));
        assert!(reply.push(b"ved\r\n"));
        assert!(reply.matches(&pattern));
        assert!(!reply.matches(&pattern), "not twice");
    }

    #[test]
    fn what_is_shown_is_plain_and_bounded() {
        let mut reply = Collected::default();
        reply.push(b"a\x1b[31m\tb\r\nthe word is hunter2\n\xff\n\n");
        assert_eq!(reply.lines(Some("hunter2")), ["a[31m\tb", "the word is ***", "\u{fffd}"]);
        let mut torn = Collected::default();
        torn.push(b"hun\0ter2");
        assert_eq!(torn.lines(Some("hunter2")), ["***"]);
        assert!(!reply.push(&vec![b'\n'; BYTES_MAX]));
        reply.push(b"x");
        let mut flood = Collected::default();
        for _ in 0..2000 {
            flood.push(b"line\n");
        }
        assert_eq!(flood.lines(None).len(), LINES_MAX + 1);
    }
}
