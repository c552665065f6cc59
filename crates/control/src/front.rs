//! What a gateway is told after a decision.

use forewarm_core::{
    Decision, Observation, Phase, Reading, ReplicaId, ScalerSpec, Timestamp,
    pool::{Concurrency, Endpoint, PoolPlan, QueueLimits, Routing},
};

use crate::ports::FleetReplica;

/// The signal that says, by replica, how many tokens its KV cache holds.
pub const KV_TOKENS: &str = "kv_tokens";

/// What a scaler's plans have in common.
#[derive(Clone, Copy, Debug)]
pub struct Front<'a> {
    /// What was asked for.
    pub spec: &'a ScalerSpec,
    /// Values of a request's `model` field that belong to it.
    pub models: &'a [String],
    /// Limits of its queue.
    pub queue: &'a QueueLimits,
    /// How requests are told apart.
    pub routing: &'a Routing,
    /// What makes a replica's concurrency less than the specification's.
    pub concurrency: Concurrency,
    /// Tokens that a replica's KV cache holds; `None`: what the signal [`KV_TOKENS`] says of it, if there is one.
    pub kv_tokens: Option<u64>,
    /// Whether its replicas speak TLS.
    pub speaks_tls: bool,
}

impl Front<'_> {
    /// The replicas that serve, and what clients that wait are told, as the decision has it.
    pub fn plan(&self, decision: &Decision, seen: &Observation, replicas: &[FleetReplica]) -> PoolPlan {
        let placement = &decision.placement;
        let endpoints = replicas
            .iter()
            .filter(|replica| replica.phase == Phase::Ready || replica.phase.drains())
            .filter(|replica| !placement.stop.contains(&replica.id))
            .filter_map(|replica| {
                let id = &replica.id;
                let drains = replica.phase.drains() && !placement.revive.contains(id);
                Some(Endpoint {
                    replica: id.clone(),
                    address: match replica.address.as_ref()? {
                        address if self.speaks_tls => format!("https://{address}"),
                        address => address.clone(),
                    },
                    max_concurrency: self.spec.max_concurrency,
                    kv_tokens: self.kv_tokens.or_else(|| kv_tokens(seen, id)),
                    draining: drains || placement.drain.contains(id),
                })
            })
            .collect();
        PoolPlan {
            scaler: self.spec.scaler.clone(),
            models: self.models.to_vec(),
            endpoints,
            ready_in_seconds: decision.ready_at.map(|at| at.since(decision.at).as_secs_f64()),
            queue: self.queue.clone(),
            concurrency: self.concurrency,
            routing: self.routing.clone(),
        }
    }
}

/// The plan that the gateway has, and when it got it.
#[derive(Debug)]
pub struct PlanAtGateway {
    /// The plan.
    pub plan: PoolPlan,
    /// When it got it.
    pub at: Timestamp,
}

impl PlanAtGateway {
    /// Whether it says the same as a new plan, now. The gateway counts the time to the next replica down
    /// itself, so only another estimate is news.
    pub fn says(&self, new: &PoolPlan, now: Timestamp) -> bool {
        let elapsed = now.since(self.at).as_secs_f64();
        let same_estimate = match (self.plan.ready_in_seconds, new.ready_in_seconds) {
            (Some(then), Some(now)) => (then - elapsed - now).abs() < NEWS_SECONDS,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_estimate
            && PoolPlan { ready_in_seconds: None, ..self.plan.clone() }
                == PoolPlan { ready_in_seconds: None, ..new.clone() }
    }
}

/// Another estimate of the time to the next replica that is worth telling: `Retry-After` has whole seconds.
const NEWS_SECONDS: f64 = 1.0;

/// What a replica's engine says that its KV cache holds.
fn kv_tokens(seen: &Observation, replica: &ReplicaId) -> Option<u64> {
    match &seen.signals.get(KV_TOKENS)?.reading {
        Reading::Value { per_replica, .. } | Reading::Partial { per_replica, .. } => {
            // A cache without a token is none that can be counted by.
            per_replica.get(replica).map(|&tokens| tokens as u64).filter(|&tokens| tokens > 0)
        }
        Reading::Missing(_) => None,
    }
}
