//! Whatever replicas do, every request has one end, and the account balances.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::pool::{PoolPlan, QueueLimits};
use http::StatusCode;
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::support::{Call, EVENTS, Rig, Upstream, plan};

/// What a replica does with one request.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Streams,
    Answers,
    Ends,
    Resets,
    DiesInTheMiddle,
    Breaks,
    Loads,
}

impl Deed {
    async fn follow(self, mut call: Call) {
        match self {
            Deed::Streams => call.stream().await,
            Deed::Answers => call.answer("200 OK", "{}").await,
            Deed::Ends => drop(call),
            Deed::Resets => call.reset(),
            Deed::DiesInTheMiddle => {
                call.write(EVENTS).await;
                call.chunk("data: {}\n\n").await;
            }
            Deed::Breaks => call.answer("500 Internal Server Error", "it broke").await,
            Deed::Loads => call.answer("503 Service Unavailable", "Loading model").await,
        }
    }
}

/// How a request ended, as its client sees it.
async fn end(reply: crate::support::Reply) -> &'static str {
    let status = reply.status;
    let text = reply.text().await;
    match status {
        StatusCode::OK if text == "{}" || text.ends_with("data: [DONE]\n\n") => "succeeded",
        StatusCode::OK if text.contains("replica_died_mid_stream") => "replica_died_mid_stream",
        StatusCode::INTERNAL_SERVER_ERROR if text == "it broke" => "upstream_error",
        StatusCode::BAD_GATEWAY => "upstream_error",
        _ => panic!("lost: {status} {text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn what_the_gateway_counts_is_what_the_clients_saw(
        requests in 1_usize..60,
        deeds in prop::collection::vec(
            prop::sample::select(vec![
                Deed::Streams, Deed::Streams, Deed::Answers, Deed::Ends, Deed::Resets,
                Deed::DiesInTheMiddle, Deed::Breaks, Deed::Loads,
            ]),
            0..60,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let rig = Rig::start().await;
            let (mut a, mut b) = (Upstream::start().await, Upstream::start().await);
            // One that nothing but an error can miss.
            let rules = QueueLimits { ttft_objective: Some(Duration::from_secs(600)), ..plan(Vec::new()).queue };
            rig.handle.apply(&PoolPlan { queue: rules, ..plan(vec![a.endpoint("a", 3), b.endpoint("b", 2)]) });
            let mut replies = JoinSet::new();
            for _ in 0..requests {
                let reply = rig.chat();
                replies.spawn(async move { end(reply.await.unwrap()).await });
            }
            // Beyond the deeds that are given, all goes well.
            let mut deeds = deeds.into_iter();
            let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
            loop {
                tokio::select! {
                    call = a.next() => deeds.next().unwrap_or(Deed::Streams).follow(call).await,
                    call = b.next() => deeds.next().unwrap_or(Deed::Answers).follow(call).await,
                    ended = replies.join_next() => match ended {
                        Some(ended) => *seen.entry(ended.unwrap()).or_default() += 1,
                        None => break,
                    },
                }
            }
            let report = rig.until("nothing is left", |report| report.in_flight_sum() == 0 && report.queued == 0).await;
            let succeeded = seen.remove("succeeded").unwrap_or(0);
            assert_eq!((report.arrived_total, report.refused_total), (requests as u64, 0));
            assert_eq!(report.succeeded_total, succeeded);
            let begun = succeeded + seen.get("replica_died_mid_stream").unwrap_or(&0);
            assert_eq!((report.attained_total, report.missed_total), (begun, requests as u64 - begun));
            assert!(report.busy_seconds_total > 0.0);
            let seen = seen.into_iter().map(|(cause, count)| (cause.to_owned(), count)).collect();
            assert_eq!(report.failed_total, seen);
        });
    }
}
