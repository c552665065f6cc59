//! Policy `dynamo`: the load rule every 5 s, the throughput rule every 180 s, whose result is the load
//! rule's floor.
//!
//! Dynamo judges engines by the tokens in their KV cache; here by the share of the cache that is in use,
//! or, where nobody reports that, by their requests over what they take at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{hpa::count, signals::Signals};
use crate::{
    Phase, Reason, Stage, Timestamp,
    peers::dynamo::{
        self, Component, ConstantPredictor, DynamoReason, EngineLoad, LOAD_INTERVAL_SECONDS,
        THROUGHPUT_INTERVAL_SECONDS,
    },
    pipeline::Draft,
    policy::DynamoPolicy,
};

/// Between two load decisions.
pub(super) const LOAD_INTERVAL: Duration = Duration::from_secs(LOAD_INTERVAL_SECONDS);
const THROUGHPUT_INTERVAL: Duration = Duration::from_secs(THROUGHPUT_INTERVAL_SECONDS);
/// The cache's size in the parts that its used share is counted in.
const CAPACITY: u64 = 1_000_000;

/// What the planner remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DynamoMemory {
    throughput_due: Timestamp,
    demand: ConstantPredictor,
    floor: Option<u32>,
}

impl DynamoMemory {
    pub(super) fn new(now: Timestamp) -> Self {
        // The first interval must be over before there is a demand to predict from.
        Self { throughput_due: now + THROUGHPUT_INTERVAL, demand: ConstantPredictor::default(), floor: None }
    }
}

/// One load decision, and a throughput decision when it is due.
pub(super) fn tick(
    draft: &mut Draft<'_>,
    policy: &DynamoPolicy,
    memory: &mut DynamoMemory,
    signals: &mut Signals<'_>,
) {
    if let Some(engine) = policy.engine_requests_per_second {
        throughput(draft, engine, memory, signals);
    }
    load(draft, policy, signals);
    if let Some(floor) = memory.floor {
        draft.replicas = draft.replicas.max(floor);
    }
}

fn throughput(draft: &mut Draft<'_>, engine: f64, memory: &mut DynamoMemory, signals: &mut Signals<'_>) {
    let grown = match signals.arrivals(THROUGHPUT_INTERVAL) {
        Ok((grown, _)) => grown,
        Err(unread) => {
            draft.step(Stage::PreWarm, Reason::PolicyUnusable { why: unread.into_text() });
            return;
        }
    };
    if draft.now < memory.throughput_due {
        return;
    }
    memory.throughput_due = draft.now + THROUGHPUT_INTERVAL;
    memory.demand.add(grown / THROUGHPUT_INTERVAL.as_secs_f64());
    let min = count(draft.spec.replicas.min.0);
    let (wish, dynamo) =
        dynamo::throughput_decision(memory.demand.predict(), engine, count(draft.current), min);
    memory.floor = wish.map(super::replicas);
    draft.set(Stage::PreWarm, memory.floor.unwrap_or(draft.current), Reason::Dynamo { dynamo });
    draft.replicas = draft.current;
}

fn load(draft: &mut Draft<'_>, policy: &DynamoPolicy, signals: &Signals<'_>) {
    let engines: Vec<EngineLoad> = match signals.fullness(draft.spec.max_concurrency) {
        Ok(shares) => shares.into_values().map(engine_load).collect(),
        Err(unread) => {
            draft.step(Stage::Propose, Reason::PolicyUnusable { why: unread.into_text() });
            return;
        }
    };
    let starting = draft.observation.count_where(Phase::is_coming) > 0;
    let (workers, min) = (count(draft.current), count(draft.spec.replicas.min.0));
    let (wish, dynamo) = dynamo::load_decision(
        Component::Aggregated,
        policy.target,
        &engines,
        CAPACITY,
        workers,
        min,
        starting,
    );
    let stage = match dynamo {
        DynamoReason::NoChange | DynamoReason::SurvivorsWouldOverload { .. } => Stage::Combine,
        DynamoReason::InsufficientData
        | DynamoReason::EngineOverloaded { .. }
        | DynamoReason::EnginesIdle { .. }
        | DynamoReason::Throughput { .. } => Stage::Propose,
    };
    draft.set(stage, wish.map_or(draft.current, super::replicas), Reason::Dynamo { dynamo });
}

fn engine_load(share: f64) -> EngineLoad {
    // `as` saturates, and maps NaN to 0.
    EngineLoad { scheduled_kv_tokens: (share * CAPACITY as f64).round() as u64, ..EngineLoad::default() }
}
