//! From each metric of the specification to its proposal, and from the proposals to one count
//! (`computeReplicasForMetrics` of `horizontal.go`).

use std::collections::BTreeMap;

use super::{
    calculator::{Fleet, PodTarget, Proposal, sum_of_series},
    observation::{MetricAnswer, PodSample},
    reason::{HpaReason, Observed},
    spec::{LabelSelector, MetricSourceType, MetricSpec, MetricTarget, MetricTargetType},
};

/// What all metrics together ask for.
pub(super) struct Evaluated {
    /// The largest proposal and the metric behind it, or why there is none.
    pub(super) wish: Result<(i32, String), Unusable>,
    pub(super) observed: Vec<Option<Observed>>,
}

/// No metric is usable, or some are not and the others would shrink the fleet.
pub(super) struct Unusable {
    /// The condition's reason for the first failing metric.
    pub(super) reason: &'static str,
    /// The condition's message for it.
    pub(super) message: String,
}

struct Failure {
    reason: &'static str,
    error: String,
}

/// Evaluates every metric, pushing a reason for each.
pub(super) fn evaluate(
    fleet: &Fleet<'_>,
    specs: &[MetricSpec],
    answers: &[MetricAnswer],
    steps: &mut Vec<HpaReason>,
) -> Evaluated {
    let mut observed = Vec::with_capacity(specs.len());
    let mut largest = (0, String::new());
    let mut first_failure = None;
    let mut failed = 0;
    for (index, spec) in specs.iter().enumerate() {
        let metric = describe(spec);
        match evaluate_one(fleet, spec, answers.get(index)) {
            Ok((proposal, seen)) => {
                observed.push(Some(seen));
                // The first proposal always counts, and so does any after a proposal of 0.
                if largest.0 == 0 || proposal.replicas > largest.0 {
                    largest = (proposal.replicas, metric.clone());
                }
                steps.push(HpaReason::Proposal {
                    index,
                    metric,
                    arithmetic: proposal.arithmetic,
                    replicas: proposal.replicas,
                });
            }
            Err(failure) => {
                observed.push(None);
                failed += 1;
                steps.push(HpaReason::MetricFailed {
                    index,
                    metric,
                    reason: failure.reason.to_owned(),
                    error: failure.error.clone(),
                });
                first_failure.get_or_insert(failure);
            }
        }
    }
    let wish = match first_failure {
        Some(failure) if failed >= specs.len() || largest.0 < fleet.spec_replicas => {
            steps.push(HpaReason::MetricsUnusable { failed, of: specs.len(), rest: largest.0 });
            Err(Unusable {
                reason: failure.reason,
                message: format!("the HPA was unable to compute the replica count: {}", failure.error),
            })
        }
        _ => {
            steps.push(HpaReason::LargestProposal { replicas: largest.0, metric: largest.1.clone() });
            Ok(largest)
        }
    };
    Evaluated { wish, observed }
}

fn evaluate_one(
    fleet: &Fleet<'_>,
    spec: &MetricSpec,
    answer: Option<&MetricAnswer>,
) -> Result<(Proposal, Observed), Failure> {
    let reason = match spec.r#type {
        MetricSourceType::Object => "FailedGetObjectMetric",
        MetricSourceType::Pods => "FailedGetPodsMetric",
        MetricSourceType::Resource => "FailedGetResourceMetric",
        MetricSourceType::ContainerResource => "FailedGetContainerResourceMetric",
        MetricSourceType::External => "FailedGetExternalMetric",
    };
    let answer = match answer {
        Some(MetricAnswer::Failed(error)) => Err(error.clone()),
        Some(answer) => Ok(answer),
        None => Err("no answer to the metric's query".to_owned()),
    };
    propose(fleet, spec, answer).map_err(|error| Failure { reason, error })
}

fn propose(
    fleet: &Fleet<'_>,
    spec: &MetricSpec,
    answer: Result<&MetricAnswer, String>,
) -> Result<(Proposal, Observed), String> {
    let unset =
        |source: &str| format!("invalid {source} metric source: the specification's field is not set");
    match spec.r#type {
        MetricSourceType::Object => {
            let object = spec.object.as_ref().ok_or_else(|| unset("object"))?;
            let (name, described) = (&object.metric.name, &object.described_object);
            let prefix = format!("unable to get metric {name} on {} {}", described.kind, described.name);
            let value = || one_value(answer).map_err(|error| format!("{prefix}: {error}"));
            // The only source where the target's type is looked at.
            match (object.target.r#type, object.target.value, object.target.average_value) {
                (MetricTargetType::Value, Some(target), _) => {
                    Ok(as_value(fleet.total(value()?, target.milli_value())?))
                }
                (MetricTargetType::AverageValue, _, Some(target)) => {
                    Ok(as_average(fleet.total_per_replica(value()?, target.milli_value())))
                }
                _ => Err("invalid object metric source: neither a value target nor an average value target \
                          was set"
                    .to_owned()),
            }
        }
        MetricSourceType::Pods => {
            let pods = spec.pods.as_ref().ok_or_else(|| unset("pods"))?;
            let target = pods
                .target
                .average_value
                .ok_or_else(|| "invalid pods metric source: no average value target was set".to_owned())?;
            let samples = per_pod(answer, "custom metrics API")
                .map_err(|error| format!("unable to get metric {}: {error}", pods.metric.name))?;
            fleet.per_pod(samples, None, PodTarget::Average(target.milli_value())).map(as_average)
        }
        MetricSourceType::Resource => {
            let resource = spec.resource.as_ref().ok_or_else(|| unset("resource"))?;
            propose_resource(fleet, answer, &resource.name, None, &resource.target)
        }
        MetricSourceType::ContainerResource => {
            let source = spec.container_resource.as_ref().ok_or_else(|| unset("container resource"))?;
            propose_resource(fleet, answer, &source.name, Some(&source.container), &source.target)
        }
        MetricSourceType::External => {
            let external = spec.external.as_ref().ok_or_else(|| unset("external"))?;
            let series = || {
                series(answer).map_err(|error| {
                    format!("unable to get external metric {}: {error}", external.metric.name)
                })
            };
            match (external.target.average_value, external.target.value) {
                (Some(target), _) => {
                    Ok(as_average(fleet.series_per_replica(series()?, target.milli_value())))
                }
                (None, Some(target)) => {
                    Ok(as_value(fleet.total(sum_of_series(series()?), target.milli_value())?))
                }
                (None, None) => Err("invalid external metric source: neither a value target nor an average \
                                     value target was set"
                    .to_owned()),
            }
        }
    }
}

