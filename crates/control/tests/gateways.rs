//! Several gateways as one: what they report, and what each gets of a plan.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forewarm_control::{Several, ports::Gateway};
use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{ClassReport, Concurrency, Endpoint, PoolPlan, PoolReport, Priority, QueueLimits, Tenants},
};
use forewarm_testkit::FakeGateway;

const HOLD: Duration = Several::HOLD;
/// Beyond the shortest time between two divisions.
const A_MOMENT: Duration = Duration::from_secs(1);

fn plan(endpoints: &[(&str, u32, bool)]) -> PoolPlan {
    let endpoints = endpoints.iter().map(|&(name, max_concurrency, draining)| Endpoint {
        replica: ReplicaId::from(name),
        address: format!("{name}:80"),
        max_concurrency,
        kv_tokens: Some(u64::from(max_concurrency) * 100),
        draining,
    });
    PoolPlan {
        scaler: ScalerId::from("s"),
        models: Vec::new(),
        endpoints: endpoints.collect(),
        ready_in_seconds: None,
        routing: Default::default(),
        queue: QueueLimits {
            max_requests: 10,
            max_bytes: 1_000,
            timeout: Duration::from_secs(60),
            cold_start_timeout: Duration::from_secs(60),
            ttft_objective: None,
            tenants: Tenants::default(),
        },
        concurrency: Concurrency::default(),
    }
}

fn several<const N: usize>() -> (Several, [Arc<FakeGateway>; N]) {
    let fakes = std::array::from_fn(|_| Arc::new(FakeGateway::default()));
    let members = fakes.iter().enumerate();
    let members = members.map(|(index, fake)| (index.to_string(), Arc::clone(fake) as Arc<dyn Gateway>));
    (Several::new(members.collect()), fakes)
}

fn shares(fake: &FakeGateway) -> Vec<u32> {
    let plans = fake.plans();
    let last = plans.last().expect("a plan");
    for endpoint in
        last.endpoints.iter().filter(|endpoint| !endpoint.draining && endpoint.max_concurrency > 0)
    {
        assert_eq!(
            endpoint.kv_tokens,
            Some(u64::from(endpoint.max_concurrency) * 100),
            "tokens go with slots"
        );
    }
    last.endpoints.iter().map(|endpoint| endpoint.max_concurrency).collect()
}

fn busy(fake: &FakeGateway, queued: u64, in_flight: &[(&str, u32)]) {
    fake.set_report(|report| {
        report.queued = queued;
        report.in_flight =
            in_flight.iter().map(|&(name, count)| (ReplicaId::from(name), count)).collect::<BTreeMap<_, _>>();
    });
}

