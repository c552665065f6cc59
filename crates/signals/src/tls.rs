//! TLS and plain connections alike.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use forewarm_manifest::signal::Tls;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier as PlatformVerifier;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long a connection may take to open: a neighbour on the network answers in milliseconds, a lost
/// first packet is sent again after one second.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads the files that `tls` names.
///
/// # Errors
/// What is wrong with which file.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.ca_file {
        _ if tls.accepts_any => Arc::new(AcceptsAny(provider)),
        Some(path) => WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider)
            .build()
            .map_err(|error| wrong(path, error))?,
        None => Arc::new(PlatformVerifier::new(provider).map_err(|error| error.to_string())?),
    };
    let verifier = match &tls.server_name {
        Some(name) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|_| format!("`serverName` is no name of a server: `{name}`"))?;
            Arc::new(Named { name, verifier })
        }
        None => verifier,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match tls.cert_file.as_ref().zip(tls.key_file.as_ref()) {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|error| wrong(cert, error))
        }
    }
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, error))?.collect();
    read.map_err(|error| wrong(path, error))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| wrong(path, error))?;
    }
    if roots.is_empty() {
        return Err(wrong(path, "there is no certificate in it"));
    }
    Ok(roots)
}

/// Why TLS came to nothing, in words: what a server says of the certificate that it is shown, what is wrong with its own,
/// and that it speaks no TLS; anything else as it is.
pub(crate) fn explained(why: String, tls: &Tls) -> String {
    // The second is a signature of another key under a name that is known.
    let is_stranger = why.contains("UnknownIssuer") || why.contains("BadSignature");
    match &tls.ca_file {
        None if is_stranger => {
            return format!(
                "nobody whom this system trusts signed the server's certificate; `caFile` names who did: {why}"
            );
        }
        Some(file) if is_stranger => {
            return format!(
                "the server's certificate is signed by nobody in `caFile`, {}: {why}",
                file.display()
            );
        }
        Some(_) | None => {}
    }
    if why.contains("certificate not valid for name") {
        return format!(
            "`serverName` is the name in the server's certificate, where that is not its address: {why}"
        );
    }
    if why.contains("InvalidContentType") {
        return format!("the server speaks no TLS there: {why}");
    }
    const ALERTS: [&str; 6] = [
        "BadCertificate",
        "CertificateExpired",
        "CertificateRequired",
        "CertificateUnknown",
        "UnknownCA",
        "UnsupportedCertificate",
    ];
    let is_about_it = why.contains("received fatal alert") && ALERTS.iter().any(|alert| why.contains(alert));
    match (is_about_it, &tls.cert_file) {
        (false, _) => why,
        (true, None) => {
            format!("the server wants a certificate of who asks, `certFile` and `keyFile`: {why}")
        }
        (true, Some(file)) => {
            format!("the server does not accept the certificate in `certFile`, {}: {why}", file.display())
        }
    }
}

/// What `serverName` asks for: another name than the address has, whoever opens the connection.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// What `unsafeSsl` asks for.
#[derive(Debug)]
struct AcceptsAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptsAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection, encrypted or not.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `host:port`, and shakes hands where there is a configuration.
    pub(crate) async fn connect(address: &str, tls: Option<(Arc<ClientConfig>, &Tls)>) -> io::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let Some((config, tls)) = tls else { return Ok(Stream::Plain(stream)) };
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let name = tls.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
            let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late)?
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

/// Why a connection broke while it was written to. A server that refuses the certificate of a client says so after the
/// handshake and hangs up, and what is written then finds a broken connection before anybody has read the reason.
fn reason(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>, broken: io::Error) -> io::Error {
    let mut unread = [0; 1];
    match Pin::new(stream).poll_read(cx, &mut ReadBuf::new(&mut unread)) {
        Poll::Ready(Err(said)) if said.kind() == io::ErrorKind::InvalidData => said,
        Poll::Ready(_) | Poll::Pending => broken,
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, buf));
                Poll::Ready(written.map_err(|broken| reason(stream, cx, broken)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => {
                let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
                Poll::Ready(flushed.map_err(|broken| reason(stream, cx, broken)))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
