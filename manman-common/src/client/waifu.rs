//! Being a waifu: hello is said to an orchestrator, and again for as long as we are there.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Client, ClientError};

/// Who we are, and where. The lease is for programs that come and go: it ends with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hello {
    pub name: String,
    pub host: String,
    /// Seconds.
    pub expire: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Where the front door shows us.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Welcome {
    pub url: String,
    #[serde(default)]
    pub lease_seconds: u32,
}

/// Missed twice, a lease still holds.
pub const HELLO_LEASE: u32 = 30;
const RETRY: Duration = Duration::from_secs(5);

/// One label of DNS made of any name, as an orchestrator wants it; none where nothing is left.
#[must_use]
pub fn waifu_name(text: &str) -> Option<String> {
    let label: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let label = label.trim_matches('-');
    let label = label.get(..63).unwrap_or(label).trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

impl Client {
    /// `POST /__internal/hello`; for an orchestrator's inner listener.
    pub async fn hello(&self, hello: &Hello) -> Result<Welcome, ClientError> {
        self.call(Method::POST, "/__internal/hello", Some(hello)).await
    }

    /// Says hello until it is dropped. `tell` hears of each change from well to not and back.
    pub async fn keep_hello(&self, hello: &Hello, mut tell: impl FnMut(Result<&Welcome, &ClientError>)) {
        let mut well = None;
        loop {
            let answer = self.hello(hello).await;
            if well != Some(answer.is_ok()) {
                tell(answer.as_ref());
            }
            well = Some(answer.is_ok());
            let lease = answer.map_or(0, |welcome| welcome.lease_seconds);
            let pause = if lease == 0 { RETRY } else { Duration::from_secs(lease.into()) / 3 };
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w02_any_name_becomes_a_label() {
        for (name, wanted) in [("Attic_PC.lan", Some("attic-pc-lan")), ("--a--", Some("a")), ("\u{e4}", None), ("", None)] {
            assert_eq!(waifu_name(name).as_deref(), wanted, "{name}");
        }
        assert_eq!(waifu_name(&format!("{}-b", "a".repeat(62))).map(|name| name.len()), Some(62));
    }
}
