//! What a port accepts connections with.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::{Marks, TlsError, certificates, private_key, provider, roots};

/// Where the certificate of a port comes from; all of it PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates that clients have to show; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Every file that may change.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let Self { cert, key, client_ca } = self;
        [cert, key].into_iter().chain(client_ca).map(PathBuf::as_path)
    }
}

/// The TLS of one port.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    protocols: &'static [&'static str],
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// The files as they were when they were last read.
    marks: Marks,
    /// Authorities that are in no file.
    guests: Option<Arc<RootCertStore>>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files, for a port that speaks these protocols (ALPN: `h2`, `http/1.1`), the best first.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(files: TlsFiles, protocols: &'static [&'static str]) -> Result<Self, TlsError> {
        let marks = Marks::of(files.paths());
        let config = configure(&files, None, protocols)?;
        Ok(Self { files, protocols, state: RwLock::new(State { marks, guests: None, config }) })
    }

    /// Lets clients show a certificate that one of these authorities signed, or none, instead of what the files say about
    /// them; who they are is for the server to see. For connections from now on.
    ///
    /// # Errors
    /// When there is no authority, or when the files cannot be used: nothing has changed then.
    pub fn admit(&self, guests: RootCertStore) -> Result<(), TlsError> {
        self.read(Some(Arc::new(guests)))
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// When they cannot be used: nothing has changed then.
    pub fn reload(&self) -> Result<(), TlsError> {
        // The lock is free again before it is written to.
        let guests = self.state().guests.clone();
        self.read(guests)
    }

    /// The same if they have changed since they were last read, and whether they have.
    ///
    /// # Errors
    /// As [`ServerTls::reload`], once for each change.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        if self.state().marks == Marks::of(self.files.paths()) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.state().config))
    }

    fn read(&self, guests: Option<Arc<RootCertStore>>) -> Result<(), TlsError> {
        let marks = Marks::of(self.files.paths());
        let read = configure(&self.files, guests.clone(), self.protocols);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.marks = marks;
        state.config = read?;
        state.guests = guests;
        Ok(())
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn configure(
    files: &TlsFiles,
    guests: Option<Arc<RootCertStore>>,
    protocols: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let (chain, private) = (certificates(cert)?, private_key(key)?);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(cert, error))?;
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(roots, provider());
    let verifier = match (guests, client_ca) {
        (Some(guests), _) => {
            let built = verifier(guests).allow_unauthenticated().build();
            Some(built.map_err(|error| TlsError::new(Path::new("the authorities of clients"), error))?)
        }
        (None, Some(path)) => {
            let built = verifier(Arc::new(roots(path)?)).build();
            Some(built.map_err(|error| TlsError::new(path, error))?)
        }
        (None, None) => None,
    };
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(chain, private).map_err(|error| TlsError::mismatch(cert, key, &error))?;
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}
