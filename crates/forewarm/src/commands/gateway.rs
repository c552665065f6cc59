//! `forewarm gateway`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use forewarm_gateway::{ControlToken, Gateway, GatewayConfig, new_key};

use crate::{
    commands::{
        edge::{EdgeArgs, files, reload_on_hangup},
        values,
    },
    exit::{Failure, say},
    lifecycle::{cores, runtime, shutdown_on_signal},
};

/// The OpenAI-compatible front door alone: queues, routes and streams.
///
/// A controller in another process tells it which replicas there are (`forewarm run --gateway ADDRESS`). It
/// serves its last plan when the controller is gone, so a controller can be restarted under load.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    forewarm gateway --listen 0.0.0.0:8080 --control 127.0.0.1:8081\n  \
    forewarm run -f forewarm.yaml --gateway 127.0.0.1:8081\n\n  \
    forewarm gateway key create --tenant search\n  \
    forewarm gateway --listen 0.0.0.0:8443 --keys keys.yaml --tls-cert tls.crt --tls-key tls.key"
)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: Option<GatewayCommand>,
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the controller connects; also /metrics, /healthz and /readyz. Not for clients.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    control: SocketAddr,
    /// Asked of every controller that sees or changes replicas.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
    /// The certificate of --control (PEM): controllers use `--gateway https://…` then.
    #[arg(long, value_name = "FILE", requires = "control_tls_key")]
    control_tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "control_tls_cert")]
    control_tls_key: Option<PathBuf>,
    /// Who signs the certificates that controllers have to show.
    #[arg(long, value_name = "FILE", requires = "control_tls_cert")]
    control_client_ca: Option<PathBuf>,
    /// A Unix socket by which a new gateway takes the place of an old one, and no connection is lost. Both have the
    /// same --listen, and a --control of their own, which the controller knows (`--gateway` twice).
    #[arg(long, value_name = "PATH")]
    handover: Option<PathBuf>,
    /// Longest time that requests in flight and waiting get when the gateway is told to stop, or replaced.
    #[arg(long, value_parser = values::duration, default_value = "10m", value_name = "DURATION")]
    shutdown_timeout: Duration,
    #[command(flatten)]
    edge: EdgeArgs,
    /// Divides every timeout, for compressed tests.
    #[arg(long, value_parser = values::speed, default_value = "1")]
    speed: f64,
}

#[derive(Subcommand)]
enum GatewayCommand {
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Makes a key: shows it this once, and what the keys file has to say of it.
    Create {
        /// Whose key it is.
        #[arg(long, value_name = "NAME")]
        tenant: String,
    },
}

fn create_key(tenant: &str) -> Result<(), Failure> {
    let (key, hash) = new_key().map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    say(format!("Give this key to `{tenant}`; it is not kept and cannot be shown again:\n\n  {key}\n"));
    say(format!(
        "For the file of `--keys`, under `tenants` (one that is there gets one more line under `keys`):\n\n  \
         - name: {tenant}\n    keys:\n    - {hash}"
    ));
    Ok(())
}

/// The sockets that systemd listens on for this process (`LISTEN_FDS`), in the place of --listen.
fn activated() -> std::io::Result<Vec<std::net::TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        sockets.extend(given.take_tcp_listener(index)?);
    }
    Ok(sockets)
}

pub(crate) fn gateway(args: GatewayArgs) -> Result<(), Failure> {
    if let Some(GatewayCommand::Key(KeyCommand::Create { tenant })) = args.command {
        return create_key(&tenant);
    }
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let control = Some(args.control);
        let control_token = args.control_token.map(ControlToken::new);
        let config = args.edge.configure(GatewayConfig {
            control,
            control_token,
            control_tls: files(args.control_tls_cert, args.control_tls_key, args.control_client_ca),
            handover: args.handover,
            shutdown_timeout: args.shutdown_timeout,
            threads: cores(),
            speed: args.speed,
            ..GatewayConfig::new(args.listen)
        });
        let sockets = activated()?;
        let gateway = match sockets.is_empty() {
            true => Gateway::bind(config).await,
            false => Gateway::bind_to(config, sockets).await,
        };
        let gateway = gateway.map_err(Failure::usage)?;
        reload_on_hangup(gateway.reloader())?;
        tracing::info!(listen = %gateway.local_addr()?, control = ?gateway.control_addr()?, "the gateway listens");
        gateway.run(shutdown).await;
        Ok(())
    })
}