fn propose_resource(
    fleet: &Fleet<'_>,
    answer: Result<&MetricAnswer, String>,
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
) -> Result<(Proposal, Observed), String> {
    let samples = per_pod(answer, "resource metrics API")
        .map_err(|error| format!("unable to get metrics for resource {resource}: {error}"));
    if let Some(target) = target.average_value {
        let proposal = samples
            .and_then(|samples| {
                fleet.per_pod(samples, Some(resource), PodTarget::Average(target.milli_value()))
            })
            .map_err(|error| format!("failed to get {resource} usage: {error}"))?;
        return Ok(as_average(proposal));
    }
    let percent = target.average_utilization.ok_or_else(|| {
        "invalid resource metric source: neither an average utilization target nor an average value (usage) \
         target was set"
            .to_owned()
    })?;
    let proposal = samples
        .and_then(|samples| {
            let target = PodTarget::Utilization { percent, container, resource };
            fleet.per_pod(samples, Some(resource), target)
        })
        .map_err(|error| format!("failed to get {resource} utilization: {error}"))?;
    let seen = Observed::Utilization {
        percent: proposal.utilization.unwrap_or_default(),
        average_milli: proposal.usage,
    };
    Ok((proposal, seen))
}

fn as_value(proposal: Proposal) -> (Proposal, Observed) {
    let seen = Observed::Value { milli: proposal.usage };
    (proposal, seen)
}

fn as_average(proposal: Proposal) -> (Proposal, Observed) {
    let seen = Observed::Average { milli: proposal.usage };
    (proposal, seen)
}

fn per_pod<'a>(
    answer: Result<&'a MetricAnswer, String>,
    api: &str,
) -> Result<&'a BTreeMap<String, PodSample>, String> {
    match answer? {
        MetricAnswer::PerPod(samples) if samples.is_empty() => Err(format!("no metrics returned from {api}")),
        MetricAnswer::PerPod(samples) => Ok(samples),
        MetricAnswer::Failed(error) => Err(error.clone()),
        MetricAnswer::Value(_) | MetricAnswer::Series(_) => Err(format!("the {api} gave no values per pod")),
    }
}

fn one_value(answer: Result<&MetricAnswer, String>) -> Result<i64, String> {
    match answer? {
        MetricAnswer::Value(value) => Ok(*value),
        MetricAnswer::Failed(error) => Err(error.clone()),
        MetricAnswer::PerPod(_) | MetricAnswer::Series(_) => {
            Err("the custom metrics API gave more than the object's value".to_owned())
        }
    }
}

fn series(answer: Result<&MetricAnswer, String>) -> Result<&[i64], String> {
    match answer? {
        MetricAnswer::Series(series) if series.is_empty() => {
            Err("no metrics returned from external metrics API".to_owned())
        }
        MetricAnswer::Series(series) => Ok(series),
        MetricAnswer::Failed(error) => Err(error.clone()),
        MetricAnswer::PerPod(_) | MetricAnswer::Value(_) => {
            Err("the external metrics API gave no series".to_owned())
        }
    }
}

/// A metric in the controller's words.
fn describe(spec: &MetricSpec) -> String {
    let with_selector = |name: &str, selector: &Option<LabelSelector>| match selector {
        Some(selector) if !selector.match_labels.is_empty() => {
            let labels: Vec<String> =
                selector.match_labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            format!("external metric {name}({})", labels.join(","))
        }
        _ => format!("external metric {name}"),
    };
    let unset = || format!("{:?} metric", spec.r#type);
    match spec.r#type {
        MetricSourceType::Object => spec.object.as_ref().map_or_else(unset, |object| {
            format!("{} metric {}", object.described_object.kind, object.metric.name)
        }),
        MetricSourceType::Pods => {
            spec.pods.as_ref().map_or_else(unset, |pods| format!("pods metric {}", pods.metric.name))
        }
        MetricSourceType::Resource => spec
            .resource
            .as_ref()
            .map_or_else(unset, |resource| resource_name(&resource.name, "resource", &resource.target)),
        MetricSourceType::ContainerResource => spec
            .container_resource
            .as_ref()
            .map_or_else(unset, |source| resource_name(&source.name, "container resource", &source.target)),
        MetricSourceType::External => spec
            .external
            .as_ref()
            .map_or_else(unset, |external| with_selector(&external.metric.name, &external.metric.selector)),
    }
}

fn resource_name(name: &str, kind: &str, target: &MetricTarget) -> String {
    if target.average_value.is_some() {
        format!("{name} resource")
    } else {
        format!("{name} {kind} utilization (percentage of request)")
    }
}
