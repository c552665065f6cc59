//! One decision of the autoscaler (`Scale` of `pkg/autoscaler/scaling/autoscaler.go`).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::window::MaxWindow;
use crate::{Timestamp, peers::go_arith};

/// What a revision is scaled by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeciderSpec {
    /// The most that the ready pods may be multiplied by in one decision.
    pub max_scale_up_rate: f64,
    /// The most that they may be divided by.
    pub max_scale_down_rate: f64,
    /// What is counted.
    pub scaling_metric: ScalingMetric,
    /// How much of it one pod should have.
    pub target_value: f64,
    /// How much of it one pod can take.
    pub total_value: f64,
    /// Room to spare before the activator leaves the path; -1 never lets it leave.
    pub target_burst_capacity: f64,
    /// Requests that one activator takes. Decides how many activators serve a revision, not its count.
    pub activator_capacity: f64,
    /// The load, as a multiple of what the ready pods should have, at which panic begins.
    pub panic_threshold: f64,
    /// The long window; panic lasts for as long after its cause ended.
    #[serde(rename = "stableWindowSeconds", with = "crate::time::seconds")]
    pub stable_window: Duration,
    /// How long a lower count must be wanted before it is taken.
    #[serde(rename = "scaleDownDelaySeconds", with = "crate::time::seconds")]
    pub scale_down_delay: Duration,
    /// The count that a new revision starts with.
    pub initial_scale: i32,
    /// Whether a route leads here.
    pub reachable: bool,
    /// The fewest pods other than none; 0 for no such rule.
    pub activation_scale: i32,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ScalingMetric {
    /// Requests in flight.
    Concurrency,
    /// Requests per second.
    Rps,
    /// Anything else, which is taken for concurrency.
    Other(String),
}

impl From<String> for ScalingMetric {
    fn from(name: String) -> Self {
        match name.as_str() {
            "concurrency" => Self::Concurrency,
            "rps" => Self::Rps,
            _ => Self::Other(name),
        }
    }
}

impl From<ScalingMetric> for String {
    fn from(metric: ScalingMetric) -> String {
        match metric {
            ScalingMetric::Concurrency => "concurrency".to_owned(),
            ScalingMetric::Rps => "rps".to_owned(),
            ScalingMetric::Other(name) => name,
        }
    }
}

/// What the autoscaler remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KpaState {
    /// When the panic threshold was last reached, while in panic.
    panic_since: Option<Timestamp>,
    /// The most pods wanted during this panic.
    max_panic_pods: i32,
    /// Made once: later specifications change neither its presence nor its size.
    delay_window: Option<MaxWindow>,
}

impl KpaState {
    /// A new autoscaler for a revision with `ready_pods`; `None` when they could not be counted.
    ///
    /// More than one ready pod starts it in panic, so that a restart does not shrink the fleet before
    /// there is data.
    pub fn new(spec: &DeciderSpec, ready_pods: Option<i32>, now: Timestamp) -> Self {
        let ready = ready_pods.unwrap_or(0);
        Self {
            panic_since: (ready > 1).then_some(now),
            max_panic_pods: ready,
            delay_window: (!spec.scale_down_delay.is_zero()).then(|| MaxWindow::new(spec.scale_down_delay)),
        }
    }

    /// Whether the short window rules.
    pub fn in_panic(&self) -> bool {
        self.panic_since.is_some()
    }

    /// The most pods wanted during this panic.
    pub fn max_panic_pods(&self) -> i32 {
        self.max_panic_pods
    }
}

/// What is seen at one decision.
#[derive(Clone, Debug, PartialEq)]
pub struct KpaObservation {
    /// When. Scale-down delays are aligned to this clock.
    pub now: Timestamp,
    /// Ready pods.
    pub ready_pods: Result<i32, PodsError>,
    /// The metric's averages.
    pub metric: Result<WindowAverages, String>,
}

/// Why ready pods could not be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodsError {
    /// There is no service yet, which counts as no pods.
    #[error("not found")]
    NotFound,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The metric over both windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowAverages {
    /// Over the stable window.
    pub stable: f64,
    /// Over the panic window.
    pub panic: f64,
}

