//! A Kubernetes control plane: etcd, API server, controllers, scheduler, and KWOK, which plays nodes and pods.
//!
//! One is enough for a test program ([`ControlPlane::shared`]); a test that breaks it starts one of its own
//! ([`ControlPlane::start`]). Pods get addresses of the loopback interface, so that a test can answer at
//! `POD_IP:PORT` without privileges; only endpoint slices refuse such addresses.

mod access;
mod aggregation;
mod pki;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::Request;
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use crate::{Launch, NotFetched, Server, ServerError, assets, free_port};
use pki::Pki;

pub use access::client;
pub use aggregation::Aggregation;
pub use pki::Identity;
pub use workload::{ColdStart, Workload};

/// The part of the testbed that a control plane is started from.
pub const PART: &str = "kubernetes";
/// On an idle machine it takes 5 s, on one that is busy with other things 28 s were seen.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the tests have a use for; node life cycle is KWOK's.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,\
     horizontal-pod-autoscaler-controller,namespace-controller,serviceaccount-controller,\
     garbage-collector-controller,endpointslice-controller,disruption-controller";

/// What differs between control planes.
#[derive(Clone, Copy, Debug)]
pub struct ControlPlaneOptions {
    /// Time between two looks of the HPA controller.
    pub hpa_sync_period: Duration,
}

impl Default for ControlPlaneOptions {
    /// As fast as the HPA controller goes, so that tests are short; in clusters it is 15 s.
    fn default() -> Self {
        Self { hpa_sync_period: Duration::from_secs(1) }
    }
}

/// Why there is no control plane, or why it did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// It was never built.
    #[error(transparent)]
    NotFetched(#[from] NotFetched),
    /// A part does not run.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No file, no port.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// A kubeconfig file that cannot be read.
    #[error(transparent)]
    Kubeconfig(#[from] Box<kube::config::KubeconfigError>),
    /// The API server says no.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// An object of the tests is written wrong.
    #[error(transparent)]
    Object(#[from] serde_json::Error),
    /// It made a token and did not say which.
    #[error("the API server made no token")]
    NoToken,
    /// Something did not come about in time.
    #[error("{what} within {} s", DEADLINE.as_secs())]
    Late {
        /// What did not.
        what: String,
    },
}

/// A control plane. Its processes end with it, or with the test program.
pub struct ControlPlane {
    folder: TempDir,
    pki: Pki,
    url: String,
    etcd: String,
    api: Mutex<Server>,
    controllers: Mutex<Server>,
    aggregated: Mutex<()>,
    _others: Vec<Server>,
}

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

impl ControlPlane {
    /// The one that the tests of a program share. Each works in a namespace of its own.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn shared() -> Result<&'static ControlPlane, ControlPlaneError> {
        SHARED.get_or_try_init(|| Self::start(ControlPlaneOptions::default())).await
    }

    /// Starts one, and waits until each part says that it is ready.
    ///
    /// # Errors
    /// When it was not built, or when a part does not get ready.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        let programs = assets(PART)?;
        let folder = run_folder()?;
        let pki = Pki::make(folder.path().join("pki"))?;
        let start = Start { programs, folder: folder.path(), pki: &pki };
        let (etcd, etcd_url) = start.etcd().await?;
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        start.kubeconfigs(&url)?;
        let api = start.api_server(port, &etcd_url).await?;
        let controllers = start.controllers(options).await?;
        let scheduler = start.scheduler().await?;
        let kwok = start.kwok(port).await?;
        let others = vec![scheduler, kwok, etcd];
        let (api, controllers) = (Mutex::new(api), Mutex::new(controllers));
        Ok(Self {
            folder,
            pki,
            url,
            etcd: etcd_url,
            api,
            controllers,
            aggregated: Mutex::new(()),
            _others: others,
        })
    }

    /// `https://127.0.0.1:PORT` of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its files are, and those of whatever belongs to it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs this program of the testbed: `kubectl`.
    pub fn kubectl(&self) -> Result<std::process::Command, ControlPlaneError> {
        let mut command = std::process::Command::new(assets(PART)?.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// The API server, to be paused, killed and started again with [`ControlPlane::restart_api_server`].
    pub fn api_server(&self) -> &Mutex<Server> {
        &self.api
    }

    /// The controller manager, with the HPA controller in it.
    pub fn controller_manager(&self) -> &Mutex<Server> {
        &self.controllers
    }

    /// Kills the API server unless it is dead, starts it again and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn restart_api_server(&self) -> Result<(), ControlPlaneError> {
        let client = self.client().await?;
        let ready = async || says_ok(&client, "/readyz").await;
        Ok(self.api.lock().await.restart(DEADLINE, ready).await?)
    }
}

impl ControlPlane {
    /// Makes every version of every object so far too old to begin a watch at (410): etcd forgets what was before, and
    /// the API server begins anew without what it had seen.
    ///
    /// # Errors
    /// When etcd says no, or the API server does not get ready again.
    pub async fn forget_history(&self) -> Result<(), ControlPlaneError> {
        let etcd = plain(&self.etcd)?;
        let ask = async |path: &str, body: Value| -> Result<Value, ControlPlaneError> {
            let request = Request::post(path).body(serde_json::to_vec(&body)?);
            Ok(etcd.request(request.map_err(std::io::Error::other)?).await?)
        };
        // Any key will do: the answer's header has the revision. Keys are in base64.
        let now = ask("/v3/kv/range", json!({"key": "AA=="})).await?;
        let compaction = json!({"revision": now["header"]["revision"], "physical": true});
        ask("/v3/kv/compaction", compaction).await?;
        self.restart_api_server().await
    }
}

/// Starts the parts.
struct Start<'a> {
    programs: PathBuf,
    folder: &'a Path,
    pki: &'a Pki,
}

