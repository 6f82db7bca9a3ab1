//! The key from which the passwords of databases are derived: nothing that could be turned back into
//! a password is ever stored.

use std::io::{ErrorKind, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{digest, hmac, pbkdf2};

use crate::clock;

/// What PostgreSQL itself uses; the passwords are random, so more would protect nothing.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

pub struct MasterKey {
    key: hmac::Key,
    id: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("could not {doing} `{}`", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` holds no key", .0.display())]
    Format(PathBuf),
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(<secret>)")
    }
}

impl MasterKey {
    /// The key of that file, which is made where there is none.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let text = secret_file(path, || URL_SAFE_NO_PAD.encode(clock::random_secret()))?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Format(path.to_owned()))?;
        if bytes.len() != 32 {
            return Err(KeyError::Format(path.to_owned()));
        }
        let id = digest::digest(&digest::SHA256, &bytes).as_ref()[..16].to_vec();
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), id })
    }

    /// By which a row knows whether its password is of this key.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    pub fn password(&self, name: &str, generation: i64) -> String {
        let text = format!("manman database\0{name}\0{generation}");
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, text.as_bytes()))
    }
}

/// What PostgreSQL stores of a password (RFC 5803). It is computed here, so that no statement, and so
/// no log of the server, ever holds the password.
pub(super) fn scram_verifier(password: &str) -> String {
    let salt = &clock::random_secret()[..16];
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.as_bytes(), &mut salted);
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&salted, b"Server Key");
    format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", STANDARD.encode(salt), STANDARD.encode(stored), STANDARD.encode(server))
}

/// The text of a file for its owner alone; made whole where there is none.
pub(crate) fn secret_file(path: &Path, make: impl FnOnce() -> String) -> Result<String, KeyError> {
    let error = |doing| move |source| KeyError::File { doing, path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(missing) if missing.kind() == ErrorKind::NotFound => {}
        Err(other) => return Err(error("read")(other)),
    }
    let text = make();
    write_private(path, &format!("{text}\n")).map_err(error("write"))?;
    Ok(text)
}

/// Replaces a file in one step, readable by its owner alone.
pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}
