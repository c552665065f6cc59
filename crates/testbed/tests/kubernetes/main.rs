//! Against a real API server, with the real controllers. Where there is none, each test says so and passes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod aws;
mod calls;
mod cluster;
mod controller;
mod faults;
mod install;
mod life;
mod metrics_api;
mod rig;
mod targets;

mod testbed;

use forewarm_testbed::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};

/// The control plane that these tests share, or why there is none.
async fn shared() -> Option<&'static ControlPlane> {
    or_skipped(ControlPlane::shared().await)
}

/// A control plane for one test that breaks it.
async fn own(options: ControlPlaneOptions) -> Option<ControlPlane> {
    or_skipped(ControlPlane::start(options).await)
}

#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn or_skipped<T>(started: Result<T, ControlPlaneError>) -> Option<T> {
    match started {
        Ok(plane) => Some(plane),
        Err(ControlPlaneError::NotFetched(why)) => {
            println!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
