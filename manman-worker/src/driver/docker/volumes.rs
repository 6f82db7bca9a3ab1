//! Every path of an image that keeps its content, as a directory of the server's own.
//!
//! A directory that is made for a path which has content in the image begins with that content, its
//! owners and its rights, as Docker's named volumes do. It is filled under another name and then
//! renamed, so that a directory which is there is a whole one.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, ImageInspect};
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt;
use manman_common::ServerSpec;
use rustix::thread::{CapabilitySet, capabilities};
use tokio::io::AsyncWriteExt;

use super::engine::Engine;
use super::error;
use super::fields;
use crate::driver::DriverError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// On this machine.
    pub(super) source: PathBuf,
    /// In the container.
    pub(super) target: String,
}

/// What the spec and the image together ask for.
pub(super) fn wanted(spec: &ServerSpec, image: &ImageInspect, server_dir: &Path) -> Result<Vec<Volume>, DriverError> {
    let docker = &spec.run.docker;
    let declared = image.config.as_ref().and_then(|config| config.volumes.as_ref()).into_iter().flatten();
    let mut volumes = BTreeMap::new();
    for path in declared.chain(&docker.mounts) {
        let target = clean(path)?;
        volumes.insert(target.clone(), server_dir.join("volumes").join(slug(&target)));
    }
    if let Some(data) = &docker.data {
        volumes.insert(clean(data)?, server_dir.join("data"));
    }
    Ok(volumes.into_iter().map(|(target, source)| Volume { source, target }).collect())
}

