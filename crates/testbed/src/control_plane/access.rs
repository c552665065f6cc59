//! Who asks the API server, and how: clients and kubeconfig files.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{ControlPlane, ControlPlaneError, pki::Identity};

/// Longest life that the API server gives a token without complaint, and longer than any test.
const TOKEN_SECONDS: i64 = 3600;

impl ControlPlane {
    /// A client that may do everything. It belongs to the runtime that it is made in.
    ///
    /// # Errors
    /// When its kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        client(&self.kubeconfig()).await
    }

    /// The same by way of a proxy on this machine.
    ///
    /// # Errors
    /// As [`ControlPlane::client`].
    pub async fn client_through(&self, proxy: SocketAddr) -> Result<Client, ControlPlaneError> {
        let mut kubeconfig = Kubeconfig::read_from(self.kubeconfig()).map_err(Box::new)?;
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(format!("https://{proxy}"));
        }
        connect(kubeconfig).await
    }

    /// The kubeconfig file of who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    /// Makes a service account unless there is one, and a kubeconfig file with a token of it: what it may
    /// do is what roles say.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<PathBuf, ControlPlaneError> {
        let token = self.token(namespace, name).await?;
        let user = format!("{namespace}-{name}");
        self.write_kubeconfig(&user, &json!({"token": token}))?;
        Ok(self.kubeconfig_of(&user))
    }

    /// A token of a service account, which is made unless there is one.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn token(&self, namespace: &str, name: &str) -> Result<String, ControlPlaneError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        accounts.patch(name, &PatchParams::apply("forewarm-testbed"), &Patch::Apply(&account)).await?;
        let spec =
            TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        made.status.map(|status| status.token).ok_or(ControlPlaneError::NoToken)
    }

    /// The certificate of a user, in no group.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn user(&self, name: &str) -> Result<Identity, ControlPlaneError> {
        self.pki.user(name)
    }

    /// A certificate for a server on this machine, also under `names`.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn server_identity(&self, names: &[&str]) -> Result<Identity, ControlPlaneError> {
        self.pki.server(names)
    }

    /// The aggregator's own certificate: who shows it may say on whose behalf it asks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn aggregator(&self) -> Result<Identity, ControlPlaneError> {
        let certificate = std::fs::read_to_string(self.pki.certificate("aggregator"))?;
        Ok(Identity { certificate, key: std::fs::read_to_string(self.pki.key("aggregator"))? })
    }

    /// The authority that signs the certificates of servers and users, as PEM.
    pub fn authority(&self) -> String {
        self.pki.authority()
    }

    fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.folder.path().join(format!("{user}.kubeconfig"))
    }

    pub(super) fn write_kubeconfig(&self, user: &str, credentials: &Value) -> Result<(), ControlPlaneError> {
        write_kubeconfig(&self.kubeconfig_of(user), &self.url, &self.pki.certificate("ca"), credentials)
    }
}

/// JSON, which is YAML too.
pub(super) fn write_kubeconfig(
    file: &Path,
    url: &str,
    authority: &Path,
    credentials: &Value,
) -> Result<(), ControlPlaneError> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": url, "certificate-authority": authority}}],
        "users": [{"name": "user", "user": credentials}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
        "current-context": "testbed",
    });
    Ok(std::fs::write(file, config.to_string())?)
}

/// A client as a kubeconfig file says.
///
/// # Errors
/// When the file cannot be read.
pub async fn client(kubeconfig: &Path) -> Result<Client, ControlPlaneError> {
    connect(Kubeconfig::read_from(kubeconfig).map_err(Box::new)?).await
}

async fn connect(kubeconfig: Kubeconfig) -> Result<Client, ControlPlaneError> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Box::new)?;
    Ok(Client::try_from(config)?)
}
