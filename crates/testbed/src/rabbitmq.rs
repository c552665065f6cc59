//! A real RabbitMQ with its management API.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Certificates, Launch, Server, ServerError, TestbedError, assets, free_port};

/// The broker's only user, who may do everything.
pub const USER: &str = "forewarm";
/// Their password.
pub const PASSWORD: &str = "correct horse";
/// Long enough for a machine that is busy with other tests.
const START: Duration = Duration::from_secs(180);

/// A broker.
pub struct RabbitMq {
    /// Its process.
    pub server: Server,
    /// Where it speaks AMQP.
    pub amqp: SocketAddr,
    /// Where it speaks AMQP over TLS, with clients that show a certificate.
    pub amqps: SocketAddr,
    /// Where its management API is.
    pub management: SocketAddr,
    /// The same over TLS, for clients that show a certificate.
    pub management_tls: SocketAddr,
    /// Who signs its certificate and whom it knows.
    pub certificates: Certificates,
    client: Client,
    /// Without one a broker starts its own, which would outlive it.
    _names: Server,
    _folder: TempDir,
}

impl RabbitMq {
    /// Starts one.
    ///
    /// # Errors
    /// When it was not fetched or does not start.
    pub async fn start() -> Result<Self, TestbedError> {
        let root = assets("rabbitmq")?.canonicalize()?;
        let folder = tempfile::tempdir()?;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (amqp, management) = (local(free_port()?), local(free_port()?));
        let (amqps, management_tls) = (local(free_port()?), local(free_port()?));
        let certificates = Certificates::make(folder.path())?;
        let (epmd, distribution) = (free_port()?, free_port()?);
        let config = format!(
            "listeners.tcp.1 = {amqp}\nmanagement.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {port}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\n\
             loopback_users = none\nvm_memory_high_watermark.absolute = 512MB\n\
             disk_free_limit.absolute = 50MB\ncollect_statistics_interval = 1000\n\
             listeners.ssl.1 = {amqps}\nmanagement.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {tls_port}\n{}{}",
            tls_settings("ssl_options", &certificates),
            tls_settings("management.ssl", &certificates),
            port = management.port(),
            tls_port = management_tls.port(),
        );
        std::fs::write(folder.path().join("rabbitmq.conf"), config)?;
        std::fs::write(folder.path().join("enabled_plugins"), "[rabbitmq_management].\n")?;
        let env = environment(&root, folder.path(), epmd, distribution);
        let names = names(&root, folder.path(), epmd, env.clone()).await?;
        let launch = Launch {
            name: "rabbitmq".into(),
            command: vec![root.join("usr/lib/rabbitmq/bin/rabbitmq-server").display().to_string()],
            env,
            folder: PathBuf::from(folder.path()),
        };
        // A kept connection would be one to the broker before it was restarted.
        let builder = Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = builder.timeout(Duration::from_secs(5)).build();
        let client = client.map_err(|error| TestbedError::Answer(error.to_string()))?;
        let asked = client.clone();
        let server = Server::start(launch, START, async || is_ready(&asked, amqp, management).await).await?;
        Ok(Self {
            server,
            amqp,
            amqps,
            management,
            management_tls,
            certificates,
            client,
            _names: names,
            _folder: folder,
        })
    }

