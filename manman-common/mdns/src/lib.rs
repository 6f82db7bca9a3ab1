//! Hosts on the local network, by multicast DNS (RFC 6762, 6763): a host says where it is, and
//! whoever looks for one hears of it.
//!
//! Anybody on the network may answer anything. What is found here is a hint: who uses it pins the
//! certificate that was announced, and shows it to a person.

mod announce;
mod find;

pub use announce::{Announced, Announcement};
pub use find::{FoundHost, find, lookup};

/// What a host is on the network.
pub const SERVICE_TYPE: &str = "_manman._tcp.local.";
/// The name by which any one host is looked up.
pub const HOST_NAME: &str = "manman-host";

const TXT_URL: &str = "url";
const TXT_FINGERPRINT: &str = "fingerprint";
const TXT_NAME: &str = "name";
const TXT_VERSION: &str = "version";

#[derive(Debug, thiserror::Error)]
#[error("could not {doing} by mDNS")]
pub struct MdnsError {
    doing: &'static str,
    #[source]
    source: mdns_sd::Error,
}

impl MdnsError {
    fn of(doing: &'static str) -> impl Fn(mdns_sd::Error) -> Self {
        move |source| Self { doing, source }
    }
}
