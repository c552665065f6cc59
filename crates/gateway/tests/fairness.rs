//! Who is next between classes and tenants, who loses a place, and who is too late: what holds for every sequence.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use forewarm_core::{
    ReplicaId,
    pool::{Concurrency, Endpoint, Priority},
};
use forewarm_gateway::{
    TenantId,
    pool::{Arrival, Grant, Pool, QueueRules, Turn},
};
use proptest::prelude::*;

const UNBOUNDED: QueueRules = QueueRules { max_requests: u32::MAX, max_bytes: u64::MAX, yielding: None };

fn arrival(priority: Priority, tenant: &str, tokens: u64) -> Arrival {
    let tenant = (!tenant.is_empty()).then(|| TenantId::from(tenant));
    Arrival { priority, tenant, prompt_tokens: tokens, ..Arrival::of_bytes(1) }
}

fn normal(tenant: &str) -> Arrival {
    arrival(Priority::Normal, tenant, 1)
}

fn replica(max_concurrency: u32) -> Vec<Endpoint> {
    let (replica, address) = (ReplicaId::from("r"), "127.0.0.1:1".to_owned());
    vec![Endpoint { replica, address, max_concurrency, kv_tokens: None, draining: false }]
}

fn pool<W>(rules: QueueRules, max_concurrency: u32) -> Pool<W> {
    let mut pool = Pool::new(rules);
    pool.apply(&replica(max_concurrency), Concurrency::default(), rules, Duration::ZERO);
    pool
}

/// The next one to get a slot, where nobody is too late.
fn slot<W>(pool: &mut Pool<W>) -> Option<(W, Grant)> {
    pool.grant(Duration::ZERO).map(|turn| match turn {
        Turn::Slot(waiter, grant) => (waiter, grant),
        Turn::TooLate(_) => panic!("all are patient"),
    })
}

