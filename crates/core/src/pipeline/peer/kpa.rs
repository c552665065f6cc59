//! Policy `kpa`: a decision every 2 s, from the averages of a stable and a panic window.
//!
//! The load is sampled once a decision and taken to have stayed what it was in between. The gateway is in
//! the requests' path at all times, as Knative's activator is in that of a small revision.

use serde::{Deserialize, Serialize};

use super::{hpa::count, signals::Signals};
use crate::{
    Phase, Reason, Stage, Timestamp,
    peers::kpa::{
        self, KpaObservation, KpaReason, KpaState, RevisionSpec, ScalingMetric, WindowAverages, annotation,
        window::{Aggregation, AverageWindow},
        zero::{self, Activity, ZeroObservation, ZeroRule, ZeroVerdict},
    },
    pipeline::Draft,
    policy::KpaPolicy,
};

/// `progress-deadline` of Knative's `config-deployment`.
const PROGRESS_DEADLINE: std::time::Duration = std::time::Duration::from_secs(600);

/// What the autoscaler and the reconciler remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KpaMemory {
    created_at: Timestamp,
    decider: KpaState,
    stable: AverageWindow,
    panic: AverageWindow,
    /// The last sample.
    load: Option<(Timestamp, f64)>,
    activity: Activity,
}

impl KpaMemory {
    fn new(draft: &Draft<'_>, policy: &KpaPolicy, revision: &RevisionSpec) -> Self {
        let weighted = annotation(policy.annotations(), "metric-aggregation-algorithm")
            .is_some_and(|name| name == "weighted-exponential");
        let aggregation = if weighted { Aggregation::WeightedExponential } else { Aggregation::Linear };
        let window = |span| AverageWindow::new(aggregation, span, AverageWindow::GRANULARITY);
        let ready = count(draft.observation.count(Phase::Ready));
        Self {
            created_at: draft.now,
            decider: KpaState::new(&revision.decider, Some(ready), draft.now),
            stable: window(revision.decider.stable_window),
            panic: window(revision.panic_window),
            load: None,
            activity: match (ready, draft.current) {
                (1.., _) => Activity::Active(draft.now),
                (_, 0) => Activity::Inactive(draft.now),
                (_, _) => Activity::Activating(draft.now),
            },
        }
    }

    /// Fills the seconds up to now: with the sample before as far as they are past, with this one from now.
    fn sample(&mut self, now: Timestamp, load: f64, held: f64) {
        let second = |at: Timestamp| at.as_millis().div_euclid(1000);
        if let Some((last, _)) = self.load {
            let longest = self.stable_seconds().max(1);
            for past in (second(last) + 1).max(second(now) - longest)..second(now) {
                self.record(Timestamp::from_millis(past * 1000), held);
            }
            if second(last) == second(now) {
                return;
            }
        }
        self.record(now, load);
        self.load = Some((now, load));
    }

    fn record(&mut self, at: Timestamp, load: f64) {
        self.stable.record(at, load);
        self.panic.record(at, load);
    }

    fn stable_seconds(&self) -> i64 {
        i64::try_from(self.stable.window().as_secs()).unwrap_or(i64::MAX)
    }
}

