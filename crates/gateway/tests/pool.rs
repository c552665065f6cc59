//! Which request goes where: what holds for every sequence of events, against a model of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forewarm_core::{ReplicaId, pool::Endpoint};
use forewarm_gateway::pool::{Fault, Pool, QueueBounds, Ticket};
use proptest::prelude::*;

const REPLICAS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Enqueue(u64),
    Cancel(usize),
    /// By replica: its concurrency and whether it drains; `None`: it is not in the plan.
    Apply(Vec<Option<(u32, bool)>>),
    Release(usize),
    SendBack(usize, bool),
    Readmit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = prop::option::of((0_u32..4, prop::bool::weighted(0.2)));
    prop_oneof![
        4 => (1_u64..100).prop_map(Step::Enqueue),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => prop::collection::vec(endpoint, REPLICAS).prop_map(Step::Apply),
        3 => any::<usize>().prop_map(Step::Release),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, refused)| Step::SendBack(which, refused)),
        1 => (0..REPLICAS).prop_map(Step::Readmit),
    ]
}

fn id(replica: usize) -> ReplicaId {
    ReplicaId::from(format!("r{replica}"))
}

fn endpoints(plan: &[Option<(u32, bool)>]) -> Vec<Endpoint> {
    let planned = plan.iter().enumerate().filter_map(|(n, endpoint)| endpoint.map(|endpoint| (n, endpoint)));
    planned
        .map(|(n, (max_concurrency, draining))| Endpoint {
            replica: id(n),
            address: format!("127.0.0.1:{n}"),
            max_concurrency,
            draining,
        })
        .collect()
}