    /// Starts it again, at the same ports and with what it stored.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let (client, amqp, management) = (self.client.clone(), self.amqp, self.management);
        self.server.restart(START, async || is_ready(&client, amqp, management).await).await
    }

    /// Makes a vhost that [`USER`] may use.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn create_vhost(&self, vhost: &str) -> Result<(), TestbedError> {
        self.call(Method::PUT, &["vhosts", vhost], json!({})).await?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.call(Method::PUT, &["permissions", vhost, USER], all).await.map(drop)
    }

    /// Makes a durable queue of a type: `classic` or `quorum`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn create_queue(&self, vhost: &str, queue: &str, r#type: &str) -> Result<(), TestbedError> {
        let arguments = json!({"durable": true, "arguments": {"x-queue-type": r#type}});
        self.call(Method::PUT, &["queues", vhost, queue], arguments).await.map(drop)
    }

    /// Deletes a queue.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_queue(&self, vhost: &str, queue: &str) -> Result<(), TestbedError> {
        self.call(Method::DELETE, &["queues", vhost, queue], Value::Null).await.map(drop)
    }

    /// Publishes messages to a queue, one call each.
    ///
    /// # Errors
    /// When the broker refuses, or nothing takes them.
    pub async fn publish(&self, vhost: &str, queue: &str, count: usize) -> Result<(), TestbedError> {
        let message = json!({"properties": {"delivery_mode": 2}, "routing_key": queue, "payload": "a request", "payload_encoding": "string"});
        for _ in 0..count {
            let path = ["exchanges", vhost, "amq.default", "publish"];
            let answer = self.call(Method::POST, &path, message.clone()).await?;
            if answer.get("routed") != Some(&Value::Bool(true)) {
                return Err(TestbedError::Answer(format!("no queue `{queue}` took the message")));
            }
        }
        Ok(())
    }

    /// Takes every message off a queue for good.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn purge(&self, vhost: &str, queue: &str) -> Result<(), TestbedError> {
        self.call(Method::DELETE, &["queues", vhost, queue, "contents"], Value::Null).await.map(drop)
    }

    /// What the management API says of a queue.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn queue(&self, vhost: &str, queue: &str) -> Result<Value, TestbedError> {
        self.call(Method::GET, &["queues", vhost, queue], Value::Null).await
    }

    async fn call(&self, method: Method, path: &[&str], body: Value) -> Result<Value, TestbedError> {
        let failed = |error: reqwest::Error| TestbedError::Answer(format!("{error:?}"));
        let mut url = url(self.management)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let mut request = self.client.request(method, url).basic_auth(USER, Some(PASSWORD));
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(failed)?.error_for_status().map_err(failed)?;
        let text = response.text().await.map_err(failed)?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| TestbedError::Answer(error.to_string()))
    }
}

/// Who is shown, and who has to show themselves.
fn tls_settings(prefix: &str, certificates: &Certificates) -> String {
    let (ca, cert, key) =
        (certificates.ca.display(), certificates.cert.display(), certificates.key.display());
    format!(
        "{prefix}.cacertfile = {ca}\n{prefix}.certfile = {cert}\n{prefix}.keyfile = {key}\n\
         {prefix}.verify = verify_peer\n{prefix}.fail_if_no_peer_cert = true\n"
    )
}

fn url(management: SocketAddr) -> Result<reqwest::Url, TestbedError> {
    let text = format!("http://{management}/api");
    text.parse().map_err(|error| TestbedError::Answer(format!("{text}: {error}")))
}

/// Either may be there before the other.
async fn is_ready(client: &Client, amqp: SocketAddr, management: SocketAddr) -> bool {
    let request = client.get(format!("http://{management}/api/overview")).basic_auth(USER, Some(PASSWORD));
    request.send().await.is_ok_and(|response| response.status().is_success())
        && TcpStream::connect(amqp).await.is_ok()
}

/// Everything beside the folder of the test, so that brokers side by side do not meet.
fn environment(root: &Path, folder: &Path, epmd: u16, distribution: u16) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let erlang = root.join("usr/lib/erlang");
    let path = format!("{}:{}", text(&erlang.join("bin")), std::env::var("PATH").unwrap_or_default());
    let arguments = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none -setcookie forewarm";
    [
        ("PATH", path),
        ("ERL_ROOTDIR", text(&erlang)),
        ("HOME", text(folder)),
        ("RABBITMQ_NODENAME", format!("fw{distribution}@localhost")),
        ("RABBITMQ_CONFIG_FILE", text(&folder.join("rabbitmq.conf"))),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", text(&folder.join("enabled_plugins"))),
        ("RABBITMQ_MNESIA_BASE", text(&folder.join("mnesia"))),
        ("RABBITMQ_LOG_BASE", text(&folder.join("log"))),
        ("RABBITMQ_PID_FILE", text(&folder.join("rabbitmq.pid"))),
        ("RABBITMQ_FEATURE_FLAGS_FILE", text(&folder.join("feature_flags"))),
        ("RABBITMQ_GENERATED_CONFIG_DIR", text(&folder.join("config"))),
        ("RABBITMQ_PLUGINS_EXPAND_DIR", text(&folder.join("plugins"))),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments.to_owned()),
        ("ERL_EPMD_PORT", epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Erlang's port mapper, in the foreground.
async fn names(
    root: &Path,
    folder: &Path,
    port: u16,
    env: Vec<(String, String)>,
) -> Result<Server, ServerError> {
    let program = std::fs::read_dir(root.join("usr/lib/erlang"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/epmd"))
        .find(|program| program.exists())
        .unwrap_or_else(|| root.join("usr/lib/erlang/bin/epmd"));
    let launch = Launch {
        name: "epmd".into(),
        command: vec![program.display().to_string()],
        env,
        folder: folder.into(),
    };
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    Server::start(launch, START, async || TcpStream::connect(at).await.is_ok()).await
}
