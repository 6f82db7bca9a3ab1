//! Fetches SteamCMD itself. Valve publishes no checksum and no signature of it, so what can be
//! verified is verified: it comes over TLS, it is no larger than it could be, nothing in it leads out
//! of its directory, the files that make a SteamCMD are there, and it runs and says its name (`tool`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};
use std::time::Duration;

use futures_util::StreamExt as _;
use manman_common::status::Progress;
use tokio::io::AsyncWriteExt as _;

use crate::error::{Failure, SteamError};
use crate::{Report, SteamConfig};

/// It has 3 MB.
const PACKED_MAX: u64 = 64 << 20;
/// It has 10 MB in about ten files.
const UNPACKED_MAX: u64 = 512 << 20;
const ENTRIES_MAX: usize = 2_000;

/// Of the network; the whole may take as long as a slow line needs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What makes it a SteamCMD.
const EXPECTED: [&str; 2] = ["steamcmd.sh", "linux32/steamcmd"];

const NETWORK_HINT: &str = "look at the network and try again, or name a SteamCMD of yours with `--steamcmd PATH`";

const ANSWER_HINT: &str = "something between this machine and Valve may have answered; name a SteamCMD of yours with `--steamcmd PATH`";

/// Puts a fresh one to `cmd/`; whatever was there is replaced.
pub(crate) async fn fetch(config: &SteamConfig, progress: Report<'_>) -> Result<(), SteamError> {
    progress(Progress { percent: Some(0), step: "fetching SteamCMD".to_owned() });
    let archive = config.dir.join("cmd.tar.gz.part");
    let unpacked = config.dir.join("cmd.part");
    let result = match download(config, &archive, progress).await {
        Ok(()) => {
            let (archive, unpacked, url) = (archive.clone(), unpacked.clone(), config.url.clone());
            tokio::task::spawn_blocking(move || unpack(&archive, &unpacked, &url))
                .await
                .unwrap_or_else(|_| Err(SteamError::new(Failure::Io, "the unpacking of SteamCMD was interrupted")))
        }
        Err(error) => Err(error),
    };
    let result = result.and_then(|()| {
        let home = config.dir.join("cmd");
        let replace = || -> io::Result<()> {
            if home.exists() {
                fs::remove_dir_all(&home)?;
            }
            fs::rename(&unpacked, &home)
        };
        replace().map_err(|error| SteamError::io(format!("SteamCMD can not be put to {}", home.display()), error))
    });
    // Of a failure nothing is left on a disk that may be full.
    let _ = fs::remove_file(&archive);
    let _ = fs::remove_dir_all(&unpacked);
    result
}

async fn download(config: &SteamConfig, to: &Path, progress: Report<'_>) -> Result<(), SteamError> {
    let what = || format!("SteamCMD can not be fetched from {}", config.url);
    let network =
        |source: reqwest::Error| SteamError::new(Failure::NoConnection, what()).hint(NETWORK_HINT).caused_by(source.without_url());
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("manman/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(network)?;
    let response = client.get(&config.url).send().await.and_then(reqwest::Response::error_for_status).map_err(network)?;
    let total = response.content_length();
    let too_large = || {
        SteamError::new(Failure::Tool, format!("{}: the answer is larger than {} MB, and no SteamCMD", what(), PACKED_MAX >> 20))
            .hint(ANSWER_HINT)
    };
    if total.is_some_and(|total| total > PACKED_MAX) {
        return Err(too_large());
    }
    let mut file = tokio::fs::File::create(to).await.map_err(|error| SteamError::io(what(), error))?;
    let mut body = response.bytes_stream();
    let mut done: u64 = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(network)?;
        done += chunk.len() as u64;
        if done > PACKED_MAX {
            return Err(too_large());
        }
        file.write_all(&chunk).await.map_err(|error| SteamError::io(what(), error))?;
        let percent =
            total.filter(|total| *total > 0).and_then(|total| u8::try_from(done * 100 / total).ok()).map(|percent| percent.min(100));
        progress(Progress { percent, step: "fetching SteamCMD".to_owned() });
    }
    file.flush().await.map_err(|error| SteamError::io(what(), error))
}

fn unpack(archive: &Path, to: &Path, url: &str) -> Result<(), SteamError> {
    let _ = fs::remove_dir_all(to);
    let refuse = |why: String| SteamError::new(Failure::Tool, format!("what came from {url} is no SteamCMD: {why}")).hint(ANSWER_HINT);
    let bad = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::PermissionDenied => {
            SteamError::io(format!("SteamCMD can not be unpacked to {}", to.display()), error)
        }
        _ => refuse(error.to_string()),
    };
    let file = File::open(archive).map_err(|error| SteamError::io("the fetched SteamCMD can not be read", error))?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file).take(UNPACKED_MAX));
    fs::create_dir_all(to).map_err(bad)?;
    for (count, entry) in tar.entries().map_err(bad)?.enumerate() {
        let mut entry = entry.map_err(bad)?;
        if count >= ENTRIES_MAX {
            return Err(refuse(format!("it has more than {ENTRIES_MAX} files")));
        }
        let path = entry.path().map_err(bad)?.into_owned();
        let is_inside = path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        if !is_inside {
            return Err(refuse(format!("`{}` leads out of it", path.display())));
        }
        let target = to.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target).map_err(bad)?,
            tar::EntryType::Regular => {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(bad)?;
                }
                let mode = entry.header().mode().unwrap_or(0o644) & 0o755 | 0o644;
                let mut file = File::create(&target).map_err(bad)?;
                io::copy(&mut entry, &mut file).map_err(bad)?;
                file.set_permissions(fs::Permissions::from_mode(mode)).map_err(bad)?;
            }
            tar::EntryType::Symlink => {
                let link = entry.link_name().map_err(bad)?.unwrap_or_default().into_owned();
                if link.as_os_str().is_empty() || !link.components().all(|component| matches!(component, Component::Normal(_))) {
                    return Err(refuse(format!("the link `{}` leads out of it", path.display())));
                }
                std::os::unix::fs::symlink(&link, &target).map_err(bad)?;
            }
            other => return Err(refuse(format!("`{}` is neither a file nor a directory but {other:?}", path.display()))),
        }
    }
    for expected in EXPECTED {
        match fs::metadata(to.join(expected)) {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o100 != 0 => {}
            Ok(_) => return Err(refuse(format!("`{expected}` in it can not be run"))),
            Err(_) => return Err(refuse(format!("it has no `{expected}`"))),
        }
    }
    Ok(())
}
