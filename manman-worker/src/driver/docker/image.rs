//! Brings an image here: ours are built, all others pulled, each image once at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt};
use manman_common::game_id::ImageReference;
use manman_common::status::Progress;
use manman_common::{GameId, ServerId, ServerSpec};

use super::engine::Engine;
use super::{DockerDriver, build, error};
use crate::driver::{DriverError, DriverErrorKind, ProgressSink};

/// A pull of which nothing has been heard for so long has lost its registry; a total limit would
/// punish slow lines.
const PULL_SILENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(super) struct Installs {
    /// One lock per image, for as long as anybody waits for it.
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Servers that are to have the newest image at their next install.
    asked: Mutex<BTreeSet<ServerId>>,
}

impl Installs {
    fn lock_of(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(image).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(image.to_owned(), Arc::downgrade(&lock));
        lock
    }

    pub(super) fn want_newest(&self, server: ServerId) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(server);
    }

    fn wants_newest(&self, server: ServerId) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&server)
    }
}

/// The image of a spec, and for one of ours the folder of its Dockerfile.
pub(super) struct Wanted {
    pub(super) image: String,
    pub(super) folder: Option<String>,
}

impl Wanted {
    pub(super) fn of(spec: &ServerSpec) -> Result<Self, DriverError> {
        let reference = match &spec.run.game_id {
            GameId::Docker(reference) => reference,
            GameId::Steamcmd(app) => return Err(error::refused(format!("`steamcmd:{app}` is no image"), None)),
        };
        Ok(Self { image: reference.with_tag(), folder: folder_of(spec, reference) })
    }
}

fn folder_of(spec: &ServerSpec, reference: &ImageReference) -> Option<String> {
    match &spec.run.docker.build {
        Some(build) => Some(last_segment(build).to_owned()),
        None if reference.is_ours() => {
            let name = last_segment(reference.as_str());
            Some(name.split(['@', ':']).next().unwrap_or(name).to_owned())
        }
        None => None,
    }
}

