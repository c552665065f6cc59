//! TLS: certificates from files, read for each connection.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// Where the certificate comes from; all of it PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates that clients have to show; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// A certificate, a key or a CA that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What connections are accepted with.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    last: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let last = RwLock::new(configure(&files)?);
        Ok(Self { files, last })
    }

    /// For the next connection. KEDA keeps one open for long, so reading the files each time costs less than watching
    /// them. What cannot be read leaves everything as it was.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        match configure(&self.files) {
            Ok(config) => {
                *self.last.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
                TlsAcceptor::from(config)
            }
            Err(error) => {
                tracing::error!(%error, "the certificate stays as it was");
                TlsAcceptor::from(Arc::clone(&self.last.read().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }
}

fn configure(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::new(&files.key, format!("no private key in PEM: {error}")))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(&files.cert, error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| TlsError::new(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::new(path, error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::new(&files.cert, format!("does not go with its key: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| TlsError::new(path, format!("no certificate in PEM: {error}")))?;
    if chain.is_empty() { Err(TlsError::new(path, "there is no certificate in it")) } else { Ok(chain) }
}
