//! What is looked for in a log.

use manman_common::Problem;
use manman_common::logs::{GREP_COMPILED_MAX, GREP_MAX, LogQuery};
use regex::bytes::{Regex, RegexBuilder};

#[derive(Debug)]
pub(super) struct Grep(Regex);

impl Grep {
    /// What a query looks for, if it looks for anything.
    pub(super) fn of(query: &LogQuery) -> Result<Option<Self>, Problem> {
        let Some(pattern) = &query.grep else { return Ok(None) };
        if pattern.len() > GREP_MAX {
            return Err(Problem::invalid("grep", format!("a pattern has at most {GREP_MAX} bytes")));
        }
        let escaped = query.literal.then(|| regex::escape(pattern));
        let regex = RegexBuilder::new(escaped.as_ref().unwrap_or(pattern))
            .case_insensitive(query.ignore_case)
            .size_limit(GREP_COMPILED_MAX)
            .build()
            .map_err(|error| Problem::invalid("grep", format!("it is not a regular expression: {error}")))?;
        Ok(Some(Self(regex)))
    }

    /// Whether it is in the text as printed, or as a person sees it, without its colours.
    pub(super) fn finds(&self, text: &[u8]) -> bool {
        self.0.is_match(text) || (text.contains(&ESCAPE) && self.0.is_match(&seen(text)))
    }
}

const ESCAPE: u8 = 0x1b;

/// The text without the sequences that a terminal would obey instead of showing them.
fn seen(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != ESCAPE {
            out.push(byte);
            continue;
        }
        match rest.next() {
            // A control sequence ends with its first letter or so.
            Some(b'[') => while rest.next().is_some_and(|byte| !(0x40..=0x7e).contains(&byte)) {},
            // A title or a link ends with a bell, or with an escape and a backslash.
            Some(b']') => {
                while let Some(byte) = rest.next().filter(|byte| *byte != 0x07) {
                    if byte == ESCAPE {
                        rest.next();
                        break;
                    }
                }
            }
            Some(_) | None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grep(pattern: &str, literal: bool, ignore_case: bool) -> Result<Grep, Problem> {
        let query = LogQuery { grep: Some(pattern.to_owned()), literal, ignore_case, ..LogQuery::default() };
        Grep::of(&query).map(|grep| grep.expect("there is a pattern"))
    }

    #[test]
    fn finds_what_a_person_sees() {
        let coloured = b"\x1b[32mDone\x1b[0m (\x1b]0;a title\x07\x1b[1m4.2\x1b[0ms)!\x1b[";
        assert_eq!(seen(coloured), b"Done (4.2s)!");
        assert_eq!(seen(b"a\x1b]0;title\x1b\\b\x1b"), b"ab");
        assert!(grep("^Done .4.2s.!$", false, false).expect("sound").finds(coloured));
        assert!(grep("done (4", true, true).expect("sound").finds(coloured));
        assert!(!grep("done (4", true, false).expect("sound").finds(coloured));
        assert!(grep("a", false, false).expect("sound").finds(b"\xff a \xff"));
    }

    #[test]
    fn a_pattern_too_long_too_large_or_broken_is_refused() {
        for bad in ["(", &"a".repeat(GREP_MAX + 1), "(a{1000}){1000}"] {
            assert_eq!(grep(bad, false, false).expect_err("refused").field.as_deref(), Some("grep"));
        }
        assert!(grep("(", true, false).is_ok());
    }
}
