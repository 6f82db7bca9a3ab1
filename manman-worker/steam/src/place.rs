//! Lays a build out for one server: its directory becomes the installed app, writable to its game,
//! while the large files are shared with the base where nobody can write through the share.
//!
//! - A file is taken over by reflink where the file system has them. Else what a game does not
//!   write to (`class`) becomes a hard link without write bits, unless the game runs as root, whom
//!   bits do not stop. Else it is copied.
//! - Every file arrives beside its place and is renamed into it: whoever has the old one open keeps it.
//! - A server's own files that were changed since we put them there stay as they are.
//!
//! The server's directory belongs to a user that we do not trust: it is walked by handle, never by
//! path, and no link in it is followed.

mod scan;
mod write;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manman_common::ServerId;
use manman_common::status::Progress;

use crate::app::App;
use crate::base::{Base, Marker};
use crate::class::Class;
use crate::error::{DISK_HINT, Failure, SteamError};
use crate::record::{Entry, Laid, Sign};
use crate::update::megabytes;
use crate::{Report, SteamConfig, beneath, tool};

use scan::{Item, Kind};
use write::Writer;

/// Left free on the disk, for the worlds of games that run.
const KEEP_FREE: u64 = 64 << 20;

/// What stands between two looks at whether anybody still wants this.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::too_many_arguments, reason = "each is one fact of the same placement, from four owners")]
pub(crate) async fn place(
    config: &SteamConfig,
    app: &App,
    base: &Base,
    marker: &Marker,
    server: ServerId,
    server_dir: &Path,
    owner: Option<(u32, u32)>,
    progress: Report<'_>,
) -> Result<(), SteamError> {
    progress(Progress { percent: Some(98), step: "laying the game out for the server".to_owned() });
    let dropped = Arc::new(AtomicBool::new(false));
    let wanted = Wanted(Arc::clone(&dropped));
    let before = Laid::read(config, server)?.unwrap_or_default();
    let here = before.complete && before.key == app.key() && before.build == marker.build;
    let source = base.directory().try_clone().map_err(|error| SteamError::io("the base can not be opened", error))?;
    let placement = Placement {
        config: config.clone(),
        app: app.clone(),
        build: marker.build.clone(),
        server,
        server_dir: server_dir.to_owned(),
        owner,
        before,
        repair: here,
        dropped,
    };
    let placed = tokio::task::spawn_blocking(move || placement.run(&source)).await;
    drop(wanted);
    placed.unwrap_or_else(|_| Err(SteamError::new(Failure::Io, "laying the game out was interrupted")))?;
    progress(Progress { percent: Some(100), step: "installed".to_owned() });
    Ok(())
}

struct Placement {
    config: SteamConfig,
    app: App,
    build: String,
    server: ServerId,
    server_dir: PathBuf,
    owner: Option<(u32, u32)>,
    before: Laid,
    /// The same build is there already: only what is missing is put back.
    repair: bool,
    dropped: Arc<AtomicBool>,
}

/// What becomes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// It is there, and as it should be.
    Keep,
    /// It is there and the server's own; it is not ours any more.
    Leave,
    Put,
}

/// `now` is what the server has, `before` what we left there last time.
fn decide(class: Class, source: Sign, now: Option<Sign>, before: Option<&Entry>) -> Act {
    match (now, before) {
        (None, _) => Act::Put,
        (Some(now), Some(before)) if now == before.placed => {
            if source == before.source {
                Act::Keep
            } else {
                Act::Put
            }
        }
        // Changed by the game or by a person, or there before us.
        (Some(_), before) => match (class, before) {
            (Class::Own, _) => Act::Leave,
            (Class::Content, Some(before)) if before.source == source => Act::Leave,
            (Class::Content, _) => Act::Put,
        },
    }
}

