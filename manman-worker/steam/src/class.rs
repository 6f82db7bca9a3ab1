//! Which files of an install are a server's own: its configuration, its worlds, its logs. Those are
//! always real copies, and an update leaves them alone once the server or a person has changed them.

use manman_common::spec::RunSpec;

/// What a file is to the server that it is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A server's own.
    Own,
    /// The game's: the same for all servers.
    Content,
}

/// The rules of one game.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    globs: Vec<String>,
    paths: Vec<String>,
}

/// Endings of files that people and games write to, though they come with the game.
const OWN_ENDINGS: [&str; 24] = [
    "cfg",
    "conf",
    "config",
    "cnf",
    "ini",
    "json",
    "json5",
    "yaml",
    "yml",
    "toml",
    "xml",
    "properties",
    "sii",
    "txt",
    "lua",
    "log",
    "db",
    "sqlite",
    "sqlite3",
    "sav",
    "save",
    "dat",
    "list",
    "csv",
];

/// Smaller files are copied whatever they are: sharing them saves nothing.
pub(crate) const SHARE_FROM: u64 = 64 << 10;

impl Classes {
    pub(crate) fn of(run: &RunSpec) -> Self {
        Self {
            globs: run.data.save.iter().chain(&run.data.logs).cloned().collect(),
            paths: run.files.iter().map(|file| file.path.trim_start_matches("./").to_owned()).collect(),
        }
    }

    pub(crate) fn of_path(&self, path: &[u8]) -> Class {
        let text = String::from_utf8_lossy(path);
        let ending = text.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
        let is_own = self.paths.iter().any(|own| *own == text)
            || self.globs.iter().any(|glob| matches(glob, &text))
            || ending.is_some_and(|ending| OWN_ENDINGS.contains(&ending.as_str()));
        if is_own { Class::Own } else { Class::Content }
    }
}

/// `*` and `?` stay within a name, `**` does not; a name may begin with a dot.
fn matches(glob: &str, path: &str) -> bool {
    let glob: Vec<&str> = glob.trim_start_matches("./").split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    segments_match(&glob, &path)
}

/// Row by row, so that no pattern takes more than its length times the path's.
fn segments_match(glob: &[&str], path: &[&str]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for segment in glob {
        let mut next = vec![false; path.len() + 1];
        if *segment == "**" {
            let mut open = false;
            for at in 0..=path.len() {
                open |= reached[at];
                next[at] = open;
            }
        } else {
            for at in 0..path.len() {
                next[at + 1] = reached[at] && name_matches(segment, path[at]);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

fn name_matches(glob: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for c in glob.chars() {
        let mut next = vec![false; name.len() + 1];
        let mut open = false;
        for at in 0..=name.len() {
            open |= reached[at];
            if c == '*' {
                next[at] = open;
            } else if at < name.len() && reached[at] && (c == '?' || c == name[at]) {
                next[at + 1] = true;
            }
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_where_they_should() {
        for (glob, path, expected) in [
            ("saves/**", "saves/a/b", true),
            ("saves/**", "saves", true),
            ("saves/*.txt", "saves/a.txt", true),
            ("saves/*.txt", "saves/a/b.txt", false),
            ("**/*.db", "a/b/c.db", true),
            ("**/*.db", "c.db", true),
            ("*.log", ".log", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("./x", "x", true),
            ("*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(matches(glob, path), expected, "{glob} on {path}");
        }
    }

    #[test]
    fn configuration_is_a_server_s_own() {
        let classes = Classes { globs: vec!["worlds/**".to_owned()], paths: vec!["settings".to_owned()] };
        for own in ["server.cfg", "a/GameUserSettings.INI", "worlds/one.bin", "settings", "x.json"] {
            assert_eq!(classes.of_path(own.as_bytes()), Class::Own, "{own}");
        }
        for content in ["game.x86_64", "data/pak0.pk3", "lib/a.so", "noending", "settings.d/x.pak"] {
            assert_eq!(classes.of_path(content.as_bytes()), Class::Content, "{content}");
        }
        assert_eq!(classes.of_path(b"bad\xff.pak"), Class::Content);
    }
}
