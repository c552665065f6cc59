//! The server's certificate, from files that are read again when they change, and the authorities that
//! callers' certificates may come from.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::trust::Trust;

/// Where the server's certificate is; both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CertificateError {
    path: PathBuf,
    reason: String,
}

/// Our one provider, whatever else is compiled in.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What connections are accepted with, and whom their certificates are from.
#[derive(Debug)]
pub(crate) struct Tls {
    files: CertificateFiles,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// When the files were written that are in use.
    written: Option<SystemTime>,
    trust: Arc<Trust>,
    config: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn open(files: CertificateFiles, trust: Trust) -> Result<Self, CertificateError> {
        let (written, trust) = (files.written(), Arc::new(trust));
        let config = files.server_config(&trust)?;
        Ok(Self { files, state: RwLock::new(State { written, trust, config }) })
    }

    /// What the next connection is accepted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Whom callers' certificates are from.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).trust)
    }

    /// Trusts others from now on.
    pub(crate) fn set_trust(&self, trust: Trust) -> Result<(), CertificateError> {
        let (written, trust) = (self.files.written(), Arc::new(trust));
        let config = self.files.server_config(&trust)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { written, trust, config };
        Ok(())
    }

    /// Reads the files again if they were written since, and says whether they were. Nothing changes when
    /// they cannot be used.
    pub(crate) fn reload(&self) -> Result<bool, CertificateError> {
        let written = self.files.written();
        let (before, trust) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.written, Arc::clone(&state.trust))
        };
        if written == before {
            return Ok(false);
        }
        let config = self.files.server_config(&trust)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { written, trust, config };
        Ok(true)
    }
}

impl CertificateFiles {
    /// When the younger of the two was written.
    fn written(&self) -> Option<SystemTime> {
        let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        written(&self.certificate).max(written(&self.key))
    }

    fn server_config(&self, trust: &Trust) -> Result<Arc<ServerConfig>, CertificateError> {
        let error = |path: &Path, reason: String| CertificateError { path: path.to_owned(), reason };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|reason| error(&self.certificate, format!("no certificate in PEM: {reason}")))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|reason| error(&self.key, format!("no private key in PEM: {reason}")))?;
        let unusable = |reason: String| error(&self.certificate, reason);
        let roots = Arc::new(trust.roots().map_err(|reason| unusable(reason.to_string()))?);
        // Who shows no certificate may have a token.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|reason| unusable(reason.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|reason| unusable(reason.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|reason| unusable(format!("does not go with its key: {reason}")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    /// A certificate with its key, written a minute after the last one.
    fn write(files: &CertificateFiles, minute: u64) {
        let made = rcgen::generate_simple_self_signed(["metrics".to_owned()]).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
        for (path, text) in
            [(&files.certificate, made.cert.pem()), (&files.key, made.signing_key.serialize_pem())]
        {
            std::fs::write(path, text).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        }
    }

    fn trust() -> Trust {
        let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap();
        let data = BTreeMap::from([("client-ca-file".to_owned(), authority.cert.pem())]);
        Trust::read(&ConfigMap { data: Some(data), ..ConfigMap::default() }).unwrap()
    }

    #[test]
    fn a_renewed_certificate_counts_from_then_on_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        write(&files, 1);
        let tls = Tls::open(files.clone(), trust()).unwrap();
        let first = tls.config();
        assert!(!tls.reload().unwrap(), "nothing was written");
        write(&files, 2);
        assert!(tls.reload().unwrap());
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&files.key, "no key").unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("tls.key") && error.contains("no private key in PEM"), "{error}");
        assert!(Arc::ptr_eq(&second, &tls.config()), "what worked is kept");
    }

    #[test]
    fn a_config_map_without_authorities_says_what_is_missing() {
        let error = Trust::read(&ConfigMap::default()).unwrap_err().to_string();
        assert!(error.contains("--requestheader-client-ca-file"), "{error}");
        let data = BTreeMap::from([("client-ca-file".to_owned(), "-----BEGIN".to_owned())]);
        let error =
            Trust::read(&ConfigMap { data: Some(data), ..ConfigMap::default() }).unwrap_err().to_string();
        assert!(error.contains("`client-ca-file` of the ConfigMap"), "{error}");
    }
}
