//! Certificates for servers of a test and for those who ask them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A CA, a server's certificate for `localhost` and 127.0.0.1, and a client's; all in PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Who signs both.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The server's key and certificate, one after the other.
    pub key_and_cert: PathBuf,
    /// The client's certificate.
    pub client_cert: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn make(folder: &Path) -> std::io::Result<Self> {
        let failed = std::io::Error::other::<rcgen::Error>;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "forewarm testbed");
        let ca_key = KeyPair::generate().map_err(failed)?;
        let ca = params.self_signed(&ca_key).map_err(failed)?;
        let issuer = Issuer::new(params, ca_key);
        let signed = |name: &str, hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let mut params = CertificateParams::new(hosts).map_err(failed)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().map_err(failed)?;
            let cert = params.signed_by(&key, &issuer).map_err(failed)?;
            Ok::<_, std::io::Error>((cert.pem(), key.serialize_pem()))
        };
        let (cert, key) = signed("server", &["localhost", "127.0.0.1"])?;
        let (client_cert, client_key) = signed("client", &["client"])?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        Ok(Self {
            ca: write("ca.pem", &ca.pem())?,
            cert: write("server.pem", &cert)?,
            key_and_cert: write("server-both.pem", &format!("{key}{cert}"))?,
            key: write("server-key.pem", &key)?,
            client_cert: write("client.pem", &client_cert)?,
            client_key: write("client-key.pem", &client_key)?,
        })
    }
}
