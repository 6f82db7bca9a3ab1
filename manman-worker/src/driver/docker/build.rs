//! Images of ours, built on this machine from the Dockerfiles in the binary.
//!
//! They are never pulled: the same name in a public registry may be a stranger's.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::StreamExt;
use manman_common::status::Progress;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::engine::Engine;
use super::image::{self, next_within};
use super::{base, error};
use crate::driver::{DriverError, DriverErrorKind, ProgressSink};

#[derive(RustEmbed)]
#[folder = "../docker/games"]
struct Games;

/// The label that says which Dockerfile an image was built from.
const CONTENT: &str = "manman.content";

/// A package that compiles or downloads may say nothing for minutes.
const BUILD_SILENCE: Duration = Duration::from_secs(600);

/// Lines of a failed build that are shown.
const LAST_WORDS: usize = 6;

/// The folder's files, by their names within it.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let prefix = format!("{folder}/");
    let mut files: Vec<_> =
        Games::iter().filter_map(|path| Some((path.strip_prefix(&prefix)?.to_owned(), Games::get(&path)?.data.into_owned()))).collect();
    files.sort();
    files
}

/// A hash over the folder's files; `None` where there is no such folder.
pub(super) fn content_hash(folder: &str) -> Option<String> {
    let files = files(folder);
    if files.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for (name, data) in &files {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update((data.len() as u64).to_be_bytes());
        hash.update(data);
    }
    Some(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Builds the image unless it is here, made from the very files that this binary has.
pub(super) async fn ensure(
    engine: &Engine,
    work_dir: &Path,
    image: &str,
    folder: &str,
    progress: &ProgressSink,
) -> Result<(), DriverError> {
    let Some(hash) = content_hash(folder) else {
        let known: std::collections::BTreeSet<_> = Games::iter().filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
        let known: Vec<_> = known.into_iter().collect();
        return Err(error::refused(
            format!("`{image}` would be an image of manman's own, and there is no Dockerfile `{folder}`"),
            Some(&format!("there are {}", known.join(", "))),
        ));
    };
    let built = image::inspect(engine, image).await?.and_then(|found| found.config?.labels?.get(CONTENT).cloned());
    if built.as_deref() == Some(&hash) {
        return Ok(());
    }
    let files = files(folder);
    for from in base_images(&files) {
        base::ensure(engine, work_dir, &from, progress).await?;
    }
    build(engine, image, &hash, files, progress).await
}

/// What the Dockerfile's FROM lines name, but for stages of its own.
fn base_images(files: &[(String, Vec<u8>)]) -> Vec<String> {
    let Some((_, dockerfile)) = files.iter().find(|(name, _)| name == "Dockerfile") else { return Vec::new() };
    let dockerfile = String::from_utf8_lossy(dockerfile);
    let mut stages = Vec::new();
    let mut images = Vec::new();
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("FROM")) {
            continue;
        }
        let mut words = words.filter(|word| !word.starts_with("--"));
        let Some(image) = words.next() else { continue };
        if image != "scratch" && !stages.contains(&image) {
            images.push(image.to_owned());
        }
        stages.extend(words.nth(1));
    }
    images
}

async fn build(
    engine: &Engine,
    image: &str,
    hash: &str,
    files: Vec<(String, Vec<u8>)>,
    progress: &ProgressSink,
) -> Result<(), DriverError> {
    let context = archive(&files).map_err(|source| error::retry(format!("the build context of `{image}` can not be packed"), source))?;
    let labels = HashMap::from([(CONTENT.to_owned(), hash.to_owned())]);
    let options = BuildImageOptionsBuilder::new().dockerfile("Dockerfile").t(image).rm(true).forcerm(true).labels(&labels).build();
    let mut news = engine.docker().await?.build_image(options, None, Some(bollard::body_full(context.into()))).boxed();
    progress(Progress { percent: Some(0), step: format!("building {image}") });
    let mut said: Vec<String> = Vec::new();
    while let Some(item) = next_within(&mut news, BUILD_SILENCE, || format!("the build of `{image}`")).await? {
        match item {
            Ok(info) => {
                for line in info.stream.as_deref().unwrap_or_default().lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                    if let Some(step) = read_step(line) {
                        progress(step);
                    }
                    if said.len() == LAST_WORDS {
                        said.remove(0);
                    }
                    said.push(line.chars().take(200).collect());
                }
            }
            Err(source) => {
                return Err(DriverError {
                    kind: DriverErrorKind::Retry,
                    what: format!("image `{image}` could not be built; its last lines were: {}", said.join(" | ")),
                    hint: Some(
                        "a build takes packages from the distribution's servers: check that containers of this machine reach them"
                            .to_owned(),
                    ),
                    source: Some(source.into()),
                });
            }
        }
    }
    match image::inspect(engine, image).await?.and_then(|found| found.config?.labels?.get(CONTENT).cloned()) {
        Some(built) if built == hash => Ok(()),
        Some(_) | None => Err(error::retry_because(format!("the build of `{image}` has ended and the image is not there"))),
    }
}

/// `Step 4/9 : RUN apt-get …`: three ninths are done.
fn read_step(line: &str) -> Option<Progress> {
    let (step, total) = line.strip_prefix("Step ")?.split_once(" : ")?.0.split_once('/')?;
    let (step, total): (u32, u32) = (step.parse().ok()?, total.parse().ok()?);
    let percent = step.checked_sub(1)?.checked_mul(100)?.checked_div(total)?;
    Some(Progress { percent: Some(u8::try_from(percent).ok()?), step: line.chars().take(200).collect() })
}

fn archive(files: &[(String, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, data.as_slice())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_game_of_ours_has_a_dockerfile_and_a_hash_of_its_own() {
        let mut hashes = std::collections::BTreeSet::new();
        for folder in ["openarena", "teeworlds", "ddnet", "bzflag", "luanti", "armagetron"] {
            assert!(files(folder).iter().any(|(name, _)| name == "Dockerfile"), "{folder}");
            assert!(hashes.insert(content_hash(folder)), "{folder}");
        }
        assert_eq!(content_hash("no-such-game"), None);
    }

    #[test]
    fn from_lines_name_the_images_that_must_be_here() {
        let file = |text: &str| vec![("Dockerfile".to_owned(), text.as_bytes().to_vec())];
        assert_eq!(base_images(&file("# FROM a\nFROM debian:bookworm-slim\nRUN x")), ["debian:bookworm-slim"]);
        assert_eq!(base_images(&file("from --platform=linux/amd64 b AS one\nFROM one\nFROM scratch\n")), ["b"]);
    }

    #[test]
    fn a_step_is_how_far_the_build_is() {
        let step = read_step("Step 4/9 : RUN apt-get update").expect("a step");
        assert_eq!((step.percent, step.step.as_str()), (Some(33), "Step 4/9 : RUN apt-get update"));
        assert!(read_step("Setting up bzflag").is_none());
    }
}
