//! Which paths are worth keeping: a definition's globs, matched name by name.
//!
//! What a pattern matches is a *unit*: the thing as it is, and where it is a folder all below it. So
//! `world`, `world/` and `world/**` are the same. A restore puts back units whole, therefore which
//! unit a path belongs to depends on the patterns and the path alone, never on what is there.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::error::BackupError;
use crate::path::RelPath;

/// Greatest number of patterns, and of names in one.
const MAX_PATTERNS: usize = 1000;

pub(crate) struct Patterns(Vec<Pattern>);

struct Pattern {
    text: String,
    parts: Vec<Part>,
    /// It asked for what is in a folder (`world/**`).
    inside: bool,
}

enum Part {
    /// `**`: any number of folders.
    Folders,
    Name(GlobMatcher),
}

/// How far each pattern got: pairs of (pattern, part).
#[derive(Clone)]
pub(crate) struct Reached(Vec<(usize, usize)>);

pub(crate) enum Step {
    /// These patterns match the path itself.
    Unit(Vec<usize>),
    /// Something below it may match.
    Further(Reached),
    Nothing,
}

impl Patterns {
    pub(crate) fn parse(texts: &[String]) -> Result<Self, BackupError> {
        if texts.len() > MAX_PATTERNS {
            return Err(BackupError::Pattern { pattern: "…".into(), fault: format!("there are more than {MAX_PATTERNS} patterns") });
        }
        texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn start(&self) -> Reached {
        let mut reached = Vec::new();
        for at in 0..self.0.len() {
            self.enter(at, 0, &mut reached);
        }
        Reached(reached)
    }

    /// A run of `**` may be empty, so what follows it is reached with it.
    fn enter(&self, pattern: usize, mut part: usize, reached: &mut Vec<(usize, usize)>) {
        loop {
            if !reached.contains(&(pattern, part)) {
                reached.push((pattern, part));
            }
            if !matches!(self.0[pattern].parts.get(part), Some(Part::Folders)) {
                return;
            }
            part += 1;
        }
    }

    pub(crate) fn step(&self, from: &Reached, name: &Path) -> Step {
        let mut next = Vec::new();
        for (pattern, part) in &from.0 {
            match self.0[*pattern].parts.get(*part) {
                Some(Part::Folders) => self.enter(*pattern, *part, &mut next),
                Some(Part::Name(glob)) if glob.is_match(name) => self.enter(*pattern, part + 1, &mut next),
                Some(Part::Name(_)) | None => {}
            }
        }
        let whole: Vec<usize> =
            next.iter().filter(|(pattern, part)| *part == self.0[*pattern].parts.len()).map(|(pattern, _)| *pattern).collect();
        if !whole.is_empty() {
            Step::Unit(whole)
        } else if next.is_empty() {
            Step::Nothing
        } else {
            Step::Further(Reached(next))
        }
    }

    /// The unit that a path belongs to, if any does.
    pub(crate) fn unit_of(&self, path: &RelPath) -> Option<RelPath> {
        let mut reached = self.start();
        for (at, name) in path.names().enumerate() {
            match self.step(&reached, RelPath::new(name).as_path()) {
                Step::Unit(_) => return Some(path.first(at + 1)),
                Step::Further(next) => reached = next,
                Step::Nothing => return None,
            }
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn text(&self, at: usize) -> &str {
        &self.0[at].text
    }

    pub(crate) fn wants_inside(&self, at: usize) -> bool {
        self.0[at].inside
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, BackupError> {
        let refuse = |fault: String| BackupError::Pattern { pattern: text.to_owned(), fault };
        let trimmed = text.strip_prefix("./").unwrap_or(text);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        if let Some(fault) = RelPath::new(trimmed).fault() {
            return Err(refuse(fault.to_owned()));
        }
        let mut names: Vec<&str> = trimmed.split('/').collect();
        let mut inside = false;
        while names.last() == Some(&"**") {
            names.pop();
            inside = true;
        }
        if names.is_empty() {
            // `**` alone: everything at the top, each a unit.
            names.push("*");
        }
        let part = |name: &&str| match *name {
            "**" => Ok(Part::Folders),
            name => GlobBuilder::new(name)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map(|glob| Part::Name(glob.compile_matcher()))
                .map_err(|error| refuse(error.kind().to_string())),
        };
        Ok(Self { text: text.to_owned(), parts: names.iter().map(part).collect::<Result<_, _>>()?, inside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(pattern: &str, path: &str) -> Option<String> {
        let patterns = Patterns::parse(&[pattern.to_owned()]).unwrap();
        patterns.unit_of(&RelPath::new(path)).map(|unit| unit.to_string())
    }

    #[test]
    fn what_a_pattern_matches_is_taken_whole() {
        for pattern in ["world", "world/", "world/**", "./world/**", "world/**/**"] {
            assert_eq!(unit(pattern, "world/region/r.0.0.mca").as_deref(), Some("world"), "{pattern}");
            assert_eq!(unit(pattern, "world2/region"), None, "{pattern}");
        }
        assert_eq!(unit("world*/**", "world_nether/DIM-1/x").as_deref(), Some("world_nether"));
        assert_eq!(unit("*.json", "ops.json").as_deref(), Some("ops.json"));
        assert_eq!(unit("*.json", "mods/ops.json"), None);
        assert_eq!(unit("profile/logs/**/*.log", "profile/logs/a.log").as_deref(), Some("profile/logs/a.log"));
        assert_eq!(unit("profile/logs/**/*.log", "profile/logs/x/y/a.log").as_deref(), Some("profile/logs/x/y/a.log"));
        assert_eq!(unit("mpmissions/*/storage_*/**", "mpmissions/m/storage_1/d/e").as_deref(), Some("mpmissions/m/storage_1"));
        assert_eq!(unit("**", "a/b").as_deref(), Some("a"));
        assert_eq!(unit("**/*.sav", "a/b.sav").as_deref(), Some("a/b.sav"));
        assert_eq!(unit("{a,b}.db", "b.db").as_deref(), Some("b.db"));
    }

    #[test]
    fn a_pattern_that_leads_out_or_can_not_be_read_is_refused() {
        for pattern in ["", "/", "/etc/**", "../other/**", "a/../b", "a//b", "a[", "{a/b,c}", "a\0b"] {
            assert!(Patterns::parse(&[pattern.to_owned()]).is_err(), "{pattern:?}");
        }
    }
}
