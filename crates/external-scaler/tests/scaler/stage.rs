//! A scaler that serves, and clients for it.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use forewarm_external_scaler::{
    Reading, Readings, ScalerConfig, ScalerServer, ServeError, TlsFiles,
    externalscaler::{GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub(crate) type Client = ExternalScalerClient<Channel>;

/// A server, and what it was told.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) readings: Readings,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Stage {
    pub(crate) async fn set(config: ScalerConfig) -> Self {
        let (readings, shutdown) = (Readings::default(), CancellationToken::new());
        let server = ScalerServer::bind(config, readings.clone()).await.expect("a server");
        let address = server.local_addr().expect("its address");
        let served = tokio::spawn(server.serve(shutdown.clone()));
        Self { address, readings, shutdown, served }
    }

    pub(crate) async fn plain() -> Self {
        Self::set(config()).await
    }

    pub(crate) async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        ExternalScalerClient::new(endpoint.connect().await.expect("a connection"))
    }

    pub(crate) fn decided(&self, scaler: &str, desired: u32) {
        self.readings.publish(scaler, Reading { desired: Some(desired), ..nothing() });
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.served.await.expect("no panic").expect("an orderly end");
    }
}

pub(crate) fn config() -> ScalerConfig {
    ScalerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        namespaced: false,
        max_age: Duration::from_secs(60),
    }
}

/// Nothing is known, as of now.
pub(crate) fn nothing() -> Reading {
    Reading { desired: None, queued: None, in_flight: None, at: Some(Instant::now()) }
}

/// A ScaledObject with this metadata, and what KEDA adds of its own.
pub(crate) fn asks(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let own = [("scalerAddress", "forewarm:9190"), ("enableTLS", "true")];
    ScaledObjectRef {
        name: "llama3".to_owned(),
        namespace: "serving".to_owned(),
        scaler_metadata: own
            .iter()
            .chain(metadata)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<HashMap<_, _>>(),
    }
}

pub(crate) fn metrics(metadata: &[(&str, &str)], metric: &str) -> GetMetricsRequest {
    GetMetricsRequest { scaled_object_ref: Some(asks(metadata)), metric_name: metric.to_owned() }
}

/// A CA, and what it signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    pub(crate) fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    /// Puts a certificate and its key where a server reads them.
    pub(crate) fn write(&self, folder: &Path) -> TlsFiles {
        let (cert, key) = self.sign();
        let files = TlsFiles { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_ca: None };
        std::fs::write(&files.cert, cert).expect("the certificate is written");
        std::fs::write(&files.key, key).expect("the key is written");
        files
    }

    /// Connects to a server whose certificate it must have signed.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        identity: Option<(String, String)>,
    ) -> Result<Client, tonic::transport::Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem())).domain_name("localhost");
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
        Ok(ExternalScalerClient::new(endpoint.connect().await?))
    }
}
