//! From the config map `config-autoscaler` and a revision's annotations to what its decider goes by
//! (`pkg/autoscaler/config`, `MakeDecider`, `ResolveMetricTarget`).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::decider::{DeciderSpec, ScalingMetric};
use crate::peers::{go_duration, go_float};

const SECOND: i64 = 1_000_000_000;
/// The smallest target of any metric (`TargetMin`).
const TARGET_MIN: f64 = 0.01;
/// The share of a pod's capacity that is the target of metrics other than concurrency.
const TARGET_UTILIZATION: f64 = 0.7;
/// The bounds of the stable window.
const WINDOW_MIN: i64 = 6 * SECOND;
const WINDOW_MAX: i64 = 3600 * SECOND;
/// What the annotations of a revision begin with.
const GROUP: &str = "autoscaling.knative.dev/";

/// The cluster's configuration, checked. Spans are nanoseconds, as Go keeps them.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMap {
    /// Whether the last pod may go.
    pub enable_scale_to_zero: bool,
    /// How long the activator must have been in the path before it does.
    pub scale_to_zero_grace_period: Duration,
    /// The least time that the last pod stays.
    pub scale_to_zero_pod_retention_period: Duration,
    allow_zero_initial_scale: bool,
    target_fraction: f64,
    concurrency_target: f64,
    rps_target: f64,
    target_burst_capacity: f64,
    activator_capacity: f64,
    max_scale_up_rate: f64,
    max_scale_down_rate: f64,
    panic_window_percentage: f64,
    panic_threshold_percentage: f64,
    stable_window: i64,
    scale_down_delay: i64,
    initial_scale: i32,
    min_scale: i32,
    max_scale: i32,
}

/// A setting that Knative refuses, too.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key} = {value:?}: {expected}")]
pub struct InvalidConfig {
    key: &'static str,
    value: String,
    expected: &'static str,
}

/// The entries of the map, with Knative's defaults for absent ones.
struct Entries<'a>(&'a BTreeMap<String, String>);

impl Entries<'_> {
    fn read<T>(
        &self,
        key: &'static str,
        default: T,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, InvalidConfig> {
        match self.0.get(key) {
            None => Ok(default),
            Some(value) => parse(value).ok_or_else(|| self.invalid(key, expected)),
        }
    }

    fn float(&self, key: &'static str, default: f64) -> Result<f64, InvalidConfig> {
        self.read(key, default, "expected a number", go_float::parse)
    }

    fn int(&self, key: &'static str, default: i32) -> Result<i32, InvalidConfig> {
        self.read(key, default, "expected a whole number", |text| text.parse().ok())
    }

    fn bool(&self, key: &'static str, default: bool) -> Result<bool, InvalidConfig> {
        self.read(key, default, "expected true or false", parse_bool)
    }

    fn nanos(&self, key: &'static str, default: i64) -> Result<i64, InvalidConfig> {
        self.read(key, default, "expected a span such as 60s", go_duration::parse_nanos)
    }

    fn invalid(&self, key: &'static str, expected: &'static str) -> InvalidConfig {
        // A default can only be wrong beside another setting.
        let value = self.0.get(key).map_or("(default)", String::as_str).to_owned();
        InvalidConfig { key, value, expected }
    }

    fn check(&self, holds: bool, key: &'static str, expected: &'static str) -> Result<(), InvalidConfig> {
        if holds { Ok(()) } else { Err(self.invalid(key, expected)) }
    }
}

impl ConfigMap {
    /// Reads the data of the config map.
    ///
    /// # Errors
    /// When Knative would refuse it: the first setting that is wrong.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, InvalidConfig> {
        let entries = Entries(data);
        let mut target_fraction =
            entries.float("container-concurrency-target-percentage", TARGET_UTILIZATION)?;
        if target_fraction > 1.0 {
            // Written as a percentage or, up to one, as a fraction.
            target_fraction /= 100.0;
        }
        let concurrency_target = entries.float("container-concurrency-target-default", 100.0)?;
        let rps_target = entries.float("requests-per-second-target-default", 200.0)?;
        let target_burst_capacity = entries.float("target-burst-capacity", 211.0)?;
        let activator_capacity = entries.float("activator-capacity", 100.0)?;
        let max_scale_up_rate = entries.float("max-scale-up-rate", 1000.0)?;
        let max_scale_down_rate = entries.float("max-scale-down-rate", 2.0)?;
        let panic_window_percentage = entries.float("panic-window-percentage", 10.0)?;
        let panic_threshold_percentage = entries.float("panic-threshold-percentage", 200.0)?;
        let stable_window = entries.nanos("stable-window", 60 * SECOND)?;
        let scale_down_delay = entries.nanos("scale-down-delay", 0)?;
        let grace = entries.nanos("scale-to-zero-grace-period", 30 * SECOND)?;
        let retention = entries.nanos("scale-to-zero-pod-retention-period", 0)?;
        let enable_scale_to_zero = entries.bool("enable-scale-to-zero", true)?;
        let allow_zero_initial_scale = entries.bool("allow-zero-initial-scale", false)?;
        let initial_scale = entries.int("initial-scale", 1)?;
        let min_scale = entries.int("min-scale", 0)?;
        let max_scale = entries.int("max-scale", 0)?;
        let max_scale_limit = entries.int("max-scale-limit", 0)?;

