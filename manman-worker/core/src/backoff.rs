//! How long to wait before the next try.

use std::time::Duration;

use manman_common::ServerId;
use manman_common::link::fnv1a;

/// Seconds before the 1st, 2nd, … next try, the last one for all that follow.
const LADDER: [u64; 7] = [5, 10, 20, 40, 80, 160, 300];

/// The longest back-off there is: the last rung and its fifth.
pub const BACKOFF_MAX: Duration = Duration::from_secs(360);

/// Tries without ever being Ready after which a server is given up: with the ladder above that is
/// after about ten minutes, more than any passing trouble seen so far.
pub const TRIES_MAX: u32 = 8;

/// Time Ready after which crashes before it no longer count.
pub(crate) const STEADY_AFTER: Duration = Duration::from_secs(600);

/// The wait after the `attempt`th failure in a row (counted from 1), give or take a fifth. The fifth
/// comes from server and attempt: servers that fell together do not rise together, and the same
/// world still has the same plan.
#[must_use]
pub fn backoff(server: ServerId, attempt: u32) -> Duration {
    let rung = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(LADDER.len() - 1);
    let mut seed = server.as_uuid().as_bytes().to_vec();
    seed.extend_from_slice(&attempt.to_be_bytes());
    // Folded once more: FNV's last byte moves only its low bits.
    let drawn = fnv1a(&fnv1a(&seed).to_be_bytes()) % 401;
    Duration::from_millis(LADDER[rung] * (800 + drawn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_a_fifth_and_differs_between_servers() {
        let servers: Vec<_> = (0..200u128).map(|n| ServerId::from_uuid(uuid(n))).collect();
        for (attempt, seconds) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 300), (8, 300), (u32::MAX, 300)] {
            let waits: std::collections::BTreeSet<_> = servers.iter().map(|server| backoff(*server, attempt)).collect();
            assert!(waits.len() > 50, "attempt {attempt}: only {} different waits", waits.len());
            for wait in waits {
                assert!(wait >= Duration::from_millis(seconds * 800) && wait <= Duration::from_millis(seconds * 1200));
                assert!(wait <= BACKOFF_MAX);
            }
        }
    }

    fn uuid(n: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(n)
    }
}
