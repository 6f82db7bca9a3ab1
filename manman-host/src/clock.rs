//! The only place of the host that reads a clock or draws a random number.

#![expect(clippy::disallowed_methods, reason = "this file is the one place where it is done")]

use std::time::Instant;

use manman_common::{AccountId, CommandId, ServerId, Timestamp, TokenId, WorkerId};
use rand::RngCore as _;
use uuid::Uuid;

#[must_use]
pub fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// For durations within this process; it never jumps.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

#[must_use]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

#[must_use]
pub fn new_server_id() -> ServerId {
    ServerId::from_uuid(Uuid::now_v7())
}

#[must_use]
pub fn new_worker_id() -> WorkerId {
    WorkerId::from_uuid(Uuid::now_v7())
}

#[must_use]
pub fn new_command_id() -> CommandId {
    CommandId::from_uuid(Uuid::now_v7())
}

#[must_use]
pub fn new_token_id() -> TokenId {
    TokenId::from_uuid(Uuid::now_v7())
}

#[must_use]
pub fn new_account_id() -> AccountId {
    AccountId::from_uuid(Uuid::now_v7())
}

/// 256 random bits, for a secret.
#[must_use]
pub fn random_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    secret
}

/// A number below `end`, for jitter and for choosing; 0 where `end` is 0.
#[must_use]
pub fn random_below(end: u64) -> u64 {
    if end == 0 { 0 } else { rand::Rng::random_range(&mut rand::rng(), 0..end) }
}
