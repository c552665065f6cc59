//! The steps from an observation to a decision, one file each, in the order they run.

mod allocate;
pub(crate) mod anticipate;
mod combine;
mod guard;
pub(crate) mod peer;
pub mod prewarm;
mod propose;
pub(crate) mod queue;
mod rate_limit;
mod stabilise;

use crate::{
    Decision, Mode, Observation, Phase, Placement, Reason, Replicas, STATE_VERSION, ScalerSpec, ScalerState,
    Stage, Step, Timestamp,
};
use peer::Turn;
pub use peer::{KNOWN_METRICS, MetricMeaning, metric_meaning};

/// Plans: what should be, given what was asked for, what is remembered and what was seen.
///
/// Deterministic: the same arguments give the same decision and the same new state. Planning again on
/// the same observation changes nothing.
pub fn plan(spec: &ScalerSpec, state: &mut ScalerState, observation: &Observation) -> Decision {
    state.version = STATE_VERSION;
    let mut draft = Draft::new(spec, state, observation);
    if let Some(error) = &observation.fleet_error {
        draft.step(Stage::Propose, Reason::HeldOnUnseenFleet { error: error.clone() });
        return draft.finish(state, Placement::default(), None);
    }
    learn_from_starts(spec, state, observation);
    let turn = peer::propose(&mut draft, state);
    if turn == Turn::NotAPeer {
        let proposals = propose::propose(&mut draft, state);
        combine::combine(&mut draft, &proposals);
        prewarm::pre_warm(&mut draft, state, &proposals);
    }
    // A number that was merely kept is no wish, and must not count in the windows as one.
    if turn != Turn::Kept {
        stabilise::stabilise(&mut draft, state);
        rate_limit::rate_limit(&mut draft, state);
    }
    guard::guard(&mut draft, state);
    let (placement, ready_at) = allocate::allocate(&mut draft, state);
    for id in &placement.stop {
        state.stopping.insert(id.clone(), draft.now);
    }
    draft.finish(state, placement, ready_at)
}

/// A decision in the making.
struct Draft<'a> {
    spec: &'a ScalerSpec,
    observation: &'a Observation,
    now: Timestamp,
    /// The target before.
    current: u32,
    /// The number that changes are counted from: a shadow's own last wish, since whoever acts follows it later or never;
    /// the target before, otherwise.
    standing: u32,
    /// The target as the steps so far have it.
    replicas: u32,
    steps: Vec<Step>,
    wake_at: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    fn new(spec: &'a ScalerSpec, state: &ScalerState, observation: &'a Observation) -> Self {
        let seen = observation.count_where(Phase::counts);
        let current = match (spec.mode, state.target) {
            // What somebody else decided is what a shadow compares with.
            (Mode::Shadow, _) | (Mode::Act, None) => seen,
            // Jobs end by themselves, and are not started again for that.
            (Mode::Act, Some(_)) if spec.policy.runs_jobs() => seen,
            (Mode::Act, Some(target)) => target.0,
        };
        let standing = match (spec.mode, state.target) {
            (Mode::Shadow, Some(wish)) => wish.0,
            (Mode::Shadow, None) | (Mode::Act, _) => current,
        };
        Self {
            spec,
            observation,
            now: observation.at,
            current,
            standing,
            replicas: current,
            steps: Vec::new(),
            wake_at: None,
        }
    }

    /// Records what a step did.
    fn step(&mut self, stage: Stage, reason: Reason) {
        self.steps.push(Step { stage, replicas: Replicas(self.replicas), reason });
    }

    /// Records a step that sets the value.
    fn set(&mut self, stage: Stage, replicas: u32, reason: Reason) {
        self.replicas = replicas;
        self.step(stage, reason);
    }

    /// Asks to be called again at `at` at the latest.
    fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn finish(self, state: &mut ScalerState, placement: Placement, ready_at: Option<Timestamp>) -> Decision {
        let from = Replicas(self.current);
        let to = Replicas(self.replicas);
        if self.observation.fleet_error.is_none() {
            state.target = Some(to);
            rate_limit::remember(self.spec, state, self.now, Replicas(self.standing), to);
        }
        Decision {
            scaler: self.spec.scaler.clone(),
            at: self.now,
            from,
            to,
            steps: self.steps,
            placement,
            wake_at: self.wake_at,
            ready_at,
        }
    }
}

/// Learns how long starts take from replicas that were seen before and after they became ready, and
/// counts starts that failed in a row.
fn learn_from_starts(spec: &ScalerSpec, state: &mut ScalerState, observation: &Observation) {
    let now = observation.at;
    for failed in &observation.failed_starts {
        state.starting.remove(&failed.id);
        let count = state.start_failures.map_or(0, |failures| failures.count);
        state.start_failures =
            Some(crate::state::StartFailures { count: count.saturating_add(1), last_at: now });
    }
    for replica in &observation.replicas {
        if replica.phase.is_coming() {
            state.starting.entry(replica.id.clone()).or_insert(now - replica.age);
        } else if let Some(requested_at) = state.starting.remove(&replica.id)
            && replica.phase == Phase::Ready
        {
            let took = now.since(requested_at).min(spec.cold_start.deadline);
            state.cold_starts.observe(replica.tier, took);
            state.start_failures = None;
        }
        if replica.phase.drains() {
            state.draining.entry(replica.id.clone()).or_insert(now);
        } else {
            state.draining.remove(&replica.id);
        }
    }
    let seen = |id: &crate::ReplicaId| observation.replicas.iter().any(|replica| &replica.id == id);
    state.starting.retain(|id, _| seen(id));
    state.draining.retain(|id, _| seen(id));
    state.stopping.retain(|id, _| seen(id));
}
