//! TLS in front of a server that speaks none.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// Speaks TLS at its address and passes on what comes in the clear, until it is dropped.
#[derive(Debug)]
pub struct Encrypted {
    address: SocketAddr,
    task: AbortHandle,
}

impl Encrypted {
    /// Listens at `at` for the server at `server`, with a certificate and its key in PEM.
    ///
    /// # Errors
    /// When somebody has the address, or the certificate cannot be used.
    pub async fn listen(at: SocketAddr, server: SocketAddr, cert: &Path, key: &Path) -> io::Result<Self> {
        let failed = io::Error::other::<rustls::pki_types::pem::Error>;
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(failed)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(failed)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.task.abort();
    }
}
