//! From a file to its checked scalers.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use forewarm_core::{
    Behavior, Bounds, Cadence, ColdStartSpec, Environment, Mode, Pause, Policy, Replicas, ScalerId,
    ScalerSpec, Timestamp,
    calendar::{Floor, InvalidFloor},
    pool::{QueueLimits, Routing, Tenants},
};

use super::{
    API_VERSION, CheckedScaler, EngineSpec, KIND, NamedSignal, Objective, Target, policy, queue, routing,
    signal, target,
};
use crate::{
    cursor::{Cursor, Fields, join},
    problem::{Collector, Problems},
    yaml::{self, Entry, Node},
};

/// The most replicas of one scaler: above any single target, and small enough that a slip of the hand
/// (`max: 80000`) is caught.
pub(crate) const MAX_REPLICAS: u32 = 10_000;
/// A thousand times another's share: what is above it is a slip of the hand.
const MAX_WEIGHT: u32 = 1_000;

/// Every `InferenceScaler` of a file, which may hold several documents.
///
/// # Errors
/// Every problem of the file at once: text that is no YAML, documents of another kind, unknown fields,
/// values that are not allowed, two scalers of one name or for one model, or no scaler at all.
pub fn read_scalers(file_name: &str, text: &str) -> Result<Vec<CheckedScaler>, Problems> {
    let documents = yaml::parse(text).map_err(|error| Problems::of_yaml(file_name, error))?;
    let out = Collector::default();
    let listed = documents.iter().flat_map(|document| listed(document, String::new()));
    let read: Vec<_> = listed.map(|(document, path)| (document, read_one(document, &path, &out))).collect();
    if read.is_empty() {
        out.add("", yaml::Span::default(), "no document", format!("one or more of kind {KIND}"));
    }
    check_together(&read, &out);
    out.finish(file_name, read.into_iter().filter_map(|(_, scaler)| scaler).collect())
}

/// What no document can tell alone.
fn check_together(read: &[(&Node, Option<CheckedScaler>)], out: &Collector) {
    let mut names = BTreeMap::new();
    let mut models = BTreeMap::new();
    for (document, scaler) in read.iter().filter_map(|(document, scaler)| Some((document, scaler.as_ref()?)))
    {
        let name = scaler.spec.scaler.as_str();
        if names.insert(name, ()).is_some() {
            let at = document.at(&["metadata", "name"]).unwrap_or(document);
            out.add("metadata.name", at.span, format!("{name}, the name of a scaler above"), "another name");
        }
        if !scaler.takes_requests() {
            continue;
        }
        let all = vec!["(every model)".to_owned()];
        let own = if scaler.models.is_empty() { &all } else { &scaler.models };
        for model in own.iter().chain(scaler.routing.aliases.keys()) {
            if let Some(other) = models.insert(model.clone(), name) {
                let field = if scaler.routing.aliases.contains_key(model) { "aliases" } else { "models" };
                let at = document.at(&["spec", field]).unwrap_or(document);
                let found = format!("{model}, which goes to `{other}` already");
                out.add(&format!("spec.{field}"), at.span, found, "each model at one scaler");
            }
        }
    }
}

/// A document, or the items of a `List` with their paths, as `kubectl get` writes several.
fn listed(document: &Node, path: String) -> Vec<(&Node, String)> {
    match document.get("kind").and_then(Node::text) {
        Some("List") => {
            let items = document.get("items").map(Node::items).unwrap_or_default();
            let item = |(index, item)| listed(item, join(&path, format!("items[{index}]")));
            items.iter().enumerate().flat_map(item).collect()
        }
        Some(_) | None => vec![(document, path)],
    }
}

