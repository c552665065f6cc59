//! Which request goes where: what holds for every sequence of events, against a model of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forewarm_core::{
    ReplicaId,
    pool::{Concurrency, Endpoint, Priority},
};
use forewarm_gateway::pool::{Arrival, Fault, Grant, Pool, QueueRules, Ticket, Turn, Yielding};
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
    /// Nothing happens for so many seconds.
    Wait(u64),
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
        2 => (1_u64..20).prop_map(Step::Wait),
    ]
}

/// In seconds: from when a request yields, and until when.
fn yielding() -> impl Strategy<Value = Option<Yielding>> {
    let seconds = Duration::from_secs;
    prop::option::weighted(
        0.8,
        (1_u64..20, 0_u64..60)
            .prop_map(move |(from, until)| Yielding { from: seconds(from), until: seconds(until) }),
    )
}

fn rules(max_requests: u32, max_bytes: u64) -> QueueRules {
    QueueRules { max_requests, max_bytes, yielding: None }
}

/// A request that waits, in the order of arrival behind those that were sent back.
#[derive(Clone, Copy, Debug)]
struct Waits {
    ticket: Ticket,
    request: u64,
    bytes: u64,
    since: Duration,
    sent_back: bool,
}

/// Who is next by the rule, one after the other as it says.
fn next(waiting: &[Waits], yielding: Option<Yielding>, now: Duration) -> Option<usize> {
    let waited = |waits: &Waits| now - waits.since;
    let Some(Yielding { from, until }) = yielding else {
        return (!waiting.is_empty()).then_some(0);
    };
    waiting
        .iter()
        .position(|waits| waits.sent_back)
        .or_else(|| waiting.iter().position(|waits| waited(waits) >= until && waited(waits) >= from))
        .or_else(|| waiting.iter().position(|waits| waited(waits) < from))
        .or_else(|| waiting.iter().position(|waits| waited(waits) >= from))
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
            kv_tokens: None,
            draining,
        })
        .collect()
}

/// Gives a request a place that costs nobody else's.
fn enqueue<W>(pool: &mut Pool<W>, bytes: u64, now: Duration, waiter: W) -> Option<Ticket> {
    let (ticket, shed) = pool.enqueue(&Arrival::of_bytes(bytes), now, waiter).ok()?;
    assert!(shed.is_empty(), "of one tenant nobody counts less than another");
    Some(ticket)
}

fn apply<W>(pool: &mut Pool<W>, endpoints: &[Endpoint], rules: QueueRules, now: Duration) -> Vec<ReplicaId> {
    pool.apply(endpoints, Concurrency::default(), rules, now)
}

/// The next one to get a slot.
fn grant<W>(pool: &mut Pool<W>, now: Duration) -> Option<(W, Grant)> {
    pool.grant(now).map(|turn| match turn {
        Turn::Slot(waiter, grant) => (waiter, grant),
        Turn::TooLate(_) => panic!("all are patient"),
    })
}