/// One decision, and the reconciler's rule for the last pod.
pub(super) fn tick(
    draft: &mut Draft<'_>,
    policy: &KpaPolicy,
    memory: &mut Option<Box<KpaMemory>>,
    signals: &mut Signals<'_>,
) {
    let (config, revision) = match policy.resolve() {
        Ok(resolved) => resolved,
        Err(error) => {
            draft.step(Stage::Propose, Reason::PolicyUnusable { why: error.to_string() });
            return;
        }
    };
    let memory = memory.get_or_insert_with(|| Box::new(KpaMemory::new(draft, policy, &revision)));
    let now = draft.now;
    memory.stable.resize(now, revision.decider.stable_window);
    memory.panic.resize(now, revision.panic_window);
    let unknown = sample(memory, &revision.decider.scaling_metric, now, signals);
    let ready = count(draft.observation.count(Phase::Ready));
    let observation = KpaObservation {
        now,
        ready_pods: Ok(ready),
        metric: if memory.stable.is_empty(now) {
            Err(unknown.unwrap_or_else(|| "there is no sample yet".to_owned()))
        } else {
            Ok(WindowAverages { stable: memory.stable.average(now), panic: memory.panic.average(now) })
        },
    };
    let outcome = kpa::scale(&revision.decider, &mut memory.decider, &observation);
    for kpa in outcome.steps {
        let (stage, replicas) = place(&kpa, draft.replicas);
        draft.set(stage, replicas, Reason::Kpa { kpa });
    }
    let Some(desired) = outcome.desired else {
        draft.replicas = draft.current;
        return;
    };
    draft.replicas = super::replicas(desired);
    let rule = ZeroRule {
        enabled: config.enable_scale_to_zero,
        stable_window: revision.decider.stable_window,
        grace_period: config.scale_to_zero_grace_period,
        last_pod_retention: revision.last_pod_retention,
        progress_deadline: PROGRESS_DEADLINE,
    };
    last_pod(draft, memory, &rule, ready);
}

/// Takes a sample; why there is none, if so.
fn sample(
    memory: &mut KpaMemory,
    metric: &ScalingMetric,
    now: Timestamp,
    signals: &mut Signals<'_>,
) -> Option<String> {
    let load = match metric {
        // A rate is that of the time since the reading before.
        ScalingMetric::Rps => match signals.arrivals(KpaPolicy::TICK) {
            Ok((_, Some(rate))) => Ok((rate, rate)),
            Ok((_, None)) => {
                memory.load.get_or_insert((now, 0.0));
                return None;
            }
            Err(unread) => Err(unread),
        },
        ScalingMetric::Concurrency | ScalingMetric::Other(_) => {
            signals.ongoing().map(|load| (load, memory.load.map_or(load, |(_, before)| before)))
        }
    };
    match load {
        Ok((load, held)) => {
            memory.sample(now, load, held);
            None
        }
        Err(unread) => Some(unread.into_text()),
    }
}

/// The step of the pipeline that a step of the decider is, and the number after it.
fn place(reason: &KpaReason, before: u32) -> (Stage, u32) {
    match reason {
        KpaReason::Invalid { .. } => (Stage::Propose, before),
        KpaReason::Window { replicas, .. } => (Stage::Propose, super::replicas(*replicas)),
        KpaReason::Panicking { .. } | KpaReason::CalmedDown => (Stage::Combine, before),
        KpaReason::HeldByPanic { held, .. } | KpaReason::DelayedScaleDown { held, .. } => {
            (Stage::Stabilise, super::replicas(*held))
        }
    }
}

/// What becomes of a wish for zero.
fn last_pod(draft: &mut Draft<'_>, memory: &mut KpaMemory, rule: &ZeroRule, ready: i32) {
    let (now, bounds) = (draft.now, draft.spec.replicas);
    let wish = draft.replicas.clamp(bounds.min.0, bounds.max.0);
    if wish > 0 {
        memory.activity = match (memory.activity, ready > 0) {
            (Activity::Active(since), true) => Activity::Active(since),
            (_, true) => Activity::Active(now),
            (Activity::Activating(since), false) => Activity::Activating(since),
            (_, false) => Activity::Activating(now),
        };
        return;
    }
    if draft.current == 0 {
        return;
    }
    let seen = ZeroObservation {
        now,
        activity: memory.activity,
        activator_in_path: true,
        proxying_since: Some(memory.created_at),
    };
    let verdict = zero::to_zero(rule, &seen);
    if verdict == ZeroVerdict::Deactivate {
        memory.activity = Activity::Inactive(now);
    }
    let replicas = match verdict {
        ZeroVerdict::Scale(replicas) => super::replicas(replicas),
        ZeroVerdict::Deactivate | ZeroVerdict::Wait(_) | ZeroVerdict::WaitForActivator => draft.current,
    };
    draft.set(Stage::Guard, replicas, Reason::KpaLastPod { verdict });
}