impl Placement {
    fn run(&self, base: &OwnedFd) -> Result<(), SteamError> {
        let target = beneath::create(&self.config.root, &self.server_dir)?;
        let items = scan::scan(base, self.app.id())?;
        let mut laid = Laid {
            key: self.app.key(),
            build: self.build.clone(),
            complete: false,
            started: self.before.started,
            files: self.before.files.clone(),
        };
        let mut writer = Writer::new(&target, self.owner, self.shares())?;
        let acts = self.acts(&items, &mut writer)?;
        let is_change = !self.repair || acts.contains(&Act::Put);
        if is_change {
            self.check_space(&items, &acts, &target, writer.has_reflinks(base, &items))?;
            // From here until the end there is no whole game.
            laid.write(&self.config, self.server)?;
        }
        let result = self.put_all(base, &items, &acts, &mut writer, &mut laid);
        if let Err(error) = result {
            if error.failure == Failure::DiskFull {
                writer.undo();
            }
            return Err(error);
        }
        self.put_client_libraries(&mut writer)?;
        if let Some(missing) = self.app.missing(&target) {
            let what = format!("the game was laid out, and it has no `{}`", missing.display());
            return Err(SteamError::new(Failure::Incomplete, what)
                .hint("the definition's `start.expect` does not fit this build; on Linux the case of letters counts"));
        }
        rustix::fs::syncfs(&target)
            .map_err(|errno| SteamError::io(format!("{} can not be brought to the disk", self.server_dir.display()), errno.into()))?;
        laid.complete = true;
        laid.write(&self.config, self.server)
    }

    /// Whether the game's user could write through a hard link: bits do not stop root.
    fn shares(&self) -> bool {
        match self.owner {
            Some((user, _)) => user != 0,
            None => !rustix::process::geteuid().is_root(),
        }
    }

    fn acts(&self, items: &[Item], writer: &mut Writer) -> Result<Vec<Act>, SteamError> {
        items
            .iter()
            .map(|item| match item.kind {
                Kind::Directory | Kind::Link => Ok(Act::Put),
                Kind::File => {
                    self.go_on()?;
                    let now = writer.sign(&item.path)?;
                    Ok(decide(self.app.classes().of_path(&item.path), item.sign, now, self.before.files.get(&item.name())))
                }
            })
            .collect()
    }

    fn check_space(&self, items: &[Item], acts: &[Act], target: &OwnedFd, has_reflinks: bool) -> Result<(), SteamError> {
        let copied = |item: &Item| !(has_reflinks || self.shares() && item.is_shareable(self.app.classes()));
        let needs: u64 = items
            .iter()
            .zip(acts)
            .filter(|(item, act)| **act == Act::Put && item.kind == Kind::File && copied(item))
            .map(|(item, _)| u64::try_from(item.sign.size).unwrap_or(0))
            .sum();
        match crate::base::free(target) {
            Some(free) if free < needs.saturating_add(KEEP_FREE) => Err(SteamError::new(
                Failure::DiskFull,
                format!(
                    "laying app {} out for the server needs {} on the disk, and {} are free at {}",
                    self.app.id(),
                    megabytes(needs + KEEP_FREE),
                    megabytes(free),
                    self.server_dir.display()
                ),
            )
            .hint(DISK_HINT)),
            _ => Ok(()),
        }
    }

    fn put_all(&self, base: &OwnedFd, items: &[Item], acts: &[Act], writer: &mut Writer, laid: &mut Laid) -> Result<(), SteamError> {
        let mut files = std::mem::take(&mut laid.files);
        for (item, act) in items.iter().zip(acts) {
            self.go_on()?;
            match (item.kind, act) {
                (Kind::Directory, _) => writer.directory(&item.path)?,
                (Kind::Link, _) => writer.link(base, item)?,
                (Kind::File, Act::Put) => {
                    let placed = writer.file(base, item, item.is_shareable(self.app.classes()))?;
                    files.remove(&item.name());
                    laid.files.insert(item.name(), Entry { source: item.sign, placed });
                }
                (Kind::File, Act::Keep | Act::Leave) => {
                    // What we put there is remembered, so that a later update still knows a change from ours.
                    if let Some(entry) = files.remove(&item.name()) {
                        laid.files.insert(item.name(), entry);
                    }
                }
            }
        }
        // What the new build no longer has goes, unless it is the server's by now.
        for (name, entry) in files {
            self.go_on()?;
            let path = scan::path_of(&name);
            if self.app.classes().of_path(&path) == Class::Content && writer.sign(&path)? == Some(entry.placed) {
                writer.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Games look for Steam's own library below their home, which is this directory.
    fn put_client_libraries(&self, writer: &mut Writer) -> Result<(), SteamError> {
        let Some(tool) = tool::known(&self.config) else { return Ok(()) };
        for (bits, folder) in [(64, "sdk64"), (32, "sdk32")] {
            if let Some(library) = tool.client_library(&self.config, bits) {
                writer.outside_file(&library, format!(".steam/{folder}/steamclient.so").as_bytes())?;
            }
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), SteamError> {
        if self.dropped.load(Ordering::Relaxed) { Err(SteamError::new(Failure::Io, "laying the game out was called off")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
