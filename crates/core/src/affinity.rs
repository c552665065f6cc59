//! Which replica a request prefers that begins like others before it: where they were, its prefix may still be in the
//! engine's cache.
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018): each prefix has an order of all
//! replicas, and goes to the first of them that is open and has, with it, at most `load_factor` times its share of
//! all work in flight. The order is by highest random weight (Thaler, Ravishankar, 1998) rather than around a ring, so
//! that what one replica cannot take spreads over all others instead of falling on its neighbour. A replica that
//! comes or goes changes the first choice of its own share of prefixes only.

use crate::ReplicaId;

/// A replica that serves.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which one.
    pub replica: &'a ReplicaId,
    /// Requests at it.
    pub in_flight: u32,
    /// Requests that it takes at a time.
    pub most: u32,
    /// Whether it takes one more now.
    pub is_open: bool,
}

/// The replica for a prefix; `None` where every open one is over its bound, which needs a factor below 1.
pub fn preferred<'a>(prefix: u64, load_factor: f64, replicas: &[Candidate<'a>]) -> Option<&'a ReplicaId> {
    let (work, most) = replicas.iter().fold((0_u64, 0_u64), |(work, most), replica| {
        (work + u64::from(replica.in_flight), most + u64::from(replica.most))
    });
    let within = |replica: &&Candidate<'_>| {
        let share = (work + 1) as f64 * f64::from(replica.most) / most.max(1) as f64;
        replica.is_open && f64::from(replica.in_flight) < (load_factor * share).ceil()
    };
    let weight = |replica: &&Candidate<'_>| mixed(prefix ^ hash(replica.replica.as_str().as_bytes()));
    replicas.iter().filter(within).max_by_key(weight).map(|replica| replica.replica)
}

/// A hash that is the same everywhere and always: gateways that know nothing of each other prefer alike (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    extended(0xCBF2_9CE4_8422_2325, bytes)
}

/// The hash of what was hashed before and these bytes.
pub fn extended(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// The finaliser of SplitMix64: neighbours end far apart.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}
