//! A host for a worker that was told none: the one that it has found before, or one that announces
//! itself on the local network.
//!
//! Whoever a worker joins may run programs on this machine, and anybody on the network may announce
//! anything. So it joins the only host there is, and only where it was told to look; it pins the
//! announced certificate, says which one that is, and shows no token that another host gave.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use manman_common::client::Endpoint;
use manman_mdns::FoundHost;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::error_chain;
use crate::app::Worker;
use crate::config::Find;
use crate::host_link;

const FILE: &str = "found-host.json";
/// How long the network is listened to; a host answers within a second.
const LISTEN: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A host that restarts is back before it is looked for elsewhere.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// A host that was found, kept for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// With its certificate's fingerprint.
    host: String,
    /// Whose token this worker then got; none before the first registration.
    host_id: Option<Uuid>,
}

/// Finds a host and works for it, for as long as the task lives.
pub(crate) async fn run(worker: Arc<Worker>) {
    if worker.config.find == Find::Off {
        return;
    }
    let registered = worker.registration().map(|registration| registration.host_id);
    let kept = read(&worker.data_dir.join(FILE));
    let endpoint = match endpoint_of(kept.as_ref(), registered) {
        Known::Found(endpoint) => Some(endpoint),
        Known::Other => {
            tracing::warn!("this worker has a host already, and was not told where it is; name it with --host URL");
            return;
        }
        Known::Nobody => None,
    };
    let mut endpoint = match (endpoint, worker.config.find) {
        (Some(endpoint), _) => endpoint,
        (None, Find::Off | Find::Tell) => return tell().await,
        (None, Find::Join) => only_one().await,
    };
    if registered.is_none() {
        keep(&worker, &Kept { host: endpoint.to_string(), host_id: None });
    }
    loop {
        worker.set_host(endpoint.clone());
        let works = async { tokio::join!(host_link::run(Arc::clone(&worker), endpoint.clone()), keep_identity(&worker, &endpoint)) };
        // Cancel-safe: neither ends by itself, and a session that is dropped is one that broke.
        let elsewhere = tokio::select! {
            _ = works => return,
            elsewhere = moved(&worker, &endpoint) => elsewhere,
        };
        tracing::warn!(host = %endpoint, "the host, by its certificate, is at {elsewhere} now");
        let host_id = worker.registration().map(|registration| registration.host_id);
        keep(&worker, &Kept { host: elsewhere.to_string(), host_id });
        endpoint = elsewhere;
    }
}

/// Waits until the host is announced at another address, while it does not answer at the one that is
/// known. By its certificate alone it is known to be the same: where there is none, a person is told.
async fn moved(worker: &Worker, endpoint: &Endpoint) -> Endpoint {
    let mut link = worker.link_state.subscribe();
    let mut retry = RETRY_FIRST;
    let mut said = false;
    loop {
        if link.wait_for(|state| state.away).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(AWAY_FOR, link.wait_for(|state| !state.away)).await.is_ok() {
            retry = RETRY_FIRST;
            continue;
        }
        let found = manman_mdns::find(LISTEN).await.unwrap_or_default();
        match (elsewhere(endpoint, &found), &found[..]) {
            (Some(elsewhere), _) => return elsewhere,
            (None, [host]) if endpoint.pin().is_none() && host.endpoint != *endpoint && !std::mem::replace(&mut said, true) => {
                tracing::warn!(
                    host = %endpoint,
                    "the host is away, and one announces itself at {}; if it is the same, name it with --host",
                    host.endpoint
                );
            }
            _ => {}
        }
        tokio::time::sleep(crate::clock::jitter_around(retry)).await;
        retry = (retry * 2).min(RETRY_LONGEST);
    }
}

/// Where that host is now, if somebody with its certificate is elsewhere.
fn elsewhere(endpoint: &Endpoint, found: &[FoundHost]) -> Option<Endpoint> {
    endpoint.pin()?;
    let same = found.iter().map(|host| &host.endpoint).find(|other| other.pin() == endpoint.pin() && *other != endpoint);
    same.cloned()
}

#[derive(Debug, PartialEq, Eq)]
enum Known {
    Found(Endpoint),
    /// The token here is of a host that was not found, but named.
    Other,
    Nobody,
}

fn endpoint_of(kept: Option<&Kept>, registered: Option<Uuid>) -> Known {
    let endpoint = kept.and_then(|kept| kept.host.parse().ok());
    match (endpoint, registered) {
        (None, None) => Known::Nobody,
        (Some(endpoint), None) => Known::Found(endpoint),
        (Some(endpoint), Some(host)) if kept.and_then(|kept| kept.host_id) == Some(host) => Known::Found(endpoint),
        (_, Some(_)) => Known::Other,
    }
}

