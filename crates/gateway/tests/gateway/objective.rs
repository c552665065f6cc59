//! What is promised to users: who yields to whom, and what counts as kept. In virtual time, over real sockets.

use std::time::Duration;

use forewarm_core::pool::{Endpoint, PoolPlan, QueueLimits};
use http::StatusCode;
use tokio::time::advance;

use crate::support::{BODY, CHAT, Rig, StoppedClock, Upstream, config, plan};

/// The first byte within 5 s; who has waited for 20 s yields to nobody.
fn promised(endpoints: Vec<Endpoint>) -> PoolPlan {
    let plan = plan(endpoints);
    let (timeout, ttft_objective) = (Duration::from_secs(40), Some(Duration::from_secs(5)));
    PoolPlan { queue: QueueLimits { timeout, ttft_objective, max_requests: 3, ..plan.queue }, ..plan }
}

#[tokio::test(start_paused = true)]
async fn late_requests_yield_to_timely_ones_until_half_their_time_is_over() {
    let _clock = StoppedClock::new();
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.handle.apply(&promised(Vec::new()));
    let mut replies = Vec::new();
    for (name, after) in [("oldest", 0), ("late", 14), ("timely", 7)] {
        advance(Duration::from_secs(after)).await;
        let queued = rig.report().queued;
        replies.push(rig.post(CHAT, format!(r#"{{"model":"m","name":"{name}"}}"#), &[]));
        rig.until("it waits", |report| report.queued == queued + 1).await;
    }
    rig.handle.apply(&promised(vec![replica.endpoint("a", 1)]));
    for (served, name) in (1..).zip(["oldest", "timely", "late"]) {
        let call = replica.call().await;
        assert_eq!(call.body, format!(r#"{{"model":"m","name":"{name}"}}"#));
        advance(Duration::from_secs(1)).await;
        call.stream().await;
        rig.until("it is served", |report| report.completed_total == served).await;
    }
    for reply in replies {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
    let report = rig.report();
    assert_eq!((report.attained_total, report.missed_total), (1, 2), "after 22 s, 2 s, and 10 s");
    assert_eq!(report.busy_seconds_total, 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_once_by_its_first_byte_or_by_its_end_without_one() {
    let _clock = StoppedClock::new();
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.handle.apply(&promised(vec![replica.endpoint("a", 1)]));
    let judged = || {
        let report = rig.report();
        (report.attained_total, report.missed_total)
    };
    // At the last moment, and however long it takes then.
    let reply = rig.chat();
    let mut call = replica.call().await;
    advance(Duration::from_secs(5)).await;
    call.write(crate::support::EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let reply = reply.await.unwrap();
    assert_eq!(judged(), (1, 0));
    advance(Duration::from_secs(20)).await;
    call.done().await;
    reply.text().await;
    rig.until("it ended", |report| report.completed_total == 1).await;
    assert_eq!((judged(), rig.report().busy_seconds_total), ((1, 0), 25.0));
    // An answer in one piece, which does not show its first token: it was at its replica in time.
    let reply = rig.chat();
    let call = replica.call().await;
    advance(Duration::from_secs(6)).await;
    call.answer("200 OK", "{}").await;
    reply.await.unwrap().text().await;
    rig.until("it ended", |report| report.completed_total == 2).await;
    assert_eq!(judged(), (2, 0));
    // An error in time is no first token.
    let reply = rig.chat();
    replica.call().await.answer("500 Internal Server Error", "it broke").await;
    reply.await.unwrap().text().await;
    rig.until("it ended", |report| report.completed_total == 3).await;
    assert_eq!(judged(), (2, 1));
    // A client that leaves early says nothing, one that leaves late does.
    for (after, expected) in [(1, (2, 1)), (6, (2, 2))] {
        let reply = rig.chat();
        let call = replica.call().await;
        advance(Duration::from_secs(after)).await;
        reply.abort();
        call.closed().await;
        rig.until("its slot is free", |report| report.in_flight_sum() == 0).await;
        assert_eq!(judged(), expected);
    }
    // One that finds no place, and one that waits in vain.
    rig.handle.apply(&promised(Vec::new()));
    let held = rig.post(CHAT, BODY, &[("x-scale-up-timeout", "2")]);
    rig.until("it waits", |report| report.queued == 1).await;
    let _others = rig.queue(2).await;
    assert_eq!(rig.chat().await.unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(judged(), (2, 3));
    advance(Duration::from_secs(3)).await;
    assert_eq!(held.await.unwrap().status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(judged(), (2, 4));
    assert_eq!(rig.report().completed_total, 5, "those that had been at a replica");
}

#[tokio::test(start_paused = true)]
async fn the_objective_and_the_totals_are_modelled_time() {
    let _clock = StoppedClock::new();
    let rig = Rig::with(forewarm_gateway::GatewayConfig { speed: 10.0, ..config() }).await;
    let mut replica = Upstream::start().await;
    rig.handle.apply(&promised(vec![replica.endpoint("a", 1)]));
    let reply = rig.chat();
    let call = replica.call().await;
    advance(Duration::from_millis(600)).await;
    call.stream().await;
    reply.await.unwrap().text().await;
    let report = rig.until("it ended", |report| report.completed_total == 1).await;
    assert_eq!((report.attained_total, report.missed_total, report.busy_seconds_total), (0, 1, 6.0));
}
