//! Busy spells: while the load exceeds the replicas.

/// Steps without excess after which a busy spell has ended.
pub(crate) const CALM: usize = 40;
