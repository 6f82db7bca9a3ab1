//! The names in the addresses of workers' listeners. A worker says what its address is, and the host
//! asks there: wherever the name leads at that moment, it is to no place where no worker listens.

use std::net::SocketAddr;

use manman_front_door::orchestrator::is_forbidden;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

#[derive(Debug)]
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads nowhere that a worker may be".into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}
