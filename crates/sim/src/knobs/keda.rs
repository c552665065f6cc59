//! The knobs of a ScaledObject: thresholds of its first two triggers, and the `behavior` of its HPA.

use forewarm_core::{Policy, ScalerSpec, peers::keda::Trigger};

use super::{REQUESTS, hpa};
use crate::tune::Knob;

const THRESHOLD: &str = "threshold";

pub(super) fn knobs(triggers: usize) -> Vec<Knob> {
    let first = Knob {
        name: "triggers[0].threshold",
        values: REQUESTS.to_vec(),
        get: |spec| get(spec, 0),
        set: |spec, value| set(spec, 0, value),
    };
    let second = Knob {
        name: "triggers[1].threshold",
        values: vec![0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0],
        get: |spec| get(spec, 1),
        set: |spec, value| set(spec, 1, value),
    };
    [first, second].into_iter().take(triggers).chain(hpa::behavior()).collect()
}

fn get(spec: &ScalerSpec, index: usize) -> Option<f64> {
    let Policy::Keda(policy) = &spec.policy else { return None };
    policy.object.triggers.get(index)?.metadata.get(THRESHOLD)?.parse().ok()
}

fn set(spec: &mut ScalerSpec, index: usize, value: f64) {
    let Policy::Keda(policy) = &mut spec.policy else { return };
    let trigger = policy.object.triggers.get_mut(index);
    // A trigger without a threshold has another kind of target.
    let has_one = |trigger: &&mut Trigger| trigger.metadata.contains_key(THRESHOLD);
    if let Some(trigger) = trigger.filter(has_one) {
        trigger.metadata.insert(THRESHOLD.to_owned(), value.to_string());
    }
}
