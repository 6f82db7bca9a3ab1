//! A host's own word.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use crate::{MdnsError, SERVICE_TYPE, TXT_FINGERPRINT, TXT_NAME, TXT_URL, TXT_VERSION};

/// A goodbye is one packet; nobody waits for more.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
/// Longest label of a DNS name, in bytes; what makes a name unique is added to it.
const NAME_MAX: usize = 50;

#[derive(Clone, Debug)]
pub struct Announcement {
    /// As people call it.
    pub name: String,
    /// Tells it from others of that name; letters and digits.
    pub id: String,
    pub url: String,
    /// SHA-256 of its certificate in hex, where that is its own.
    pub fingerprint: Option<String>,
    pub version: String,
    /// Where it listens: it is announced on that interface alone, or on all but loopback where it
    /// listens everywhere.
    pub listens: SocketAddr,
}

/// Is announced for as long as this lives.
pub struct Announced {
    daemon: ServiceDaemon,
    full_name: String,
}

impl Announcement {
    pub fn announce(&self) -> Result<Announced, MdnsError> {
        let failed = MdnsError::of("announce the host");
        let daemon = ServiceDaemon::new().map_err(&failed)?;
        let mut info = self.info().map_err(&failed)?;
        let full_name = info.get_fullname().to_owned();
        let announced = Announced { daemon, full_name };
        let address = self.listens.ip();
        let (off, on) = if address.is_loopback() {
            (IfKind::All, Some(IfKind::LoopbackV4))
        } else if address.is_unspecified() {
            (IfKind::LoopbackV4, None)
        } else {
            (IfKind::All, Some(IfKind::Addr(address)))
        };
        info.set_interfaces(vec![on.clone().unwrap_or(IfKind::All)]);
        announced.daemon.disable_interface(off).map_err(&failed)?;
        match on {
            Some(on) => announced.daemon.enable_interface(on).map_err(&failed)?,
            None => announced.daemon.disable_interface(IfKind::LoopbackV6).map_err(&failed)?,
        }
        announced.daemon.register(info).map_err(&failed)?;
        Ok(announced)
    }

    fn info(&self) -> mdns_sd::Result<ServiceInfo> {
        let mut properties = vec![(TXT_URL, self.url.as_str()), (TXT_NAME, self.name.as_str()), (TXT_VERSION, self.version.as_str())];
        properties.extend(self.fingerprint.as_deref().map(|fingerprint| (TXT_FINGERPRINT, fingerprint)));
        let name = self.name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= NAME_MAX).map(|(_, c)| c).collect::<String>();
        // A host name of its own: the machine's may be announced by another program already.
        let host_name = format!("manman-{}.local.", self.id);
        let port = self.listens.port();
        match self.listens.ip() {
            address if address.is_unspecified() => {
                ServiceInfo::new(SERVICE_TYPE, &name, &host_name, "", port, &properties[..]).map(ServiceInfo::enable_addr_auto)
            }
            address => ServiceInfo::new(SERVICE_TYPE, &name, &host_name, IpAddr::to_string(&address), port, &properties[..]),
        }
    }
}

impl Announced {
    /// Takes the word back, so that nobody looks for a host that is gone.
    pub async fn goodbye(self) {
        if let Ok(gone) = self.daemon.unregister(&self.full_name) {
            // Those that do not hear it forget the host by its records' time to live.
            let _ = tokio::time::timeout(GOODBYE_WITHIN, gone.recv_async()).await;
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // The daemon's thread ends by this, and by nothing else.
        let _ = self.daemon.shutdown();
    }
}
