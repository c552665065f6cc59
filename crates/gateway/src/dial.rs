//! How a connection to a replica or a control port is made: plain, over TLS, as HTTP/1.1 or HTTP/2.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use forewarm_tls::TlsError;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    http1::ToReplica,
    message::ResponseHead,
    outgoing::Outgoing,
    reply::{Reply, ReplyError},
};

/// Bytes of headers that an answer may have over HTTP/2.
const MAX_HEADER_BYTES: u32 = 64 << 10;
/// Bytes that one answer, and all of a connection, may be ahead of their clients.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// An HTTP/2 connection on which nothing comes is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How TLS is spoken to addresses that ask for it (`https://…`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Who signs their certificates, in PEM; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The name that their certificates are for; `None`: the one in the address.
    pub server_name: Option<String>,
    /// The certificate to show them, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Makes connections.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    server_name: Option<ServerName<'static>>,
    /// Made when it is first needed, unless files say how.
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Dialer {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used, or the name is none; the error names it.
    pub(crate) fn open(tls: &UpstreamTls) -> Result<Self, TlsError> {
        let server_name = tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone())
                .map_err(|_| TlsError::new(name.as_ref(), "is no host name or address"))
        });
        let dialer = Self { server_name: server_name.transpose()?, config: OnceLock::new() };
        if tls.ca.is_some() || tls.identity.is_some() {
            let config = client_config(tls)?;
            // It is new: there is nothing in it yet.
            drop(dialer.config.set(Ok(config)));
        }
        Ok(dialer)
    }

    fn tls(&self) -> io::Result<TlsConnector> {
        let config = self
            .config
            .get_or_init(|| client_config(&UpstreamTls::default()).map_err(|error| error.to_string()));
        config.clone().map(TlsConnector::from).map_err(io::Error::other)
    }

    /// Connects, and shakes hands.
    pub(crate) async fn dial(&self, target: &Target) -> io::Result<Link> {
        let stream = TcpStream::connect(&target.authority).await?;
        stream.set_nodelay(true)?;
        match target.scheme {
            Scheme::Http => Ok(Link::Http1(Box::new(ToReplica::plain(stream)))),
            Scheme::Http2 => http2(stream, target).await,
            Scheme::Https => {
                let name = match &self.server_name {
                    Some(name) => name.clone(),
                    None => ServerName::try_from(target.host().to_owned()).map_err(io::Error::other)?,
                };
                let stream = self.tls()?.connect(name, stream).await?;
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => http2(stream, target).await,
                    _ => Ok(Link::Http1(Box::new(ToReplica::encrypted(stream)))),
                }
            }
        }
    }
}

fn client_config(files: &UpstreamTls) -> Result<Arc<ClientConfig>, TlsError> {
    let place = files.ca.clone().unwrap_or_else(|| PathBuf::from("the system's certificates"));
    let unusable = |error: rustls::Error| TlsError::new(&place, error);
    let builder = ClientConfig::builder_with_provider(forewarm_tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.ca {
        Some(path) => builder.with_root_certificates(forewarm_tls::roots(path)?),
        None => builder.with_platform_verifier().map_err(unusable)?,
    };
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(forewarm_tls::certificates(cert)?, forewarm_tls::private_key(key)?)
            .map_err(|error| TlsError::mismatch(cert, key, &error))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What an address asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// TLS, and HTTP/2 where the other side speaks it.
    Https,
    /// HTTP/2 in clear text.
    Http2,
}

/// Where to connect, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    scheme: Scheme,
    /// `host:port`.
    authority: String,
    /// The same as a header, which every request carries; `None`: it cannot be one.
    host: Option<HeaderValue>,
}

impl Target {
    /// Reads an address: `host:port`, `https://host:port`, or `h2c://host:port`.
    pub(crate) fn parse(address: &str) -> Self {
        let (scheme, rest) = match address.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("h2c", rest)) => (Scheme::Http2, rest),
            Some((_, rest)) => (Scheme::Http, rest),
            None => (Scheme::Http, address),
        };
        let authority = rest.trim_end_matches('/');
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let default = if scheme == Scheme::Https { ":443" } else { ":80" };
        let authority = format!("{authority}{}", if has_port { "" } else { default });
        Self { scheme, host: HeaderValue::try_from(&authority).ok(), authority }
    }

    /// Whether a connection to it may be one that requests share.
    pub(crate) fn may_be_shared(&self) -> bool {
        self.scheme != Scheme::Http
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn uri(&self, path: &str) -> Option<Uri> {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(self.authority.as_str()).path_and_query(path).build().ok()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Link {
    /// For one request at a time.
    Http1(Box<ToReplica>),
    /// For many. In a box: it is large, and would be a part of each request's future.
    Http2(Box<Multiplexed>),
}

/// A connection that requests share.
#[derive(Clone, Debug)]
pub(crate) struct Multiplexed {
    sender: http2::SendRequest<Full<Bytes>>,
    target: Target,
}

impl Link {
    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        self,
        request: &Outgoing,
        target: &Target,
    ) -> Result<(ResponseHead, Reply), ReplyError> {
        match self {
            Link::Http1(mut connection) => {
                let answer = connection.send(request, target.host.as_ref()).await?;
                Ok((answer, Reply::Http1(connection)))
            }
            // It is large, and would be a part of every request's future.
            Link::Http2(shared) => Box::pin(shared.send(request)).await,
        }
    }
}

impl Multiplexed {
    async fn send(mut self, request: &Outgoing) -> Result<(ResponseHead, Reply), ReplyError> {
        let mut same = Request::new(Full::new(request.body().clone()));
        *same.method_mut() = request.method().clone();
        // Here the host is part of the URI.
        *same.uri_mut() = self.target.uri(request.path()).unwrap_or_default();
        *same.headers_mut() = request.headers().into();
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(same).await?.into_parts();
        Ok((parts.into(), Reply::Http2(body)))
    }
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
) -> io::Result<Link> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move { ended(connection.await) });
    Ok(Link::Http2(Box::new(Multiplexed { sender, target: target.clone() })))
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::trace!(%error, "a connection to a replica ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_to_connect() {
        let cases = [
            ("10.0.0.1:8000", Scheme::Http, "10.0.0.1:8000", "10.0.0.1"),
            ("http://replica:8000/", Scheme::Http, "replica:8000", "replica"),
            ("https://replica", Scheme::Https, "replica:443", "replica"),
            ("https://[2001:db8::1]:8443", Scheme::Https, "[2001:db8::1]:8443", "2001:db8::1"),
            ("h2c://replica:9", Scheme::Http2, "replica:9", "replica"),
        ];
        for (address, scheme, authority, host) in cases {
            let target = Target::parse(address);
            assert_eq!(
                (target.scheme, target.authority(), target.host()),
                (scheme, authority, host),
                "{address}"
            );
        }
    }
}
