//! `{{…}}` in a definition: a short list of words, filled in once.
//!
//! What is filled in is never read as a template again, so a person's value can not reach further
//! than its own place. There is no way to the environment or to the host's configuration.

use std::collections::BTreeMap;

/// All that a template can reach.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    pub variables: &'a BTreeMap<String, String>,
    pub ports: &'a BTreeMap<String, u16>,
    pub server_name: &'a str,
    pub server_id: &'a str,
    pub server_ip: &'a str,
    /// Mebibytes, as most games take it.
    pub memory_mib: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{{{` without `}}}}` in `{0}`")]
    Unclosed(String),
    #[error("`{{{{{0}}}}}` is not a word that a template knows")]
    Unknown(String),
    #[error("`{{{{{0}}}}}` has no value here")]
    Absent(String),
    #[error("`{0}` is not a port: that is a number, or `{{{{ports.NAME}}}} + 1`")]
    Port(String),
}

/// What a word between the braces may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    Variable(&'a str),
    Port(&'a str),
    ServerName,
    ServerId,
    ServerIp,
    Memory,
}

impl<'a> Word<'a> {
    fn read(word: &'a str) -> Result<Self, TemplateError> {
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match word {
            "server.name" => Ok(Self::ServerName),
            "server.id" => Ok(Self::ServerId),
            "server.ip" => Ok(Self::ServerIp),
            "limits.memory" => Ok(Self::Memory),
            _ => match word.strip_prefix("ports.") {
                Some(port) => Ok(Self::Port(port)),
                None => {
                    let name = word.strip_prefix("variables.").unwrap_or(word);
                    if plain(name) { Ok(Self::Variable(name)) } else { Err(TemplateError::Unknown(word.to_owned())) }
                }
            },
        }
    }
}

/// What stands between the braces of `text`, in its order, whatever it is.
pub fn braces(text: &str) -> Result<Vec<&str>, TemplateError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let (word, after) = after.split_once("}}").ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
        found.push(word.trim());
        rest = after;
    }
    Ok(found)
}

/// The words that `text` names, in its order.
pub fn words(text: &str) -> Result<Vec<Word<'_>>, TemplateError> {
    braces(text)?.into_iter().map(Word::read).collect()
}

/// The one word that `text` is, with nothing beside it.
#[must_use]
pub fn sole_word(text: &str) -> Option<Word<'_>> {
    let (word, rest) = text.strip_prefix("{{")?.split_once("}}")?;
    if rest.is_empty() { Word::read(word.trim()).ok() } else { None }
}

/// Fills in every word of `text`.
pub fn expand(text: &str, words: &Words<'_>) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let (word, after) = after.split_once("}}").ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
        filled.push_str(&words.look_up(word.trim())?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

impl Words<'_> {
    fn look_up(&self, word: &str) -> Result<String, TemplateError> {
        let absent = || TemplateError::Absent(word.to_owned());
        match Word::read(word)? {
            Word::ServerName => Ok(self.server_name.to_owned()),
            Word::ServerId => Ok(self.server_id.to_owned()),
            Word::ServerIp => Ok(self.server_ip.to_owned()),
            Word::Memory => self.memory_mib.map(|memory| memory.to_string()).ok_or_else(absent),
            Word::Port(port) => self.ports.get(port).map(u16::to_string).ok_or_else(absent),
            Word::Variable(name) => self.variables.get(name).cloned().ok_or_else(|| TemplateError::Unknown(word.to_owned())),
        }
    }
}

/// A port's default: where it stands by itself, or beside which other port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortDefault {
    Number(u16),
    Beside { port: String, offset: i32 },
}

/// Reads `27960`, `{{ports.game}}`, `{{ports.game}} + 1` or `{{ports.game}} - 1`.
pub fn port_default(text: &str) -> Result<PortDefault, TemplateError> {
    let refuse = || TemplateError::Port(text.to_owned());
    let trimmed = text.trim();
    let Some(rest) = trimmed.strip_prefix("{{") else {
        return trimmed.parse().ok().filter(|port| *port != 0).map(PortDefault::Number).ok_or_else(refuse);
    };
    let (word, rest) = rest.split_once("}}").ok_or_else(refuse)?;
    let port = word.trim().strip_prefix("ports.").ok_or_else(refuse)?.to_owned();
    let rest = rest.trim();
    let offset = if rest.is_empty() {
        0
    } else {
        let (sign, number) = rest.split_at_checked(1).ok_or_else(refuse)?;
        let number = i32::from(number.trim().parse::<u16>().map_err(|_| refuse())?);
        match sign {
            "+" => number,
            "-" => -number,
            _ => return Err(refuse()),
        }
    };
    Ok(PortDefault::Beside { port, offset })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with<T>(variables: &[(&str, &str)], check: impl Fn(&Words<'_>) -> T) -> T {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let ports = BTreeMap::from([("game".to_owned(), 27960)]);
        check(&Words { variables: &variables, ports: &ports, server_name: "oa", server_id: "1", server_ip: "10.0.0.2", memory_mib: None })
    }

    #[test]
    fn fills_in_what_is_allowed_and_nothing_else() {
        with(&[("MAP", "oa_dm1")], |words| {
            assert_eq!(
                expand("{{MAP}} {{ variables.MAP }} {{ports.game}} {{server.name}}", words).as_deref(),
                Ok("oa_dm1 oa_dm1 27960 oa")
            );
            assert_eq!(expand("a {b} }} c", words).as_deref(), Ok("a {b} }} c"));
            assert_eq!(expand("{{HOME}}", words), Err(TemplateError::Unknown("HOME".to_owned())));
            assert_eq!(expand("{{env.HOME}}", words), Err(TemplateError::Unknown("env.HOME".to_owned())));
            assert_eq!(expand("{{config.token}}", words), Err(TemplateError::Unknown("config.token".to_owned())));
            assert_eq!(expand("{{ports.query}}", words), Err(TemplateError::Absent("ports.query".to_owned())));
            assert_eq!(expand("-Xmx{{limits.memory}}M", words), Err(TemplateError::Absent("limits.memory".to_owned())));
            assert!(expand("{{MAP", words).is_err());
        });
    }

    #[test]
    fn tells_which_words_a_text_names() {
        assert_eq!(words("a {{ MAP }} {{ports.game}}"), Ok(vec![Word::Variable("MAP"), Word::Port("game")]));
        assert_eq!(words("{{inputs.map}}"), Err(TemplateError::Unknown("inputs.map".to_owned())));
        assert_eq!(braces("{{inputs.map}} {{}}"), Ok(vec!["inputs.map", ""]));
        assert_eq!(sole_word("{{variables.MAP}}"), Some(Word::Variable("MAP")));
        for more in ["{{MAP}} ", "x{{MAP}}", "{{MAP}}{{MAP}}", "MAP", "{{MAP"] {
            assert_eq!(sole_word(more), None, "{more}");
        }
    }

    #[test]
    fn reads_ports() {
        assert_eq!(port_default(" 2456 "), Ok(PortDefault::Number(2456)));
        assert_eq!(port_default("{{ports.game}} + 1"), Ok(PortDefault::Beside { port: "game".to_owned(), offset: 1 }));
        assert_eq!(port_default("{{ports.game}}-2"), Ok(PortDefault::Beside { port: "game".to_owned(), offset: -2 }));
        for bad in ["", "0", "70000", "{{game}}", "{{ports.game}} * 2", "{{ports.game}} +", "{{ports.game"] {
            assert!(port_default(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// A value stands in the result as it is, whatever it looks like.
        #[test]
        fn a_value_is_never_a_template(value in ".{0,40}|\\{\\{(ports.game|server.id|X)\\}\\}") {
            let filled = with(&[("X", &value)], |words| expand("<{{X}}>", words));
            prop_assert_eq!(filled, Ok(format!("<{value}>")));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[{}a-z. +-]{0,60}") {
            with(&[], |words| { let _ = expand(&text, words); });
            let _ = port_default(&text);
        }
    }
}
