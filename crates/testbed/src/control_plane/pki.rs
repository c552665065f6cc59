//! The certificates and keys of one control plane.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::ControlPlaneError;

/// Names under which servers of this machine are asked for.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
/// Whom the API server's aggregator says it is.
pub(super) const AGGREGATOR: &str = "front-proxy-client";

/// Two authorities, and a folder with what they signed: `NAME.crt` and `NAME.key`; keys alone with `NAME.pub`.
pub(super) struct Pki {
    folder: PathBuf,
    authority: Authority,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Pki {
    /// Makes everything that the parts of a control plane show each other.
    pub(super) fn make(folder: PathBuf) -> Result<Self, ControlPlaneError> {
        std::fs::create_dir_all(&folder)?;
        let pki = Self { authority: authority("forewarm-testbed")?, folder };
        let aggregators = authority("forewarm-testbed-aggregators")?;
        std::fs::write(pki.certificate("ca"), pki.authority.pem())?;
        std::fs::write(pki.certificate("aggregators-ca"), aggregators.pem())?;
        pki.write("server", &pki.server(&[])?)?;
        pki.write("admin", &client(&pki.authority, "admin", Some("system:masters"))?)?;
        for user in ["kube-controller-manager", "kube-scheduler"] {
            pki.write(user, &client(&pki.authority, &format!("system:{user}"), None)?)?;
        }
        pki.write("aggregator", &client(&aggregators, AGGREGATOR, None)?)?;
        let tokens = KeyPair::generate()?;
        std::fs::write(pki.key("service-accounts"), tokens.serialize_pem())?;
        std::fs::write(pki.public_key("service-accounts"), tokens.public_key_pem())?;
        Ok(pki)
    }

    /// A server's certificate for this machine and for `names`.
    pub(super) fn server(&self, names: &[&str]) -> Result<Identity, ControlPlaneError> {
        let names: Vec<String> = SERVER_NAMES.iter().chain(names).map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(params, &self.authority)
    }

    /// A client's certificate, for the user `name`.
    pub(super) fn user(&self, name: &str) -> Result<Identity, ControlPlaneError> {
        client(&self.authority, name, None)
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    pub(super) fn public_key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pub"))
    }

    pub(super) fn authority(&self) -> String {
        self.authority.pem()
    }

    fn write(&self, name: &str, identity: &Identity) -> Result<(), ControlPlaneError> {
        std::fs::write(self.certificate(name), &identity.certificate)?;
        std::fs::write(self.key(name), &identity.key)?;
        Ok(())
    }
}

fn authority(name: &str) -> Result<Authority, ControlPlaneError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn client(issuer: &Authority, name: &str, group: Option<&str>) -> Result<Identity, ControlPlaneError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(params, issuer)
}

fn sign(mut params: CertificateParams, issuer: &Authority) -> Result<Identity, ControlPlaneError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}
