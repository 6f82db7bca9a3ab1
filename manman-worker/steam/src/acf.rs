//! Valve's KeyValues text: app manifests (`.acf`) and what `app_info_print` prints.
//!
//! A reader for what comes from outside: it has no recursion and bounds on everything, takes keys in
//! any case as Steam does, and skips what it does not know (`[$WIN32]`, `// comments`, `#include`).

/// A block, with its pairs in the order of the text; a key may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pairs: Vec<(String, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Block(Block),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AcfError {
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("it has more than {MAX_PAIRS} entries")]
    TooMany,
    #[error("it is nested deeper than {MAX_DEPTH} blocks")]
    TooDeep,
    #[error("it ends in the middle")]
    Truncated,
    #[error("byte {0} is not where it belongs")]
    Misplaced(usize),
}

/// The largest `app_info_print` seen (an app with 200 branches and languages) has 300 KB.
const MAX_BYTES: usize = 8 << 20;
const MAX_PAIRS: usize = 200_000;
const MAX_DEPTH: usize = 64;

impl Block {
    /// The whole text as one block.
    pub(crate) fn parse(text: &str) -> Result<Self, AcfError> {
        let mut reader = Reader::new(text)?;
        let block = reader.block(false)?;
        Ok(block)
    }

    /// The first block of this name in a text that has other things around it: the console's.
    pub(crate) fn find(text: &str, name: &str) -> Result<Option<Self>, AcfError> {
        let quoted = format!("\"{name}\"");
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find(&quoted)) {
            at += found + quoted.len();
            let mut reader = Reader::new(&text[at..])?;
            if reader.opens() {
                return reader.block(true).map(Some);
            }
        }
        Ok(None)
    }

    /// The text at a path of keys.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        let (last, blocks) = path.split_last()?;
        match self.block(blocks)?.value(last)? {
            Value::Text(text) => Some(text),
            Value::Block(_) => None,
        }
    }

    pub(crate) fn block(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |block, key| match block.value(key)? {
            Value::Block(inner) => Some(inner),
            Value::Text(_) => None,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }
}

enum Token {
    Text(String),
    Open,
    Close,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    pairs: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, AcfError> {
        // Of a longer text only the beginning could hold what is looked for; say so, not guess.
        if text.len() > MAX_BYTES { Err(AcfError::TooLong) } else { Ok(Self { text, at: 0, pairs: 0 }) }
    }

    /// Whether a block begins here; if so, it is entered.
    fn opens(&mut self) -> bool {
        self.skip();
        let opens = self.text[self.at..].starts_with('{');
        self.at += usize::from(opens);
        opens
    }

    /// Pairs up to the end of the block that was entered, or of the text.
    fn block(&mut self, entered: bool) -> Result<Block, AcfError> {
        let mut outer: Vec<(Block, String)> = Vec::new();
        let mut block = Block::default();
        let mut key: Option<String> = None;
        loop {
            let at = self.at;
            match (self.token()?, key.take()) {
                (Some(Token::Text(text)), None) => key = Some(text),
                (Some(Token::Text(text)), Some(key)) => {
                    self.count()?;
                    block.pairs.push((key, Value::Text(text)));
                }
                (Some(Token::Open), Some(key)) => {
                    self.count()?;
                    if outer.len() >= MAX_DEPTH {
                        return Err(AcfError::TooDeep);
                    }
                    outer.push((std::mem::take(&mut block), key));
                }
                (Some(Token::Close), None) => match outer.pop() {
                    Some((parent, key)) => {
                        let inner = std::mem::replace(&mut block, parent);
                        block.pairs.push((key, Value::Block(inner)));
                    }
                    None if entered => return Ok(block),
                    None => return Err(AcfError::Misplaced(at)),
                },
                (Some(Token::Open), None) | (Some(Token::Close), Some(_)) => return Err(AcfError::Misplaced(at)),
                (None, None) if outer.is_empty() && !entered => return Ok(block),
                (None, _) => return Err(AcfError::Truncated),
            }
        }
    }

    fn count(&mut self) -> Result<(), AcfError> {
        self.pairs += 1;
        if self.pairs > MAX_PAIRS { Err(AcfError::TooMany) } else { Ok(()) }
    }

    fn token(&mut self) -> Result<Option<Token>, AcfError> {
        self.skip();
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        match first {
            '{' => {
                self.at += 1;
                Ok(Some(Token::Open))
            }
            '}' => {
                self.at += 1;
                Ok(Some(Token::Close))
            }
            '"' => self.quoted().map(|text| Some(Token::Text(text))),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '"')).unwrap_or(rest.len());
                self.at += end;
                Ok(Some(Token::Text(rest[..end].to_owned())))
            }
        }
    }

    fn quoted(&mut self) -> Result<String, AcfError> {
        let mut text = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += 1 + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(AcfError::Truncated)
    }

    /// Blanks, comments and conditions.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            let rest = &rest[blank..];
            self.at += blank;
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("[$") || rest.starts_with("[!$") {
                self.at += rest.find(']').map_or(rest.len(), |end| end + 1);
            } else {
                return;
            }
        }
    }
}

/// What an app manifest says of an install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) build: String,
    /// Bits of the app's state; 4 alone is a whole install.
    pub(crate) state: u32,
    pub(crate) size: u64,
}

/// `StateFlags` of an install with nothing left to do.
pub(crate) const FULLY_INSTALLED: u32 = 4;

impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, AcfError> {
        let root = Block::parse(text)?;
        let number = |key: &str| root.text(&["AppState", key]).and_then(|text| text.parse::<u64>().ok());
        let build = root.text(&["AppState", "buildid"]).filter(|build| is_build(build));
        let state = number("StateFlags").and_then(|state| u32::try_from(state).ok());
        Ok(match (build, state) {
            (Some(build), Some(state)) => Some(Self { build: build.to_owned(), state, size: number("SizeOnDisk").unwrap_or(0) }),
            _ => None,
        })
    }
}

/// The build that a branch stands at, in the output of `app_info_print`.
pub(crate) fn branch_build(output: &str, app: u32, branch: &str) -> Result<Option<String>, AcfError> {
    let Some(info) = Block::find(output, &app.to_string())? else { return Ok(None) };
    let build = info.text(&["depots", "branches", branch, "buildid"]).filter(|build| is_build(build));
    Ok(build.map(str::to_owned))
}

/// Whether Steam printed a block for the app at all, and whether anything is in it.
pub(crate) fn is_known(output: &str, app: u32) -> Result<Option<bool>, AcfError> {
    Ok(Block::find(output, &app.to_string())?.map(|block| !block.is_empty()))
}

fn is_build(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MANIFEST: &str = "\"AppState\"\n{\n\t\"appid\"\t\t\"896660\"\n\t\"Universe\"\t\t\"1\"\n\t\"name\"\t\t\"Valheim \\\"dedicated\\\" server\"\n\t\"StateFlags\"\t\t\"4\"\n\t\"SizeOnDisk\"\t\t\"1300000000\"\n\t\"buildid\"\t\t\"11813345\"\n\t\"InstalledDepots\"\n\t{\n\t\t\"1006\"\n\t\t{\n\t\t\t\"manifest\"\t\t\"7138471031118904166\"\n\t\t}\n\t}\n}\n";

    #[test]
    fn a_manifest_tells_build_and_state() {
        let manifest = Manifest::parse(MANIFEST).expect("it is sound").expect("it is whole");
        assert_eq!(manifest, Manifest { build: "11813345".to_owned(), state: 4, size: 1_300_000_000 });
        assert_eq!(Manifest::parse("\"AppState\" { \"StateFlags\" \"4\" }"), Ok(None));
        assert_eq!(Manifest::parse("\"AppState\" { \"StateFlags\" \"4\" \"buildid\" \"../1\" }"), Ok(None));
        for end in 1..MANIFEST.len() - 2 {
            // Whatever a crash leaves of it is no whole install.
            assert!(!matches!(Manifest::parse(&MANIFEST[..end]), Ok(Some(_))), "cut at {end}");
        }
    }

    #[test]
    fn the_build_of_a_branch_is_found_among_the_console_s_lines() {
        let output = "Waiting for user info...OK\nAppID : 730, change number : 1/0, last change : Tue Apr 21 13:02:26 2026\n\"730\"\n{\n\"common\" { \"name\" \"x\" \"gameid\" \"730\" }\n\"depots\" { \"731\" { \"manifests\" { \"public\" { \"gid\" \"5\" } } } \"branches\" { \"public\" { \"buildid\" \"19\" } \"Beta\" { \"buildid\" \"20\" \"pwdrequired\" \"1\" } } }\n}\nUnloading Steam API...OK\n";
        assert_eq!(branch_build(output, 730, "public"), Ok(Some("19".to_owned())));
        assert_eq!(branch_build(output, 730, "beta"), Ok(Some("20".to_owned())));
        assert_eq!(branch_build(output, 730, "none"), Ok(None));
        assert_eq!(branch_build(output, 731, "public"), Ok(None));
        assert_eq!(is_known("\"9\"\n{\n}\n", 9), Ok(Some(false)));
        assert_eq!(is_known("nothing", 9), Ok(None));
    }

    #[test]
    fn bounds_hold() {
        let deep = "\"a\" {".repeat(MAX_DEPTH + 2);
        assert_eq!(Block::parse(&deep), Err(AcfError::TooDeep));
        let wide = "a b ".repeat(MAX_PAIRS + 1);
        assert_eq!(Block::parse(&wide), Err(AcfError::TooMany));
        assert_eq!(Block::parse(&" ".repeat(MAX_BYTES + 1)), Err(AcfError::TooLong));
        assert!(Block::parse("}").is_err());
        assert!(Block::parse("\"a\"").is_err());
    }

    #[test]
    fn comments_and_conditions_are_skipped() {
        let block = Block::parse("// first\na b [$WIN32] c { d e } // last").expect("it is sound");
        assert_eq!(block.text(&["A"]), Some("b"));
        assert_eq!(block.text(&["c", "D"]), Some("e"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,200}", noise in "[\"{}\\\\/\\[\\]$ \n\ta1]{0,300}") {
            for text in [text, noise] {
                let _ = Block::parse(&text);
                let _ = Manifest::parse(&text);
                let _ = branch_build(&text, 1, "public");
                let _ = is_known(&text, 1);
            }
        }

        #[test]
        fn what_is_written_is_read(key in "[a-z]{1,8}", text in "[^\\x00]{0,40}") {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
            let block = Block::parse(&format!("\"{key}\" \"{escaped}\"")).expect("it is sound");
            prop_assert_eq!(block.text(&[key.as_str()]), Some(text.as_str()));
        }
    }
}
