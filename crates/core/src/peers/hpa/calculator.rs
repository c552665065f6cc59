//! From one metric's values to a replica count (`replica_calculator.go` of Kubernetes 1.37).
//!
//! All values are milli-units, all arithmetic is Go's: sums wrap, averages truncate, conversions from
//! floating point follow `go_arith`.

use std::collections::BTreeMap;

use super::{
    observation::{ControllerConfig, Pod, PodSample},
    pods,
    reason::{Arithmetic, Kept, Measure},
};
use crate::{Timestamp, peers::go_arith};

/// How far a ratio may be from 1 without any change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    fn contains(self, ratio: f64) -> bool {
        // Written as Kubernetes writes it: |ratio - 1| rounds differently.
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What one metric proposes.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What the status reports: an average or a total in milli-units.
    pub(super) usage: i64,
    /// For utilisation targets: percent of the requests.
    pub(super) utilization: Option<i32>,
    pub(super) arithmetic: Arithmetic,
}

/// Everything about the fleet that the calculations look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fleet<'a> {
    pub(super) pods: &'a [Pod],
    pub(super) spec_replicas: i32,
    pub(super) status_replicas: i32,
    pub(super) config: &'a ControllerConfig,
    pub(super) tolerances: Tolerances,
    pub(super) now: Timestamp,
}

/// What per-pod samples are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum PodTarget<'a> {
    /// A milli-value per pod.
    Average(i64),
    /// Percent of the pods' requests.
    Utilization { percent: i32, container: Option<&'a str>, resource: &'a str },
}

/// The ratio to the target, and the measure behind it.
struct Usage {
    ratio: f64,
    utilization: Option<i32>,
    average: i64,
}

impl Fleet<'_> {
    /// Pods, Resource and `ContainerResource` metrics.
    pub(super) fn per_pod(
        &self,
        samples: &BTreeMap<String, PodSample>,
        resource: Option<&str>,
        target: PodTarget<'_>,
    ) -> Result<Proposal, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        let groups = pods::group(self.pods, samples, resource, self.config, self.now);
        // Samples of pods that nobody knows stay in: they count in sums and divisors.
        let mut values: BTreeMap<&str, i64> = samples
            .iter()
            .map(|(name, sample)| (name.as_str(), sample.value))
            .filter(|(name, _)| !groups.ignored.contains(name) && !groups.unready.contains(name))
            .collect();
        if values.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        let requests = match target {
            PodTarget::Average(_) => BTreeMap::new(),
            PodTarget::Utilization { container, resource, .. } => {
                pods::requests(self.pods, container, resource)?
            }
        };
        let usage = measure(&values, &requests, target)?;
        let mut arithmetic = Arithmetic {
            measure: match target {
                PodTarget::Average(target) => Measure::PodAverage { average: usage.average, target },
                PodTarget::Utilization { percent, .. } => Measure::Utilization {
                    percent: usage.utilization.unwrap_or_default(),
                    target: percent,
                    average: usage.average,
                },
            },
            ratio: usage.ratio,
            pods: Some(groups.counts()),
            adjusted_ratio: None,
            multiplied_by: None,
            kept: None,
        };
        let proposal = |replicas, arithmetic| Proposal {
            replicas,
            usage: usage.average,
            utilization: usage.utilization,
            arithmetic,
        };

        let grows_with_unready = !groups.unready.is_empty() && usage.ratio > 1.0;
        if !grows_with_unready && groups.missing.is_empty() {
            if self.tolerances.contains(usage.ratio) {
                arithmetic.kept = Some(Kept::WithinTolerance);
                return Ok(proposal(self.spec_replicas, arithmetic));
            }
            arithmetic.multiplied_by = Some(groups.ready as i64);
            let replicas = go_arith::to_i32((usage.ratio * groups.ready as f64).ceil());
            return Ok(proposal(replicas, arithmetic));
        }

        // Assume of the silent pods what makes the change smallest.
        if usage.ratio < 1.0 {
            for name in &groups.missing {
                values.insert(name, assumed_when_shrinking(name, &requests, target));
            }
        } else if usage.ratio > 1.0 {
            values.extend(groups.missing.iter().map(|name| (*name, 0)));
        }
        if grows_with_unready {
            values.extend(groups.unready.iter().map(|name| (*name, 0)));
        }
        let adjusted = measure(&values, &requests, target)?.ratio;
        arithmetic.adjusted_ratio = Some(adjusted);
        let flipped = (usage.ratio < 1.0 && adjusted > 1.0) || (usage.ratio > 1.0 && adjusted < 1.0);
        if self.tolerances.contains(adjusted) || flipped {
            arithmetic.kept = Some(if flipped { Kept::DirectionFlipped } else { Kept::WithinTolerance });
            return Ok(proposal(self.spec_replicas, arithmetic));
        }
        arithmetic.multiplied_by = Some(values.len() as i64);
        let replicas = go_arith::to_i32((adjusted * values.len() as f64).ceil());
        if (adjusted < 1.0 && replicas > self.spec_replicas)
            || (adjusted > 1.0 && replicas < self.spec_replicas)
        {
            arithmetic.kept = Some(Kept::AgainstDirection);
            return Ok(proposal(self.spec_replicas, arithmetic));
        }
        Ok(proposal(replicas, arithmetic))
    }

    /// Object and External metrics with a `Value` target.
    pub(super) fn total(&self, usage: i64, target: i64) -> Result<Proposal, String> {
        let ratio = usage as f64 / target as f64;
        let mut arithmetic = Arithmetic::of(Measure::Total { value: usage, target }, ratio);
        let replicas = if self.spec_replicas == 0 {
            // From nothing there is no tolerance: the ratio itself is the count.
            go_arith::to_i32(ratio.ceil())
        } else if self.tolerances.contains(ratio) {
            arithmetic.kept = Some(Kept::WithinTolerance);
            self.spec_replicas
        } else {
            let ready = pods::ready_count(self.pods)?;
            arithmetic.multiplied_by = Some(ready);
            let replicas = ratio * ready as f64;
            if replicas > f64::from(i32::MAX) { i32::MAX } else { go_arith::to_i32(replicas.ceil()) }
        };
        Ok(Proposal { replicas, usage, utilization: None, arithmetic })
    }

    /// Object metrics with an `AverageValue` target.
    pub(super) fn total_per_replica(&self, usage: i64, target: i64) -> Proposal {
        let (replicas, arithmetic) = self.share(usage, target, go_arith::to_i32);
        let average = go_arith::to_i64((usage as f64 / f64::from(self.status_replicas)).ceil());
        Proposal { replicas, usage: average, utilization: None, arithmetic }
    }

    /// External metrics with an `AverageValue` target: as for objects, but capped.
    pub(super) fn series_per_replica(&self, series: &[i64], target: i64) -> Proposal {
        let mut usage = 0_i64;
        for value in series {
            usage = usage.wrapping_add(*value);
            if usage < 0 {
                // Taken for an overflow, also when the metric itself is negative.
                usage = i64::MAX;
                break;
            }
        }
        let capped = |count: f64| {
            if count > f64::from(i32::MAX) { i32::MAX } else { go_arith::to_i32(count) }
        };
        let (replicas, arithmetic) = self.share(usage, target, capped);
        let average = if usage as f64 >= i64::MAX as f64 {
            i64::MAX
        } else {
            go_arith::to_i64((usage as f64 / f64::from(self.status_replicas)).ceil())
        };
        Proposal { replicas, usage: average, utilization: None, arithmetic }
    }

    fn share(&self, usage: i64, target: i64, convert: impl Fn(f64) -> i32) -> (i32, Arithmetic) {
        let ratio = usage as f64 / (target as f64 * f64::from(self.status_replicas));
        let measure = Measure::PerReplica { value: usage, target, replicas: self.status_replicas };
        let mut arithmetic = Arithmetic::of(measure, ratio);
        if self.tolerances.contains(ratio) {
            arithmetic.kept = Some(Kept::WithinTolerance);
            (self.status_replicas, arithmetic)
        } else {
            (convert((usage as f64 / target as f64).ceil()), arithmetic)
        }
    }
}

