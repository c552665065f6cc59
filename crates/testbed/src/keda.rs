//! KEDA's operator and metrics adapter, in a control plane of the testbed.

use std::{path::Path, process::Command, time::Duration};

use tokio::{net::TcpStream, sync::Mutex};

use crate::{
    Certificates, Launch, Server, assets,
    control_plane::{Aggregation, ControlPlane, ControlPlaneError},
    free_port,
};

/// Long enough for a machine that is busy with other tests.
const START: Duration = Duration::from_secs(120);
/// Where KEDA believes to run.
const NAMESPACE: &str = "keda";
/// The API that a cluster has one owner of.
const METRICS: (&str, &str) = ("external.metrics.k8s.io", "v1beta1");

/// KEDA, running. It ends with this value; its resource definitions stay.
pub struct Keda<'a> {
    operator: Mutex<Server>,
    /// Where the operator listens for the adapter.
    link: u16,
    _adapter: Server,
    _metrics: Aggregation<'a>,
}

impl<'a> Keda<'a> {
    /// Starts it, once for a control plane, and waits until the API server gets external metrics from it.
    ///
    /// # Errors
    /// When it was not built, or when a part does not get ready.
    pub async fn start(plane: &'a ControlPlane) -> Result<Self, ControlPlaneError> {
        let programs = assets("keda")?;
        let folder = plane.folder().join("keda");
        std::fs::create_dir_all(&folder)?;
        let definitions = programs.join("crd");
        run(plane.kubectl()?.args(["apply", "--server-side", "--filename"]).arg(definitions))?;
        plane.namespace(NAMESPACE).await?;

        let ports = [(); 5].map(|()| free_port());
        let [metrics, health, link, api, adapter_metrics] = ports;
        let (metrics, health, link, api) = (metrics?, health?, link?, api?);
        let start = Start { plane, programs: &programs, folder: &folder };
        let keys = start.keys()?;
        let operator = start
            .server(
                "keda-operator",
                &[
                    ("enable-cert-rotation", "false".to_owned()),
                    ("cert-dir", keys.clone()),
                    ("ca-dir", start.file("authority")),
                    ("metrics-bind-address", local(metrics)),
                    ("health-probe-bind-address", local(health)),
                    ("metrics-service-bind-address", local(link)),
                ],
                link,
            )
            .await?;
        let kubeconfig = plane.kubeconfig().display().to_string();
        let adapter = start
            .server(
                "keda-adapter",
                &[
                    ("secure-port", api.to_string()),
                    ("bind-address", "127.0.0.1".to_owned()),
                    ("kubeconfig", kubeconfig.clone()),
                    ("lister-kubeconfig", kubeconfig.clone()),
                    ("authentication-kubeconfig", kubeconfig.clone()),
                    ("authorization-kubeconfig", kubeconfig),
                    ("client-ca-file", start.file("cluster.crt")),
                    ("tls-cert-file", start.file("served.crt")),
                    ("tls-private-key-file", start.file("served.key")),
                    ("cert-dir", keys),
                    ("metrics-service-address", local(link)),
                    ("metrics-service-grpc-authority", "localhost".to_owned()),
                    ("port", adapter_metrics?.to_string()),
                ],
                api,
            )
            .await?;
        let aggregated = plane.aggregate(&[METRICS], api).await?;
        Ok(Self { operator: Mutex::new(operator), link, _adapter: adapter, _metrics: aggregated })
    }

    /// Kills the operator: nothing is scaled from zero any more, and the adapter has nobody to ask.
    pub async fn stop_operator(&self) {
        self.operator.lock().await.kill();
    }

    /// Starts it again, and waits until the adapter can ask it.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_operator(&self) -> Result<(), ControlPlaneError> {
        Ok(self.operator.lock().await.restart(START, async || listens(self.link).await).await?)
    }
}

struct Start<'a> {
    plane: &'a ControlPlane,
    programs: &'a Path,
    folder: &'a Path,
}

impl Start<'_> {
    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Writes what the parts show each other, and the API server. The folder has the names that KEDA looks for.
    fn keys(&self) -> Result<String, ControlPlaneError> {
        let made = Certificates::make(self.folder)?;
        let (keys, authority) = (self.folder.join("keys"), self.folder.join("authority"));
        std::fs::create_dir_all(&keys)?;
        std::fs::create_dir_all(&authority)?;
        // Whatever else is in the folder of authorities would be read as a certificate.
        std::fs::copy(&made.ca, authority.join("ca.crt"))?;
        for (from, name) in [(&made.ca, "ca.crt"), (&made.cert, "tls.crt"), (&made.key, "tls.key")] {
            std::fs::copy(from, keys.join(name))?;
        }
        let served = self.plane.server_identity(&[&self.plane.aggregated_name()])?;
        std::fs::write(self.folder.join("served.crt"), served.certificate)?;
        std::fs::write(self.folder.join("served.key"), served.key)?;
        std::fs::write(self.folder.join("cluster.crt"), self.plane.authority())?;
        Ok(keys.display().to_string())
    }

    /// A program that is ready when it listens at this port.
    async fn server(
        &self,
        name: &str,
        flags: &[(&str, String)],
        port: u16,
    ) -> Result<Server, ControlPlaneError> {
        let program = self.programs.join(name).display().to_string();
        let flags = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let kubeconfig = self.plane.kubeconfig().display().to_string();
        let env = [
            ("KUBECONFIG", kubeconfig.as_str()),
            ("POD_NAMESPACE", NAMESPACE),
            ("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE),
            ("WATCH_NAMESPACE", ""),
        ];
        let launch = Launch {
            name: name.to_owned(),
            command: std::iter::once(program).chain(flags).collect(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            folder: self.folder.to_owned(),
        };
        Ok(Server::start(launch, START, async || listens(port).await).await?)
    }
}

async fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn run(command: &mut Command) -> Result<(), ControlPlaneError> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()).into())
}
