//! Where a prefix goes.

use std::collections::BTreeMap;

use forewarm_core::{
    ReplicaId,
    affinity::{Candidate, hash, preferred},
};
use proptest::prelude::*;

fn ids(count: usize) -> Vec<ReplicaId> {
    (0..count).map(|number| ReplicaId::from(format!("replica-{number}"))).collect()
}

fn candidates<'a>(ids: &'a [ReplicaId], in_flight: &[u32], most: u32) -> Vec<Candidate<'a>> {
    let candidate = |(replica, &in_flight): (&'a ReplicaId, &u32)| Candidate {
        replica,
        in_flight,
        most,
        is_open: in_flight < most,
    };
    ids.iter().zip(in_flight).map(candidate).collect()
}

#[test]
fn prefixes_spread_evenly_and_stay_where_they_are() {
    let ids = ids(8);
    let idle = candidates(&ids, &[0; 8], 16);
    let mut counts = BTreeMap::new();
    let mut moved = 0;
    for prefix in 0..8_000_u64 {
        let prefix = hash(&prefix.to_le_bytes());
        let first = preferred(prefix, 1.25, &idle).unwrap();
        assert_eq!(preferred(prefix, 1.25, &idle), Some(first), "the same each time");
        *counts.entry(first).or_insert(0) += 1;
        // One replica less: only its own prefixes move.
        let fewer = preferred(prefix, 1.25, &idle[..7]).unwrap();
        assert!(fewer == first || *first == ids[7]);
        moved += u32::from(fewer != first);
    }
    assert!(counts.values().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    assert_eq!(moved, counts[&ids[7]]);
}

#[test]
fn a_popular_prefix_fills_one_replica_to_its_bound_and_then_the_next() {
    let ids = ids(4);
    let mut in_flight = [0_u32; 4];
    for sent in 0..40_u32 {
        let chosen = preferred(7, 1.25, &candidates(&ids, &in_flight, 16)).unwrap().clone();
        in_flight[ids.iter().position(|id| *id == chosen).unwrap()] += 1;
        let bound = (1.25 * f64::from(sent + 1) / 4.0).ceil();
        assert!(in_flight.iter().all(|&load| f64::from(load) <= bound), "{in_flight:?} of {bound}");
    }
}

proptest! {
    #[test]
    fn where_one_is_open_one_is_found_within_its_bound(
        prefix: u64,
        loads in prop::collection::vec(0_u32..=8, 1..12),
        factor in 1.0..4.0_f64,
    ) {
        let ids = ids(loads.len());
        let all = candidates(&ids, &loads, 8);
        let chosen = preferred(prefix, factor, &all);
        // The one with the least work is never over the mean.
        prop_assert_eq!(chosen.is_some(), loads.iter().any(|&load| load < 8));
        if let Some(chosen) = chosen {
            let load = loads[ids.iter().position(|id| id == chosen).unwrap()];
            let mean = f64::from(loads.iter().sum::<u32>() + 1) / loads.len() as f64;
            prop_assert!(load < 8 && f64::from(load) < (factor * mean).ceil());
        }
    }
}
