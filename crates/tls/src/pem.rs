//! Certificates and keys out of files.

use std::path::{Path, PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A certificate, a key or an authority that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    /// What is wrong with the file, or with whatever else has this name.
    pub fn new(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }

    /// A key that is not the certificate's.
    pub fn mismatch(cert: &Path, key: &Path, error: &rustls::Error) -> Self {
        Self::new(cert, format!("does not go with its key, {}: {error}", key.display()))
    }
}

/// The certificates in a file, in its order.
///
/// # Errors
/// When it cannot be read, or when there is none in it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| TlsError::new(path, format!("no certificate in PEM: {error}")))?;
    if chain.is_empty() {
        let reason = "there is no certificate in it; one begins with `-----BEGIN CERTIFICATE-----`";
        return Err(TlsError::new(path, reason));
    }
    Ok(chain)
}

/// The first private key in a file.
///
/// # Errors
/// When it cannot be read, or when there is none in it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| TlsError::new(path, format!("no private key in PEM: {error}")))
}

/// The authorities in a file.
///
/// # Errors
/// When it cannot be read, when there is none in it, or when one cannot be used.
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::new(path, error))?;
    }
    Ok(roots)
}