fn last_segment(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Changes with the Dockerfile of an image of ours, so that an upgrade of manman builds it anew.
pub(super) fn install_key(spec: &ServerSpec) -> String {
    match Wanted::of(spec) {
        Ok(Wanted { image, folder: Some(folder) }) => match build::content_hash(&folder) {
            Some(hash) => format!("docker:{image}#{hash}"),
            None => format!("docker:{image}"),
        },
        Ok(Wanted { image, folder: None }) => format!("docker:{image}"),
        Err(_) => spec.run.game_id.to_string(),
    }
}

impl DockerDriver {
    pub(super) async fn install_image(&self, spec: &ServerSpec, progress: &ProgressSink) -> Result<(), DriverError> {
        let wanted = Wanted::of(spec)?;
        let lock = self.installs.lock_of(&wanted.image);
        let _held = match lock.try_lock() {
            Ok(held) => held,
            Err(_) => {
                progress(Progress { percent: None, step: format!("waiting for `{}`, which another server is installing", wanted.image) });
                lock.lock().await
            }
        };
        match &wanted.folder {
            Some(folder) => build::ensure(&self.engine, &self.config.servers_dir, &wanted.image, folder, progress).await,
            None if inspect(&self.engine, &wanted.image).await?.is_some() => {
                // A registry that does not answer, or an image that is in none, keeps nobody from playing.
                if self.installs.wants_newest(spec.id)
                    && let Err(error) = pull(&self.engine, &wanted.image, progress).await
                {
                    tracing::warn!(server.id = %spec.id, %error, image = wanted.image, "a newer image could not be pulled; the server keeps its own");
                }
                Ok(())
            }
            None => pull(&self.engine, &wanted.image, progress).await,
        }
    }
}

/// `None` where the engine has no such image.
pub(super) async fn inspect(engine: &Engine, image: &str) -> Result<Option<ImageInspect>, DriverError> {
    match engine.docker().await?.inspect_image(image).await {
        Ok(found) => Ok(Some(found)),
        Err(source) if error::status(&source) == Some(404) => Ok(None),
        Err(source) => Err(error::retry(format!("image `{image}` can not be inspected"), source)),
    }
}

pub(super) async fn pull(engine: &Engine, image: &str, progress: &ProgressSink) -> Result<(), DriverError> {
    progress(Progress { percent: Some(0), step: format!("pulling {image}") });
    let options = CreateImageOptionsBuilder::new().from_image(image).build();
    let mut news = engine.docker().await?.create_image(Some(options), None, None).boxed();
    let mut layers = Layers::default();
    while let Some(item) = next_within(&mut news, PULL_SILENCE, || format!("the pull of `{image}`")).await? {
        match item {
            Ok(info) => {
                if let Some(news) = layers.take(&info) {
                    progress(news);
                }
            }
            Err(source) => return Err(pull_error(image, source)),
        }
    }
    // A stream that was cut short says nothing of it.
    match inspect(engine, image).await? {
        Some(_) => Ok(()),
        None => Err(error::retry_because(format!("the pull of `{image}` has ended and the image is not there"))),
    }
}

/// The next item, or an error when none has come for too long.
pub(super) async fn next_within<S: Stream + Unpin>(
    stream: &mut S,
    silence: Duration,
    what: impl Fn() -> String,
) -> Result<Option<S::Item>, DriverError> {
    tokio::time::timeout(silence, stream.next())
        .await
        .map_err(|_| error::retry_because(format!("{} has given no sign of life for {} s", what(), silence.as_secs())))
}

fn pull_error(image: &str, source: bollard::errors::Error) -> DriverError {
    let said = error::message(&source);
    // By text, since the engine answers 404 or 500 or an item of the stream for the same thing.
    let absent = error::status(&source) == Some(404)
        || ["manifest unknown", "not found: manifest", "repository does not exist", "pull access denied", "invalid reference"]
            .iter()
            .any(|sign| said.contains(sign));
    if absent {
        return DriverError {
            kind: DriverErrorKind::Final,
            what: format!("there is no image `{image}` that this machine may pull"),
            hint: Some("check its name and tag; a private one needs `docker login` for the engine's user".to_owned()),
            source: Some(source.into()),
        };
    }
    DriverError {
        kind: DriverErrorKind::Retry,
        what: format!("image `{image}` could not be pulled"),
        hint: Some("check that this machine reaches the image's registry, or load the image with `docker load`".to_owned()),
        source: Some(source.into()),
    }
}

/// How far each layer is: downloading is most of the way, unpacking the rest.
#[derive(Default)]
struct Layers {
    layers: BTreeMap<String, u8>,
    told: Option<(u8, usize)>,
}

impl Layers {
    fn take(&mut self, info: &CreateImageInfo) -> Option<Progress> {
        let id = info.id.clone()?;
        let part = |full: i64| {
            let detail = info.progress_detail.as_ref()?;
            let (current, total) = (detail.current?, detail.total?);
            u8::try_from((current.clamp(0, total).checked_mul(full)?).checked_div(total)?).ok()
        };
        let done = match info.status.as_deref()? {
            "Pulling fs layer" | "Waiting" => 0,
            "Downloading" => part(70)?,
            "Verifying Checksum" | "Download complete" => 70,
            "Extracting" => 70 + part(30)?,
            "Pull complete" | "Already exists" => 100,
            _ => return None,
        };
        self.layers.insert(id, done);
        let total = self.layers.len();
        let complete = self.layers.values().filter(|done| **done == 100).count();
        let percent = self.layers.values().map(|done| usize::from(*done)).sum::<usize>() / total.max(1);
        // Layers become known one after the other; a bar never goes back.
        let percent = u8::try_from(percent).unwrap_or(100).max(self.told.map_or(0, |(told, _)| told));
        let news = (percent, complete);
        if self.told == Some(news) {
            return None;
        }
        self.told = Some(news);
        Some(Progress { percent: Some(percent), step: format!("pulling, {complete} of {total} layers done") })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn news(id: &str, status: &str, progress: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: progress.map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn a_pull_never_goes_back_and_ends_at_100() {
        let mut layers = Layers::default();
        let mut told = Vec::new();
        for (id, status, progress) in [
            ("a", "Pulling fs layer", None),
            ("a", "Downloading", Some((50, 100))),
            ("b", "Pulling fs layer", None),
            ("a", "Pull complete", None),
            ("b", "Downloading", Some((0, 0))),
            ("b", "Extracting", Some((1, 2))),
            ("b", "Pull complete", None),
            ("latest", "Status: Downloaded newer image", None),
        ] {
            told.extend(layers.take(&news(id, status, progress)).and_then(|news| news.percent));
        }
        assert!(told.is_sorted(), "{told:?}");
        assert_eq!(told.last(), Some(&100));
    }
}
