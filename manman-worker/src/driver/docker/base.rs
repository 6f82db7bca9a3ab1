//! The image that ours are built from: pulled, or, where no registry is reached, made from Debian's
//! own packages with debootstrap.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use manman_common::status::Progress;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_util::io::ReaderStream;

use super::engine::Engine;
use super::error;
use super::image::{self, next_within};
use crate::driver::{DriverError, DriverErrorKind, ProgressSink};

/// A package from a slow mirror.
const SILENCE: Duration = Duration::from_secs(300);

pub(super) async fn ensure(engine: &Engine, work_dir: &Path, image: &str, progress: &ProgressSink) -> Result<(), DriverError> {
    if image::inspect(engine, image).await?.is_some() {
        return Ok(());
    }
    let pulled = match image::pull(engine, image, progress).await {
        Ok(()) => return Ok(()),
        Err(pulled) => pulled,
    };
    let Some(suite) = debian_suite(image) else { return Err(pulled) };
    let because = error::chain(&pulled);
    let with_hint =
        |what: String, hint: &str| DriverError { kind: DriverErrorKind::Retry, what, hint: Some(hint.to_owned()), source: None };
    if !rustix::process::geteuid().is_root() {
        return Err(with_hint(
            format!("`{image}` can not be pulled, and only root can make it from Debian's packages ({because})"),
            "let this machine reach a registry, or load the image with `docker load`",
        ));
    }
    let Some(debootstrap) = find_program("debootstrap") else {
        return Err(with_hint(
            format!("`{image}` can not be pulled, and there is no debootstrap here to make it with ({because})"),
            "`apt-get install debootstrap`, or let this machine reach a registry",
        ));
    };
    let dir = work_dir.join(".base-image");
    let made = make(engine, &debootstrap, &dir, image, suite, progress).await;
    // Whatever came of it, a half-made system of 200 MB is not left behind.
    if let Err(source) = remove_tree(dir).await {
        tracing::warn!(error = %source, "the directory of a base image could not be deleted");
    }
    made
}

async fn remove_tree(dir: PathBuf) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(&dir).await {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `debian:bookworm-slim` is Debian's suite `bookworm`.
fn debian_suite(image: &str) -> Option<&str> {
    let tag = image.strip_prefix("debian:")?;
    let suite = tag.strip_suffix("-slim").unwrap_or(tag);
    (!suite.is_empty() && suite.bytes().all(|b| b.is_ascii_lowercase())).then_some(suite)
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // debootstrap lies in a directory that an ordinary user's PATH may lack.
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|dir| dir.join(name)).find(|program| program.is_file())
}

async fn make(
    engine: &Engine,
    debootstrap: &Path,
    dir: &Path,
    image: &str,
    suite: &str,
    progress: &ProgressSink,
) -> Result<(), DriverError> {
    let failed = |step: &str| format!("`{image}` could not be made from Debian's packages: {step}");
    remove_tree(dir.to_owned()).await.map_err(|source| error::retry(failed("its directory can not be cleared"), source))?;
    tokio::fs::create_dir_all(dir).await.map_err(|source| error::retry(failed("its directory can not be made"), source))?;

    let mut command = Command::new(debootstrap);
    command.args(["--variant=minbase", suite]).arg(dir);
    if let Some(mirror) = mirror(suite, &read_sources(Path::new("/etc/apt"))) {
        command.arg(mirror);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| error::retry(failed("debootstrap does not start"), source))?;
    let mut last = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = tokio::time::timeout(SILENCE, lines.next_line()).await;
            let line = line.map_err(|_| error::retry_because(failed("debootstrap has been silent for too long")))?;
            let Some(line) = line.map_err(|source| error::retry(failed("debootstrap can not be heard"), source))? else { break };
            last = line.chars().take(200).collect();
            progress(Progress { percent: None, step: format!("making {image}: {}", last.trim_start_matches("I: ")) });
        }
    }
    let status = child.wait().await.map_err(|source| error::retry(failed("debootstrap can not be waited for"), source))?;
    if !status.success() {
        return Err(error::retry_because(failed(&format!("debootstrap ended with {status}; its last line was `{last}`"))));
    }
    import(engine, dir, image, progress).await
}

