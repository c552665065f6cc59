//! Policy `keda`: a poll every 30 s decides between zero and one, the HPA that KEDA makes every 15 s the
//! rest. When both are due, the poll comes first, and a number that it writes is the last word of the moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    hpa::{self, count, existing, per_pod},
    signals::{Signals, Unread, milli},
};
use crate::{
    Bounds, Cadence, Phase, Reason, Replicas, Stage, Timestamp,
    calendar::Floor,
    peers::{
        hpa::{HpaSpec, HpaState, MetricAnswer, MetricSourceType, MetricSpec, MetricTarget},
        keda::{
            self, ExecutorObservation, ExecutorReason, ExecutorState, FallbackInput, FallbackState, Formula,
            ScaledObjectSpec, Served, Trigger,
        },
        kpa::parse_bool,
    },
    pipeline::Draft,
    policy::{HpaPolicy, KedaPolicy},
};

/// What KEDA and its HPA remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KedaMemory {
    created_at: Timestamp,
    poll_due: Timestamp,
    sync_due: Timestamp,
    executor: ExecutorState,
    fallback: FallbackState,
    hpa: HpaState,
}

impl KedaMemory {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            created_at: now,
            poll_due: now,
            sync_due: now,
            executor: ExecutorState::default(),
            fallback: FallbackState::default(),
            hpa: HpaState::default(),
        }
    }
}

/// A trigger's value now, by the trigger's place; `None` for CPU and memory, which are the HPA's business.
type Readings = Vec<Option<Result<f64, String>>>;

/// A poll, a reconcile, or both. Returns when the next is due.
pub(super) fn tick(
    draft: &mut Draft<'_>,
    policy: &KedaPolicy,
    memory: &mut KedaMemory,
    signals: &mut Signals<'_>,
) -> Timestamp {
    if policy.annotations.paused() {
        // A paused object has no HPA either.
        draft.step(Stage::Propose, Reason::Keda { keda: ExecutorReason::Paused });
        return draft.now + HpaPolicy::SYNC_PERIOD;
    }
    let object = within(&policy.object, draft.spec.replicas);
    let generated = match keda::generated_hpa(draft.spec.scaler.as_str(), &object, &policy.annotations) {
        Ok(generated) => generated,
        Err(error) => {
            draft.step(Stage::Propose, Reason::PolicyUnusable { why: error.to_string() });
            return draft.now + HpaPolicy::SYNC_PERIOD;
        }
    };
    let readings = read(draft, &object, &generated, signals);
    let every = draft.spec.cadence == Cadence::EveryObservation;
    let mut wrote = false;
    if every || super::is_due(draft.now, memory.poll_due, policy.polling_interval()) {
        memory.poll_due = draft.now + policy.polling_interval();
        wrote = poll(draft, policy, &object, memory, &readings);
    }
    if every || super::is_due(draft.now, memory.sync_due, HpaPolicy::SYNC_PERIOD) {
        memory.sync_due = draft.now + HpaPolicy::SYNC_PERIOD;
        if !wrote {
            let answers = answers(draft, &object, &generated, memory, &readings, signals);
            hpa::reconcile(draft, &generated, &policy.controller, &mut memory.hpa, answers);
        }
    }
    memory.poll_due.min(memory.sync_due)
}

/// The object with the scaler's bounds.
fn within(object: &ScaledObjectSpec, bounds: Bounds) -> ScaledObjectSpec {
    let (min, max) = (count(bounds.min.0), count(bounds.max.0));
    let own = object.min_replica_count.unwrap_or(min);
    ScaledObjectSpec {
        min_replica_count: Some(own.clamp(min, max)),
        max_replica_count: Some(max),
        ..object.clone()
    }
}

/// Reads every trigger, and says what is wrong with those that cannot be read.
fn read(
    draft: &mut Draft<'_>,
    object: &ScaledObjectSpec,
    generated: &HpaSpec,
    signals: &mut Signals<'_>,
) -> Readings {
    let mut readings = Vec::with_capacity(object.triggers.len());
    for (index, trigger) in object.triggers.iter().enumerate() {
        if is_resource(trigger) {
            readings.push(None);
            continue;
        }
        let metric = generated.metrics.iter().find_map(|metric| name_of(metric, index));
        let read = match value(signals, trigger, metric) {
            Err(_) if trigger.r#type == "cron" => by_the_clock(trigger, draft.now).map_err(Unread::Failed),
            read => read,
        };
        let reading = match read {
            Ok(value) => Ok(value),
            Err(Unread::Absent(_)) if reads_nothing_as_zero(trigger) => {
                draft.step(Stage::Propose, Reason::TriggerReadAsZero { trigger: title(trigger, index) });
                Ok(0.0)
            }
            Err(unread) => {
                let error = unread.into_text();
                let trigger = title(trigger, index);
                draft.step(Stage::Propose, Reason::TriggerFailed { trigger, error: error.clone() });
                Err(error)
            }
        };
        readings.push(Some(reading));
    }
    readings
}