proptest! {
    #[test]
    fn no_slot_is_given_twice_none_stays_free_while_somebody_waits_and_nobody_is_forgotten(
        steps in prop::collection::vec(step(), 1..200),
        yielding in yielding(),
    ) {
        let rules = QueueRules { yielding, ..rules(8, 300) };
        let mut pool: Pool<u64> = Pool::new(rules);
        let mut plan: BTreeMap<ReplicaId, (u32, bool)> = BTreeMap::new();
        let mut suspended: BTreeMap<ReplicaId, Fault> = BTreeMap::new();
        // Requests at a time of those that have to prove themselves.
        let mut trials: BTreeMap<ReplicaId, u32> = BTreeMap::new();
        let mut waiting: Vec<Waits> = Vec::new();
        let mut in_flight: Vec<(u64, Grant)> = Vec::new();
        let (mut enqueued, mut ended, mut number) = (0, 0, 0);
        let mut sizes = Vec::new();
        let (mut now, mut busy) = (Duration::ZERO, Duration::ZERO);
        for step in steps {
            let span = Duration::from_secs(if let Step::Wait(seconds) = step { seconds } else { 1 });
            now += span;
            busy += span * in_flight.len() as u32;
            match step {
                Step::Wait(_) => {}
                Step::Enqueue(bytes) => {
                    let full = pool.queued() >= 8 || pool.queued_bytes() + bytes > 300;
                    let free = plan.iter().any(|(replica, (most, draining))| {
                        let has = in_flight.iter().filter(|(_, at)| &at.replica == replica).count();
                        let most = trials.get(replica).map_or(*most, |trial| *most.min(trial));
                        !draining && !suspended.contains_key(replica) && has < most as usize
                    });
                    match enqueue(&mut pool, bytes, now, number) {
                        Some(ticket) => {
                            prop_assert!(!full || (waiting.is_empty() && free));
                            waiting.push(Waits { ticket, request: number, bytes, since: now, sent_back: false });
                            enqueued += 1;
                        }
                        None => prop_assert!(full && !(waiting.is_empty() && free)),
                    }
                    sizes.push(bytes);
                    number += 1;
                }
                Step::Cancel(which) if !waiting.is_empty() => {
                    let Waits { ticket, request, .. } = waiting.remove(which % waiting.len());
                    prop_assert_eq!(pool.cancel(ticket), Some(request));
                    prop_assert_eq!(pool.cancel(ticket), None, "only once");
                    ended += 1;
                }
                Step::Apply(endpoint_plan) => {
                    let before: BTreeSet<ReplicaId> = plan.keys().cloned().collect();
                    let endpoints = endpoints(&endpoint_plan);
                    plan = endpoints.iter().map(|e| (e.replica.clone(), (e.max_concurrency, e.draining))).collect();
                    let left = apply(&mut pool, &endpoints, rules, now);
                    let gone: Vec<ReplicaId> = before.iter().filter(|id| !plan.contains_key(*id)).cloned().collect();
                    prop_assert_eq!(&left, &gone);
                    // A replica that comes back is given another chance.
                    suspended.retain(|id, _| before.contains(id) && plan.contains_key(id));
                    trials.retain(|id, _| before.contains(id) && plan.contains_key(id));
                }
                Step::Release(which) if !in_flight.is_empty() => {
                    let (_, grant) = in_flight.remove(which % in_flight.len());
                    pool.answered(&grant.replica, None);
                    if let Some(trial) = trials.remove(&grant.replica).map(|trial| 2 * trial)
                        && plan.get(&grant.replica).is_some_and(|(most, _)| trial < *most)
                    {
                        trials.insert(grant.replica.clone(), trial);
                    }
                    pool.release(&grant, now);
                    ended += 1;
                }
                Step::SendBack(which, refused) if !in_flight.is_empty() => {
                    let (request, failed) = in_flight.remove(which % in_flight.len());
                    let (replica, bytes) = (&failed.replica, sizes[request as usize]);
                    let fault = if refused { Fault::NotServing } else { Fault::Ended };
                    if pool.failed(replica, fault, now).is_some() {
                        prop_assert!(suspended.insert(replica.clone(), fault).is_none(), "put aside once");
                    } else {
                        prop_assert!(!refused || suspended.contains_key(replica) || !plan.contains_key(replica));
                    }
                    pool.release(&failed, now);
                    let ticket = pool.enqueue_again(&failed, Duration::MAX, now, request);
                    waiting.insert(0, Waits { ticket, request, bytes, since: now, sent_back: true });
                }
                Step::Readmit(which) => {
                    let warm = pool.is_warm();
                    pool.readmit(&id(which), now);
                    trials.remove(&id(which));
                    if suspended.remove(&id(which)) == Some(Fault::Ended) && warm {
                        let has = in_flight.iter().filter(|(_, at)| at.replica == id(which)).count() as u32;
                        trials.insert(id(which), has + 1);
                    }
                }
                Step::Cancel(_) | Step::Release(_) | Step::SendBack(..) => {}
            }
            suspended.retain(|id, _| plan.contains_key(id));
            while let Some((request, grant)) = grant(&mut pool, now) {
                let expected = next(&waiting, yielding, now).map(|place| waiting.remove(place).request);
                prop_assert_eq!(Some(request), expected, "in order");
                prop_assert!(!suspended.contains_key(&grant.replica));
                let (most, draining) = plan[&grant.replica];
                let has = 1 + in_flight.iter().filter(|(_, at)| at.replica == grant.replica).count();
                in_flight.push((request, grant));
                prop_assert!(has <= most as usize && !draining);
            }
            let counted = pool.in_flight();
            for (replica, (most, draining)) in &plan {
                let has = in_flight.iter().filter(|(_, at)| &at.replica == replica).count();
                prop_assert_eq!(counted.get(replica).map(|&count| count as usize), Some(has));
                let most = trials.get(replica).map_or(*most, |trial| *most.min(trial));
                let open = !draining && !suspended.contains_key(replica) && has < most as usize;
                prop_assert!(!open || waiting.is_empty(), "a slot is free and somebody waits");
            }
            prop_assert_eq!(counted.values().sum::<u32>() as usize, in_flight.len());
            prop_assert_eq!(pool.queued(), waiting.len());
            prop_assert_eq!(pool.queued_bytes(), waiting.iter().map(|waits| waits.bytes).sum::<u64>());
            prop_assert_eq!(pool.busy(now), busy);
            prop_assert_eq!(enqueued, ended + waiting.len() + in_flight.len());
        }
    }

    #[test]
    fn nobody_starves_however_many_come(
        from in 1_u64..30,
        until in 0_u64..60,
        arrivals in prop::collection::vec(0_u64..4, 50..400),
    ) {
        // One request a second is served. Once one has waited for `until`, none that came later goes before it.
        let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
        let rules = QueueRules { yielding: Some(Yielding { from, until }), ..rules(u32::MAX, u64::MAX) };
        let mut pool: Pool<u64> = Pool::new(rules);
        apply(&mut pool, &endpoints(&[Some((1, false))]), rules, Duration::ZERO);
        let mut since = Vec::new();
        let mut served = BTreeSet::new();
        let last = arrivals.len() as u64;
        let mut now = Duration::ZERO;
        while now.as_secs() < last || pool.queued() > 0 {
            let coming = arrivals.get(now.as_secs() as usize).copied().unwrap_or(0);
            for _ in 0..coming {
                enqueue(&mut pool, 1, now, since.len() as u64).unwrap();
                since.push(now);
            }
            if let Some((request, grant)) = grant(&mut pool, now) {
                let oldest = (0..since.len() as u64).find(|request| !served.contains(request)).unwrap();
                let waited = |request: u64| now - since[request as usize];
                prop_assert!(
                    request == oldest || (waited(oldest) < until && waited(oldest) >= from && waited(request) < from),
                    "{} goes before {}", request, oldest
                );
                served.insert(request);
                pool.release(&grant, now);
            }
            now += Duration::from_secs(1);
        }
        prop_assert_eq!(served.len(), since.len());
    }

    #[test]
    fn to_enter_at_once_comes_to_the_same_as_to_wait_for_nobody(
        limits in prop::collection::vec(1_u32..4, 1..REPLICAS),
        yielding in yielding(),
        steps in prop::collection::vec(prop_oneof![
            3 => (1_u64..100, 0..Priority::ALL.len()).prop_map(|(bytes, class)| (Some((bytes, class)), 0)),
            2 => any::<usize>().prop_map(|which| (None, which)),
        ], 0..100),
    ) {
        let plan: Vec<_> = limits.iter().map(|&limit| Some((limit, false))).collect();
        let rules = QueueRules { yielding, ..rules(20, 1_000) };
        let (mut with, mut without) = (Pool::new(rules), Pool::new(rules));
        let (mut with_it, mut without_it) = (BTreeMap::new(), BTreeMap::new());
        for pool in [&mut with, &mut without] {
            apply(pool, &endpoints(&plan), rules, Duration::ZERO);
        }
        for (number, (arrival, which)) in steps.into_iter().enumerate() {
            let now = Duration::from_secs(number as u64);
            match arrival {
                Some((bytes, class)) => {
                    let arrival = Arrival { priority: Priority::ALL[class], ..Arrival::of_bytes(bytes) };
                    match with.enter(&arrival, now) {
                        Some(grant) => drop(with_it.insert(number, grant)),
                        None => drop(with.enqueue(&arrival, now, number)),
                    }
                    drop(without.enqueue(&arrival, now, number));
                }
                None => {
                    let Some(&number) = with_it.keys().nth(which % with_it.len().max(1)) else { continue };
                    for (pool, grants) in [(&mut with, &mut with_it), (&mut without, &mut without_it)] {
                        pool.release(&grants.remove(&number).unwrap(), now);
                    }
                }
            }
            for (pool, grants) in [(&mut with, &mut with_it), (&mut without, &mut without_it)] {
                grants.extend(std::iter::from_fn(|| grant(pool, now)));
            }
            let replicas = |grants: &BTreeMap<usize, Grant>| -> Vec<_> {
                grants.iter().map(|(&number, grant)| (number, grant.replica.clone())).collect()
            };
            prop_assert_eq!(replicas(&with_it), replicas(&without_it));
            prop_assert_eq!((with.queued(), with.in_flight()), (without.queued(), without.in_flight()));
            prop_assert_eq!(with.tokens_in_flight(), without.tokens_in_flight());
            prop_assert_eq!(with.busy(now), without.busy(now));
        }
    }

    #[test]
    fn the_two_clocks_share_the_time_and_only_one_runs(
        spans in prop::collection::vec((0_u64..1_000, any::<bool>()), 1..30),
    ) {
        let mut pool: Pool<()> = Pool::new(rules(1, 1));
        let (mut now, mut warm, mut cold, mut is_warm) = (0, 0, 0, false);
        let began = pool.clocks(Duration::ZERO);
        for (seconds, becomes_warm) in spans {
            now += seconds;
            if is_warm { warm += seconds } else { cold += seconds }
            is_warm = becomes_warm;
            let plan = endpoints(&[is_warm.then_some((1, false))]);
            apply(&mut pool, &plan, rules(1, 1), Duration::from_secs(now));
            let clocks = pool.clocks(Duration::from_secs(now));
            prop_assert_eq!(clocks.since(&began), (Duration::from_secs(warm), Duration::from_secs(cold)));
            prop_assert_eq!(clocks.is_warm(), is_warm);
        }
    }
}

