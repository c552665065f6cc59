//! Which request goes where: what holds for every sequence of events.

use std::collections::BTreeMap;

use forewarm_core::pool::Endpoint;
use forewarm_gateway::pool::{Grant, Pool};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Arrive,
    Release(usize),
    Cancel(usize),
    Plan(Vec<(u8, u32, bool)>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Arrive),
        4 => any::<prop::sample::Index>().prop_map(|index| Event::Release(index.index(1 << 16))),
        1 => any::<prop::sample::Index>().prop_map(|index| Event::Cancel(index.index(1 << 16))),
        1 => prop::collection::vec((0_u8..4, 1_u32..4, any::<bool>()), 0..4).prop_map(Event::Plan),
    ]
}

proptest! {
    #[test]
    fn slots_are_never_overbooked_nobody_waits_beside_a_free_one_and_nobody_is_lost(events in prop::collection::vec(event(), 1..200)) {
        let mut pool: Pool<u32> = Pool::new(1_000, 1_000_000);
        let mut plan: BTreeMap<String, (u32, bool)> = BTreeMap::new();
        let mut granted: Vec<(u32, Grant)> = Vec::new();
        let mut waiting = BTreeMap::new();
        let (mut arrived, mut done, mut cancelled) = (0, 0, 0);
        for event in events {
            match event {
                Event::Arrive => {
                    let ticket = pool.enqueue(10, arrived).expect("the queue is long enough");
                    waiting.insert(arrived, ticket);
                    arrived += 1;
                }
                Event::Release(index) if !granted.is_empty() => {
                    let (_, grant) = granted.swap_remove(index % granted.len());
                    pool.release(&grant.replica);
                    done += 1;
                }
                Event::Cancel(index) if !waiting.is_empty() => {
                    let request = *waiting.keys().nth(index % waiting.len()).expect("within");
                    let ticket = waiting.remove(&request).expect("there");
                    prop_assert_eq!(pool.cancel(ticket), Some(request));
                    cancelled += 1;
                }
                Event::Release(_) | Event::Cancel(_) => {}
                Event::Plan(endpoints) => {
                    plan = endpoints.into_iter().map(|(id, slots, draining)| (format!("r{id}"), (slots, draining))).collect();
                    let endpoints: Vec<Endpoint> = plan
                        .iter()
                        .map(|(id, &(max_concurrency, draining))| Endpoint {
                            replica: id.as_str().into(),
                            address: format!("{id}:1"),
                            max_concurrency,
                            draining,
                        })
                        .collect();
                    pool.apply(&endpoints, 1_000, 1_000_000);
                }
            }
            let mut last = None;
            while let Some((request, grant)) = pool.grant() {
                prop_assert!(last.is_none_or(|last| last < request), "in the order they came");
                last = Some(request);
                let &(slots, draining) = plan.get(grant.replica.as_str()).expect("in the plan");
                let there = granted.iter().filter(|(_, other)| other.replica == grant.replica).count();
                prop_assert!(!draining && there < slots as usize, "{grant:?}");
                waiting.remove(&request);
                granted.push((request, grant));
            }
            let free = plan.iter().any(|(id, &(slots, draining))| {
                let there = granted.iter().filter(|(_, grant)| grant.replica.as_str() == id).count();
                !draining && there < slots as usize
            });
            prop_assert!(waiting.is_empty() || !free, "somebody waits beside a free slot");
            prop_assert_eq!(pool.queued(), waiting.len());
            prop_assert_eq!(pool.queued_bytes(), 10 * waiting.len() as u64);
            prop_assert_eq!(arrived as usize, waiting.len() + granted.len() + done + cancelled);
        }
    }
}
