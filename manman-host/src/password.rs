//! Passwords of people: kept as salted hashes that are dear to try.

use std::hint::black_box;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use manman_common::wire::{PASSWORD_MAX, PASSWORD_MIN, Password};
use tokio::sync::Semaphore;

use crate::clock;

/// 19 MiB and two passes: the least of what OWASP advises for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const SALT: usize = 16;
const HASH: usize = 32;
/// Hashes under way at once: more would cost memory and win nothing on a home's machine.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// Those, and the ones that wait for their turn: some seconds of work.
static IN_LINE: Semaphore = Semaphore::const_new(256);
/// What the C library maps by itself and gives back at once; a smaller piece would stay with the
/// process for good. What lies behind the 19 MiB is never touched, and so costs nothing.
const MAPPED_BLOCKS: usize = 33 * 1024;
/// No password has this hash. It is tried where there is none, so that an answer takes as long.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("too many passwords are looked at in this moment")]
    Busy,
    #[error("could not hash a password")]
    Hash(#[source] argon2::Error),
    #[error("the hash of a password is not readable")]
    Format,
    #[error("hashing a password was cut short")]
    CutShort,
}

/// Why nobody should choose this password; `None` if it will do.
#[must_use]
pub fn weakness(password: &Password, name: &str) -> Option<String> {
    let text = password.as_str();
    if text.chars().count() < PASSWORD_MIN {
        return Some(format!("a password has {PASSWORD_MIN} characters or more"));
    }
    if text.len() > PASSWORD_MAX {
        return Some(format!("a password has {PASSWORD_MAX} bytes at most"));
    }
    let first = text.chars().next();
    if text.chars().all(|c| Some(c) == first) || text.to_lowercase() == name.to_lowercase() {
        return Some("that is the first thing that somebody else would try".to_owned());
    }
    None
}

/// A salted hash in the PHC form, `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
pub async fn hash(password: &Password) -> Result<String, PasswordError> {
    let salt = clock::random_secret();
    let salt = salt[..SALT].to_vec();
    let hash = derive(password.clone(), salt.clone(), MEMORY_KIB, PASSES).await?;
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${}${}", BASE64.encode(salt), BASE64.encode(hash)))
}

/// Whether the password is the one of that hash. Where there is no hash the answer is no, and
/// takes as long.
pub async fn verify(password: &Password, phc: Option<&str>) -> Result<bool, PasswordError> {
    let known = phc.is_some() && password.as_str().len() <= PASSWORD_MAX;
    let phc = phc.unwrap_or(NOBODYS);
    let mut parts = phc.split('$');
    let (Some(""), Some("argon2id"), Some("v=19"), Some(cost), Some(salt), Some(wanted), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(PasswordError::Format);
    };
    let (memory, passes) = cost_of(cost).ok_or(PasswordError::Format)?;
    let decode = |text: &str| BASE64.decode(text).map_err(|_| PasswordError::Format);
    let (salt, wanted) = (decode(salt)?, decode(wanted)?);
    let tried = if known { password.clone() } else { Password::new("") };
    let hash = derive(tried, salt, memory, passes).await?;
    Ok(equal(&hash, &wanted) && known)
}

/// `m=19456,t=2,p=1`.
fn cost_of(text: &str) -> Option<(u32, u32)> {
    let (memory, rest) = text.strip_prefix("m=")?.split_once(",t=")?;
    Some((memory.parse().ok()?, rest.strip_suffix(",p=1")?.parse().ok()?))
}

/// Compares without ending early at the first difference.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0_u8, |found, (a, b)| black_box(found | (a ^ b)));
    one.len() == other.len() && differences == 0
}

async fn derive(password: Password, salt: Vec<u8>, memory: u32, passes: u32) -> Result<Vec<u8>, PasswordError> {
    let _place = IN_LINE.try_acquire().map_err(|_| PasswordError::Busy)?;
    let permit = AT_ONCE.acquire().await.map_err(|_| PasswordError::CutShort)?;
    let hashing = tokio::task::spawn_blocking(move || {
        // Held here and not by who waits: a request that is given up leaves its hash running.
        let _permit = permit;
        let params = Params::new(memory, passes, 1, Some(HASH)).map_err(PasswordError::Hash)?;
        let mut blocks: Vec<Block> = Vec::with_capacity(MAPPED_BLOCKS.max(params.block_count()));
        blocks.resize(params.block_count(), Block::new());
        let mut hash = vec![0; HASH];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2
            .hash_password_into_with_memory(password.as_str().as_bytes(), &salt, &mut hash, &mut blocks[..])
            .map_err(PasswordError::Hash)?;
        Ok(hash)
    });
    hashing.await.map_err(|_| PasswordError::CutShort)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_salted_and_found_again() {
        let (right, wrong) = (Password::new("correct horse"), Password::new("correct horsE"));
        let (one, other) = (hash(&right).await.expect("a hash"), hash(&right).await.expect("a hash"));
        assert_ne!(one, other, "two hashes of one password differ by their salt");
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(verify(&right, Some(&one)).await.expect("readable"));
        assert!(!verify(&wrong, Some(&one)).await.expect("readable"));
        assert!(!verify(&right, None).await.expect("readable"));
        assert!(!verify(&Password::new("x".repeat(PASSWORD_MAX + 1)), Some(&one)).await.expect("readable"));
        for broken in ["", "$argon2id$v=19$nonsense", "$argon2id$v=19$m=19456,t=2,p=1$AA$AA$AA", "$2y$10$abc"] {
            assert!(verify(&right, Some(broken)).await.is_err(), "{broken}");
        }
    }

    #[test]
    fn what_others_would_try_first_will_not_do() {
        let weak = |text: &str| weakness(&Password::new(text), "anna-lena-k").is_some();
        for bad in ["", "short", "aaaaaaaaaaaaaaa", "Anna-Lena-K", &"x1".repeat(200)] {
            assert!(weak(bad), "{bad}");
        }
        assert!(!weak("correct horse") && !weak("ünïcödé wörd"));
    }
}
