//! TLS at the gateway's ports.

use std::{net::SocketAddr, path::Path, sync::Arc};

use forewarm_gateway::{ControlToken, Gateway, GatewayConfig, GatewayError, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{BODY, PATIENCE, Rig, Upstream, config};

/// A certificate authority in a folder.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(crate) fn ca(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Writes a certificate for a name, and its key.
    pub(crate) fn sign(&self, file: &str, name: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| self.folder.path().join(format!("{file}.{kind}"));
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        std::fs::write(path("crt"), cert.pem()).unwrap();
        TlsFiles { cert: path("crt"), key: path("key"), client_ca: None }
    }

    /// A client that trusts this authority.
    pub(crate) fn client(&self, protocols: &[&str], identity: Option<&TlsFiles>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(files) => builder.with_client_auth_cert(certificates(&files.cert), key(&files.key)).unwrap(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}

/// What a server needs that shows these files.
pub(crate) fn server(files: &TlsFiles, protocols: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config =
        builder.with_no_client_auth().with_single_cert(certificates(&files.cert), key(&files.key)).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub(crate) async fn connect(
    client: &TlsConnector,
    address: SocketAddr,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connecting = client.connect(ServerName::try_from(name).unwrap(), stream);
    tokio::time::timeout(PATIENCE, connecting).await.expect("a handshake in time")
}

/// Sends a request, and reads to the end of the connection; an error of the handshake may come as late as here.
async fn ask(stream: std::io::Result<TlsStream<TcpStream>>, request: &str) -> std::io::Result<String> {
    let mut stream = stream?;
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an end in time")?;
    Ok(String::from_utf8(read).unwrap())
}

#[tokio::test]
async fn clients_are_served_over_tls_and_replicas_are_told() {
    let authority = Authority::new();
    let rig = Rig::with(GatewayConfig { tls: Some(authority.sign("g", "gateway")), ..config() }).await;
    let mut replica = Upstream::start().await;
    rig.apply(vec![replica.endpoint("a", 1)]);
    let stream = connect(&authority.client(&["http/1.1"], None), rig.address, "gateway").await;
    let length = BODY.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{BODY}"
    );
    let asked = tokio::spawn(async move { ask(stream, &request).await.unwrap() });
    let call = replica.call().await;
    assert!(call.head.contains("\r\nx-forwarded-proto: https"), "{}", call.head);
    call.answer("200 OK", "{}").await;
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n{}"), "{answer}");
    // Whoever has no further request is told that nothing was cut off.
    let stream = connect(&authority.client(&["http/1.1"], None), rig.address, "gateway").await;
    let mut idle = stream.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    idle.shutdown().await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut read)).await.expect("an end in time");
    end.expect("a goodbye");
    assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"), "{read:?}");
    // Whoever speaks no TLS gets no answer.
    let mut plain = TcpStream::connect(rig.address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    tokio::time::timeout(PATIENCE, plain.read_to_end(&mut read)).await.expect("let go").ok();
    assert!(!read.starts_with(b"HTTP"), "{read:?}");
}

#[tokio::test]
async fn another_certificate_is_taken_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let files = authority.sign("g", "old");
    let rig = Rig::with(GatewayConfig { tls: Some(files.clone()), ..config() }).await;
    let client = authority.client(&["http/1.1"], None);
    connect(&client, rig.address, "old").await.unwrap();
    connect(&client, rig.address, "new").await.unwrap_err();
    std::fs::write(&files.cert, "no certificate").unwrap();
    rig.reloader.reload();
    connect(&client, rig.address, "old").await.expect("the old one stays");
    authority.sign("g", "new");
    let taken = async { while connect(&client, rig.address, "new").await.is_err() {} };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new certificate");
}

#[tokio::test]
async fn the_control_port_can_ask_for_a_certificate() {
    let authority = Authority::new();
    let files = TlsFiles { client_ca: Some(authority.ca()), ..authority.sign("control", "control") };
    let rig = Rig::with(GatewayConfig { control_tls: Some(files), ..config() }).await;
    let request = "GET /healthz HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n";
    let stranger = authority.client(&[], None);
    let refused = ask(connect(&stranger, rig.control, "control").await, request).await;
    refused.expect_err("without a certificate there is no answer");
    let known = authority.client(&[], Some(&authority.sign("controller", "controller")));
    let answer = ask(connect(&known, rig.control, "control").await, request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let other = Authority::new();
    let forged = authority.client(&[], Some(&other.sign("controller", "controller")));
    ask(connect(&forged, rig.control, "control").await, request).await.expect_err("signed by somebody else");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let authority = Authority::new();
    let files = TlsFiles { key: "/no/key.pem".into(), ..authority.sign("a", "a") };
    let error = Gateway::bind(GatewayConfig { tls: Some(files), ..config() }).await.unwrap_err();
    assert!(matches!(error, GatewayError::Tls(_)) && error.to_string().contains("/no/key.pem"), "{error}");
}

#[tokio::test]
async fn a_control_port_that_others_can_reach_asks_for_something() {
    let open = GatewayConfig { control: Some("0.0.0.0:0".parse().unwrap()), ..config() };
    let error = Gateway::bind(open.clone()).await.unwrap_err();
    assert!(matches!(error, GatewayError::OpenControl(_)) && error.to_string().contains("token"), "{error}");
    let token = Some(ControlToken::new("secret"));
    Gateway::bind(GatewayConfig { control_token: token, ..open.clone() }).await.unwrap();
    let authority = Authority::new();
    let tls = authority.sign("c", "c");
    let anonymous = GatewayConfig { control_tls: Some(tls.clone()), ..open.clone() };
    Gateway::bind(anonymous).await.expect_err("a certificate of its own says nothing about the others");
    let certified = TlsFiles { client_ca: Some(authority.ca()), ..tls };
    Gateway::bind(GatewayConfig { control_tls: Some(certified), ..open }).await.unwrap();
}
