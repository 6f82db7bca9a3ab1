//! Secrets of waifus: kept as salted hashes that are dear to try.

use std::fmt;
use std::hint::black_box;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::clock;

/// 19 MiB and two passes: the least of what OWASP advises for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const SALT: usize = 16;
const HASH: usize = 32;
/// Hashes under way at once: more would cost memory and win nothing on a home's machine.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// What the C library maps by itself and gives back at once; a smaller piece would stay with the
/// process for good. What lies behind the 19 MiB is never touched, and so costs nothing.
const MAPPED_BLOCKS: usize = 33 * 1024;

/// 16 to 256 bytes that only the waifu knows. It is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("a secret has 16 to 256 bytes")]
    Length,
    #[error("could not hash a secret")]
    Hash(#[source] argon2::Error),
    #[error("the hash of a secret is not readable")]
    Format,
    #[error("hashing a secret was cut short")]
    CutShort,
}

impl Secret {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        if (16..=256).contains(&text.len()) { Ok(Self(text)) } else { Err(SecretError::Length) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<secret>)")
    }
}

/// A salted hash in the PHC form, `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
pub async fn hash(secret: &Secret) -> Result<String, SecretError> {
    let salt = clock::random_secret();
    let salt = salt[..SALT].to_vec();
    let hash = derive(secret.clone(), salt.clone(), MEMORY_KIB, PASSES).await?;
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${}${}", BASE64.encode(salt), BASE64.encode(hash)))
}

/// Whether the secret is the one of that hash.
pub async fn verify(secret: &Secret, phc: &str) -> Result<bool, SecretError> {
    let parts: Vec<&str> = phc.split('$').collect();
    let ["", "argon2id", "v=19", cost, salt, wanted] = parts[..] else { return Err(SecretError::Format) };
    let mut memory = None;
    let mut passes = None;
    for part in cost.split(',') {
        match part.split_once('=') {
            Some(("m", value)) => memory = value.parse().ok(),
            Some(("t", value)) => passes = value.parse().ok(),
            Some(("p", "1")) => {}
            _ => return Err(SecretError::Format),
        }
    }
    let (Some(memory), Some(passes)) = (memory, passes) else { return Err(SecretError::Format) };
    let decode = |text: &str| BASE64.decode(text).map_err(|_| SecretError::Format);
    let (salt, wanted) = (decode(salt)?, decode(wanted)?);
    let hash = derive(secret.clone(), salt, memory, passes).await?;
    Ok(equal(&hash, &wanted))
}

/// Compares without ending early at the first difference.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0_u8, |found, (a, b)| black_box(found | (a ^ b)));
    one.len() == other.len() && differences == 0
}

async fn derive(secret: Secret, salt: Vec<u8>, memory: u32, passes: u32) -> Result<Vec<u8>, SecretError> {
    let _permit = AT_ONCE.acquire().await.map_err(|_| SecretError::CutShort)?;
    let hashing = tokio::task::spawn_blocking(move || {
        let params = Params::new(memory, passes, 1, Some(HASH)).map_err(SecretError::Hash)?;
        let mut blocks: Vec<Block> = Vec::with_capacity(MAPPED_BLOCKS.max(params.block_count()));
        blocks.resize(params.block_count(), Block::new());
        let mut hash = vec![0; HASH];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into_with_memory(secret.0.as_bytes(), &salt, &mut hash, &mut blocks[..]).map_err(SecretError::Hash)?;
        Ok(hash)
    });
    hashing.await.map_err(|_| SecretError::CutShort)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn w08_a_secret_is_salted_and_found_again() {
        let secret = |text: &str| Secret::try_from(text.to_owned());
        assert!(secret("too short").is_err() && secret(&"x".repeat(257)).is_err());
        let (right, wrong) = (secret("0123456789abcdef").expect("a secret"), secret("0123456789abcdeF").expect("a secret"));
        let (one, other) = (hash(&right).await.expect("a hash"), hash(&right).await.expect("a hash"));
        assert_ne!(one, other, "two hashes of one secret differ by their salt");
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(verify(&right, &one).await.expect("readable"));
        assert!(!verify(&wrong, &one).await.expect("readable"));
        assert!(verify(&right, "$argon2id$v=19$nonsense").await.is_err());
        assert!(!format!("{right:?}").contains("0123"));
    }
}
