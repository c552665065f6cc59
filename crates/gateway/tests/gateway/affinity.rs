//! Requests that begin alike go where the engine may have cached their beginning.

use std::collections::BTreeMap;

use forewarm_core::pool::{Affinity, PoolPlan, Routing};

use crate::support::{CHAT, Rig, Upstream, plan};

const SLOTS: u32 = 8;

async fn rig(load_factor: f64) -> (Rig, Vec<Upstream>) {
    let rig = Rig::start().await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(Upstream::start().await);
    }
    let endpoints = replicas.iter().enumerate();
    let endpoints =
        endpoints.map(|(number, replica)| replica.endpoint(&format!("r{number}"), SLOTS)).collect();
    let affinity = Some(Affinity { prefix_bytes: 4_096, load_factor });
    assert!(
        rig.handle
            .apply(&PoolPlan { routing: Routing { affinity, ..Routing::default() }, ..plan(endpoints) })
    );
    (rig, replicas)
}

/// The next turn of a conversation.
fn turn(conversation: usize, number: usize) -> String {
    let said = r#",{"role":"assistant","content":"yes"},{"role":"user","content":"go on"}"#.repeat(number);
    format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"be kind"}},{{"role":"user","content":"{conversation}"}}{said}]}}"#
    )
}

#[tokio::test]
async fn a_conversation_stays_where_it_began_and_conversations_spread() {
    let (rig, mut replicas) = rig(1.25).await;
    let mut homes = BTreeMap::new();
    for number in 0..3 {
        for conversation in 0..24 {
            let reply = rig.post(CHAT, turn(conversation, number), &[]);
            let [a, b, c, d] = &mut replicas[..] else { panic!("four") };
            let call = tokio::select! {
                call = a.call() => call,
                call = b.call() => call,
                call = c.call() => call,
                call = d.call() => call,
            };
            call.answer("200 OK", "{}").await;
            let reply = reply.await.unwrap();
            let replica = reply.header("x-forewarm-replica").to_owned();
            rig.until("it ended", |report| report.in_flight_sum() == 0).await;
            let home = homes.entry(conversation).or_insert_with(|| replica.clone());
            assert_eq!(*home, replica, "turn {number} of conversation {conversation}");
        }
    }
    let used: std::collections::BTreeSet<_> = homes.values().collect();
    assert_eq!(used.len(), 4, "{homes:?}");
}

#[tokio::test]
async fn a_prefix_that_everybody_has_does_not_overload_one_replica() {
    let (rig, replicas) = rig(1.25).await;
    let mut replies = Vec::new();
    for sent in 1..=2 * SLOTS {
        replies.push(rig.post(CHAT, turn(0, 0), &[]));
        let report = rig.until("it is sent", |report| report.in_flight_sum() == u64::from(sent)).await;
        let bound = (1.25 * f64::from(sent) / 4.0).ceil();
        assert!(report.in_flight.values().all(|&load| f64::from(load) <= bound), "{:?}", report.in_flight);
    }
    drop(replicas);
}
