//! Several threads at one address are one gateway.

use std::num::NonZeroUsize;

use forewarm_gateway::{Gateway, GatewayConfig, GatewayError};

use crate::support::{Rig, Upstream, config};

fn threaded() -> GatewayConfig {
    GatewayConfig { threads: NonZeroUsize::new(3), ..config() }
}

/// Twenty connections: that one thread gets all of them is less likely than a fault of the machine.
#[tokio::test]
async fn they_share_the_queue_and_the_slots() {
    let (rig, mut upstream) = (Rig::with(threaded()).await, Upstream::start().await);
    rig.apply(vec![upstream.endpoint("a", 1)]);
    let replies: Vec<_> = (0..20).map(|_| rig.chat()).collect();
    for waiting in (0..20).rev() {
        let call = upstream.call().await;
        rig.until("all the others wait", |report| report.queued == waiting && report.in_flight["a"] == 1)
            .await;
        assert!(!upstream.has_call());
        call.stream().await;
    }
    for reply in replies {
        assert!(reply.await.unwrap().text().await.ends_with("data: [DONE]\n\n"));
    }
    rig.until("all are counted", |report| report.succeeded_total == 20).await;
}

#[tokio::test]
async fn told_to_stop_they_finish_what_they_have() {
    let (rig, mut upstream) = (Rig::with(threaded()).await, Upstream::start().await);
    rig.apply(vec![upstream.endpoint("a", 20)]);
    let replies: Vec<_> = (0..20).map(|_| rig.chat()).collect();
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(upstream.call().await);
    }
    rig.stop.cancel();
    for call in calls {
        call.stream().await;
    }
    for reply in replies {
        assert!(reply.await.unwrap().text().await.ends_with("data: [DONE]\n\n"));
    }
    rig.running.await.unwrap();
}

#[tokio::test]
async fn they_share_their_port_with_nobody_else() {
    let rig = Rig::with(threaded()).await;
    let error = Gateway::bind(GatewayConfig { listen: rig.address, ..threaded() }).await.unwrap_err();
    assert!(matches!(error, GatewayError::Listen { address, .. } if address == rig.address));
}
