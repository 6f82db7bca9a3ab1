//! The catalogue: one definition per game, embedded in the binary, a person's own files before them.

mod definition;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manman_common::game_id::GameId;
use rust_embed::RustEmbed;

pub use definition::{Definition, DefinitionError, DefinitionPort, PortProtocol, Resources, parse_duration};
pub use resolve::{Place, port_wishes, resolve_run, variables_of};

#[derive(RustEmbed)]
#[folder = "games/"]
struct Embedded;

/// The definitions that are known, by game id.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    games: BTreeMap<GameId, Definition>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("could not read the definitions in `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the definition `{file}` is not valid")]
    Definition {
        file: String,
        #[source]
        why: Box<DefinitionError>,
    },
}

impl Catalogue {
    /// The embedded definitions, then those in `own`, which win. A bad file is left out and told of:
    /// it must not take the other games away.
    #[must_use]
    pub fn load(own: Option<&Path>) -> (Self, Vec<CatalogueError>) {
        let mut catalogue = Self::default();
        let mut errors = Vec::new();
        for file in Embedded::iter().filter(|file| file.ends_with(".yaml")) {
            if let Some(content) = Embedded::get(&file) {
                catalogue.take(&file, &String::from_utf8_lossy(&content.data), &mut errors);
            }
        }
        if let Some(folder) = own.filter(|folder| folder.is_dir()) {
            match own_files(folder) {
                Ok(files) => {
                    for (name, text) in files {
                        catalogue.take(&name, &text, &mut errors);
                    }
                }
                Err(error) => errors.push(CatalogueError::Read(folder.to_owned(), error)),
            }
        }
        (catalogue, errors)
    }

    fn take(&mut self, file: &str, text: &str, errors: &mut Vec<CatalogueError>) {
        match Definition::parse(text) {
            Ok(definition) => {
                self.games.insert(definition.game.clone(), definition);
            }
            Err(why) => errors.push(CatalogueError::Definition { file: file.to_owned(), why: Box::new(why) }),
        }
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

    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.games.values()
    }
}

/// Larger than any definition by far.
const FILE_MAX: u64 = 1024 * 1024;

fn own_files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && path.metadata()?.len() <= FILE_MAX {
            files.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}