#[test]
fn late_requests_yield_until_half_their_time_is_over() {
    let seconds = Duration::from_secs;
    let yielding = Some(Yielding { from: seconds(5), until: seconds(30) });
    let rules = QueueRules { yielding, ..rules(9, 9) };
    let mut pool = Pool::new(rules);
    enqueue(&mut pool, 1, seconds(0), "sent back").unwrap();
    apply(&mut pool, &endpoints(&[Some((1, false))]), rules, seconds(0));
    let (_, failed) = grant(&mut pool, seconds(0)).unwrap();
    for (at, request) in [(0, "oldest"), (20, "old"), (26, "late"), (27, "timely"), (31, "newest")] {
        enqueue(&mut pool, 1, seconds(at), request).unwrap();
    }
    pool.release(&failed, seconds(31));
    let sent_back = pool.enqueue_again(&failed, Duration::MAX, seconds(31), "sent back");
    let mut pool_served = |at: u64| {
        let (request, granted) = grant(&mut pool, seconds(at)).unwrap();
        assert_eq!(pool.grant(seconds(at)), None, "one slot");
        pool.release(&granted, seconds(at));
        request
    };
    let order =
        [(31, "sent back"), (31, "oldest"), (31, "timely"), (31, "newest"), (31, "old"), (31, "late")];
    for (at, request) in order {
        assert_eq!(pool_served(at), request);
    }
    assert_eq!(pool.cancel(sent_back), None, "it was served");
}

