//! Sorting pods into ready, unready, missing and ignored, and adding up their requests
//! (`groupPods` and `calculateRequests` of `replica_calculator.go`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    observation::{ConditionStatus, ControllerConfig, Pod, PodPhase, PodSample},
    reason::PodCounts,
};
use crate::Timestamp;

/// The resource whose samples are distrusted while a pod initialises.
const CPU: &str = "cpu";

/// The pods of one metric, sorted.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    pub(super) ready: usize,
    pub(super) unready: BTreeSet<&'a str>,
    pub(super) missing: BTreeSet<&'a str>,
    pub(super) ignored: BTreeSet<&'a str>,
}

impl Groups<'_> {
    pub(super) fn counts(&self) -> PodCounts {
        PodCounts {
            ready: self.ready,
            unready: self.unready.len(),
            missing: self.missing.len(),
            ignored: self.ignored.len(),
        }
    }
}

/// Sorts `pods` by what is known of them. `resource` is `None` for custom metrics.
pub(super) fn group<'a>(
    pods: &'a [Pod],
    samples: &BTreeMap<String, PodSample>,
    resource: Option<&str>,
    config: &ControllerConfig,
    now: Timestamp,
) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.name.as_str();
        if pod.deleting || pod.phase == PodPhase::Failed {
            groups.ignored.insert(name);
        } else if pod.phase == PodPhase::Pending {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(name) {
            if resource == Some(CPU) && is_initialising(pod, sample, config, now) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether a CPU sample may still be of the pod's initialisation.
fn is_initialising(pod: &Pod, sample: &PodSample, config: &ControllerConfig, now: Timestamp) -> bool {
    let (Some(ready), Some(started)) = (pod.ready, pod.started) else { return true };
    let not_ready = ready.status == ConditionStatus::False;
    if started + config.cpu_initialization_period > now {
        // The sample must cover one whole window since the last change of readiness.
        not_ready || ready.since.is_some_and(|since| sample.timestamp < since + sample.window)
    } else {
        // It became unready right after its start: it was never ready.
        not_ready && ready.since.is_none_or(|since| started + config.initial_readiness_delay > since)
    }
}

/// Each pod's request of `resource` in milli-units, of one container or of all.
pub(super) fn requests<'a>(
    pods: &'a [Pod],
    container: Option<&str>,
    resource: &str,
) -> Result<BTreeMap<&'a str, i64>, String> {
    pods.iter().map(|pod| Ok((pod.name.as_str(), pod_request(pod, container, resource)?))).collect()
}

fn pod_request(pod: &Pod, container: Option<&str>, resource: &str) -> Result<i64, String> {
    let mut total = 0_i64;
    for candidate in pod.containers.iter().filter(|c| container.is_none_or(|name| name == c.name)) {
        let request = candidate.requests.get(resource).ok_or_else(|| {
            format!("missing request for {resource} in container {} of Pod {}", candidate.name, pod.name)
        })?;
        total = total.wrapping_add(*request);
        if container.is_some() {
            return Ok(total);
        }
    }
    match container {
        Some(name) => Err(format!("container {name} not found in Pod {}", pod.name)),
        None => Ok(total),
    }
}

/// How many pods are Running and Ready, terminating ones included (`getReadyPodsCount`).
pub(super) fn ready_count(pods: &[Pod]) -> Result<i64, String> {
    if pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica \
                    count"
                .to_owned(),
        );
    }
    Ok(pods.iter().filter(|pod| pod.is_ready()).count() as i64)
}
