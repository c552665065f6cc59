//! A Kubernetes cluster of its own to try things in by hand, until it is interrupted: real API server, controllers and
//! scheduler; a node with so many simulated GPUs, whose pods take a minute to start; and a Deployment of engines.
//!
//! `cargo xtask testbed kubernetes`, then `cargo run -p forewarm-testbed --example cluster -- 8`

#![expect(clippy::print_stdout, reason = "it tells people what to type")]

use std::time::Duration;

use forewarm_testbed::control_plane::{ColdStart, ControlPlane, ControlPlaneOptions, Workload};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpus = std::env::args().nth(1).map_or(Ok(8), |gpus| gpus.parse())?;
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    plane.namespace("ai-serving").await?;
    plane.gpu_node("gpus", gpus).await?;
    let [provision, pull, load, drain] = [5, 20, 35, 5].map(Duration::from_secs);
    let cold_start = ColdStart { provision, pull, load, drain, fail: None };
    let workload = Workload { cold_start, ..Workload::new("vllm-llama3", 1) };
    plane.deploy("ai-serving", &workload).await?;
    let kubectl = plane.kubectl()?;
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    println!("alias kubectl={}", kubectl.get_program().to_string_lossy());
    println!("# the Deployment is vllm-llama3 in ai-serving; Ctrl-C ends the cluster");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