        let whole_seconds = |nanos: i64| nanos % SECOND == 0;
        let least_max = i32::from(max_scale_limit > 0);
        entries.check(grace > 0, "scale-to-zero-grace-period", "must be positive")?;
        entries.check(
            scale_down_delay >= 0 && whole_seconds(scale_down_delay),
            "scale-down-delay",
            "must be whole seconds, and not negative",
        )?;
        entries.check(retention >= 0, "scale-to-zero-pod-retention-period", "must not be negative")?;
        entries.check(
            target_burst_capacity == -1.0 || not_below(target_burst_capacity, 0.0),
            "target-burst-capacity",
            "must not be negative, or must be -1 for unlimited",
        )?;
        entries.check(
            !(target_fraction <= 0.0 || target_fraction > 1.0),
            "container-concurrency-target-percentage",
            "must be in (0, 100]",
        )?;
        entries.check(
            not_below(target_fraction * concurrency_target, TARGET_MIN),
            "container-concurrency-target-default",
            "the target percentage of it must be at least 0.01",
        )?;
        entries.check(
            not_below(rps_target, TARGET_MIN),
            "requests-per-second-target-default",
            "must be at least 0.01",
        )?;
        entries.check(not_below(activator_capacity, 1.0), "activator-capacity", "must be at least 1")?;
        let above_one = "must be greater than 1";
        entries.check(!at_most_one(max_scale_up_rate), "max-scale-up-rate", above_one)?;
        entries.check(!at_most_one(max_scale_down_rate), "max-scale-down-rate", above_one)?;
        entries.check(
            (WINDOW_MIN..=WINDOW_MAX).contains(&stable_window) && whole_seconds(stable_window),
            "stable-window",
            "must be whole seconds from 6s to 1h",
        )?;
        entries.check(
            not_below(panic_window_percentage, 1.0) && not_below(100.0, panic_window_percentage),
            "panic-window-percentage",
            "must be from 1 to 100",
        )?;
        entries.check(
            initial_scale > 0 || (initial_scale == 0 && allow_zero_initial_scale),
            "initial-scale",
            "must be at least 1, or 0 when allow-zero-initial-scale is true",
        )?;
        entries.check(min_scale >= 0, "min-scale", "must not be negative")?;
        entries.check(
            max_scale >= least_max && (max_scale_limit <= 0 || max_scale <= max_scale_limit),
            "max-scale",
            "must not be negative, and within max-scale-limit where there is one",
        )?;
        entries.check(max_scale_limit >= 0, "max-scale-limit", "must not be negative")?;
        entries.check(max_scale == 0 || min_scale <= max_scale, "min-scale", "must not exceed max-scale")?;
        Ok(Self {
            enable_scale_to_zero,
            scale_to_zero_grace_period: span(grace),
            scale_to_zero_pod_retention_period: span(retention),
            allow_zero_initial_scale,
            target_fraction,
            concurrency_target,
            rps_target,
            target_burst_capacity,
            activator_capacity,
            max_scale_up_rate,
            max_scale_down_rate,
            panic_window_percentage,
            panic_threshold_percentage,
            stable_window,
            scale_down_delay,
            initial_scale,
            min_scale,
            max_scale,
        })
    }
}

/// Written so that a NaN passes, as it does there.
fn not_below(value: f64, least: f64) -> bool {
    value.partial_cmp(&least) != Some(std::cmp::Ordering::Less)
}