/// The scaler of one document, or of the item of a list at `path`.
pub(crate) fn read_one(document: &Node, path: &str, out: &Collector) -> Option<CheckedScaler> {
    let fields = Cursor::new(document, path, out).fields()?;
    let version = fields.require("apiVersion", API_VERSION);
    if let Some(version) = version.filter(|version| version.node.text() != Some(API_VERSION)) {
        version.wanted(API_VERSION);
    }
    let kind = fields.require("kind", KIND);
    if let Some(kind) = kind.filter(|kind| kind.node.text() != Some(KIND)) {
        kind.wanted(KIND);
        // Its fields are another schema's: to list each as unknown would bury the cause.
        return None;
    }
    let metadata = fields.require("metadata", "a mapping with a name").and_then(|at| metadata(&at));
    let spec = fields.require("spec", "the scaler's specification");
    // Written by the controller into the same object; not for reading.
    let _status = fields.get("status");
    fields.finish();
    spec.and_then(|spec| Spec::read(&spec))?.into_scaler(metadata?)
}

struct Metadata {
    name: String,
    namespace: Option<String>,
}

fn metadata(at: &Cursor<'_>) -> Option<Metadata> {
    let fields = at.fields()?;
    let name = fields.require("name", "the scaler's name");
    let namespace = fields.get("namespace").map(|namespace| namespace.text());
    // An API server adds more (uid, resourceVersion…), all of which may be in a file that was read back.
    Some(Metadata { name: name.and_then(|name| dns_label(&name))?, namespace: namespace.unwrap_or(None) })
}

/// A name as Kubernetes takes it for objects (RFC 1123 subdomain), so that every scaler can become one.
fn dns_label(at: &Cursor<'_>) -> Option<String> {
    let name = at.text()?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() <= 253 && name.chars().all(inner) && edge(name.chars().next()) && edge(name.chars().last())
    {
        return Some(name);
    }
    at.wanted("a name of lower-case letters, digits, `-` and `.`, at most 253 long");
    None
}

/// The fields of `spec`; what is wrong is `None`.
struct Spec {
    target: Option<Target>,
    engine: EngineSpec,
    models: Vec<String>,
    environment: Option<Environment>,
    replicas: Option<Bounds>,
    allow_scale_to_zero: Option<bool>,
    objective: Option<Option<Objective>>,
    cold_start: Option<ColdStartSpec>,
    policy: Option<Policy>,
    behavior: Option<Behavior>,
    signals: Vec<NamedSignal>,
    floors: Option<Vec<Floor>>,
    queue: Option<QueueLimits>,
    routing: Option<Routing>,
    mode: Option<Mode>,
    pause: Option<Option<Pause>>,
    max_signal_age: Option<Duration>,
    drain_deadline: Option<Duration>,
    max_changes_per_minute: Option<u32>,
}