impl Start<'_> {
    async fn etcd(&self) -> Result<(Server, String), ControlPlaneError> {
        let client = format!("http://127.0.0.1:{}", free_port()?);
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let launch = self.launch(
            "etcd",
            &[
                ("name", "testbed".to_owned()),
                ("data-dir", self.file("etcd")),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client.clone()),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer.clone()),
                ("initial-cluster", format!("testbed={peer}")),
                // Nobody needs the data after a crash of the machine.
                ("unsafe-no-fsync", "true".to_owned()),
            ],
        );
        let health = plain(&client)?;
        let ready = async || is_there(&health, "/health").await;
        Ok((Server::start(launch, DEADLINE, ready).await?, client))
    }

    fn kubeconfigs(&self, url: &str) -> Result<(), ControlPlaneError> {
        for user in ["admin", "kube-controller-manager", "kube-scheduler"] {
            let credentials = json!({
                "client-certificate": self.pki.certificate(user),
                "client-key": self.pki.key(user),
            });
            let file = PathBuf::from(self.file(&format!("{user}.kubeconfig")));
            access::write_kubeconfig(&file, url, &self.pki.certificate("ca"), &credentials)?;
        }
        Ok(())
    }

    async fn api_server(&self, port: u16, etcd: &str) -> Result<Server, ControlPlaneError> {
        let launch = self.launch(
            "kube-apiserver",
            &[
                ("etcd-servers", etcd.to_owned()),
                ("bind-address", "127.0.0.1".to_owned()),
                ("secure-port", port.to_string()),
                // Of the documentation's network: nobody has it, and the loopback network is refused here.
                ("advertise-address", "192.0.2.1".to_owned()),
                ("endpoint-reconciler-type", "none".to_owned()),
                ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
                ("tls-cert-file", self.certificate("server")),
                ("tls-private-key-file", self.key("server")),
                ("client-ca-file", self.certificate("ca")),
                ("authorization-mode", "RBAC".to_owned()),
                ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
                (
                    "service-account-key-file",
                    self.pki.public_key("service-accounts").to_string_lossy().into_owned(),
                ),
                ("service-account-signing-key-file", self.key("service-accounts")),
                ("requestheader-client-ca-file", self.certificate("aggregators-ca")),
                ("requestheader-allowed-names", pki::AGGREGATOR.to_owned()),
                ("requestheader-username-headers", "X-Remote-User".to_owned()),
                ("requestheader-group-headers", "X-Remote-Group".to_owned()),
                ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
                ("proxy-client-cert-file", self.certificate("aggregator")),
                ("proxy-client-key-file", self.key("aggregator")),
                // No pod waits for a service account, and no node for the life cycle controller.
                ("disable-admission-plugins", "ServiceAccount,TaintNodesByCondition".to_owned()),
                ("enable-priority-and-fairness", "false".to_owned()),
                ("profiling", "false".to_owned()),
            ],
        );
        let admin = access::client(Path::new(&self.file("admin.kubeconfig"))).await?;
        let ready = async || says_ok(&admin, "/readyz").await;
        Ok(Server::start(launch, DEADLINE, ready).await?)
    }

    async fn controllers(&self, options: ControlPlaneOptions) -> Result<Server, ControlPlaneError> {
        let kubeconfig = self.file("kube-controller-manager.kubeconfig");
        let period = format!("{}ms", options.hpa_sync_period.as_millis());
        let own = [
            ("controllers", CONTROLLERS.to_owned()),
            // With its own account alone, no controller may do anything.
            ("use-service-account-credentials", "true".to_owned()),
            ("service-account-private-key-file", self.key("service-accounts")),
            ("root-ca-file", self.certificate("ca")),
            ("horizontal-pod-autoscaler-sync-period", period),
            ("kube-api-qps", "200".to_owned()),
            ("kube-api-burst", "400".to_owned()),
        ];
        self.component("kube-controller-manager", kubeconfig, &own).await
    }

    async fn scheduler(&self) -> Result<Server, ControlPlaneError> {
        self.component("kube-scheduler", self.file("kube-scheduler.kubeconfig"), &[]).await
    }

    /// A part that is a client of the API server and says on a port of its own how it is.
    async fn component(
        &self,
        name: &str,
        kubeconfig: String,
        own: &[(&str, String)],
    ) -> Result<Server, ControlPlaneError> {
        let port = free_port()?;
        let mut flags = vec![
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("leader-elect", "false".to_owned()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("secure-port", port.to_string()),
        ];
        flags.extend_from_slice(own);
        let mut config = Config::new(uri(&format!("https://127.0.0.1:{port}"))?);
        config.accept_invalid_certs = true;
        let health = Client::try_from(config)?;
        let ready = async || says_ok(&health, "/healthz").await;
        Ok(Server::start(self.launch(name, &flags), DEADLINE, ready).await?)
    }

    async fn kwok(&self, api_port: u16) -> Result<Server, ControlPlaneError> {
        let stages = self.file("stages.yaml");
        std::fs::write(&stages, include_str!("stages.yaml"))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let launch = self.launch(
            "kwok",
            &[
                ("kubeconfig", self.file("admin.kubeconfig")),
                ("manage-all-nodes", "true".to_owned()),
                ("config", stages),
                // Pods of several control planes on one machine must not have the same addresses.
                ("cidr", format!("127.{}.0.0/16", 16 + api_port % 224)),
                ("node-ip", "192.0.2.2".to_owned()),
                ("server-address", address.clone()),
            ],
        );
        let health = plain(&format!("http://{address}"))?;
        let ready = async || is_there(&health, "/healthz").await;
        Ok(Server::start(launch, DEADLINE, ready).await?)
    }

    fn launch(&self, name: &str, flags: &[(&str, String)]) -> Launch {
        let program = self.programs.join(name).to_string_lossy().into_owned();
        let flags = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
        Launch {
            name: name.to_owned(),
            command: std::iter::once(program).chain(flags).collect(),
            env: Vec::new(),
            folder: self.folder.to_owned(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn certificate(&self, name: &str) -> String {
        self.pki.certificate(name).to_string_lossy().into_owned()
    }

    fn key(&self, name: &str) -> String {
        self.pki.key(name).to_string_lossy().into_owned()
    }
}

/// A folder for one control plane. What a program shares outlives its destructors, so the folders of
/// programs that are gone are removed here.
fn run_folder() -> Result<TempDir, ControlPlaneError> {
    let runs = std::env::temp_dir().join("forewarm-testbed");
    std::fs::create_dir_all(&runs)?;
    for run in std::fs::read_dir(&runs)? {
        let run = run?;
        let name = run.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another program may be removing it too.
            std::fs::remove_dir_all(run.path()).ok();
        }
    }
    Ok(tempfile::Builder::new().prefix(&format!("{}-", std::process::id())).tempdir_in(runs)?)
}

fn plain(url: &str) -> Result<Client, ControlPlaneError> {
    Ok(Client::try_from(Config::new(uri(url)?))?)
}

fn uri(url: &str) -> Result<http::Uri, ControlPlaneError> {
    url.parse().map_err(|error| std::io::Error::other(error).into())
}

async fn says_ok(client: &Client, path: &str) -> bool {
    let Ok(request) = Request::get(path).body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}

async fn is_there(client: &Client, path: &str) -> bool {
    let Ok(request) = Request::get(path).body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}
