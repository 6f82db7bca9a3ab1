//! The host's word to the local network: where it is, and which certificate is its own.

use std::time::Duration;

use manman_mdns::{Announced, Announcement, MdnsError};
use tokio_util::sync::CancellationToken;

use crate::app::AppRef;
use crate::run::chain;

/// A machine may come up before its network does.
const RETRY: Duration = Duration::from_secs(30);

/// Announces the host until `stop`. Whatever goes wrong is tried again, and nobody else's concern.
pub(crate) async fn announce(app: AppRef, stop: CancellationToken) {
    let Some(announcement) = announcement(&app) else { return };
    let mut said = false;
    let announced = loop {
        match begin(announcement.clone()).await {
            Ok(announced) => break announced,
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(error = chain(&error), "the host could not announce itself; it is tried again");
            }
            Err(_) => {}
        }
        if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    };
    tracing::info!(url = announcement.url, "announced by mDNS");
    stop.cancelled().await;
    announced.goodbye().await;
}

/// Sockets are opened here, and may take a moment.
async fn begin(announcement: Announcement) -> Result<Announced, MdnsError> {
    match tokio::task::spawn_blocking(move || announcement.announce()).await {
        Ok(begun) => begun,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn announcement(app: &AppRef) -> Option<Announcement> {
    let bound = app.bound.get()?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(Announcement {
        name: machine.split('.').next().filter(|name| !name.is_empty()).unwrap_or("manman").to_owned(),
        id: app.host_id.simple().to_string(),
        url: bound.public_url.clone(),
        fingerprint: bound.fingerprint.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        listens: bound.public,
    })
}
