//! `forewarm gateway`.

use std::net::SocketAddr;

use clap::Args;
use forewarm_gateway::{ControlToken, Gateway, GatewayConfig};

use crate::{
    commands::values,
    exit::Failure,
    lifecycle::{cores, runtime, shutdown_on_signal},
};

/// The OpenAI-compatible front door alone: queues, routes and streams.
///
/// A controller in another process tells it which replicas there are (`forewarm run --gateway ADDRESS`). It
/// serves its last plan when the controller is gone, so a controller can be restarted under load.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    forewarm gateway --listen 0.0.0.0:8080 --control 127.0.0.1:8081\n  \
    forewarm run -f forewarm.yaml --gateway 127.0.0.1:8081")]
pub(crate) struct GatewayArgs {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the controller connects; also /metrics, /healthz and /readyz. Not for clients.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    control: SocketAddr,
    /// Asked of every controller that sees or changes replicas.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
    /// Divides every timeout, for compressed tests.
    #[arg(long, value_parser = values::speed, default_value = "1")]
    speed: f64,
}

pub(crate) fn gateway(args: GatewayArgs) -> Result<(), Failure> {
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let control = Some(args.control);
        let control_token = args.control_token.map(ControlToken::new);
        let config = GatewayConfig {
            control,
            control_token,
            threads: cores(),
            speed: args.speed,
            ..GatewayConfig::new(args.listen)
        };
        let gateway = Gateway::bind(config).await.map_err(Failure::usage)?;
        tracing::info!(listen = %gateway.local_addr()?, control = ?gateway.control_addr()?, "the gateway listens");
        gateway.run(shutdown).await;
        Ok(())
    })
}