/// False for a NaN, as there.
fn at_most_one(value: f64) -> bool {
    value <= 1.0
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn span(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Whether a route leads to a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reachability {
    /// Not known yet, which counts as reachable.
    #[default]
    #[serde(rename = "", alias = "Unknown")]
    Unknown,
    /// Yes.
    Reachable,
    /// No: it may go at once.
    Unreachable,
}

/// What a revision goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionSpec {
    /// For the decider.
    pub decider: DeciderSpec,
    /// The short window.
    pub panic_window: Duration,
    /// Kept at all times, 0 for none.
    pub min_scale: i32,
    /// Never exceeded, 0 for no such bound.
    pub max_scale: i32,
    /// The least time that the last pod stays.
    pub last_pod_retention: Duration,
}

/// Resolves a revision's annotations against the cluster's configuration. An annotation that cannot be
/// read counts as absent: Knative refuses those earlier, at admission.
pub fn resolve(
    config: &ConfigMap,
    annotations: &BTreeMap<String, String>,
    container_concurrency: i64,
    reachability: Reachability,
) -> RevisionSpec {
    let text = |names: &[&str]| names.iter().find_map(|name| annotation(annotations, name));
    let float = |names: &[&str]| text(names).and_then(go_float::parse);
    let int = |names: &[&str]| text(names).and_then(|text| text.parse::<i32>().ok());
    let nanos = |names: &[&str]| text(names).and_then(go_duration::parse_nanos);

    let metric = ScalingMetric::from(text(&["metric"]).unwrap_or("concurrency").to_owned());
    let (mut total, mut fraction) = match metric {
        ScalingMetric::Rps => (config.rps_target, TARGET_UTILIZATION),
        ScalingMetric::Concurrency | ScalingMetric::Other(_) if container_concurrency == 0 => {
            (config.concurrency_target, config.target_fraction)
        }
        ScalingMetric::Concurrency | ScalingMetric::Other(_) => {
            (container_concurrency as f64, config.target_fraction)
        }
    };
    if let Some(target) = float(&["target"]) {
        total = if metric == ScalingMetric::Concurrency && container_concurrency != 0 {
            target.min(container_concurrency as f64)
        } else {
            target
        };
    }
    if let Some(percent) = float(&["target-utilization-percentage", "targetUtilizationPercentage"]) {
        fraction = percent / 100.0;
    }
    let stable_window = nanos(&["window"]).unwrap_or(config.stable_window);
    let panic_percentage = float(&["panic-window-percentage", "panicWindowPercentage"])
        .unwrap_or(config.panic_window_percentage);
    let reachable = reachability != Reachability::Unreachable;
    let min_scale = if reachable { int(&["min-scale", "minScale"]).unwrap_or(config.min_scale) } else { 0 };
    let retention = nanos(&["scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod"])
        .map_or(config.scale_to_zero_pod_retention_period, span);
    RevisionSpec {
        decider: DeciderSpec {
            max_scale_up_rate: config.max_scale_up_rate,
            max_scale_down_rate: config.max_scale_down_rate,
            scaling_metric: metric,
            target_value: (total * fraction).max(TARGET_MIN),
            total_value: total,
            target_burst_capacity: float(&["target-burst-capacity", "targetBurstCapacity"])
                .unwrap_or(config.target_burst_capacity),
            activator_capacity: config.activator_capacity,
            panic_threshold: float(&["panic-threshold-percentage", "panicThresholdPercentage"])
                .unwrap_or(config.panic_threshold_percentage)
                / 100.0,
            stable_window: span(stable_window),
            scale_down_delay: span(
                nanos(&["scale-down-delay", "scaleDownDelay"]).unwrap_or(config.scale_down_delay),
            ),
            initial_scale: int(&["initial-scale", "initialScale"])
                .filter(|scale| *scale != 0 || config.allow_zero_initial_scale)
                .unwrap_or(config.initial_scale),
            reachable,
            activation_scale: int(&["activation-scale"]).unwrap_or(0),
        },
        panic_window: panic_window(stable_window, panic_percentage),
        min_scale,
        max_scale: int(&["max-scale", "maxScale"]).unwrap_or(config.max_scale),
        last_pod_retention: if reachable { retention } else { Duration::ZERO },
    }
}

/// The value of `autoscaling.knative.dev/NAME`.
pub(crate) fn annotation<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let named = |key: &str| key.strip_prefix(GROUP) == Some(name);
    annotations.iter().find(|(key, _)| named(key)).map(|(_, value)| value.as_str())
}

/// A share of the stable window in whole seconds, at least one.
fn panic_window(stable_nanos: i64, percentage: f64) -> Duration {
    let nanos = (stable_nanos as f64 * percentage / 100.0) as i64;
    let seconds = (nanos + SECOND / 2).div_euclid(SECOND);
    Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1))
}
