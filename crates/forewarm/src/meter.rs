//! Replica-seconds by phase: what a fleet cost.

use std::collections::BTreeMap;

use forewarm_core::{Observation, Phase, Timestamp};

/// Adds up how long replicas were in each phase, in modelled seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhaseMeter {
    last: Option<(Timestamp, BTreeMap<Phase, u32>)>,
    seconds: BTreeMap<Phase, f64>,
    most: u32,
}

impl PhaseMeter {
    /// Takes in what was seen; until the next call the fleet counts as unchanged.
    pub(crate) fn observe(&mut self, observation: &Observation) {
        self.advance(observation.at);
        if observation.fleet_error.is_some() {
            return;
        }
        let counts: BTreeMap<Phase, u32> =
            Phase::ALL.into_iter().map(|phase| (phase, observation.count(phase))).collect();
        self.most = self.most.max(counts.values().sum());
        self.last = Some((observation.at, counts));
    }

    /// Counts the time up to `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        if let Some((at, counts)) = &mut self.last {
            let span = now.since(*at).as_secs_f64();
            for (phase, count) in counts.iter() {
                *self.seconds.entry(*phase).or_default() += span * f64::from(*count);
            }
            *at = now.max(*at);
        }
    }

    /// Replica-seconds in a phase so far.
    pub(crate) fn seconds(&self, phase: Phase) -> f64 {
        self.seconds.get(&phase).copied().unwrap_or_default()
    }

    /// The most replicas that existed at once.
    pub(crate) fn most(&self) -> u32 {
        self.most
    }
}