/// Says who is there, once, and how to join.
async fn tell() {
    match manman_mdns::find(LISTEN).await {
        Ok(found) => found.iter().for_each(say),
        Err(error) => tracing::debug!(error = error_chain(&error), "the network could not be asked for hosts"),
    }
}

fn say(host: &FoundHost) {
    tracing::info!(host.name = host.name, "a host is on this network; to join it: manman-worker run --host '{}'", host.endpoint);
}

/// Waits until exactly one host is there.
async fn only_one() -> Endpoint {
    let mut retry = RETRY_FIRST;
    let mut said = None;
    tracing::info!("looking for a host on the network");
    loop {
        match manman_mdns::find(LISTEN).await {
            Ok(found) => {
                if let [host] = &found[..] {
                    tracing::warn!(
                        host.name = host.name,
                        host.version = host.version,
                        "found a host at {}; compare its fingerprint with the one in the `join` line there, and accept this worker on it",
                        host.endpoint
                    );
                    return host.endpoint.clone();
                }
                if said.replace(found.len()) != Some(found.len()) {
                    match found.len() {
                        0 => tracing::warn!("no host announces itself here yet; is one up with --lan or --mdns? it is looked for again"),
                        count => {
                            tracing::warn!(count, "several hosts announce themselves; choose one with --host");
                            found.iter().for_each(say);
                        }
                    }
                }
            }
            Err(error) if said.replace(usize::MAX) != Some(usize::MAX) => {
                tracing::warn!(error = error_chain(&error), "the network can not be asked for hosts; it is tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(crate::clock::jitter_around(retry)).await;
        retry = (retry * 2).min(RETRY_LONGEST);
    }
}

/// Writes down whose token this worker has, each time that it is another's.
async fn keep_identity(worker: &Worker, endpoint: &Endpoint) {
    let mut link = worker.link_state.subscribe();
    let mut written = None;
    loop {
        let host_id = link.borrow_and_update().registration.as_ref().map(|registration| registration.host_id);
        if host_id.is_some() && host_id != written {
            keep(worker, &Kept { host: endpoint.to_string(), host_id });
            written = host_id;
        }
        if link.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A worker that can not keep it finds it again.
fn keep(worker: &Worker, kept: &Kept) {
    if let Err(error) = write(&worker.data_dir.join(FILE), kept) {
        tracing::warn!(%error, "the found host could not be written down");
    }
}

/// Whole or not at all.
fn write(path: &Path, kept: &Kept) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_the_host_that_gave_it_alone() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let kept = |host_id| Kept { host: "http://10.0.0.1:8080".to_owned(), host_id };
        let found = Known::Found("http://10.0.0.1:8080".parse().expect("an address"));
        assert_eq!(endpoint_of(None, None), Known::Nobody);
        assert_eq!(endpoint_of(Some(&kept(None)), None), found);
        assert_eq!(endpoint_of(Some(&kept(Some(one))), Some(one)), found);
        assert_eq!(endpoint_of(Some(&kept(Some(one))), Some(other)), Known::Other);
        assert_eq!(endpoint_of(Some(&kept(None)), Some(one)), Known::Other);
        assert_eq!(endpoint_of(None, Some(one)), Known::Other, "it was named by --host in an earlier run");
    }

    #[test]
    fn a_host_is_known_elsewhere_by_its_certificate_alone() {
        let found = |endpoint: String| FoundHost {
            name: "attic".to_owned(),
            version: String::new(),
            address: "10.0.0.9:8443".parse().expect("an address"),
            endpoint: endpoint.parse().expect("an endpoint"),
        };
        let (own, other) = (format!("#sha256={}", "ab".repeat(32)), format!("#sha256={}", "cd".repeat(32)));
        let known: Endpoint = format!("https://10.0.0.1:8443{own}").parse().expect("an endpoint");
        let moved = found(format!("https://10.0.0.9:8443{own}"));
        assert_eq!(elsewhere(&known, &[found(format!("https://10.0.0.9:8443{other}"))]), None, "another host");
        assert_eq!(elsewhere(&known, &[found(known.to_string())]), None, "it is where it was");
        assert_eq!(elsewhere(&known, std::slice::from_ref(&moved)), Some(moved.endpoint));
        let plain: Endpoint = "http://10.0.0.1:8080".parse().expect("an endpoint");
        assert_eq!(elsewhere(&plain, &[found("http://10.0.0.9:8080".to_owned())]), None, "nobody could tell");
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        assert_eq!(read(&path), None);
        let kept = Kept { host: "http://10.0.0.1:8080".to_owned(), host_id: Some(Uuid::from_u128(1)) };
        write(&path, &kept).expect("it is written");
        assert_eq!(read(&path), Some(kept));
        std::fs::write(&path, "{").expect("it is written");
        assert_eq!(read(&path), None, "half a file is none");
    }
}
