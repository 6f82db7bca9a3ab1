//! A game's bytes on their way to a person's terminal: colours pass, everything else that a terminal
//! would obey (moving the cursor, setting titles, asking for answers that end up as typed input) does not.
//!
//! The filter works on whole lines, so no state is kept between them: a sequence that a line ends in
//! the middle of is dropped with the line.

const ESC: u8 = 0x1b;

/// Longest SGR sequence that is let through; colour in 24 bits for both sides takes 40 bytes.
const SGR_MAX: usize = 64;

/// Appends what of `text` may be shown to `out`. True where a colour was set: the caller resets it at
/// the end of the line, so that a game can not paint the person's prompt.
pub(crate) fn filter(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut coloured = false;
    let mut rest = text;
    while let Some(stop) = rest.iter().position(|byte| is_control(*byte)) {
        out.extend_from_slice(&rest[..stop]);
        rest = &rest[stop..];
        match rest[0] {
            b'\t' => {
                out.push(b'\t');
                rest = &rest[1..];
            }
            ESC => {
                let length = sequence_length(rest);
                let sequence = &rest[..length];
                if is_sgr(sequence) {
                    out.extend_from_slice(sequence);
                    coloured = true;
                }
                rest = &rest[length..];
            }
            // The C1 controls in UTF-8 (U+0080 to U+009F) are obeyed by some terminals like ESC and a letter.
            0xc2 if rest.get(1).is_some_and(|second| (0x80..=0x9f).contains(second)) => rest = &rest[2..],
            0xc2 => {
                out.push(0xc2);
                rest = &rest[1..];
            }
            _ => rest = &rest[1..],
        }
    }
    out.extend_from_slice(rest);
    coloured
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || byte == 0xc2
}

/// How many bytes the sequence at the beginning has; at least the ESC itself.
fn sequence_length(text: &[u8]) -> usize {
    match text.get(1) {
        // CSI: parameters and intermediates, then one final byte.
        Some(b'[') => text[2..].iter().position(|byte| !(0x20..=0x3f).contains(byte)).map_or(text.len(), |end| {
            // A byte that can not end a sequence is none of it.
            2 + end + usize::from((0x40..=0x7e).contains(&text[2 + end]))
        }),
        // OSC, DCS, SOS, PM, APC: strings up to BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let mut at = 2;
            while at < text.len() {
                match text[at] {
                    0x07 => return at + 1,
                    ESC if text.get(at + 1) == Some(&b'\\') => return at + 2,
                    _ => at += 1,
                }
            }
            text.len()
        }
        // ESC with intermediates, such as a choice of character set.
        Some(0x20..=0x2f) => {
            text[1..].iter().position(|byte| !(0x20..=0x2f).contains(byte)).map_or(text.len(), |end| (end + 2).min(text.len()))
        }
        Some(0x30..=0x7e) => 2,
        Some(_) | None => 1,
    }
}

fn is_sgr(sequence: &[u8]) -> bool {
    sequence.len() <= SGR_MAX
        && sequence
            .strip_prefix(b"\x1b[")
            .and_then(|rest| rest.strip_suffix(b"m"))
            .is_some_and(|parameters| parameters.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        filter(text, &mut out);
        out
    }

    #[test]
    fn colours_pass() {
        for good in [
            &b"plain"[..],
            b"\x1b[31mred\x1b[0m",
            b"\x1b[38;2;1;2;3mrgb",
            b"\x1b[38:5:9mcolon",
            b"a\tb",
            "ä ☃ \u{a0}".as_bytes(),
            b"\xff\xfe",
        ] {
            assert_eq!(shown(good), good);
        }
    }

    #[test]
    fn commands_to_the_terminal_do_not() {
        for (bad, rest) in [
            (&b"a\x1b[2Jb"[..], &b"ab"[..]),
            (b"a\x1b[10;5Hb", b"ab"),
            (b"a\x1b[?25lb", b"ab"),
            (b"a\x1b]0;title\x07b", b"ab"),
            (b"a\x1b]8;;http://x\x1b\\b", b"ab"),
            (b"a\x1bPq#0;2\x1b\\b", b"ab"),
            (b"a\x1b(0b", b"ab"),
            (b"a\x1bcb", b"ab"),
            (b"a\rb\x08\x07c", b"abc"),
            (b"a\x1b", b"a"),
            (b"a\x1b[", b"a"),
            (b"a\x1b[31", b"a"),
            (b"a\x1b]0;never ends", b"a"),
            (b"a\xc2\x9b2Jb", b"a2Jb"),
            (b"a\x1b[>4;2mb", b"ab"),
            (b"\x1b[6n", b""),
        ] {
            assert_eq!(shown(bad), rest, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn says_whether_to_reset() {
        let mut out = Vec::new();
        assert!(filter(b"\x1b[1mbold", &mut out));
        assert!(!filter(b"plain \x1b[2J", &mut out));
    }
}
