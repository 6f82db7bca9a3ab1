//! The catalogue: one definition per game, embedded in the binary, a person's own files before them.

mod action;
mod at;
mod bare;
mod check;
mod definition;
mod fault;
mod ports;
mod resolve;
mod secret;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manman_common::game_id::GameId;
use rust_embed::RustEmbed;

pub use definition::{Definition, DefinitionPort, PortProtocol, Resources};
pub use fault::{Fault, Faults};
pub use ports::port_wishes;
pub use resolve::{Place, resolve_run, variables_of};
pub use secret::ensure_console_secret;
pub use values::parse_duration;

#[derive(RustEmbed)]
#[folder = "games/"]
struct Embedded;

/// The definitions that are known, by game id.
#[derive(Debug, Default)]
pub struct Catalogue {
    games: BTreeMap<GameId, Definition>,
    left_out: Vec<LeftOut>,
}

/// A file that should hold a definition and does not.
#[derive(Debug, thiserror::Error)]
pub enum LeftOut {
    #[error("could not read `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{}` is larger than {FILE_MAX} bytes", .0.display())]
    Size(PathBuf),
    #[error("{file}:{faults}")]
    Faulty { file: String, faults: Faults },
    #[error("{file}: `{game}` is defined in {before} already")]
    Twice { file: String, game: GameId, before: String },
}

impl Catalogue {
    /// The embedded definitions, then those in the folders, of which later ones win. A bad file is
    /// left out and told of: it must not take the other games away.
    #[must_use]
    pub fn load(folders: &[PathBuf]) -> Self {
        let mut catalogue = Self::default();
        for file in Embedded::iter().filter(|file| file.ends_with(".yaml")) {
            if let Some(content) = Embedded::get(&file) {
                // A test looks at them as closely as at a person's own; each start need not.
                match Definition::read(&String::from_utf8_lossy(&content.data)) {
                    Ok(definition) => catalogue.take(&file, definition),
                    Err(faults) => catalogue.left_out.push(LeftOut::Faulty { file: file.into_owned(), faults }),
                }
            }
        }
        for folder in folders {
            catalogue.take_folder(folder);
        }
        catalogue
    }

    /// The embedded files, by name.
    pub fn embedded() -> impl Iterator<Item = (String, String)> {
        Embedded::iter().filter(|file| file.ends_with(".yaml")).filter_map(|file| {
            let content = Embedded::get(&file)?;
            Some((file.into_owned(), String::from_utf8_lossy(&content.data).into_owned()))
        })
    }

    fn take_folder(&mut self, folder: &Path) {
        let files = match definition_files(folder) {
            Ok(files) => files,
            // Nobody needs games of their own.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.left_out.push(LeftOut::Read(folder.to_owned(), error)),
        };
        let mut seen: BTreeMap<GameId, String> = BTreeMap::new();
        for path in files {
            let file = path.display().to_string();
            match read_definition(&path) {
                Ok(definition) => match seen.get(&definition.game) {
                    Some(before) => {
                        self.left_out.push(LeftOut::Twice { file, game: definition.game, before: before.clone() });
                    }
                    None => {
                        seen.insert(definition.game.clone(), file.clone());
                        self.take(&file, definition);
                    }
                },
                Err(why) => self.left_out.push(why),
            }
        }
    }

    fn take(&mut self, file: &str, mut definition: Definition) {
        definition.short = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.games.insert(definition.game.clone(), definition);
    }

    /// The files that hold no definition though they should.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The definition of this id; an image's tag or digest may differ where none is defined for it.
    #[must_use]
    pub fn find(&self, id: &GameId) -> Option<&Definition> {
        if let Some(definition) = self.games.get(id) {
            return Some(definition);
        }
        let GameId::Docker(image) = id else { return None };
        let without_digest = image.as_str().split('@').next().unwrap_or_default();
        let slash = without_digest.rfind('/').map_or(0, |slash| slash + 1);
        let name_end = without_digest[slash..].find(':').map_or(without_digest.len(), |colon| slash + colon);
        let plain = format!("docker:{}", &without_digest[..name_end]).parse().ok()?;
        self.games.get(&plain)
    }

    /// The definition of this short name.
    #[must_use]
    pub fn find_short(&self, short: &str) -> Option<&Definition> {
        self.games.values().find(|game| !game.short.is_empty() && game.short.eq_ignore_ascii_case(short))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.games.values()
    }
}

/// Larger than any definition by far.
const FILE_MAX: u64 = 1024 * 1024;

/// Reads and checks one file.
pub fn read_definition(path: &Path) -> Result<Definition, LeftOut> {
    let read = |error| LeftOut::Read(path.to_owned(), error);
    if path.metadata().map_err(read)?.len() > FILE_MAX {
        return Err(LeftOut::Size(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    Definition::parse(&text).map_err(|faults| LeftOut::Faulty { file: path.display().to_string(), faults })
}

/// The YAML files of a folder, in the order of their names.
pub fn definition_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