#[tokio::test(start_paused = true)]
async fn reports_are_added_up_and_a_dead_gateways_are_held_and_then_age() {
    let (several, [one, two]) = several();
    one.set_report(|report| (report.queued, report.arrived_total, report.oldest_wait_seconds) = (3, 10, 1.0));
    two.set_report(|report| (report.queued, report.arrived_total, report.oldest_wait_seconds) = (4, 20, 2.0));
    busy(&one, 3, &[("a", 1)]);
    busy(&two, 4, &[("a", 2), ("b", 1)]);
    for (fake, limit) in [(&one, 5), (&two, 7)] {
        fake.set_report(|report| {
            let class =
                ClassReport { queued: 1, shed_total: 2, oldest_wait_seconds: 1.0, ..Default::default() };
            report.classes.insert(Priority::Low, class);
            report.concurrency.insert(ReplicaId::from("a"), limit);
        });
    }
    let both = several.report().await.unwrap();
    assert_eq!((both.queued, both.arrived_total, both.oldest_wait_seconds), (7, 30, 2.0));
    assert_eq!((both.in_flight[&ReplicaId::from("a")], both.concurrency[&ReplicaId::from("a")]), (3, 12));
    assert_eq!((both.classes[&Priority::Low].queued, both.classes[&Priority::Low].shed_total), (2, 4));
    two.set_unreachable(true);
    assert_eq!(several.report().await.unwrap(), both, "held: its requests may go on");
    tokio::time::advance(HOLD).await;
    assert_eq!(several.report().await.unwrap(), both);
    tokio::time::advance(Duration::from_millis(1)).await;
    let left = several.report().await.unwrap();
    assert_eq!((left.queued, left.in_flight_sum(), left.oldest_wait_seconds), (3, 1, 1.0));
    assert_eq!(left.arrived_total, 30, "a total never falls");
    // Started anew, it counts from 0.
    two.set_unreachable(false);
    two.set_report(|report| *report = PoolReport { arrived_total: 5, ..PoolReport::default() });
    assert_eq!(several.report().await.unwrap().arrived_total, 35);
    two.set_report(|report| report.arrived_total = 6);
    assert_eq!(several.report().await.unwrap().arrived_total, 36);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_yet_or_not_at_all_is_no_small_load() {
    let (several, [one, two]) = several();
    two.set_unreachable(true);
    let error = several.report().await.unwrap_err().to_string();
    assert!(error.contains("1: "), "{error}");
    tokio::time::advance(HOLD + Duration::from_millis(1)).await;
    several.report().await.expect("the second one was never there: the first goes on alone");
    one.set_unreachable(true);
    several.report().await.expect_err("nobody answers");
}

#[tokio::test(start_paused = true)]
async fn slots_are_divided_and_follow_the_requests() {
    let (several, [one, two]) = several();
    several.apply(&plan(&[("a", 8, false), ("b", 7, false), ("c", 4, true)])).await.unwrap();
    assert_eq!(
        (shares(&one), shares(&two)),
        (vec![4, 3, 4], vec![4, 4, 4]),
        "the draining one gets nothing new"
    );
    busy(&one, 5, &[("a", 4), ("b", 3)]);
    tokio::time::advance(A_MOMENT).await;
    several.report().await.unwrap();
    // Five more where five wait; the rest is spread again.
    assert_eq!((shares(&one), shares(&two)), (vec![8, 5, 4], vec![1, 2, 4]));
    // The second one is gone: all is the first one's.
    two.set_unreachable(true);
    tokio::time::advance(HOLD + Duration::from_millis(1)).await;
    several.report().await.expect("the first answers");
    several.report().await.unwrap();
    assert_eq!(shares(&one), [8, 7, 4]);
    // It comes again: even shares of what is not in use.
    busy(&one, 0, &[("a", 6)]);
    two.set_unreachable(false);
    several.report().await.unwrap();
    assert_eq!((shares(&one), shares(&two)), (vec![7, 3, 4], vec![1, 4, 4]));
}

#[tokio::test(start_paused = true)]
async fn a_division_that_is_due_is_made_though_nothing_else_happens() {
    let (several, [one, two]) = several();
    several.apply(&plan(&[("a", 8, false)])).await.unwrap();
    busy(&one, 5, &[("a", 4)]);
    several.changed().await;
    several.report().await.unwrap();
    assert_eq!(shares(&one), [4], "they were divided a moment ago");
    several.changed().await;
    several.report().await.unwrap();
    assert_eq!((shares(&one), shares(&two)), (vec![8], vec![1]));
    // And no more of it, also while one is gone.
    two.set_unreachable(true);
    two.changed().await;
    several.report().await.unwrap();
    tokio::time::advance(HOLD + Duration::from_millis(1)).await;
    several.report().await.unwrap();
    several.report().await.unwrap();
    let quiet = tokio::time::timeout(A_MOMENT, several.changed()).await;
    quiet.expect_err("nothing is due");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_the_fleet_while_a_gateway_may_still_send_there() {
    let (several, [one, two]) = several();
    several.apply(&plan(&[("a", 8, false)])).await.unwrap();
    several.report().await.unwrap();
    two.set_unreachable(true);
    several.apply(&plan(&[("a", 8, false), ("b", 8, false)])).await.expect("more is no harm");
    several.apply(&plan(&[("a", 8, true)])).await.expect_err("it does not know that the replica drains");
    assert_eq!(one.plans().last().map(|plan| plan.endpoints[0].draining), Some(true), "the other one does");
    tokio::time::advance(HOLD + Duration::from_millis(1)).await;
    several.report().await.unwrap();
    several.apply(&plan(&[("a", 8, true)])).await.expect("it is gone");
    // Back again, it is told what it missed.
    two.set_unreachable(false);
    several.report().await.unwrap();
    assert_eq!(two.plans().last(), Some(&plan(&[("a", 8, true)])));
}
