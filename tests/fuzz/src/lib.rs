//! The parsers under test, as they are in their crates; and next to each what it expects around it.
#![expect(dead_code, unused_imports, unreachable_pub, reason = "of each module only the parser is wanted")]

pub mod games;
pub mod orchestrator;
pub mod path;
pub mod stage;
pub mod clock {
    pub fn random_below(_limit: u64) -> u64 {
        0
    }
}
pub mod domain {
    pub mod ports;
    pub mod template;
    pub mod variables;
}
pub mod proxy {
    mod headers;
    mod rewrite;
    mod trusted;

    include!("around/proxy.rs");
}
pub mod rcon {
    mod collected;
    mod fault;
    mod packets;
    mod quake3;
    mod telnet;
    mod web;

    include!("around/rcon.rs");
}
#[path = "shim/proto.rs"]
pub mod shim_proto;