impl Spec {
    fn read(at: &Cursor<'_>) -> Option<Self> {
        let fields = at.fields()?;
        let environments = [
            ("production", Environment::Production),
            ("staging", Environment::Staging),
            ("dev", Environment::Dev),
            ("batch", Environment::Batch),
        ];
        let modes = [("Act", Mode::Act), ("Shadow", Mode::Shadow)];
        let cold_start = optional(&fields, "coldStart", ColdStartSpec::default(), cold_start);
        let held = cold_start.unwrap_or_default().deadline;
        let replicas =
            fields.require("replicas", "the bounds, such as {min: 1, max: 8}").and_then(|at| bounds(&at));
        let objective = optional(&fields, "objective", None, |at| self::objective(at).map(Some));
        let policy = fields
            .require("policy", "how replicas are computed")
            .and_then(|at| policy::read(&at, replicas, objective));
        let default = policy.as_ref().map_or_else(Behavior::default, Policy::default_behavior);
        let models = fields.get("models").map(|models| models.texts()).unwrap_or_default();
        let spec = Self {
            target: fields.require("target", "what is scaled").and_then(|at| {
                let is_sent_requests = !matches!(policy, Some(Policy::Queue(_)));
                target::read(&at, is_sent_requests)
            }),
            engine: EngineSpec::read(fields.get("engine").as_ref()),
            routing: routing::read(&fields, &models),
            models,
            environment: optional(&fields, "environment", Environment::default(), |at| {
                at.one_of(&environments)
            }),
            replicas,
            allow_scale_to_zero: optional(&fields, "allowScaleToZero", false, Cursor::bool),
            objective,
            cold_start,
            policy,
            behavior: optional(&fields, "behavior", default.clone(), |at| policy::behavior(at, &default)),
            signals: fields.get("signals").map(|at| signal::read(&at)).unwrap_or_default(),
            floors: optional(&fields, "floors", Vec::new(), |at| floors(at, replicas)),
            queue: optional(&fields, "queue", default_queue(held), |at| waiting_room(at, held)),
            mode: optional(&fields, "mode", Mode::Act, |at| at.one_of(&modes)),
            pause: optional(&fields, "pause", None, |at| pause(at).map(Some)),
            max_signal_age: optional(
                &fields,
                "maxSignalAge",
                ScalerSpec::DEFAULT_MAX_SIGNAL_AGE,
                Cursor::positive_duration,
            ),
            drain_deadline: optional(
                &fields,
                "drainDeadline",
                ScalerSpec::DEFAULT_DRAIN_DEADLINE,
                Cursor::positive_duration,
            ),
            max_changes_per_minute: optional(
                &fields,
                "maxChangesPerMinute",
                ScalerSpec::DEFAULT_MAX_CHANGES_PER_MINUTE,
                |at| at.whole(1, u32::MAX),
            ),
        };
        spec.check(&fields);
        fields.finish();
        Some(spec)
    }

    /// Rules about several fields.
    fn check(&self, fields: &Fields<'_>) {
        if let Some(Policy::Queue(policy)) = &self.policy {
            queue::check(policy, fields, &self.signals, self.drain_deadline);
        }
        if let (Some(bounds), Some(Environment::Production), Some(false)) =
            (self.replicas, self.environment, self.allow_scale_to_zero)
            && bounds.min == Replicas(0)
            && let Some(at) = fields.at.node.at(&["replicas", "min"])
        {
            fields.at.out.add(
                &fields.path_of("replicas.min"),
                at.span,
                "0 in production",
                "at least 1, or `allowScaleToZero: true`: from zero, every first request waits a cold start",
            );
        }
        if let (Some(Target::Processes(processes)), Some(bounds)) = (&self.target, self.replicas)
            && processes.port != 0
            && bounds.max > Replicas(1)
        {
            let at = fields.at.node.at(&["target", "processes", "port"]);
            fields.at.out.add(
                &fields.path_of("target.processes.port"),
                at.map_or(fields.span(), |at| at.span),
                format!("{} for up to {}", processes.port, bounds.max),
                format!("0, a free port for each, passed as `{}` and PORT", target::PORT),
            );
        }
    }

    fn into_scaler(self, metadata: Metadata) -> Option<CheckedScaler> {
        let objective = self.objective?;
        let ttft_objective = objective.map(|objective| objective.ttft);
        Some(CheckedScaler {
            namespace: metadata.namespace,
            spec: ScalerSpec {
                scaler: ScalerId::from(metadata.name),
                environment: self.environment?,
                replicas: self.replicas?,
                allow_scale_to_zero: self.allow_scale_to_zero?,
                policy: self.policy?,
                behavior: self.behavior?,
                cold_start: self.cold_start?,
                max_concurrency: self.engine.max_concurrency,
                max_signal_age: self.max_signal_age?,
                drain_deadline: self.drain_deadline?,
                max_changes_per_minute: self.max_changes_per_minute?,
                mode: self.mode?,
                pause: self.pause?,
                floors: self.floors?,
                cadence: Cadence::Own,
            },
            target: self.target?,
            engine: self.engine,
            models: self.models,
            queue: QueueLimits { ttft_objective, ..self.queue? },
            routing: self.routing?,
            signals: self.signals,
            objective,
        })
    }
}