/// What one decision came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KpaOutcome {
    /// The wanted pods, before the revision's bounds; `None` when nothing can be said.
    pub desired: Option<i32>,
    /// Room to spare; negative keeps the activator in the path. 0 when nothing can be said.
    pub excess_burst_capacity: i32,
    /// What each step did, in order.
    pub steps: Vec<KpaReason>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum KpaReason {
    /// The ready pods or the metric are unknown: nothing changes.
    Invalid {
        /// Why.
        error: String,
    },
    /// A window asks for pods.
    Window {
        /// Whether it is the short one.
        panic: bool,
        /// Its average.
        average: f64,
        /// What one pod should have.
        target: f64,
        /// The pods for it.
        wish: f64,
        /// The fewest and the most that the rates allow.
        allowed: (f64, f64),
        /// After the rates and the activation scale.
        replicas: i32,
    },
    /// Panic begins or is extended.
    Panicking {
        /// Wish of the short window over ready pods.
        ratio: f64,
        /// Where panic begins.
        threshold: f64,
    },
    /// The stable window passed without cause for panic.
    CalmedDown,
    /// In panic the count never falls.
    HeldByPanic {
        /// What the windows want.
        wish: i32,
        /// What is kept.
        held: i32,
    },
    /// A recent higher wish holds the count.
    DelayedScaleDown {
        /// What is wanted.
        wish: i32,
        /// What is kept.
        held: i32,
    },
}

impl fmt::Display for KpaReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { error } => write!(f, "nothing can be decided: {error}"),
            Self::Window { panic, average, target, wish, allowed: (least, most), replicas } => {
                let window = if *panic { "panic" } else { "stable" };
                write!(
                    f,
                    "{window} window: {average:.3} / target {target} → {wish}, rates allow {least} to {most} → {replicas}"
                )
            }
            Self::Panicking { ratio, threshold } => {
                write!(f, "panic: {ratio:.2} times what the ready pods carry, threshold {threshold}")
            }
            Self::CalmedDown => f.write_str("panic is over: the stable window passed below the threshold"),
            Self::HeldByPanic { wish, held } => {
                write!(f, "in panic the count does not fall: {wish} → {held}")
            }
            Self::DelayedScaleDown { wish, held } => write!(f, "scale-down delay: {wish} → {held}"),
        }
    }
}

/// One decision.
pub fn scale(spec: &DeciderSpec, state: &mut KpaState, observation: &KpaObservation) -> KpaOutcome {
    let (pods, averages) = match readings(observation) {
        Ok(readings) => readings,
        Err(error) => {
            let steps = vec![KpaReason::Invalid { error }];
            return KpaOutcome { desired: None, excess_burst_capacity: 0, steps };
        }
    };
    let now = observation.now;
    let mut steps = Vec::new();
    let ready = f64::from(pods).max(1.0);
    let most = (spec.max_scale_up_rate * ready).ceil();
    let least = if spec.reachable { (ready / spec.max_scale_down_rate).floor() } else { 0.0 };
    let mut want = |panic: bool, average: f64| {
        let wish = (average / spec.target_value).ceil();
        let mut replicas = go_arith::to_i32(go_arith::min(go_arith::max(wish, least), most));
        if spec.activation_scale > 1 && wish > 0.0 {
            replicas = replicas.max(spec.activation_scale);
        }
        let target = spec.target_value;
        steps.push(KpaReason::Window { panic, average, target, wish, allowed: (least, most), replicas });
        (wish, replicas)
    };
    let (_, stable) = want(false, averages.stable);
    let (panic_wish, panic) = want(true, averages.panic);

    let ratio = panic_wish / ready;
    if ratio >= spec.panic_threshold {
        steps.push(KpaReason::Panicking { ratio, threshold: spec.panic_threshold });
        state.panic_since = Some(now);
    } else if state.panic_since.is_some_and(|since| since + spec.stable_window < now) {
        steps.push(KpaReason::CalmedDown);
        state.panic_since = None;
        state.max_panic_pods = 0;
    }

    let mut desired = stable;
    if state.in_panic() {
        desired = desired.max(panic);
        state.max_panic_pods = state.max_panic_pods.max(desired);
        if desired < state.max_panic_pods {
            steps.push(KpaReason::HeldByPanic { wish: desired, held: state.max_panic_pods });
        }
        desired = state.max_panic_pods;
    }
    if spec.reachable
        && let Some(window) = &mut state.delay_window
    {
        window.record(now, desired);
        let held = window.current();
        if held != desired {
            steps.push(KpaReason::DelayedScaleDown { wish: desired, held });
        }
        desired = held;
    }

    let excess = if spec.target_burst_capacity == 0.0 {
        0.0
    } else if spec.target_burst_capacity > 0.0 {
        (f64::from(pods) * spec.total_value - spec.target_burst_capacity - averages.panic).floor()
    } else {
        -1.0
    };
    KpaOutcome { desired: Some(desired), excess_burst_capacity: go_arith::to_i32(excess), steps }
}

fn readings(observation: &KpaObservation) -> Result<(i32, WindowAverages), String> {
    let pods = match &observation.ready_pods {
        Ok(pods) => *pods,
        Err(PodsError::NotFound) => 0,
        Err(PodsError::Other(error)) => return Err(format!("ready pods are unknown: {error}")),
    };
    let averages = observation.metric.as_ref().map_err(|error| format!("the metric is unknown: {error}"))?;
    Ok((pods, *averages))
}