/// The replicas of a schedule while it holds; 0 while it does not, as a schedule that is off is not active.
fn by_the_clock(trigger: &Trigger, now: Timestamp) -> Result<f64, String> {
    let setting = |key: &str| trigger.metadata.get(key).map_or("", String::as_str);
    let replicas = setting("desiredReplicas");
    let replicas: u32 = replicas
        .parse()
        .map_err(|_| format!("`desiredReplicas` is {replicas:?}, and must be a whole number"))?;
    let floor = Floor::new(setting("timezone"), setting("start"), setting("end"), Replicas(replicas));
    let holds = floor.map_err(|error| error.to_string())?.holds(now);
    Ok(if holds.is_some_and(|holds| holds.now) { f64::from(replicas) } else { 0.0 })
}

fn is_resource(trigger: &Trigger) -> bool {
    matches!(trigger.r#type.as_str(), "cpu" | "memory")
}

/// The metric of a trigger: KEDA numbers them.
fn name_of(metric: &MetricSpec, index: usize) -> Option<&str> {
    let name = metric.external.as_ref()?.metric.name.as_str();
    let number = name.strip_prefix('s')?.split_once('-')?.0;
    (number.parse() == Ok(index)).then_some(name)
}

/// A trigger for people.
fn title(trigger: &Trigger, index: usize) -> String {
    trigger.name.clone().unwrap_or_else(|| format!("s{index}-{}", trigger.r#type))
}

/// A signal of the trigger's name, its query or its metric; else what its query asks for.
fn value(signals: &mut Signals<'_>, trigger: &Trigger, metric: Option<&str>) -> Result<f64, Unread> {
    let setting = |key: &str| trigger.metadata.get(key).map(String::as_str);
    let query = if trigger.r#type == "prometheus" { setting("query") } else { None };
    let names = [trigger.name.as_deref(), query, metric, setting("metricName")];
    if let Some(read) = names.into_iter().flatten().find_map(|name| signals.named_total(name)) {
        return read;
    }
    match query {
        Some(query) => signals.query(query),
        None => {
            let name = trigger.name.as_deref().or(metric).unwrap_or(&trigger.r#type);
            signals.total(name)
        }
    }
}

/// `ignoreNullValues` of Prometheus triggers, which is on by default.
fn reads_nothing_as_zero(trigger: &Trigger) -> bool {
    let setting = trigger.metadata.get("ignoreNullValues").and_then(|text| parse_bool(text));
    trigger.r#type == "prometheus" && setting.unwrap_or(true)
}

/// Above this a trigger is active; 0 when it does not say.
fn activation(trigger: &Trigger) -> f64 {
    let key = match trigger.r#type.as_str() {
        "prometheus" => "activationThreshold",
        "kafka" | "apache-kafka" => "activationLagThreshold",
        "rabbitmq" => "activationValue",
        "aws-sqs-queue" => "activationQueueLength",
        "aws-cloudwatch" => "activationTargetMetricValue",
        "metrics-api" => "activationTargetValue",
        "redis" => "activationListLength",
        _ => return 0.0,
    };
    trigger.metadata.get(key).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// The loop between zero and one. Returns whether it wrote a number.
fn poll(
    draft: &mut Draft<'_>,
    policy: &KedaPolicy,
    object: &ScaledObjectSpec,
    memory: &mut KedaMemory,
    readings: &Readings,
) -> bool {
    let is_error = readings.iter().flatten().any(Result::is_err);
    let is_active = match object.modifiers() {
        // The formula alone counts, and only when nothing failed.
        Some(modifiers) => {
            let threshold = modifiers.activation_target.parse().unwrap_or(0.0);
            !is_error
                && composite(object, &named(object, readings))
                    .is_ok_and(|milli| milli as f64 / 1000.0 > threshold)
        }
        None => object
            .triggers
            .iter()
            .zip(readings)
            .any(|(trigger, reading)| matches!(reading, Some(Ok(value)) if *value > activation(trigger))),
    };
    let seen = ExecutorObservation {
        now: draft.now,
        created_at: memory.created_at,
        replicas: Ok(count(draft.current)),
        is_active,
        is_error,
    };
    let plan = keda::plan(object, &policy.annotations, &mut memory.executor, &seen);
    let outcome = keda::settle(&mut memory.executor, plan, Ok(()));
    let to = outcome.scale_to.unwrap_or(count(draft.current));
    for keda in outcome.steps {
        // What leaves the number to others is not where it comes from.
        let stage = match keda {
            ExecutorReason::Activated { .. }
            | ExecutorReason::Deactivated { .. }
            | ExecutorReason::RaisedToMin { .. }
            | ExecutorReason::CoolingDown { .. } => Stage::Propose,
            ExecutorReason::ReplicasUnknown { .. }
            | ExecutorReason::Paused
            | ExecutorReason::ScaleOutPaused
            | ExecutorReason::LeftToHpa { .. }
            | ExecutorReason::PartialError
            | ExecutorReason::WaitsForFallback
            | ExecutorReason::TriggersFailed
            | ExecutorReason::ScaleInPaused
            | ExecutorReason::Inactive
            | ExecutorReason::UpdateFailed { .. } => Stage::Combine,
        };
        draft.set(stage, super::replicas(to), Reason::Keda { keda });
    }
    outcome.scale_to.is_some()
}

/// What KEDA's metrics server tells the HPA.
fn answers(
    draft: &mut Draft<'_>,
    object: &ScaledObjectSpec,
    generated: &HpaSpec,
    memory: &mut KedaMemory,
    readings: &Readings,
    signals: &Signals<'_>,
) -> Vec<MetricAnswer> {
    let mut answers = Vec::with_capacity(generated.metrics.len());
    for metric in &generated.metrics {
        let answer = match (metric.r#type, &metric.external) {
            (MetricSourceType::External, Some(external)) if object.modifiers().is_some() => {
                composite_answer(draft, object, &external.target, memory, readings)
            }
            (MetricSourceType::External, Some(external)) => {
                let index = (0..readings.len()).find(|index| name_of(metric, *index).is_some());
                let reading = index.and_then(|index| readings[index].clone());
                let reading = reading.unwrap_or_else(|| Err("no such trigger".to_owned()));
                let name = &external.metric.name;
                match serve(draft, object, memory, name, &external.target, reading.map(milli)) {
                    Served::Value(value) | Served::Fallback(value) => MetricAnswer::Series(vec![value]),
                    Served::Nothing => MetricAnswer::Series(Vec::new()),
                    Served::Error(error) => MetricAnswer::Failed(error),
                }
            }
            _ => {
                let resource = metric.resource.as_ref().map(|resource| &resource.name);
                let container = metric.container_resource.as_ref().map(|source| &source.name);
                let name = resource.or(container).map_or("cpu", String::as_str);
                per_pod(signals, name, draft.now)
            }
        };
        answers.push(answer);
    }
    answers
}

/// One query through the fallback, which says so when it answers instead.
fn serve(
    draft: &mut Draft<'_>,
    object: &ScaledObjectSpec,
    memory: &mut KedaMemory,
    metric: &str,
    target: &MetricTarget,
    reading: Result<i64, String>,
) -> Served {
    let ready_pods = Some(count(draft.observation.count(Phase::Ready)));
    let replicas = Some(existing(draft.observation));
    let input = FallbackInput { metric, target, reading, replicas, ready_pods };
    let served = keda::serve(object, &mut memory.fallback, &input);
    if let Served::Fallback(_) = served {
        draft.step(Stage::Propose, Reason::FallbackServed { metric: metric.to_owned() });
    }
    served
}

/// The formula's metric.
fn composite_answer(
    draft: &mut Draft<'_>,
    object: &ScaledObjectSpec,
    target: &MetricTarget,
    memory: &mut KedaMemory,
    readings: &Readings,
) -> MetricAnswer {
    let mut values = BTreeMap::new();
    for (index, (trigger, reading)) in object.triggers.iter().zip(readings).enumerate() {
        let Some(reading) = reading else { continue };
        let metric = title(trigger, index);
        match serve(draft, object, memory, &metric, target, reading.clone().map(milli)) {
            Served::Value(value) => {
                values.extend(trigger.name.clone().map(|name| (name, Some(value as f64 / 1000.0))));
            }
            // It is the formula's result already.
            Served::Fallback(value) => return MetricAnswer::Series(vec![value]),
            Served::Nothing => values.extend(trigger.name.clone().map(|name| (name, None))),
            Served::Error(error) => return MetricAnswer::Failed(error),
        }
    }
    composite(object, &values).map_or_else(MetricAnswer::Failed, |value| MetricAnswer::Series(vec![value]))
}

/// The triggers' values by name.
fn named(object: &ScaledObjectSpec, readings: &Readings) -> BTreeMap<String, Option<f64>> {
    let value = |reading: &Option<Result<f64, String>>| reading.as_ref().and_then(|read| read.clone().ok());
    object
        .triggers
        .iter()
        .zip(readings)
        .filter_map(|(trigger, reading)| Some((trigger.name.clone()?, value(reading))))
        .collect()
}

fn composite(object: &ScaledObjectSpec, values: &BTreeMap<String, Option<f64>>) -> Result<i64, String> {
    let source = object.modifiers().map_or("", |modifiers| modifiers.formula.as_str());
    Formula::parse(source)
        .and_then(|formula| keda::composite_value(object, &formula, values))
        .map_err(|error| error.to_string())
}
