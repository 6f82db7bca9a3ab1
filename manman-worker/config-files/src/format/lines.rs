//! What the formats that are made of lines share.

use std::ops::Range;

use crate::Cause;

/// One line: where its text is, and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without the line's end.
    pub(crate) text: Range<usize>,
    /// The end of the line's end.
    pub(crate) next: usize,
}

/// Lines end with LF or CR LF; what follows the last end is a line where it is not empty.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |whole| {
        let bare = whole.strip_suffix('\n').map_or(whole, |bare| bare.strip_suffix('\r').unwrap_or(bare));
        let line = Line { text: start..start + bare.len(), next: start + whole.len() };
        start = line.next;
        line
    })
}

/// How this file's lines end; as its first line does.
pub(crate) fn line_end(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        Some(_) | None => "\n",
    }
}

/// Adds a line before the byte `at`, which is the beginning of a line or the end of the text.
pub(crate) fn insert_line(text: &mut String, at: usize, line: &str) {
    let end = line_end(text);
    let open = at == text.len() && !text.is_empty() && !text.ends_with('\n');
    let added = if open { format!("{end}{line}{end}") } else { format!("{line}{end}") };
    text.insert_str(at, &added);
}

/// Refuses what a line can not hold. A lone CR is a line's end to some readers.
pub(crate) fn one_line(value: &str) -> Result<&str, Cause> {
    if value.contains(['\n', '\r']) {
        Err(Cause::Value("it has a line break"))
    } else if value.contains('\0') {
        Err(Cause::Value("it has a NUL character"))
    } else {
        Ok(value)
    }
}

pub(crate) const fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cover_the_text() {
        let text = "a\r\nb\n\nc";
        let found: Vec<&str> = lines(text).map(|line| &text[line.text]).collect();
        assert_eq!(found, ["a", "b", "", "c"]);
        assert_eq!(lines(text).last().unwrap().next, text.len());
        assert_eq!(lines("").count(), 0);
    }

    #[test]
    fn an_open_last_line_is_closed_before_another() {
        let mut text = "a\r\nb".to_owned();
        insert_line(&mut text, 4, "c");
        assert_eq!(text, "a\r\nb\r\nc\r\n");
    }
}