/// The sum of External series with a `Value` target: capped where positive values would overflow.
pub(super) fn sum_of_series(series: &[i64]) -> i64 {
    let mut usage = 0_i64;
    for value in series {
        if *value > 0 && usage > i64::MAX - value {
            return i64::MAX;
        }
        usage = usage.wrapping_add(*value);
    }
    usage
}

/// What a pod without a sample is assumed to use when the rest asks for less: the target, or for
/// utilisation all of its request (the target's share of it when that is more).
fn assumed_when_shrinking(name: &str, requests: &BTreeMap<&str, i64>, target: PodTarget<'_>) -> i64 {
    match target {
        PodTarget::Average(target) => target,
        PodTarget::Utilization { percent, .. } => {
            let request = requests.get(name).copied().unwrap_or_default();
            request.wrapping_mul(i64::from(percent.max(100))) / 100
        }
    }
}

/// `values` is never empty.
fn measure(
    values: &BTreeMap<&str, i64>,
    requests: &BTreeMap<&str, i64>,
    target: PodTarget<'_>,
) -> Result<Usage, String> {
    match target {
        PodTarget::Average(target) => {
            let total = values.values().fold(0_i64, |sum, value| sum.wrapping_add(*value));
            let average = total / values.len() as i64;
            Ok(Usage { ratio: average as f64 / target as f64, utilization: None, average })
        }
        PodTarget::Utilization { percent, .. } => {
            let (mut total, mut requested, mut entries) = (0_i64, 0_i64, 0_i64);
            for (name, value) in values {
                if let Some(request) = requests.get(name) {
                    total = total.wrapping_add(*value);
                    requested = requested.wrapping_add(*request);
                    entries += 1;
                }
            }
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            // Whole percent, and the low 32 bits of them, before the ratio is taken.
            let utilization = total.wrapping_mul(100).wrapping_div(requested) as i32;
            Ok(Usage {
                ratio: f64::from(utilization) / f64::from(percent),
                utilization: Some(utilization),
                average: total / entries,
            })
        }
    }
}
