//! What the user asked for, checked: the part of an `InferenceScaler` that deciding needs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Policy, Replicas, ScalerId, Timestamp, calendar::Floor, time::seconds};

/// One scaler's specification. Durations are modelled time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalerSpec {
    /// Its name.
    pub scaler: ScalerId,
    /// What the replicas are for; decides how dangerous zero is.
    pub environment: Environment,
    /// The fewest and the most replicas.
    pub replicas: Bounds,
    /// Lets a production scaler go to zero.
    pub allow_scale_to_zero: bool,
    /// How a wish for replicas is computed.
    pub policy: Policy,
    /// How fast wishes may be followed; by default what [`Policy::default_behavior`] says.
    pub behavior: Behavior,
    /// What is known about starting a replica before it was ever observed.
    pub cold_start: ColdStartSpec,
    /// Requests that one replica works on at a time.
    pub max_concurrency: u32,
    /// Readings older than this prove nothing.
    #[serde(rename = "maxSignalAgeSeconds", with = "seconds")]
    pub max_signal_age: Duration,
    /// Longest time a draining replica may take to finish its requests before it is stopped all the same.
    #[serde(rename = "drainDeadlineSeconds", with = "seconds")]
    pub drain_deadline: Duration,
    /// Changes of the target allowed in any minute: the fuse that stops a runaway.
    pub max_changes_per_minute: u32,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// A number held by hand, until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Replicas that are kept by the clock; the highest of those that hold counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<Floor>,
    /// When a peer's rules are evaluated.
    #[serde(default, skip_serializing_if = "Cadence::is_own")]
    pub cadence: Cadence,
}

impl ScalerSpec {
    /// Readings older than this prove nothing: four of the 15-second polls that HPA and most exporters
    /// use, so that three in a row may fail.
    pub const DEFAULT_MAX_SIGNAL_AGE: Duration = Duration::from_secs(60);
    /// Long enough for the longest generations people report, short enough that a leaked request
    /// does not pin a GPU for ever.
    pub const DEFAULT_DRAIN_DEADLINE: Duration = Duration::from_secs(30 * 60);
    /// Far above what any sane policy does, low enough to stop a loop that oscillates on each event.
    pub const DEFAULT_MAX_CHANGES_PER_MINUTE: u32 = 30;

    /// A specification with everything at its default but these three.
    pub fn new(scaler: impl Into<ScalerId>, replicas: Bounds, policy: Policy) -> Self {
        let behavior = policy.default_behavior();
        Self {
            scaler: scaler.into(),
            environment: Environment::Production,
            replicas,
            allow_scale_to_zero: false,
            policy,
            behavior,
            cold_start: ColdStartSpec::default(),
            max_concurrency: 8,
            max_signal_age: Self::DEFAULT_MAX_SIGNAL_AGE,
            drain_deadline: Self::DEFAULT_DRAIN_DEADLINE,
            max_changes_per_minute: Self::DEFAULT_MAX_CHANGES_PER_MINUTE,
            mode: Mode::Act,
            pause: None,
            floors: Vec::new(),
            cadence: Cadence::Own,
        }
    }

    /// Whether this scaler may have no replica at all.
    pub fn may_reach_zero(&self) -> bool {
        self.replicas.min == Replicas(0)
            && (self.environment != Environment::Production || self.allow_scale_to_zero)
    }
}

/// What the replicas are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// People wait for the answers: zero needs `allowScaleToZero`.
    #[default]
    Production,
    /// A rehearsal.
    Staging,
    /// Somebody's experiment.
    Dev,
    /// Nobody waits.
    Batch,
}

/// The fewest and the most replicas; `min <= max` and `max >= 1` by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BoundsLine", deny_unknown_fields)]
pub struct Bounds {
    /// Kept at all times (keepalive).
    pub min: Replicas,
    /// Never exceeded.
    pub max: Replicas,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsLine {
    min: Replicas,
    max: Replicas,
}

impl TryFrom<BoundsLine> for Bounds {
    type Error = InvalidBounds;

