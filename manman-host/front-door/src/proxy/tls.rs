//! TLS by files: `HOST.crt` and `HOST.key` in one directory, chosen by the name that a client asks for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("could not read `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{}` holds nothing in PEM form that can be used", .0.display())]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("`{}` and `{}` can not be used together", .0.display(), .1.display())]
    Unusable(PathBuf, PathBuf, #[source] rustls::Error),
}

/// Certificates by host; the default one is for every other name.
#[derive(Debug, Default)]
pub struct Certificates {
    by_host: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// With a certificate for whoever asks for a name that has none.
    pub fn new(default: Option<(&Path, &Path)>) -> Result<Self, CertificateError> {
        let default = default.map(|(certificate, key)| load(certificate, key)).transpose()?;
        Ok(Self { by_host: RwLock::default(), default })
    }

    /// Reads the directory anew. A pair that is not usable is said and left out; the others hold.
    pub fn read(&self, directory: &Path) -> Result<usize, CertificateError> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(CertificateError::Read(directory.to_owned(), error)),
        };
        let mut found = HashMap::new();
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "crt")) {
            let Some(host) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            match load(&path, &path.with_extension("key")) {
                Ok(key) => {
                    // A file's name holds no `*`.
                    let host = host.to_ascii_lowercase();
                    found.insert(host.strip_prefix("_.").map_or(host.clone(), |rest| format!("*.{rest}")), key);
                }
                Err(error) => tracing::warn!(error = crate::orchestrator::chain(&error), "a certificate is left out"),
            }
        }
        let count = found.len();
        *self.by_host.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(count)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.by_host.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What a listener needs.
    #[must_use]
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let by_host = self.by_host.read().unwrap_or_else(PoisonError::into_inner);
        let exact = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            by_host.get(&name).or_else(|| by_host.get(&wild?))
        });
        exact.or(self.default.as_ref()).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(hello.server_name())
    }
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| CertificateError::Read(path.to_owned(), error));
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| CertificateError::Pem(certificate.to_owned(), error))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| CertificateError::Pem(key.to_owned(), error))?;
    let unusable = |error| CertificateError::Unusable(certificate.to_owned(), key.to_owned(), error);
    let key = CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(unusable)?;
    Ok(Arc::new(key))
}
