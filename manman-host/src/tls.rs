//! TLS on the public listener: somebody's certificate, or one of our own whose fingerprint the join
//! line carries.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use crate::config::Tls;

/// What the listener needs, and what others check it by.
#[derive(Clone, Debug)]
pub struct Identity {
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, in hex, where it is our own and nobody else vouches for it.
    pub fingerprint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("could not {doing} `{}`", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` holds no {what} in PEM form", path.display())]
    Pem { what: &'static str, path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("`{}` holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("the certificate `{}` and the key `{}` can not be used together", certificate.display(), key.display())]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("could not make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("a certificate of our own needs a data directory to be kept in")]
    NoData,
}

/// `host/tls.crt` and `host/tls.key` below the data directory.
pub(crate) fn own_files(data: &Path) -> (PathBuf, PathBuf) {
    (data.join("host/tls.crt"), data.join("host/tls.key"))
}

/// The identity that the configuration asks for; our own certificate is made where there is none.
pub fn identity(tls: &Tls, data: Option<&Path>, address: Option<IpAddr>) -> Result<Option<Identity>, TlsError> {
    match tls {
        Tls::Off => Ok(None),
        Tls::Files { certificate, key } => load(certificate, key).map(|(config, _)| Some(Identity { config, fingerprint: None })),
        Tls::Own => {
            let (certificate, key) = own_files(data.ok_or(TlsError::NoData)?);
            if !(certificate.exists() && key.exists()) {
                make(&certificate, &key, address)?;
            }
            let (config, fingerprint) = load(&certificate, &key)?;
            Ok(Some(Identity { config, fingerprint: Some(fingerprint) }))
        }
    }
}

/// Made once and kept: its fingerprint is in the join lines of other machines. So its names do not
/// matter, and it does not end before they do.
fn make(certificate: &Path, key: &Path, address: Option<IpAddr>) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(address.map(|address| address.to_string()));
    let made = rcgen::generate_simple_self_signed(names)?;
    if let Some(folder) = certificate.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| TlsError::File { doing: "make the directory", path: folder.to_owned(), source })?;
    }
    // The key first: a certificate without its key is looked for again, a key alone is replaced.
    write_private(key, made.signing_key.serialize_pem().as_bytes())?;
    write_private(certificate, made.cert.pem().as_bytes())
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    let error = |source| TlsError::File { doing: "write", path: path.to_owned(), source };
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(error)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(error)
}

fn load(certificate: &Path, key: &Path) -> Result<(Arc<ServerConfig>, String), TlsError> {
    let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::File { doing: "read", path: path.to_owned(), source });
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>().map_err(|source| TlsError::Pem {
        what: "certificate",
        path: certificate.to_owned(),
        source,
    })?;
    let first = chain.first().ok_or_else(|| TlsError::Empty(certificate.to_owned()))?;
    let fingerprint = hex(&Sha256::digest(first));
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| TlsError::Pem { what: "private key", path: key.to_owned(), source })?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), fingerprint))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_certificate_is_made_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::tempdir().expect("a directory");
        let identity = || super::identity(&Tls::Own, Some(data.path()), None).expect("an identity").expect("TLS is on");
        let first = identity().fingerprint.expect("a fingerprint");
        assert_eq!(first.len(), 64);
        assert_eq!(identity().fingerprint, Some(first));
        let (certificate, key) = own_files(data.path());
        std::fs::write(&key, "nothing").expect("written");
        let error = super::identity(&Tls::Files { certificate, key }, None, None).expect_err("refused");
        assert!(error.to_string().contains("private key"), "{error}");
    }
}
