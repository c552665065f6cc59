//! Whom the cluster's API server believes, as it publishes for servers behind it.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_tls::provider;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the API server publishes it.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The ConfigMap there.
pub(crate) const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// Authorities and header names out of the ConfigMap.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Who signs aggregators, and how their headers are called.
    aggregators: Option<Aggregators>,
    /// Who signs users.
    users: Option<Authority>,
    /// Both, for the handshake: whose a certificate is, is asked with each request.
    roots: RootCertStore,
}

#[derive(Debug)]
struct Aggregators {
    authority: Authority,
    /// Common names; empty: any.
    allowed: Vec<String>,
    headers: HeaderNames,
}

/// The headers in which an aggregator says on whose behalf it asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderNames {
    pub(crate) user: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) extra_prefixes: Vec<String>,
}

/// The ConfigMap says something that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` of the ConfigMap {NAMESPACE}/{CONFIG_MAP}: {reason}")]
pub struct TrustError {
    key: &'static str,
    reason: String,
}

/// Whose a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// An aggregator's: its headers count.
    Aggregator(&'a HeaderNames),
    /// A user's own.
    User {
        /// The common name.
        name: String,
        /// The organisations.
        groups: Vec<String>,
    },
    /// Nobody's that is known here.
    Nobody,
}

impl PartialEq for HeaderNames {
    fn eq(&self, other: &Self) -> bool {
        (&self.user, &self.groups, &self.extra_prefixes)
            == (&other.user, &other.groups, &other.extra_prefixes)
    }
}

impl Eq for HeaderNames {}

#[derive(Debug)]
struct Authority {
    roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    fn read(data: &BTreeMap<String, String>, key: &'static str) -> Result<Option<Self>, TrustError> {
        let Some(pem) = data.get(key) else { return Ok(None) };
        let error = |reason: String| TrustError { key, reason };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|reason| error(format!("no certificate in PEM: {reason}")))?;
            roots.add(certificate).map_err(|reason| error(reason.to_string()))?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
        let verifier = verifier.map_err(|reason| error(reason.to_string()))?;
        Ok(Some(Self { roots, verifier }))
    }

    fn signed(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((first, others)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(first, others, UnixTime::now()).is_ok()
    }
}

impl Trust {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// When something in it cannot be used, or when it names no authority at all.
    pub(crate) fn read(published: &ConfigMap) -> Result<Self, TrustError> {
        let data = published.data.clone().unwrap_or_default();
        let list = |key: &'static str| -> Result<Vec<String>, TrustError> {
            let Some(text) = data.get(key) else { return Ok(Vec::new()) };
            serde_json::from_str(text).map_err(|error| TrustError { key, reason: error.to_string() })
        };
        let aggregators = match Authority::read(&data, "requestheader-client-ca-file")? {
            None => None,
            Some(authority) => Some(Aggregators {
                authority,
                allowed: list("requestheader-allowed-names")?,
                headers: HeaderNames {
                    user: list("requestheader-username-headers")?,
                    groups: list("requestheader-group-headers")?,
                    extra_prefixes: list("requestheader-extra-headers-prefix")?,
                },
            }),
        };
        let users = Authority::read(&data, "client-ca-file")?;
        if aggregators.is_none() && users.is_none() {
            let reason = "it is not there, nor is `client-ca-file`; the API server needs \
                          `--requestheader-client-ca-file` for aggregated APIs"
                .to_owned();
            return Err(TrustError { key: "requestheader-client-ca-file", reason });
        }
        let authorities = aggregators.iter().map(|aggregators| &aggregators.authority).chain(&users);
        let roots = authorities.flat_map(|authority| authority.roots.roots.clone()).collect();
        Ok(Self { aggregators, users, roots })
    }

    /// Every authority.
    pub(crate) fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// Whose certificate this is now.
    pub(crate) fn who(&self, chain: &[CertificateDer<'_>]) -> Shown<'_> {
        let Some((name, groups)) = chain.first().and_then(subject) else { return Shown::Nobody };
        if let Some(aggregators) = &self.aggregators
            && aggregators.authority.signed(chain)
            && (aggregators.allowed.is_empty() || aggregators.allowed.contains(&name))
        {
            return Shown::Aggregator(&aggregators.headers);
        }
        match &self.users {
            Some(users) if users.signed(chain) => Shown::User { name, groups },
            _ => Shown::Nobody,
        }
    }
}

/// The common name and the organisations.
fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned);
    Some((name, groups.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
