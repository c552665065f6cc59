//! What the page and the JSON views show, ready to be rendered: they compute nothing.
//!
//! `None` means “not known”, and is shown as such; it is never 0. Spans are modelled seconds.

use forewarm_core::{Decision, Mode, Phase, Replica, ReplicaId, Replicas, ScalerId, Tier, Timestamp};
use serde::Serialize;

/// Everything that is shown of one scaler.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalerView {
    /// Its name.
    pub scaler: ScalerId,
    /// The moment this is about, in Unix milliseconds of modelled time.
    #[serde(rename = "atMillis")]
    pub at: Timestamp,
    /// The target that is in force.
    pub target_replicas: Replicas,
    /// What the policy wishes before windows, limits and guards.
    pub desired: Option<Replicas>,
    /// Every replica that exists or was asked for.
    pub replicas: Vec<ReplicaView>,
    /// Requests that wait at the gateway.
    pub queued: Option<u64>,
    /// How long the oldest of them has waited.
    pub oldest_wait_seconds: Option<f64>,
    /// Requests at replicas.
    pub in_flight: Option<u64>,
    /// Requests that arrive per second.
    pub arrivals_per_second: Option<f64>,
    /// Requests refused with an honest 429 or 503, since the gateway started.
    pub refused_total: Option<u64>,
    /// Accepted requests that ended in an honest error.
    pub failed_total: Option<u64>,
    /// Requests answered in full.
    pub succeeded_total: Option<u64>,
    /// Requests that attained the objective for the time to the first token.
    pub attained_total: Option<u64>,
    /// Requests that missed it.
    pub missed_total: Option<u64>,
    /// Requests that ended after a replica had them.
    pub completed_total: Option<u64>,
    /// Seconds of requests at replicas.
    pub busy_seconds_total: Option<f64>,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// A number of replicas held by hand.
    pub paused: Option<PauseView>,
    /// The latest decisions, newest first.
    pub last_decisions: Vec<DecisionView>,
    /// Latencies of the latest requests.
    pub latency: Option<LatencyView>,
    /// How long starts take.
    pub cold_start: ColdStartView,
    /// The account of a load generator that runs in this process.
    pub load: Option<LoadView>,
    /// How many times faster than the wall's the modelled clock runs.
    pub speed: f64,
    /// What was measured, with its age.
    pub signals: Vec<SignalView>,
    /// What a person should know, in words.
    pub notices: Vec<String>,
}

impl ScalerView {
    /// A view of a scaler of which only the name, the moment and the target are known.
    pub fn new(scaler: impl Into<ScalerId>, at: Timestamp, target_replicas: Replicas) -> Self {
        Self {
            scaler: scaler.into(),
            at,
            target_replicas,
            desired: None,
            replicas: Vec::new(),
            queued: None,
            oldest_wait_seconds: None,
            in_flight: None,
            arrivals_per_second: None,
            refused_total: None,
            failed_total: None,
            succeeded_total: None,
            attained_total: None,
            missed_total: None,
            completed_total: None,
            busy_seconds_total: None,
            mode: Mode::Act,
            paused: None,
            last_decisions: Vec::new(),
            latency: None,
            cold_start: ColdStartView::default(),
            load: None,
            speed: 1.0,
            signals: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Replicas in `phase`.
    pub fn count(&self, phase: Phase) -> usize {
        self.replicas.iter().filter(|replica| replica.phase == phase).count()
    }
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    /// Its name.
    pub id: ReplicaId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Time since it was requested.
    pub age_seconds: f64,
    /// Requests it works on.
    pub in_flight: Option<u32>,
    /// Where it serves, `host:port`.
    pub address: Option<String>,
    /// Time until it is expected to serve, for one that is coming; 0 when it is overdue.
    pub expected_ready_in_seconds: Option<f64>,
}

impl From<&Replica> for ReplicaView {
    fn from(replica: &Replica) -> Self {
        Self {
            id: replica.id.clone(),
            phase: replica.phase,
            age_seconds: replica.age.as_secs_f64(),
            in_flight: replica.in_flight,
            address: None,
            expected_ready_in_seconds: None,
        }
    }
}

/// A number of replicas held by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseView {
    /// The number.
    pub replicas: Replicas,
    /// When the policy takes over again.
    #[serde(rename = "untilMillis")]
    pub until: Timestamp,
}

/// A decision and why it was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// When.
    #[serde(rename = "atMillis")]
    pub at: Timestamp,
    /// The target before.
    pub from: Replicas,
    /// The target after.
    pub to: Replicas,
    /// One line in words.
    pub summary: String,
    /// Every step, in the order they ran.
    pub reasons: Vec<ReasonView>,
}

