//! The controller against a real API server: what people see when they use it.

use forewarm_testbed::control_plane::{ColdStart, Workload};
use serde_json::json;
use std::time::Duration;

use crate::{rig::Rig, shared};

#[tokio::test]
async fn a_queue_scales_a_deployment_up_and_its_status_and_events_say_why() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "up", 8).await;
    let load = Duration::from_millis(500);
    let cold_start = ColdStart { load, ..ColdStart::default() };
    rig.deploy(&Workload { cold_start, ..Workload::new("llama", 1) }).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    let note = rig.until_event("llama", "ScaledUp").await;
    assert_eq!(note, "1 → 4 replicas: 20 requests wait, a replica is worth 5 of them");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let status = rig.status("llama").await;
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(4), Some(4), Some(4))
    );
    assert_eq!(status.decisions[0].summary, note);
    running.stop().await;
}