    fn try_from(line: BoundsLine) -> Result<Self, InvalidBounds> {
        Bounds::new(line.min.0, line.max.0)
    }
}

/// Bounds that leave no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("min {min} and max {max}: max must be at least 1 and not below min")]
pub struct InvalidBounds {
    min: u32,
    max: u32,
}

impl Bounds {
    /// # Errors
    /// When `max` is 0 or below `min`.
    pub fn new(min: u32, max: u32) -> Result<Self, InvalidBounds> {
        if max >= 1 && min <= max {
            Ok(Self { min: Replicas(min), max: Replicas(max) })
        } else {
            Err(InvalidBounds { min, max })
        }
    }
}

/// What is known about starting a replica before it was ever observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColdStartSpec {
    /// The prior, until enough starts were observed.
    #[serde(rename = "expectedSeconds", with = "seconds")]
    pub expected: Duration,
    /// A start that takes longer is given up and replaced.
    #[serde(rename = "deadlineSeconds", with = "seconds")]
    pub deadline: Duration,
}

impl Default for ColdStartSpec {
    /// The middle of the 3–10 minutes that a GPU replica takes to serve, and three times the longest.
    fn default() -> Self {
        Self { expected: Duration::from_secs(240), deadline: Duration::from_secs(30 * 60) }
    }
}

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Decide, record, act.
    #[default]
    Act,
    /// Decide and record only, next to whoever acts.
    Shadow,
}

/// When a peer's rules are evaluated. forewarm's own always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cadence {
    /// When the peer itself would: every 15 s, every 2 s, as it is.
    #[default]
    Own,
    /// At every observation: for recordings, which have the moments in them.
    EveryObservation,
}

impl Cadence {
    fn is_own(&self) -> bool {
        *self == Cadence::Own
    }
}

/// A number of replicas held by hand: the kill switch. It expires by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// Held as it is, bounds and guards apart.
    pub replicas: Replicas,
    /// When the policy takes over again.
    pub until: Timestamp,
}

/// How fast wishes may be followed, with the meaning of `behavior` in `autoscaling/v2`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behavior {
    /// Rules on the way up.
    pub scale_up: ScalingRules,
    /// Rules on the way down.
    pub scale_down: ScalingRules,
}

impl Behavior {
    /// What HPA's `--horizontal-pod-autoscaler-downscale-stabilization` defaults to.
    pub const DEFAULT_SCALE_DOWN_WINDOW: Duration = Duration::from_secs(300);

    /// No window and no limit in either direction: the number is taken as it comes.
    pub fn pass_through() -> Self {
        Self { scale_up: ScalingRules::default(), scale_down: ScalingRules::default() }
    }
}

impl Default for Behavior {
    /// Up at once and without a limit: late is what GPUs cannot afford. Down after
    /// [`Behavior::DEFAULT_SCALE_DOWN_WINDOW`].
    fn default() -> Self {
        Self {
            scale_up: ScalingRules::default(),
            scale_down: ScalingRules {
                stabilization_window: Self::DEFAULT_SCALE_DOWN_WINDOW,
                ..ScalingRules::default()
            },
        }
    }
}

/// Rules of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScalingRules {
    /// Up: the lowest wish in this window is followed; down: the highest.
    #[serde(rename = "stabilizationWindowSeconds", with = "seconds")]
    pub stabilization_window: Duration,
    /// Which of the limits applies.
    pub select_policy: SelectPolicy,
    /// Limits of the change in a period; none: no limit.
    pub policies: Vec<RateLimit>,
}

/// Which of several rate limits applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// A limit of the change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub unit: RateUnit,
    /// Replicas, or percent of the replicas at the start of the period.
    pub value: u32,
    /// The period.
    #[serde(rename = "periodSeconds", with = "seconds")]
    pub period: Duration,
}

/// What the value of a [`RateLimit`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateUnit {
    /// Replicas (`Pods`, as manifests call them).
    Pods,
    /// Percent of the replicas at the start of the period.
    Percent,
}