/// The field's value, its default when it is absent, `None` when it is wrong.
fn optional<'a, T>(
    fields: &Fields<'a>,
    name: &'static str,
    default: T,
    read: impl FnOnce(&Cursor<'a>) -> Option<T>,
) -> Option<T> {
    match fields.get(name) {
        Some(at) => read(&at),
        None => Some(default),
    }
}

fn bounds(at: &Cursor<'_>) -> Option<Bounds> {
    let fields = at.fields()?;
    let min = fields.require("min", "the fewest replicas, kept at all times");
    let max = fields.require("max", "the most replicas");
    fields.finish();
    let min_value = min.and_then(|min| min.whole(0, MAX_REPLICAS));
    let max_value = max.as_ref().and_then(|max| max.whole(1, MAX_REPLICAS));
    let (min, max_value) = (min_value?, max_value?);
    let bounds = Bounds::new(min, max_value);
    if let (Err(_), Some(max)) = (&bounds, max) {
        max.wanted(format!("at least min, which is {min}"));
    }
    bounds.ok()
}

fn objective(at: &Cursor<'_>) -> Option<Objective> {
    let fields = at.fields()?;
    let ttft = fields
        .require("ttft", "the longest time to the first token, such as 2s")
        .and_then(|ttft| ttft.positive_duration());
    let percent =
        optional(&fields, "percent", Objective::DEFAULT_PERCENT, |percent| percent.number(0.0, 100.0));
    fields.finish();
    Some(Objective { ttft: ttft?, percent: percent? })
}

fn cold_start(at: &Cursor<'_>) -> Option<ColdStartSpec> {
    let fields = at.fields()?;
    let default = ColdStartSpec::default();
    let expected = optional(&fields, "expected", default.expected, Cursor::positive_duration);
    let deadline = fields.get("deadline");
    fields.finish();
    let expected = expected?;
    let Some(deadline_at) = deadline else {
        // A start that is expected to take long must not be given up before it can be done.
        return Some(ColdStartSpec { expected, deadline: default.deadline.max(expected.saturating_mul(2)) });
    };
    let deadline = deadline_at.positive_duration()?;
    if deadline < expected {
        deadline_at.wanted("at least `expected`, or every start is given up before it is done");
        return None;
    }
    Some(ColdStartSpec { expected, deadline })
}

fn default_queue(cold_start_deadline: Duration) -> QueueLimits {
    QueueLimits {
        max_requests: CheckedScaler::DEFAULT_QUEUE_REQUESTS,
        max_bytes: CheckedScaler::DEFAULT_QUEUE_BYTES,
        timeout: CheckedScaler::DEFAULT_QUEUE_TIMEOUT,
        cold_start_timeout: cold_start_deadline,
        ttft_objective: None,
        tenants: Tenants::default(),
    }
}

fn waiting_room(at: &Cursor<'_>, cold_start_deadline: Duration) -> Option<QueueLimits> {
    let fields = at.fields()?;
    let default = default_queue(cold_start_deadline);
    let max_requests = optional(&fields, "maxRequests", default.max_requests, |at| at.whole(1, u32::MAX));
    let max_bytes = optional(&fields, "maxBytes", default.max_bytes, Cursor::bytes);
    let timeout = optional(&fields, "timeout", default.timeout, Cursor::positive_duration);
    let cold_start_timeout =
        optional(&fields, "coldStartTimeout", default.cold_start_timeout, Cursor::positive_duration);
    let tenants = optional(&fields, "tenants", Tenants::default(), tenants);
    fields.finish();
    Some(QueueLimits {
        max_requests: max_requests?,
        max_bytes: max_bytes?,
        timeout: timeout?,
        cold_start_timeout: cold_start_timeout?,
        ttft_objective: None,
        tenants: tenants?,
    })
}

