//! Certificates that are renewed, broken and wrong.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use forewarm_tls::{ServerTls, TlsFiles, provider};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

/// An authority, and a folder for what it signs.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(authority.file("ca.crt"), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    fn identity(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a certificate for a name and its key, so many minutes after the beginning of time.
    fn sign(&self, name: &str, minute: u64) -> TlsFiles {
        let (cert, key) = self.identity(name);
        let files = TlsFiles { cert: self.file("tls.crt"), key: self.file("tls.key"), client_ca: None };
        write(&files.cert, &cert.pem(), minute);
        write(&files.key, &key.serialize_pem(), minute);
        files
    }

    /// Shakes hands as a client that trusts this authority, asks for `name`, and shows what `signer` signed. Says which
    /// protocol was agreed on; `None`: one of the two said no.
    async fn meet(&self, tls: &ServerTls, name: &'static str, signer: Option<&Authority>) -> Option<String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match signer {
            None => builder.with_no_client_auth(),
            Some(signer) => {
                let (cert, key) = signer.identity("client");
                let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let connector = TlsConnector::from(Arc::new(config));
        let met = tokio::try_join!(
            connector.connect(ServerName::try_from(name).unwrap(), ours),
            tls.acceptor().accept(theirs),
        );
        let agreed = met.ok()?.1.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Some(String::from_utf8(agreed.unwrap_or_default()).unwrap())
    }
}

fn write(path: &Path, text: &str, minute: u64) {
    std::fs::write(path, text).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_counts_from_then_on_and_a_broken_one_does_not() {
    let authority = Authority::new();
    let files = authority.sign("old", 1);
    let tls = ServerTls::open(files.clone(), &["h2", "http/1.1"]).unwrap();
    assert!(!tls.refresh().unwrap(), "nothing was written");
    assert_eq!(authority.meet(&tls, "old", None).await.as_deref(), Some("h2"), "the server's choice");

    authority.sign("new", 2);
    assert!(authority.meet(&tls, "old", None).await.is_some(), "it was not read again yet");
    assert!(tls.refresh().unwrap());
    assert!(authority.meet(&tls, "new", None).await.is_some());
    assert!(authority.meet(&tls, "old", None).await.is_none());

    write(&files.key, "no key", 3);
    let error = tls.refresh().unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("no private key in PEM"), "{error}");
    assert!(!tls.refresh().unwrap(), "it is told once");
    tls.reload().expect_err("whoever asks is told again");
    assert!(authority.meet(&tls, "new", None).await.is_some(), "what worked is kept");

    authority.sign("last", 4);
    assert!(tls.refresh().unwrap());
    assert!(authority.meet(&tls, "last", None).await.is_some());
}

#[tokio::test]
async fn links_that_lead_elsewhere_are_a_change() {
    let (before, after) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    // As Kubernetes mounts a secret: what is replaced is the folder's link.
    let data = folder.path().join("data");
    let mounted = |authority: &Authority| {
        authority.sign("server", 1);
        std::fs::remove_file(&data).ok();
        std::os::unix::fs::symlink(authority.folder.path(), &data).unwrap();
    };
    mounted(&before);
    let files = TlsFiles { cert: data.join("tls.crt"), key: data.join("tls.key"), client_ca: None };
    let tls = ServerTls::open(files, &["h2"]).unwrap();
    assert!(before.meet(&tls, "server", None).await.is_some());
    mounted(&after);
    assert!(tls.refresh().unwrap());
    assert!(after.meet(&tls, "server", None).await.is_some());
    assert!(before.meet(&tls, "server", None).await.is_none());
}

#[tokio::test]
async fn clients_show_what_an_authority_of_the_file_signed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = TlsFiles { client_ca: Some(authority.file("ca.crt")), ..authority.sign("server", 1) };
    let tls = ServerTls::open(files, &["h2"]).unwrap();
    assert!(authority.meet(&tls, "server", Some(&authority)).await.is_some());
    assert!(authority.meet(&tls, "server", None).await.is_none(), "no certificate");
    assert!(authority.meet(&tls, "server", Some(&stranger)).await.is_none(), "somebody else's");
    write(&authority.file("ca.crt"), &stranger.issuer.pem(), 2);
    assert!(tls.refresh().unwrap());
    assert!(authority.meet(&tls, "server", Some(&stranger)).await.is_some());
    assert!(authority.meet(&tls, "server", Some(&authority)).await.is_none(), "not any more");
}

#[tokio::test]
async fn guests_show_a_certificate_or_none_also_after_a_renewal() {
    let (authority, guest, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let tls = ServerTls::open(authority.sign("server", 1), &["h2"]).unwrap();
    tls.admit(guest.roots()).unwrap();
    for minute in 2..4 {
        assert!(authority.meet(&tls, "server", Some(&guest)).await.is_some());
        assert!(authority.meet(&tls, "server", None).await.is_some(), "no certificate");
        assert!(authority.meet(&tls, "server", Some(&stranger)).await.is_none(), "somebody else's");
        authority.sign("server", minute);
        assert!(tls.refresh().unwrap());
    }
    tls.admit(RootCertStore::empty()).expect_err("nobody could come any more");
    assert!(authority.meet(&tls, "server", Some(&guest)).await.is_some(), "nothing has changed");
}

#[test]
fn what_cannot_be_used_is_named() {
    let (one, other) = (Authority::new(), Authority::new());
    let (good, foreign) = (one.sign("one", 1), other.sign("other", 1));
    let nothing = one.file("nothing.pem");
    std::fs::write(&nothing, "").unwrap();
    let missing = one.file("missing.pem");
    let cases = [
        (TlsFiles { cert: missing.clone(), ..good.clone() }, "missing.pem: no certificate in PEM"),
        (TlsFiles { key: missing.clone(), ..good.clone() }, "missing.pem: no private key in PEM"),
        (TlsFiles { client_ca: Some(missing), ..good.clone() }, "missing.pem: no certificate in PEM"),
        (TlsFiles { cert: nothing.clone(), ..good.clone() }, "nothing.pem: there is no certificate in it"),
        (
            TlsFiles { client_ca: Some(nothing), ..good.clone() },
            "nothing.pem: there is no certificate in it; one begins with `-----BEGIN CERTIFICATE-----`",
        ),
        (TlsFiles { key: foreign.key, ..good }, "tls.crt: does not go with its key, "),
    ];
    for (files, expected) in cases {
        let error = ServerTls::open(files, &["h2"]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
