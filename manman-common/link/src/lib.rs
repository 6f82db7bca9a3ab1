//! The rules of the link, both ends, pure: who may begin a session, whose memory is trusted, how the
//! worker's specs come to equal the host's. Host and worker do what is decided here; the simulation
//! of this crate runs the same rules over a network that loses, doubles, delays and cuts.

pub mod admission;
pub mod sync;
pub mod trust;

#[cfg(test)]
mod sim;