/// An absolute path without detours; the whole of a container's system is no volume.
fn clean(path: &str) -> Result<String, DriverError> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !path.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
        return Err(error::refused(
            format!("`{path}` is not a path in a container that can be kept; it has to be absolute and below `/`"),
            None,
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A directory's name that shows the path and is no other path's.
fn slug(target: &str) -> String {
    let shown: String = target.trim_start_matches('/').chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let hash = manman_common::link::fnv1a(target.as_bytes());
    format!("{shown}-{:08x}", hash as u32)
}

/// Makes the directories that are missing.
pub(super) async fn prepare(
    engine: &Engine,
    worker: manman_common::WorkerId,
    spec: &ServerSpec,
    image: &str,
    inspect: &ImageInspect,
    server_dir: &Path,
    volumes: &[Volume],
) -> Result<(), DriverError> {
    let failed = |dir: &Path, source| error::retry(format!("the directory {} can not be made", dir.display()), source);
    make_dir(server_dir, 0o700).map_err(|source| failed(server_dir, source))?;
    let mut missing = Vec::new();
    for volume in volumes {
        match std::fs::symlink_metadata(&volume.source) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(error::refused(format!("{} is in the way: it is not a directory", volume.source.display()), None)),
            Err(_) => missing.push(volume),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let template = Template::make(engine, worker, image).await?;
    let filled = fill(&template, spec, inspect, server_dir, &missing).await;
    template.remove().await;
    filled
}

async fn fill(
    template: &Template<'_>,
    spec: &ServerSpec,
    inspect: &ImageInspect,
    server_dir: &Path,
    missing: &[&Volume],
) -> Result<(), DriverError> {
    let user = spec.run.docker.user.clone().or_else(|| inspect.config.as_ref()?.user.clone()).unwrap_or_default();
    let owner = template.resolve(&user).await?;
    for volume in missing {
        let staging = server_dir.join(".new-volume");
        let failed = |source| error::retry(format!("the directory {} can not be filled", volume.source.display()), source);
        clear(&staging).map_err(failed)?;
        make_dir(&staging, 0o700).map_err(failed)?;
        let filled = staging.join("content");
        if !template.copy_out(&volume.target, &staging, &filled).await? {
            std::fs::create_dir(&filled).map_err(failed)?;
            hand_over(&filled, owner).map_err(failed)?;
        }
        if let Some(parent) = volume.source.parent() {
            make_dir(parent, 0o700).map_err(failed)?;
        }
        std::fs::rename(&filled, &volume.source).map_err(failed)?;
        clear(&staging).map_err(failed)?;
    }
    Ok(())
}

fn make_dir(dir: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Root may give files away, and so may a program with this right alone, as in the worker's image.
pub(super) fn gives_away() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN))
}

fn clear(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// To the container's user. A worker that is not root can give nothing away, so it lets everybody
/// write instead: the directory above is its own alone (0700).
fn hand_over(dir: &Path, (uid, gid): (u32, u32)) -> std::io::Result<()> {
    let mode = match std::os::unix::fs::chown(dir, Some(uid), Some(gid)) {
        Ok(()) => 0o750,
        Err(source) if source.kind() == std::io::ErrorKind::PermissionDenied => 0o777,
        Err(source) => return Err(source),
    };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
}

/// A container that is never started, to read the image's files from.
struct Template<'a> {
    engine: &'a Engine,
    id: String,
    image: &'a str,
}

impl<'a> Template<'a> {
    async fn make(engine: &'a Engine, worker: manman_common::WorkerId, image: &'a str) -> Result<Self, DriverError> {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            // Never run; named, since an image without a command of its own is refused without one.
            cmd: Some(vec!["true".to_owned()]),
            labels: Some(std::collections::HashMap::from([
                (fields::WORKER.to_owned(), worker.to_string()),
                ("manman.template".to_owned(), "true".to_owned()),
            ])),
            ..ContainerCreateBody::default()
        };
        let made = engine.docker().await?.create_container(None, body).await;
        let made = made.map_err(|source| error::retry(format!("image `{image}` can not be looked into"), source))?;
        Ok(Self { engine, id: made.id, image })
    }

    async fn remove(&self) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = match self.engine.docker().await {
            Ok(docker) => docker.remove_container(&self.id, Some(options)).await.map_err(|source| error::message(&source)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = removed {
            tracing::warn!(container.id = %self.id, error, "a container made to look into an image could not be removed");
        }
    }

    /// Copies a directory of the image to `filled`; `false` if the image has none of that name.
    async fn copy_out(&self, path: &str, staging: &Path, filled: &Path) -> Result<bool, DriverError> {
        let failed = || format!("`{path}` of image `{}` can not be copied", self.image);
        let Some(archive) = self.download(path, &staging.join("content.tar")).await? else { return Ok(false) };
        let (unpacked, filled) = (staging.join("unpacked"), filled.to_owned());
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let unpack = move || -> std::io::Result<bool> {
            std::fs::create_dir(&unpacked)?;
            let mut archive = tar::Archive::new(std::fs::File::open(&archive)?);
            archive.set_preserve_permissions(true);
            archive.set_preserve_ownerships(gives_away());
            archive.set_preserve_mtime(true);
            archive.unpack(&unpacked)?;
            let content = unpacked.join(&name);
            // A link is not followed: what it names lies in the image, not here.
            if !std::fs::symlink_metadata(&content).is_ok_and(|found| found.is_dir()) {
                return Ok(false);
            }
            std::fs::rename(&content, &filled)?;
            Ok(true)
        };
        let unpacked = tokio::task::spawn_blocking(unpack).await.map_err(|source| error::retry(failed(), source))?;
        unpacked.map_err(|source| error::retry(failed(), source))
    }

    /// A path of the image as a tar file; `None` where the image has none of that name.
    async fn download(&self, path: &str, to: &Path) -> Result<Option<PathBuf>, DriverError> {
        let failed = || format!("`{path}` of image `{}` can not be read", self.image);
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut parts = self.engine.docker().await?.download_from_container(&self.id, Some(options)).boxed();
        let mut file = tokio::fs::File::create(to).await.map_err(|source| error::retry(failed(), source))?;
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => file.write_all(&part).await.map_err(|source| error::retry(failed(), source))?,
                Err(source) if error::status(&source) == Some(404) => return Ok(None),
                Err(source) => return Err(error::retry(failed(), source)),
            }
        }
        file.flush().await.map_err(|source| error::retry(failed(), source))?;
        Ok(Some(to.to_owned()))
    }

    /// The numbers of a user as Docker reads `user[:group]`, by the image's own files.
    async fn resolve(&self, user: &str) -> Result<(u32, u32), DriverError> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        if let (Ok(uid), Some(Ok(gid))) = (user.parse(), group.map(str::parse)) {
            return Ok((uid, gid));
        }
        if user.is_empty() {
            return Ok((0, 0));
        }
        let passwd = self.read_small("/etc/passwd").await?;
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|entry| entry.first() == Some(&user) || user.parse::<u32>().is_ok() && entry.get(2) == Some(&user));
        let number = |at: usize| entry.as_ref().and_then(|entry| entry.get(at)?.parse::<u32>().ok());
        let uid = user.parse().ok().or_else(|| number(2));
        let Some(uid) = uid else {
            return Err(error::refused(format!("image `{}` has no user `{user}`", self.image), Some("name one as numbers: `uid:gid`")));
        };
        let gid = match group {
            None => number(3).unwrap_or(0),
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => {
                    let groups = self.read_small("/etc/group").await?;
                    let entry = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| entry.first() == Some(&group));
                    entry.and_then(|entry| entry.get(2)?.parse().ok()).ok_or_else(|| {
                        error::refused(format!("image `{}` has no group `{group}`", self.image), Some("name it as a number: `uid:gid`"))
                    })?
                }
            },
        };
        Ok((uid, gid))
    }

    /// A small text file of the image; empty where there is none.
    async fn read_small(&self, path: &str) -> Result<String, DriverError> {
        const MOST: u64 = 1024 * 1024;
        let failed = || format!("`{path}` of image `{}` can not be read", self.image);
        let spool = std::env::temp_dir().join(format!("manman-{}.tar", self.id.get(..24).unwrap_or(&self.id)));
        let archive = self.download(path, &spool).await;
        let text = archive.and_then(|archive| {
            let Some(archive) = archive else { return Ok(String::new()) };
            let read = || -> std::io::Result<String> {
                use std::io::Read;
                let mut archive = tar::Archive::new(std::fs::File::open(&archive)?);
                let mut text = String::new();
                for entry in archive.entries()? {
                    entry?.take(MOST).read_to_string(&mut text)?;
                }
                Ok(text)
            };
            read().map_err(|source| error::retry(failed(), source))
        });
        // Its absence is no loss.
        let _ = std::fs::remove_file(&spool);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_below_the_servers_directory() {
        assert_eq!(clean("/data//x/./y/").expect("fine"), "/data/x/y");
        for bad in ["", "/", "data", "/data/../etc", "/..", "//."] {
            assert!(clean(bad).is_err(), "{bad}");
        }
        assert_ne!(slug("/a/b"), slug("/a-b"));
        assert!(slug("/a/b").starts_with("a-b-"));
    }
}
