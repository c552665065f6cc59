//! `forewarm kube` in a cluster: programs with the rights of the chart and no other. Where there is no cluster, each test
//! says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod account;
mod external_scaler;
mod metrics_api;

use std::{
    process::{Child, Command},
    time::Duration,
};

use forewarm_testbed::{
    control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions},
    helm::Chart,
};

/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where the chart is installed.
const OWN: &str = "forewarm";
const SCALED: &str = "ai-serving";

/// A cluster with both namespaces and a node, and the chart.
#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
async fn cluster() -> Option<(ControlPlane, Chart)> {
    let chart = Chart::open().inspect_err(|why| println!("skipped: {why}")).ok()?;
    let plane = match ControlPlane::start(ControlPlaneOptions::default()).await {
        Ok(plane) => plane,
        Err(ControlPlaneError::NotFetched(why)) => {
            println!("skipped: {why}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    for namespace in [OWN, SCALED] {
        plane.namespace(namespace).await.unwrap();
    }
    plane.gpu_node("gpu", 8).await.unwrap();
    Some((plane, chart))
}

/// `forewarm` with these words. It ends with the test.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `forewarm WORDS…`, which says nothing as long as all is well.
fn forewarm(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forewarm"));
    command.args(words).args(["--log", "error"]).env("POD_NAMESPACE", OWN);
    command
}