proptest! {
    #[test]
    fn no_slot_is_given_twice_none_stays_free_while_somebody_waits_and_nobody_is_forgotten(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let bounds = QueueBounds { max_requests: 8, max_bytes: 300 };
        let mut pool: Pool<u64> = Pool::new(bounds);
        let mut plan: BTreeMap<ReplicaId, (u32, bool)> = BTreeMap::new();
        let mut suspended = BTreeSet::new();
        let mut waiting: Vec<(Ticket, u64, u64)> = Vec::new();
        let mut in_flight: Vec<(u64, ReplicaId)> = Vec::new();
        let (mut enqueued, mut ended, mut next) = (0, 0, 0);
        for (n, step) in steps.into_iter().enumerate() {
            let now = Duration::from_secs(n as u64);
            match step {
                Step::Enqueue(bytes) => {
                    let full = pool.queued() >= 8 || pool.queued_bytes() + bytes > 300;
                    let free = plan.iter().any(|(replica, (most, draining))| {
                        let has = in_flight.iter().filter(|(_, at)| at == replica).count();
                        !draining && !suspended.contains(replica) && has < *most as usize
                    });
                    match pool.enqueue(bytes, now, next) {
                        Ok(ticket) => {
                            prop_assert!(!full || (waiting.is_empty() && free));
                            waiting.push((ticket, next, bytes));
                            enqueued += 1;
                        }
                        Err(_) => prop_assert!(full && !(waiting.is_empty() && free)),
                    }
                    next += 1;
                }
                Step::Cancel(which) if !waiting.is_empty() => {
                    let (ticket, request, _) = waiting.remove(which % waiting.len());
                    prop_assert_eq!(pool.cancel(ticket), Some(request));
                    prop_assert_eq!(pool.cancel(ticket), None, "only once");
                    ended += 1;
                }
                Step::Apply(endpoint_plan) => {
                    let before: BTreeSet<ReplicaId> = plan.keys().cloned().collect();
                    let endpoints = endpoints(&endpoint_plan);
                    plan = endpoints.iter().map(|e| (e.replica.clone(), (e.max_concurrency, e.draining))).collect();
                    let left = pool.apply(&endpoints, bounds, now);
                    let gone: Vec<ReplicaId> = before.iter().filter(|id| !plan.contains_key(*id)).cloned().collect();
                    prop_assert_eq!(&left, &gone);
                    // A replica that comes back is given another chance.
                    suspended.retain(|id| before.contains(id) && plan.contains_key(id));
                }
                Step::Release(which) if !in_flight.is_empty() => {
                    let (_, replica) = in_flight.remove(which % in_flight.len());
                    pool.answered(&replica);
                    pool.release(&replica);
                    ended += 1;
                }
                Step::SendBack(which, refused) if !in_flight.is_empty() => {
                    let (request, replica) = in_flight.remove(which % in_flight.len());
                    let fault = if refused { Fault::NotServing } else { Fault::Ended };
                    if pool.failed(&replica, fault, now).is_some() {
                        prop_assert!(suspended.insert(replica.clone()), "put aside once");
                    } else {
                        prop_assert!(!refused || suspended.contains(&replica) || !plan.contains_key(&replica));
                    }
                    pool.release(&replica);
                    let ticket = pool.enqueue_again(10, now, replica, request);
                    waiting.insert(0, (ticket, request, 10));
                }
                Step::Readmit(which) => {
                    pool.readmit(&id(which), now);
                    suspended.remove(&id(which));
                }
                Step::Cancel(_) | Step::Release(_) | Step::SendBack(..) => {}
            }
            suspended.retain(|id| plan.contains_key(id));
            while let Some((request, grant)) = pool.grant() {
                let (_, first, _) = waiting.remove(0);
                prop_assert_eq!(request, first, "in order");
                prop_assert!(!suspended.contains(&grant.replica));
                let (most, draining) = plan[&grant.replica];
                in_flight.push((request, grant.replica.clone()));
                let has = in_flight.iter().filter(|(_, at)| *at == grant.replica).count();
                prop_assert!(has <= most as usize && !draining);
            }
            let counted = pool.in_flight();
            for (replica, (most, draining)) in &plan {
                let has = in_flight.iter().filter(|(_, at)| at == replica).count();
                prop_assert_eq!(counted.get(replica).map(|&count| count as usize), Some(has));
                let open = !draining && !suspended.contains(replica) && has < *most as usize;
                prop_assert!(!open || waiting.is_empty(), "a slot is free and somebody waits");
            }
            prop_assert_eq!(counted.values().sum::<u32>() as usize, in_flight.len());
            prop_assert_eq!(pool.queued(), waiting.len());
            prop_assert_eq!(pool.queued_bytes(), waiting.iter().map(|(_, _, bytes)| bytes).sum::<u64>());
            prop_assert_eq!(enqueued, ended + waiting.len() + in_flight.len());
        }
    }

    #[test]
    fn the_two_clocks_share_the_time_and_only_one_runs(
        spans in prop::collection::vec((0_u64..1_000, any::<bool>()), 1..30),
    ) {
        let mut pool: Pool<()> = Pool::new(QueueBounds { max_requests: 1, max_bytes: 1 });
        let (mut now, mut warm, mut cold, mut is_warm) = (0, 0, 0, false);
        let began = pool.clocks(Duration::ZERO);
        for (seconds, becomes_warm) in spans {
            now += seconds;
            if is_warm { warm += seconds } else { cold += seconds }
            is_warm = becomes_warm;
            let plan = endpoints(&[is_warm.then_some((1, false))]);
            pool.apply(&plan, QueueBounds { max_requests: 1, max_bytes: 1 }, Duration::from_secs(now));
            let clocks = pool.clocks(Duration::from_secs(now));
            prop_assert_eq!(clocks.since(&began), (Duration::from_secs(warm), Duration::from_secs(cold)));
            prop_assert_eq!(clocks.is_warm(), is_warm);
        }
    }
}

#[test]
fn one_request_that_kills_connections_does_not_put_a_replica_aside() {
    let mut pool = Pool::new(QueueBounds { max_requests: 9, max_bytes: 9 });
    let plan = endpoints(&[Some((1, false))]);
    pool.apply(&plan, QueueBounds { max_requests: 9, max_bytes: 9 }, Duration::ZERO);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    pool.answered(&id(0));
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None, "an answer in between");
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), Some(1), "three in a row");
    assert!(pool.is_suspended(&id(0)) && !pool.is_warm());
    pool.readmit(&id(0), Duration::ZERO);
    pool.enqueue(1, Duration::ZERO, 7).unwrap();
    assert_eq!(pool.grant().map(|(request, _)| request), Some(7));
    assert_eq!(pool.failed(&id(0), Fault::NotServing, Duration::ZERO), Some(2), "again, without an answer");
}
