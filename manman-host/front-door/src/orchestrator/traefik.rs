//! What Traefik's HTTP provider polls, for whoever lets it terminate TLS.
//!
//! Every host leads to our own front door and none to a waifu directly, so that the one check of
//! paths stays the one there is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Orchestrator;

impl Orchestrator {
    /// The hosts that are shown here, each with whether it is to be had by https.
    pub(super) fn hosts(&self) -> BTreeMap<String, bool> {
        let now = self.tick();
        let table = self.table();
        let mut hosts: BTreeMap<String, bool> = BTreeMap::new();
        for (bind, _) in table.binds().filter(|(_, route)| route.lives(now)) {
            *hosts.entry(bind.host.clone()).or_default() |= bind.https;
        }
        if let Some(main) = self.main_domain().name() {
            hosts.insert(main.to_owned(), true);
        }
        hosts
    }

    /// The dynamic configuration; without any host it is empty.
    #[must_use]
    pub fn traefik(&self) -> Value {
        let hosts = self.hosts();
        if hosts.is_empty() {
            return json!({});
        }
        let mut routers = serde_json::Map::new();
        for (host, https) in hosts {
            let mut router = json!({ "rule": format!("Host(`{host}`)"), "service": "manman" });
            if https {
                router["tls"] = json!({});
            }
            routers.insert(format!("manman-{}", host.replace('.', "-")), router);
        }
        json!({
            "http": {
                "routers": routers,
                "services": { "manman": { "loadBalancer": { "servers": [{ "url": self.public_url() }], "passHostHeader": true } } },
            },
        })
    }
}