/// Serves everybody, one at a time.
fn served<W>(pool: &mut Pool<W>) -> Vec<W> {
    let mut served = Vec::new();
    while let Some((waiter, grant)) = slot(pool) {
        served.push(waiter);
        pool.release(&grant, Duration::ZERO);
    }
    served
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

proptest! {
    #[test]
    fn tenants_that_wait_share_tokens_by_their_weights_up_to_one_request_of_each(
        tenants in prop::collection::vec((1_u32..20, prop::collection::vec(1_u64..5_000, 1..6)), 2..8),
        grants in 1_usize..300,
    ) {
        let mut pool = pool(UNBOUNDED, 1);
        let names: Vec<String> = (0..tenants.len()).map(|index| index.to_string()).collect();
        let mut sent = vec![0; tenants.len()];
        let mut send = |pool: &mut Pool<(usize, u64)>, tenant: usize| {
            let (weight, sizes) = &tenants[tenant];
            let tokens = sizes[sent[tenant] % sizes.len()];
            sent[tenant] += 1;
            let weight = NonZeroU32::new(*weight).unwrap();
            let arrival = Arrival { weight, ..arrival(Priority::Normal, &names[tenant], tokens) };
            pool.enqueue(&arrival, Duration::ZERO, (tenant, tokens)).unwrap();
        };
        // Two of each wait at all times.
        for tenant in 0..tenants.len() {
            send(&mut pool, tenant);
            send(&mut pool, tenant);
        }
        let mut has = vec![0_u64; tenants.len()];
        for _ in 0..grants {
            let ((tenant, tokens), grant) = slot(&mut pool).expect("a free slot, and somebody waits");
            pool.release(&grant, Duration::ZERO);
            has[tenant] += tokens;
            send(&mut pool, tenant);
            let share = |tenant: usize| has[tenant] as f64 / f64::from(tenants[tenant].0);
            let largest = |tenant: usize| {
                *tenants[tenant].1.iter().max().unwrap() as f64 / f64::from(tenants[tenant].0)
            };
            for one in 0..tenants.len() {
                for other in 0..one {
                    let apart = (share(one) - share(other)).abs();
                    prop_assert!(apart <= largest(one) + largest(other) + 1e-6, "{one} and {other}: {apart}");
                }
            }
        }
    }

    #[test]
    fn a_class_goes_before_those_below_and_leaves_them_a_token_of_ten(
        sizes in prop::collection::vec((priority(), 1_u64..1_000), 2..400),
    ) {
        let mut pool = pool(UNBOUNDED, 1);
        let mut left: BTreeMap<Priority, u64> = BTreeMap::new();
        for &(priority, tokens) in &sizes {
            pool.enqueue(&arrival(priority, "", tokens), Duration::ZERO, (priority, tokens)).unwrap();
            *left.entry(priority).or_default() += 1;
        }
        let largest = sizes.iter().map(|&(_, tokens)| tokens).max().unwrap();
        let mut has: BTreeMap<Priority, u64> = BTreeMap::new();
        for (priority, tokens) in served(&mut pool) {
            let waits = |one: Priority| left.get(&one).is_some_and(|&count| count > 0);
            let above = |one: Priority| {
                let above = Priority::ALL.into_iter().filter(|&other| other < one);
                above.map(|other| has.get(&other).copied().unwrap_or(0)).sum::<u64>()
            };
            let own = |one: Priority| has.get(&one).copied().unwrap_or(0);
            if Priority::ALL.into_iter().any(|other| other < priority && waits(other)) {
                prop_assert!(9 * (own(priority) + tokens) <= above(priority), "{priority:?} is before its turn");
            }
            // A class between has its tenth first.
            for lower in Priority::ALL.into_iter().filter(|&lower| lower > priority && waits(lower)) {
                let (own, above) = (own(lower), above(lower) + tokens);
                prop_assert!(above <= 9 * (own + largest) + 3 * largest, "{lower:?} has {own} beside {above}");
            }
            *has.entry(priority).or_default() += tokens;
            *left.get_mut(&priority).unwrap() -= 1;
        }
        prop_assert_eq!(has.values().sum::<u64>(), sizes.iter().map(|&(_, tokens)| tokens).sum::<u64>());
    }

    #[test]
    fn nobody_is_forgotten_no_bound_is_broken_and_no_slot_is_wasted(
        steps in prop::collection::vec(
            (priority(), 0_usize..4, 1_u64..60, 1_u64..40, 0_u8..4),
            1..300,
        ),
        max_requests in 1_u32..12,
    ) {
        let rules = QueueRules { max_requests, max_bytes: 200, yielding: None };
        let mut pool = pool(rules, 2);
        let names = ["", "a", "b", "c"];
        let mut now = Duration::ZERO;
        // By number: class, tenant, and until when.
        let mut waiting: BTreeMap<usize, (Priority, usize, Duration)> = BTreeMap::new();
        let mut in_flight: Vec<Grant> = Vec::new();
        for (number, (priority, tenant, bytes, patience, deed)) in steps.into_iter().enumerate() {
            now += Duration::from_secs(1);
            if deed == 0 && !in_flight.is_empty() {
                pool.release(&in_flight.remove(0), now);
            }
            let patience = Duration::from_secs(patience);
            let arrival = Arrival { bytes, patience, ..arrival(priority, names[tenant], bytes * 10) };
            let before = (pool.queued(), pool.queued_bytes());
            match pool.enqueue(&arrival, now, number) {
                Ok((_, shed)) => {
                    let mut of_largest = BTreeSet::new();
                    for loser in shed {
                        let (class, whose, _) = waiting.remove(&loser).expect("it waited");
                        prop_assert!(class > priority || (class == priority && whose != tenant));
                        if class == priority {
                            of_largest.insert(whose);
                        }
                    }
                    prop_assert!(of_largest.len() <= 1);
                    waiting.insert(number, (priority, tenant, now + patience));
                }
                Err(_) => prop_assert_eq!((pool.queued(), pool.queued_bytes()), before, "nobody lost anything"),
            }
            while let Some(turn) = pool.grant(now) {
                match turn {
                    Turn::Slot(number, grant) => {
                        let (class, tenant, until) = waiting.remove(&number).expect("it waited");
                        prop_assert!(now <= until, "it is not served too late");
                        let like_it = waiting.iter().filter(|(_, (p, t, _))| (*p, *t) == (class, tenant));
                        for (&other, &(_, _, other_until)) in like_it {
                            let order = if tenant == 0 { number < other } else { until <= other_until };
                            prop_assert!(order, "{number} goes before {other}");
                        }
                        in_flight.push(grant);
                    }
                    Turn::TooLate(number) => {
                        let (_, _, until) = waiting.remove(&number).expect("it waited");
                        prop_assert!(now > until);
                    }
                }
            }
            prop_assert!(in_flight.len() <= 2);
            prop_assert!(in_flight.len() == 2 || waiting.is_empty(), "a slot is free and somebody waits");
            prop_assert_eq!(pool.queued(), waiting.len());
            prop_assert!(waiting.len() <= max_requests as usize && pool.queued_bytes() <= 200);
            let by_class: usize = Priority::ALL.into_iter().map(|priority| pool.queued_of(priority).0).sum();
            prop_assert_eq!(by_class, waiting.len());
        }
    }
}

#[test]
fn a_tenant_that_floods_does_not_delay_another() {
    let mut pool = pool(UNBOUNDED, 1);
    for number in 0..1_000 {
        pool.enqueue(&normal("flood"), Duration::ZERO, ("flood", number)).unwrap();
    }
    let (_, grant) = slot(&mut pool).unwrap();
    for number in 0..3 {
        pool.enqueue(&normal("quiet"), Duration::ZERO, ("quiet", number)).unwrap();
    }
    pool.release(&grant, Duration::ZERO);
    let first: Vec<_> = served(&mut pool).into_iter().take(6).collect();
    let quiet: Vec<_> = first.iter().filter(|(tenant, _)| *tenant == "quiet").collect();
    assert_eq!(quiet.len(), 3, "every other one: {first:?}");
}

#[test]
fn what_was_taken_while_nobody_waited_is_not_held_against_a_tenant() {
    let mut pool = pool(UNBOUNDED, 1);
    for _ in 0..100 {
        pool.enqueue(&arrival(Priority::Normal, "old", 1_000), Duration::ZERO, "old").unwrap();
        let (_, grant) = slot(&mut pool).unwrap();
        pool.release(&grant, Duration::ZERO);
    }
    pool.enqueue(&normal(""), Duration::ZERO, "in front").unwrap();
    let (_, grant) = slot(&mut pool).unwrap();
    for _ in 0..2 {
        pool.enqueue(&normal("old"), Duration::ZERO, "old").unwrap();
        pool.enqueue(&normal("new"), Duration::ZERO, "new").unwrap();
    }
    pool.release(&grant, Duration::ZERO);
    assert_eq!(served(&mut pool), ["old", "new", "old", "new"]);
}

#[test]
fn a_tenant_pays_for_the_answers_it_got_and_not_for_those_it_was_expected_to_get() {
    let mut pool = pool(UNBOUNDED, 1);
    for _ in 0..8 {
        for tenant in ["long", "short"] {
            let arrival = Arrival { answer_tokens: 100, ..normal(tenant) };
            pool.enqueue(&arrival, Duration::ZERO, tenant).unwrap();
        }
    }
    let mut order = Vec::new();
    for _ in 0..8 {
        let (tenant, grant) = slot(&mut pool).unwrap();
        pool.answer_was(&grant, if tenant == "long" { 300 } else { 100 });
        pool.release(&grant, Duration::ZERO);
        order.push(tenant);
    }
    assert_eq!(order.iter().filter(|tenant| **tenant == "long").count(), 2, "three times as long: {order:?}");
}

#[test]
fn answers_to_come_are_expected_to_be_like_those_before_and_no_longer_than_they_may() {
    let mut pool: Pool<()> = pool(UNBOUNDED, 1);
    assert_eq!((pool.expected_answer(None), pool.expected_answer(Some(40))), (256, 40));
    for _ in 0..1_000 {
        pool.enqueue(&normal(""), Duration::ZERO, ()).unwrap();
        let ((), grant) = slot(&mut pool).unwrap();
        pool.answer_was(&grant, 1_000);
        pool.release(&grant, Duration::ZERO);
    }
    assert_eq!(pool.expected_answer(None), 1_000);
    assert_eq!((pool.expected_answer(Some(8_000)), pool.expected_answer(Some(40))), (1_000, 40));
}

#[test]
fn a_named_tenant_orders_its_own_work_by_deadline_and_strangers_do_not() {
    let seconds = Duration::from_secs;
    for (tenant, expected) in [("t", ["urgent", "first", "patient"]), ("", ["patient", "first", "urgent"])] {
        let mut pool = pool(UNBOUNDED, 1);
        for (name, patience) in [("patient", 900), ("first", 60), ("urgent", 5)] {
            let arrival = Arrival { patience: seconds(patience), ..normal(tenant) };
            pool.enqueue(&arrival, Duration::ZERO, name).unwrap();
        }
        assert_eq!(served(&mut pool), expected, "tenant `{tenant}`");
    }
}

#[test]
fn what_is_too_late_gets_no_slot_and_a_cold_start_makes_nobody_late() {
    let seconds = Duration::from_secs;
    let mut pool = Pool::new(UNBOUNDED);
    let arrival = Arrival { patience: seconds(10), ..normal("") };
    pool.enqueue(&arrival, seconds(0), "held").unwrap();
    pool.enqueue(&arrival, seconds(0), "late").unwrap();
    // A minute without a replica does not count.
    pool.apply(&replica(1), Concurrency::default(), UNBOUNDED, seconds(60));
    let Some(Turn::Slot("held", grant)) = pool.grant(seconds(60)) else { panic!("it was in time") };
    pool.release(&grant, seconds(71));
    assert_eq!(pool.grant(seconds(71)), Some(Turn::TooLate("late")));
    // Sent back, it waits for as long as it has left.
    let again = pool.enqueue_again(&grant, seconds(2), seconds(71), "held");
    assert!(matches!(pool.grant(seconds(73)), Some(Turn::Slot("held", _))));
    assert_eq!(pool.cancel(again), None);
}

#[test]
fn a_full_queue_takes_from_who_counts_less() {
    let rules = QueueRules { max_requests: 4, max_bytes: 4, yielding: None };
    let mut pool: Pool<&str> = Pool::new(rules);
    let mut enqueue = |arrival: &Arrival, name| {
        pool.enqueue(arrival, Duration::ZERO, name).map(|(_, shed)| shed).map_err(|full| full.to_string())
    };
    let full = Err("the queue is full".to_owned());
    let of = |priority, tenant| arrival(priority, tenant, 1);
    for name in ["a1", "a2", "a3", "a4"] {
        assert_eq!(enqueue(&normal("a"), name), Ok(vec![]), "alone, it may have all of it");
    }
    assert_eq!(enqueue(&normal("a"), "a5"), full, "nobody counts less than itself");
    assert_eq!(enqueue(&of(Priority::Low, "b"), "low"), full, "what is lower takes nothing");
    assert_eq!(enqueue(&normal("b"), "b1"), Ok(vec!["a4"]), "the last one of who has the most");
    assert_eq!(enqueue(&normal("b"), "b2"), Ok(vec!["a3"]));
    assert_eq!(enqueue(&normal("b"), "b3"), full, "both have half");
    let heavy = Arrival { weight: NonZeroU32::new(3).unwrap(), ..normal("b") };
    assert_eq!(enqueue(&heavy, "b4"), Ok(vec!["a2"]), "three to one by weight");
    assert_eq!(enqueue(&of(Priority::High, ""), "high"), Ok(vec!["b4"]), "the last one of what is lower");
    let large = Arrival { bytes: 5, ..of(Priority::High, "") };
    assert_eq!(enqueue(&large, "too large"), full, "in vain nobody loses anything");
    let large = Arrival { bytes: 3, ..of(Priority::High, "") };
    assert_eq!(enqueue(&large, "large"), Ok(vec!["b2", "b1", "a1"]), "as many as it takes");
    assert_eq!((pool.queued(), pool.queued_bytes()), (2, 4));
}

#[test]
fn with_a_free_slot_nobody_loses_a_place() {
    let rules = QueueRules { max_requests: 0, max_bytes: 0, yielding: None };
    let mut pool = pool(rules, 1);
    assert!(pool.enqueue(&normal("a"), Duration::ZERO, "served").is_ok());
    assert_eq!(slot(&mut pool).unwrap().0, "served");
    assert!(pool.enqueue(&normal("a"), Duration::ZERO, "refused").is_err());
}
