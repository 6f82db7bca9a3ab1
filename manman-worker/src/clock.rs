//! The only place of this crate that reads the wall clock or draws a random number.

#![expect(clippy::disallowed_methods, reason = "this file is the one place where it is done")]

use std::time::Duration;

use manman_common::{CommandId, InstanceId, RunId, Timestamp};
use rand::Rng;
use uuid::Uuid;

#[must_use]
pub fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// Since the boot, suspends included; nobody sets it. Leases are measured on it.
#[must_use]
pub fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[must_use]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

#[must_use]
pub fn new_instance_id() -> InstanceId {
    InstanceId::from_uuid(new_uuid())
}

#[must_use]
pub fn new_run_id() -> RunId {
    RunId::from_uuid(new_uuid())
}

#[must_use]
pub fn new_command_id() -> CommandId {
    CommandId::from_uuid(new_uuid())
}

/// 256 random bits of the operating system's, as 43 characters of base64url behind `mm_SCOPE_`.
#[must_use]
pub fn new_token(scope: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: [u8; 32] = rand::rng().random();
    let mut text = format!("mm_{scope}_");
    for group in bits.chunks(3) {
        let mut buffer = [0u8; 3];
        buffer[..group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes([0, buffer[0], buffer[1], buffer[2]]);
        for place in 0..=group.len() {
            let index = (word >> (18 - 6 * place)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// A moment between zero and `ceiling`, evenly drawn.
#[must_use]
pub fn jitter_up_to(ceiling: Duration) -> Duration {
    ceiling.mul_f64(rand::rng().random::<f64>())
}

/// `middle`, give or take a fifth, so that a fleet started at once does not beat at once.
#[must_use]
pub fn jitter_around(middle: Duration) -> Duration {
    middle.mul_f64(0.8 + 0.4 * rand::rng().random::<f64>())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_has_43_characters_and_is_never_the_same() {
        let (one, two) = (super::new_token("worker"), super::new_token("worker"));
        assert_eq!(one.len(), "mm_worker_".len() + 43);
        assert_ne!(one, two);
    }
}
