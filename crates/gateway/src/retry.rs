//! How often a request may be sent again before the first byte of its answer, so that replicas which all fail do not
//! get every request several times over. No clock: its documentation is the rule.
//!
//! Only double work is counted: a replica that takes no connection, or says that it is starting or stopping, costs
//! nothing. A connection that ends without an answer costs one:
//!
//! 1. of the replica's own credit: as many as it may have requests at a time, one less for each that it failed, one
//!    more for each that it answered, up to the number it began with. A replica that dies takes all that it has with
//!    it, and each of these is served elsewhere; one that answers more than it fails is no danger either: the work is
//!    doubled at most;
//! 2. where that is used up, of the scaler's budget: a fifth of the requests that come, and ten in a second.
//!
//! Where both are used up, the request fails.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{ReplicaId, pool::Endpoint};

/// Retries that each arrival pays for, as with Finagle and Linkerd.
const PER_ARRIVAL: f64 = 0.2;
/// Retries allowed in a second on the wall, however few requests come; as with Finagle and Linkerd.
const PER_SECOND: f64 = 10.0;
/// Retries that may be saved up: ten seconds of the least.
const MOST: f64 = 100.0;

/// What is left.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    credits: BTreeMap<ReplicaId, Credit>,
    left: f64,
    at: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Credit {
    left: u32,
    most: u32,
}

impl RetryBudget {
    /// A budget that was saved up already.
    pub(crate) fn new() -> Self {
        Self { credits: BTreeMap::new(), left: MOST, at: Duration::ZERO }
    }

    /// These are the replicas from now on; a new one has its whole credit.
    pub(crate) fn apply(&mut self, endpoints: &[Endpoint]) {
        self.credits.retain(|id, _| endpoints.iter().any(|endpoint| &endpoint.replica == id));
        for endpoint in endpoints {
            let most = endpoint.max_concurrency;
            let credit = self.credits.entry(endpoint.replica.clone()).or_insert(Credit { left: most, most });
            credit.left = credit.left.saturating_add(most.saturating_sub(credit.most)).min(most);
            credit.most = most;
        }
    }

    /// A request came.
    pub(crate) fn arrived(&mut self) {
        self.left = (self.left + PER_ARRIVAL).min(MOST);
    }

    /// A replica began an answer.
    pub(crate) fn answered(&mut self, replica: &ReplicaId) {
        if let Some(credit) = self.credits.get_mut(replica) {
            credit.left = credit.most.min(credit.left + 1);
        }
    }

    /// Takes one retry of a request that a replica failed; `false` when there is none left.
    pub(crate) fn take(&mut self, replica: &ReplicaId, now: Duration) -> bool {
        match self.credits.get_mut(replica) {
            // It has left the plan: it will fail no more.
            None => return true,
            Some(credit) if credit.left > 0 => {
                credit.left -= 1;
                return true;
            }
            Some(_) => {}
        }
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + PER_SECOND * passed).min(MOST);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, max_concurrency: u32) -> Endpoint {
        Endpoint {
            replica: ReplicaId::from(name),
            address: name.to_owned(),
            max_concurrency,
            kv_tokens: None,
            draining: false,
        }
    }

    fn taken(budget: &mut RetryBudget, replica: &str, now: Duration) -> u32 {
        let replica = ReplicaId::from(replica);
        (0..10_000).take_while(|_| budget.take(&replica, now)).count() as u32
    }

    #[test]
    fn a_replica_takes_all_that_it_has_with_it_and_no_more() {
        let mut budget = RetryBudget::new();
        budget.apply(&[endpoint("a", 256), endpoint("b", 256)]);
        let now = Duration::ZERO;
        // All of one death, and then the shared budget.
        assert_eq!(taken(&mut budget, "a", now), 256 + 100);
        // Another death is another replica's.
        assert_eq!(taken(&mut budget, "b", now), 256);
        // The least there is: ten in a second.
        assert_eq!(taken(&mut budget, "a", Duration::from_secs(2)), 20);
        // One that left does no harm any more.
        budget.apply(&[endpoint("b", 256)]);
        assert_eq!(taken(&mut budget, "a", now), 10_000);
    }

    #[test]
    fn answers_earn_credit_and_arrivals_pay_for_retries() {
        let mut budget = RetryBudget::new();
        budget.apply(&[endpoint("a", 4)]);
        assert_eq!(taken(&mut budget, "a", Duration::ZERO), 104);
        for _ in 0..10 {
            budget.answered(&ReplicaId::from("a"));
        }
        assert_eq!(taken(&mut budget, "a", Duration::ZERO), 4, "no more than it may have at a time");
        for _ in 0..100 {
            budget.arrived();
        }
        let taken = taken(&mut budget, "a", Duration::ZERO);
        assert!((19..=20).contains(&taken), "a fifth of a hundred: {taken}");
    }
}