impl From<&Decision> for DecisionView {
    fn from(decision: &Decision) -> Self {
        let reasons = decision.steps.iter().map(|step| ReasonView {
            stage: step.stage.label(),
            label: step.reason.label(),
            text: step.reason.to_string(),
            replicas: step.replicas,
        });
        Self {
            at: decision.at,
            from: decision.from,
            to: decision.to,
            summary: decision.summary(),
            reasons: reasons.collect(),
        }
    }
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonView {
    /// Which step.
    pub stage: &'static str,
    /// The reason's name, as in metrics.
    pub label: &'static str,
    /// The reason in words.
    pub text: String,
    /// The value after the step.
    pub replicas: Replicas,
}

/// Latencies of the latest requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyView {
    /// Time to the first token.
    pub ttft: Option<PercentilesView>,
    /// Time to the last.
    pub e2e: Option<PercentilesView>,
}

/// Percentiles, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PercentilesView {
    /// The median.
    pub p50_seconds: f64,
    /// The 95th percentile.
    pub p95_seconds: f64,
    /// The 99th percentile.
    pub p99_seconds: f64,
}

/// How long starts take.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdStartView {
    /// The learned median; `None` until enough starts were seen.
    pub learned_p50_seconds: Option<f64>,
    /// The learned 90th percentile.
    pub learned_p90_seconds: Option<f64>,
    /// What is reckoned with: the learned 90th percentile, or the prior before.
    pub expected_seconds: Option<f64>,
    /// Starts that are remembered.
    pub samples: usize,
    /// Starts with instances that stand by, by what they begin with.
    pub warm: Vec<WarmStartView>,
}

/// Starts with instances that stand by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmStartView {
    /// What they begin with.
    pub tier: Tier,
    /// What is reckoned with: the learned 90th percentile, or what a cold start takes before.
    pub expected_seconds: f64,
    /// Starts that are remembered.
    pub samples: usize,
    /// Instances that stand by now.
    pub standby: u32,
}

/// The account of requests: sent = succeeded + refused + failed + lost + still open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadView {
    /// Sent.
    pub sent: u64,
    /// Answered in full.
    pub succeeded: u64,
    /// Refused honestly.
    pub refused: u64,
    /// Ended in an honest error.
    pub failed: u64,
    /// Ended without an honest answer.
    pub lost: u64,
}

/// A signal as last read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// The value, if it is known.
    pub value: Option<f64>,
    /// How old the reading is.
    pub age_seconds: f64,
    /// Why there is no value.
    pub missing: Option<String>,
}

/// One point of the charts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesPoint {
    /// When, in Unix milliseconds of modelled time.
    #[serde(rename = "atMillis")]
    pub at: Timestamp,
    /// Requests that wait.
    pub queued: Option<u64>,
    /// Requests at replicas.
    pub in_flight: Option<u64>,
    /// Requests that arrive per second.
    pub arrivals_per_second: Option<f64>,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that are being started.
    pub coming: u32,
    /// Replicas that drain.
    pub draining: u32,
    /// The target.
    pub target: u32,
    /// Median time to the first token.
    pub ttft_p50_seconds: Option<f64>,
    /// Its 99th percentile.
    pub ttft_p99_seconds: Option<f64>,
}
