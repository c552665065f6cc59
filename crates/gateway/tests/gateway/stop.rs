//! The end of a gateway: what is there finishes, or ends with an honest error.

use std::time::Duration;

use forewarm_gateway::GatewayConfig;
use http::StatusCode;
use tokio::net::TcpStream;

use crate::support::{EVENTS, PATIENCE, Rig, Upstream, config};

#[tokio::test]
async fn what_is_in_flight_and_what_waits_is_finished() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let replies = rig.queue(2).await;
    let call = replica.call().await;
    rig.stop.cancel();
    call.stream().await;
    replica.call().await.stream().await;
    for reply in replies {
        assert_eq!(reply.await.unwrap().text().await, "data: {}\n\ndata: [DONE]\n\n");
    }
    tokio::time::timeout(PATIENCE, rig.running).await.expect("it ends").unwrap();
    TcpStream::connect(rig.address).await.expect_err("nobody listens");
}

#[tokio::test]
async fn what_cannot_be_finished_in_time_is_told_so() {
    let rig = Rig::with(GatewayConfig { shutdown_timeout: Duration::ZERO, ..config() }).await;
    let mut replica = Upstream::start().await;
    rig.apply(vec![replica.endpoint("a", 2)]);
    let streaming = rig.chat();
    let mut call = replica.call().await;
    let unanswered = rig.chat();
    let second = replica.call().await;
    let waiting = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    call.write(EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let started = streaming.await.unwrap();
    rig.stop.cancel();
    for reply in [unanswered, waiting] {
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("x-forewarm-accepted"), "true");
        assert_eq!(reply.error_code().await, "gateway_died");
    }
    let rest = started.text().await;
    assert!(rest.contains(r#""code":"gateway_died""#), "{rest}");
    drop(second);
    tokio::time::timeout(PATIENCE, rig.running).await.expect("it ends").unwrap();
}