fn tenants(at: &Cursor<'_>) -> Option<Tenants> {
    let fields = at.fields()?;
    let header = optional(&fields, "header", None, |at| header_name(at).map(Some));
    let user = optional(&fields, "user", false, Cursor::bool);
    let weights = optional(&fields, "weights", BTreeMap::new(), |at| {
        at.fields()?;
        let entries = at.node.entries().iter();
        let weight = |entry: &Entry| {
            let cursor = Cursor::new(&entry.value, format!("{}.{}", at.path, entry.key), at.out);
            let weight = cursor.whole(1, MAX_WEIGHT).and_then(NonZeroU32::new)?;
            Some((entry.key.clone(), weight))
        };
        Some(entries.filter_map(weight).collect())
    });
    fields.finish();
    let tenants = Tenants { header: header?, user: user?, weights: weights? };
    if !tenants.weights.is_empty() && tenants.header.is_none() && !tenants.user {
        at.problem("`weights` of tenants that nothing names", "`header` or `user: true` as well");
        return None;
    }
    Some(tenants)
}

/// A header's name, in small letters as HTTP compares it.
fn header_name(at: &Cursor<'_>) -> Option<String> {
    let name = at.text()?;
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return Some(name.to_ascii_lowercase());
    }
    at.wanted("the name of a header, such as X-Tenant");
    None
}

fn floors(at: &Cursor<'_>, bounds: Option<Bounds>) -> Option<Vec<Floor>> {
    at.items().iter().map(|item| floor(item, bounds)).collect()
}

fn floor(at: &Cursor<'_>, bounds: Option<Bounds>) -> Option<Floor> {
    let fields = at.fields()?;
    let zone = fields.require("timezone", "a time zone, such as Europe/Berlin").and_then(|at| at.text());
    let start = fields.require("start", "when it begins, such as `0 8 * * 1-5`").and_then(|at| at.text());
    let end = fields.require("end", "when it ends, such as `0 18 * * 1-5`").and_then(|at| at.text());
    let replicas = fields.require("desiredReplicas", "the replicas that are kept");
    fields.finish();
    let replicas_at = replicas?;
    let text = replicas_at.node.text().and_then(|text| text.parse().ok());
    let max = bounds.map_or(MAX_REPLICAS, |bounds| bounds.max.0);
    let Some(count) = text.filter(|count| (1..=max).contains(count)) else {
        replicas_at.wanted(format!("a whole number from 1 to {max}, the most that are allowed"));
        return None;
    };
    Floor::new(&zone?, &start?, &end?, Replicas(count)).map_err(|error| refuse_floor(at, error)).ok()
}

/// Says what is wrong with a floor, at the field that it is wrong in.
pub(super) fn refuse_floor(at: &Cursor<'_>, error: InvalidFloor) {
    let (field, wanted) = match error {
        InvalidFloor::Timezone(_) => {
            ("timezone", "a time zone by its name, such as Europe/Berlin or UTC".to_owned())
        }
        InvalidFloor::Start(why) => ("start", format!("a cron expression: {why}")),
        InvalidFloor::End(why) => ("end", format!("a cron expression: {why}")),
        InvalidFloor::Empty => ("end", "another time than `start`".to_owned()),
    };
    at.problem_at(field, wanted);
}

fn pause(at: &Cursor<'_>) -> Option<Pause> {
    let fields = at.fields()?;
    let replicas = fields.require("replicas", "the number to hold").and_then(|n| n.whole(0, MAX_REPLICAS));
    let until = fields.require("until", "when it ends, such as 2026-12-01T00:00:00Z");
    fields.finish();
    let until = until?;
    let Some(moment) = until.node.text().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        until.wanted("a time as in RFC 3339, such as 2026-12-01T00:00:00Z");
        return None;
    };
    Some(Pause { replicas: Replicas(replicas?), until: Timestamp::from_millis(moment.as_millisecond()) })
}