/// The directory as an image of one layer, without the packages it was made from.
async fn import(engine: &Engine, dir: &Path, image: &str, progress: &ProgressSink) -> Result<(), DriverError> {
    let failed = |step: &str| format!("`{image}` could not be handed to the Docker engine: {step}");
    progress(Progress { percent: None, step: format!("importing {image}") });
    let mut tar = Command::new("tar")
        .args([
            "--numeric-owner",
            "--xattrs",
            "--exclude=./var/cache/apt/archives/*.deb",
            "--exclude=./var/lib/apt/lists/*_*",
            "--exclude=./dev/*",
            "-C",
        ])
        .arg(dir)
        .args(["-c", "."])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| error::retry(failed("tar does not start"), source))?;
    let Some(stdout) = tar.stdout.take() else { return Err(error::retry_because(failed("tar has no output"))) };
    let (repo, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repo).tag(tag).changes(vec!["CMD [\"bash\"]".to_owned()]).build();
    let body = bollard::body_try_stream(ReaderStream::with_capacity(stdout, 256 * 1024));
    let mut news = engine.docker().await?.create_image(Some(options), Some(body), None).boxed();
    while let Some(item) = next_within(&mut news, SILENCE, || format!("the import of `{image}`")).await? {
        item.map_err(|source| error::retry(failed("the engine refuses it"), source))?;
    }
    let status = tar.wait().await.map_err(|source| error::retry(failed("tar can not be waited for"), source))?;
    if !status.success() {
        return Err(error::retry_because(failed(&format!("tar ended with {status}"))));
    }
    match image::inspect(engine, image).await? {
        Some(_) => Ok(()),
        None => Err(error::retry_because(failed("it is not there afterwards"))),
    }
}

/// Everything that the machine's own apt takes packages from.
fn read_sources(apt: &Path) -> String {
    let mut files = vec![apt.join("sources.list")];
    let mut further: Vec<_> =
        std::fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    further.sort();
    files.extend(further.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "list" || kind == "sources")));
    // An empty line between files ends a stanza of the newer format.
    files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>().join("\n\n")
}

/// The mirror from which this machine itself takes the suite; debootstrap's own default otherwise.
fn mirror(suite: &str, sources: &str) -> Option<String> {
    let usable = |uri: &&str| ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme));
    for line in sources.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("deb") {
            continue;
        }
        let mut words = words.skip_while(|word| word.starts_with('[') && !word.ends_with(']')).skip_while(|word| word.ends_with(']'));
        if let (Some(uri), Some(found)) = (words.next(), words.next())
            && found == suite
            && usable(&uri)
        {
            return Some(uri.to_owned());
        }
    }
    sources.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let values = stanza.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
            values.map(|(_, values)| values.split_whitespace().collect::<Vec<_>>()).unwrap_or_default()
        };
        let fits = field("Types").contains(&"deb") && field("Suites").contains(&suite) && field("Enabled") != ["no"];
        fits.then(|| field("URIs").into_iter().find(usable).map(str::to_owned)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// `cargo nextest run --run-ignored only -p manman-worker debian_is_made`
    #[tokio::test]
    #[ignore = "takes a minute and a hundred packages; needs root and debootstrap"]
    async fn debian_is_made_where_it_can_not_be_pulled() {
        let image = "debian:bookworm";
        let engine = Engine::new(super::super::engine::default_socket());
        assert!(image::inspect(&engine, image).await.expect("a look").is_none(), "there is a `{image}` here already");
        let dir = tempfile::tempdir().expect("a directory");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let progress: ProgressSink = Arc::new(move |progress| sink.lock().expect("no panic").push(progress.step));
        ensure(&engine, dir.path(), image, &progress).await.expect("it is made");
        let heard = heard.lock().expect("no panic").clone();
        assert!(heard.iter().any(|step| step.contains("Retrieving")), "{heard:?}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0, "nothing is left behind");
        let ran =
            Command::new("docker").args(["run", "--rm", image, "cat", "/etc/debian_version"]).output().await.expect("the docker tool");
        assert!(String::from_utf8_lossy(&ran.stdout).starts_with("12"), "{ran:?}");
        Command::new("docker").args(["rmi", image]).output().await.expect("the docker tool");
    }

    #[test]
    fn the_machines_own_mirror_is_used() {
        let old = "# deb http://no.example/debian bookworm main\ndeb http://updates.example/debian bookworm-updates main\n\
                   deb [arch=amd64 signed-by=/x.gpg] http://near.example/debian bookworm main contrib\n";
        assert_eq!(mirror("bookworm", old).as_deref(), Some("http://near.example/debian"));
        let new = "Types: deb\nURIs: http://other.example/x\nSuites: nodistro\n\nTypes: deb deb-src\n# a comment\nURIs: http://new.example/debian\n\
                   Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(mirror("bookworm", new).as_deref(), Some("http://new.example/debian"));
        assert_eq!(mirror("trixie", new), None);
    }

    #[test]
    fn only_debian_can_be_made() {
        assert_eq!(debian_suite("debian:bookworm-slim"), Some("bookworm"));
        assert_eq!(debian_suite("debian:trixie"), Some("trixie"));
        for other in ["debian:12", "ubuntu:noble", "debian", "debian:", "x/debian:bookworm"] {
            assert_eq!(debian_suite(other), None, "{other}");
        }
    }
}
