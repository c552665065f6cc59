//! Knative's autoscaling: the annotations of a revision, here as fields in camelCase.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::KpaPolicy;

use super::keda::texts;
use crate::{cursor::Cursor, quantity};

const GROUP: &str = "autoscaling.knative.dev/";

/// A field, the annotation that it is, and what it may be.
const FIELDS: [(&str, &str, Kind); 12] = [
    ("metric", "metric", Kind::Word(&["concurrency", "rps"])),
    ("target", "target", Kind::Number(0.01, f64::INFINITY)),
    ("targetUtilizationPercentage", "target-utilization-percentage", Kind::Number(1.0, 100.0)),
    ("window", "window", Kind::Seconds(6, 3600)),
    ("panicWindowPercentage", "panic-window-percentage", Kind::Number(1.0, 100.0)),
    ("panicThresholdPercentage", "panic-threshold-percentage", Kind::Number(110.0, 1000.0)),
    ("scaleDownDelay", "scale-down-delay", Kind::Seconds(0, 3600)),
    ("targetBurstCapacity", "target-burst-capacity", Kind::Number(-1.0, f64::INFINITY)),
    ("activationScale", "activation-scale", Kind::Whole),
    ("initialScale", "initial-scale", Kind::Whole),
    ("scaleToZeroPodRetentionPeriod", "scale-to-zero-pod-retention-period", Kind::Seconds(0, 3600)),
    (
        "metricAggregationAlgorithm",
        "metric-aggregation-algorithm",
        Kind::Word(&["linear", "weighted-exponential"]),
    ),
];

/// What Knative takes as an annotation's value (`ValidateAnnotations` of Serving 0.51).
#[derive(Clone, Copy)]
enum Kind {
    Word(&'static [&'static str]),
    Number(f64, f64),
    /// Whole, at least 1.
    Whole,
    /// A duration of whole seconds.
    Seconds(u64, u64),
}

impl Kind {
    fn takes(self, text: &str) -> bool {
        match self {
            Kind::Word(words) => words.contains(&text),
            Kind::Number(min, max) => text.parse::<f64>().is_ok_and(|value| value >= min && value <= max),
            Kind::Whole => text.parse::<i32>().is_ok_and(|value| value >= 1),
            Kind::Seconds(min, max) => quantity::duration(text).is_ok_and(|span| {
                span.subsec_nanos() == 0
                    && span >= Duration::from_secs(min)
                    && span <= Duration::from_secs(max)
            }),
        }
    }

    fn wanted(self) -> String {
        match self {
            Kind::Word(words) => format!("one of {}", words.join(", ")),
            Kind::Number(min, max) if max.is_finite() => format!("a number from {min} to {max}"),
            Kind::Number(min, _) => format!("a number of at least {min}"),
            Kind::Whole => "a whole number of at least 1".to_owned(),
            Kind::Seconds(min, max) => format!("a duration of whole seconds from {min}s to {max}s"),
        }
    }
}

/// `policy.kpa` of an `InferenceScaler`: a revision's annotations as fields, its `containerConcurrency`, and
/// the cluster's `config-autoscaler` as `config`.
pub(crate) fn kpa(at: &Cursor<'_>) -> Option<KpaPolicy> {
    let fields = at.fields()?;
    let mut annotations = BTreeMap::new();
    for (field, name, kind) in FIELDS {
        let Some(at) = fields.get(field) else { continue };
        if let Some(text) = at.node.text().filter(|text| kind.takes(text)) {
            annotations.insert(format!("{GROUP}{name}"), text.to_owned());
        } else {
            at.wanted(kind.wanted());
        }
    }
    let concurrency = fields.get("containerConcurrency").map(|at| at.whole(0, 1000));
    let config = fields.get("config");
    let data = config.as_ref().map_or(Some(BTreeMap::new()), texts);
    fields.finish();
    let policy = KpaPolicy::new(annotations, data?, concurrency.unwrap_or(Some(0))?.into());
    policy.map_err(|error| config.unwrap_or(at.clone()).problem(error.to_string(), "what Knative takes")).ok()
}

/// The policy's fields, to be written.
pub(crate) fn kpa_line(policy: &KpaPolicy) -> BTreeMap<&'static str, serde_json::Value> {
    let mut line: BTreeMap<&'static str, serde_json::Value> = FIELDS
        .iter()
        .filter_map(|(field, name, _)| {
            let text = policy.annotations().get(&format!("{GROUP}{name}"))?;
            Some((*field, text.clone().into()))
        })
        .collect();
    line.insert("containerConcurrency", policy.container_concurrency().into());
    if !policy.config().is_empty() {
        line.insert("config", serde_json::json!(policy.config()));
    }
    line
}

/// Whether an annotation is one that `policy.kpa` has a field for, in either spelling.
pub(crate) fn is_kpa_annotation(key: &str) -> bool {
    let name = key.strip_prefix(GROUP);
    name.is_some_and(|name| FIELDS.iter().any(|(field, annotation, _)| name == *annotation || name == *field))
}

/// Checks the annotations of Knative's own manifests as its admission does.
pub(crate) fn check_annotations(at: &Cursor<'_>) {
    for entry in at.node.entries() {
        let Some(name) = entry.key.strip_prefix(GROUP) else { continue };
        // Both spellings are taken: `panic-window-percentage` and `panicWindowPercentage`.
        let known = FIELDS.iter().find(|(field, annotation, _)| name == *annotation || name == *field);
        if let Some((_, _, kind)) = known
            && !entry.value.text().is_some_and(|text| kind.takes(text))
        {
            Cursor::new(&entry.value, format!("{}.{}", at.path, entry.key), at.out).wanted(kind.wanted());
        }
    }
}
