//! Callers by the hash of their secret, so that a request costs no query, and the tokens that have
//! just been revoked, so that none comes back by a query that was under way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manman_common::wire::Scope;
use manman_common::{AccountId, Timestamp, TokenId};

use super::Caller;

/// How many callers are remembered; beyond it all are forgotten, and asked for again.
const CALLERS_MAX: usize = 20_000;
/// Revoked tokens that are remembered: more than are revoked while a query is under way.
const REVOKED_MAX: usize = 4_096;
/// When a token was last used is written down so often.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// The same for a worker, whose beat is noted elsewhere.
const WORKER_NOTED_EVERY: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Default)]
pub struct Callers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    callers: HashMap<[u8; 32], Remembered>,
    revoked: VecDeque<TokenId>,
}

#[derive(Debug)]
struct Remembered {
    caller: Caller,
    noted: Timestamp,
}

/// A caller that is remembered.
pub(super) struct Found {
    pub(super) caller: Caller,
    /// Whether it is time to write down that the token was used.
    pub(super) note: bool,
}

impl Callers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, secret_hash: &[u8; 32], now: Timestamp) -> Option<Found> {
        let mut known = self.lock();
        let found = known.callers.get_mut(secret_hash).filter(|found| found.caller.expires_at.is_none_or(|at| at > now))?;
        let every = if found.caller.scope == Scope::Worker { WORKER_NOTED_EVERY } else { NOTED_EVERY };
        let note = now.since(found.noted) >= every;
        if note {
            found.noted = now;
        }
        Some(Found { caller: found.caller.clone(), note })
    }

    /// Remembers what a query has just said; `false` where it is no longer true.
    pub(super) fn remember(&self, secret_hash: [u8; 32], caller: Caller, now: Timestamp) -> bool {
        let mut known = self.lock();
        if known.revoked.contains(&caller.token_id) {
            return false;
        }
        if known.callers.len() >= CALLERS_MAX {
            known.callers.clear();
        }
        known.callers.insert(secret_hash, Remembered { caller, noted: now });
        true
    }

    pub(super) fn revoke(&self, tokens: &[TokenId]) {
        let mut known = self.lock();
        known.callers.retain(|_, found| !tokens.contains(&found.caller.token_id));
        known.revoked.extend(tokens);
        let surplus = known.revoked.len().saturating_sub(REVOKED_MAX);
        known.revoked.drain(..surplus);
    }

    /// Forgets what is known of an account's sessions: they are looked up again.
    pub(super) fn forget(&self, account: AccountId) {
        self.lock().callers.retain(|_, found| found.caller.account_id != Some(account));
    }

    /// Whether the token was revoked a short while ago.
    pub(crate) fn is_revoked(&self, token: TokenId) -> bool {
        self.lock().revoked.contains(&token)
    }
}
