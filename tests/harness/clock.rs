//! A wall clock that jumps, for the programs that are told to look at it (libfaketime). Monotonic
//! clocks go on as they are, as they do when a person or NTP sets the time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    environment: Vec<(String, String)>,
}

impl WallClock {
    /// Right at first; `file` is where its error is kept.
    pub fn new(file: &Path) -> Result<Self> {
        let library = library().context("libfaketime is not installed (Debian's package `faketime`)")?;
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Two names, of two versions.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        let clock = Self { file: file.to_owned(), environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec() };
        clock.jump("+0d")?;
        Ok(clock)
    }

    /// For the programs that are to look at it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// From now on so far from the truth: `+2d`, `-90s`.
    pub fn jump(&self, error: &str) -> Result<()> {
        // Whole or not there: a program may be reading it.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{error}\n")).with_context(|| format!("write {}", next.display()))?;
        std::fs::rename(&next, &self.file).with_context(|| format!("rename to {}", self.file.display()))
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}