#[test]
fn a_request_yields_as_soon_as_its_first_token_would_come_too_late() {
    let millis = Duration::from_millis;
    let yielding = Some(Yielding { from: millis(5_000), until: millis(60_000) });
    let rules = QueueRules { yielding, ..rules(9, 99) };
    let mut pool = Pool::new(rules);
    apply(&mut pool, &endpoints(&[Some((1, false))]), rules, Duration::ZERO);
    let arrival = |prompt_tokens| Arrival { prompt_tokens, ..Arrival::of_bytes(1) };
    // A second for a hundred tokens.
    for prompt_tokens in [100, 300] {
        let granted = pool.enter(&arrival(prompt_tokens), Duration::ZERO).unwrap();
        pool.first_token_took(&granted, millis(prompt_tokens * 10));
        pool.release(&granted, Duration::ZERO);
    }
    let blocks = pool.enter(&arrival(1), Duration::ZERO).unwrap();
    let waiting = [(0, 200, "long"), (100, 10, "short"), (200, 600, "longer than anybody may wait")];
    for (at, prompt_tokens, request) in waiting {
        pool.enqueue(&arrival(prompt_tokens), millis(at), request).unwrap();
    }
    pool.release(&blocks, millis(3_000));
    let order = [(3_000, "short"), (3_000, "longer than anybody may wait"), (3_000, "long")];
    for (at, wanted) in order {
        let (request, granted) = grant(&mut pool, millis(at)).unwrap();
        assert_eq!(request, wanted);
        pool.release(&granted, millis(at));
    }
}

#[test]
fn another_objective_holds_at_once_for_those_that_wait() {
    let seconds = Duration::from_secs;
    let mut pool = Pool::new(rules(9, 9));
    enqueue(&mut pool, 1, seconds(0), "old").unwrap();
    enqueue(&mut pool, 1, seconds(9), "young").unwrap();
    let yielding = Some(Yielding { from: seconds(5), until: seconds(60) });
    apply(&mut pool, &endpoints(&[Some((2, false))]), QueueRules { yielding, ..rules(9, 9) }, seconds(10));
    assert_eq!(grant(&mut pool, seconds(10)).map(|(request, _)| request), Some("young"));
    assert_eq!(grant(&mut pool, seconds(10)).map(|(request, _)| request), Some("old"));
}

#[test]
fn one_request_that_kills_connections_does_not_put_a_replica_aside() {
    let mut pool = Pool::new(rules(9, 9));
    let plan = endpoints(&[Some((1, false))]);
    apply(&mut pool, &plan, rules(9, 9), Duration::ZERO);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    pool.answered(&id(0), None);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None, "an answer in between");
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), None);
    assert_eq!(pool.failed(&id(0), Fault::Ended, Duration::ZERO), Some(1), "three in a row");
    assert!(pool.is_suspended(&id(0)) && !pool.is_warm());
    pool.readmit(&id(0), Duration::ZERO);
    enqueue(&mut pool, 1, Duration::ZERO, 7).unwrap();
    assert_eq!(grant(&mut pool, Duration::ZERO).map(|(request, _)| request), Some(7));
    assert_eq!(pool.failed(&id(0), Fault::NotServing, Duration::ZERO), Some(2), "again, without an answer");
}
