//! The metrics of `/metrics`: a closed set, named by Prometheus conventions, in base units.
//!
//! Numbers that a view has are read from the views at the scrape, so that both always agree; a number that
//! is not known has no sample. Only events (decisions, durations) are counted here.

use std::fmt;

use forewarm_core::{Decision, Phase, Replicas};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::sync::Arc;

use crate::{
    Dashboard,
    view::{ScalerView, SignalView},
};

/// Seconds; from an engine that wakes up to one that compiles on a node that has to be found first.
const COLD_START_BUCKETS: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, 900.0, 1800.0];
/// Seconds; from an evaluation in memory to one that waits for a slow disk or fleet.
const EVALUATION_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];
/// Signals exported per scaler: bounds label values.
const MAX_SIGNALS: usize = 64;

/// The handle that counts and the registry that is scraped. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    decisions: Family<DecisionLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    cold_starts: Family<ScalerLabels, Histogram, fn() -> Histogram>,
    evaluations: Family<ScalerLabels, Histogram, fn() -> Histogram>,
    beside: Option<Beside>,
}

/// Metrics of another part of the process, in the Prometheus text format 0.0.4, asked for at each scrape.
#[derive(Clone)]
struct Beside(Arc<dyn Fn() -> String + Send + Sync>);

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScalerLabels {
    scaler: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    scaler: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    scaler: String,
    direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Which way a target changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// More replicas.
    #[expect(non_camel_case_types, reason = "the derive takes the name as the label's value")]
    up,
    /// Fewer.
    #[expect(non_camel_case_types, reason = "the derive takes the name as the label's value")]
    down,
}

impl Metrics {
    /// Metrics over what `dashboard` shows.
    pub fn new(dashboard: Dashboard) -> Self {
        let mut registry = Registry::default();
        let decisions = Family::<DecisionLabels, Counter>::default();
        registry.register(
            "forewarm_decisions",
            "Decisions that changed or did something, by the reason that asked for it",
            decisions.clone(),
        );
        let changes = Family::<ChangeLabels, Counter>::default();
        registry.register("forewarm_scale_changes", "Changes of the target", changes.clone());
        let histogram: fn() -> Histogram = || Histogram::new(COLD_START_BUCKETS);
        let cold_starts = Family::new_with_constructor(histogram);
        registry.register(
            "forewarm_cold_start_seconds",
            "Modelled time from the request for a replica until it was ready",
            cold_starts.clone(),
        );
        let histogram: fn() -> Histogram = || Histogram::new(EVALUATION_BUCKETS);
        let evaluations = Family::new_with_constructor(histogram);
        registry.register(
            "forewarm_evaluation_seconds",
            "Time on the wall from the first look to the decision on disk",
            evaluations.clone(),
        );
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("forewarm_build_info", "Always 1; the version is a label", build);
        registry.register_collector(Box::new(Views(dashboard)));
        Self { registry: Arc::new(registry), decisions, changes, cold_starts, evaluations, beside: None }
    }

    /// The same, and on the page after them what another part of the process has: in the Prometheus text format
    /// 0.0.4, of families that these are not.
    #[must_use]
    pub fn beside(mut self, page: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.beside = Some(Beside(Arc::new(page)));
        self
    }

    /// Counts a decision that changed or did something.
    pub fn decided(&self, decision: &Decision) {
        let scaler = decision.scaler.as_str();
        let reason = decision.cause().map_or("none", |step| step.reason.label());
        self.decisions.get_or_create(&DecisionLabels { scaler: scaler.to_owned(), reason }).inc();
        if let Some(direction) = direction(decision.from, decision.to) {
            self.changes.get_or_create(&ChangeLabels { scaler: scaler.to_owned(), direction }).inc();
        }
    }

    /// Observes a start that ended ready; modelled time.
    pub fn cold_start(&self, scaler: &str, took: std::time::Duration) {
        let labels = ScalerLabels { scaler: scaler.to_owned() };
        self.cold_starts.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Observes an evaluation; time on the wall.
    pub fn evaluated(&self, scaler: &str, took: std::time::Duration) {
        let labels = ScalerLabels { scaler: scaler.to_owned() };
        self.evaluations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The metrics in the OpenMetrics 1.0 text format.
    pub(crate) fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut page = self.own()?;
        if let Some(Beside(other)) = &self.beside {
            page.truncate(page.len() - END.len());
            page.push_str(&renamed(&other(), |family| family.strip_suffix("_total").map(str::to_owned)));
            page.push_str(END);
        }
        Ok(page)
    }

    /// The metrics in the Prometheus text format 0.0.4.
    pub(crate) fn prometheus_text(&self) -> Result<String, fmt::Error> {
        let own = self.own()?;
        let mut page = renamed(own.trim_end_matches(END), |family| Some(format!("{family}_total")));
        if let Some(Beside(other)) = &self.beside {
            page.push_str(&other());
        }
        Ok(page)
    }

    /// What is counted here, in the OpenMetrics 1.0 text format.
    fn own(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// How a page of OpenMetrics ends.
const END: &str = "# EOF\n";

/// The page with other names for the families of counters, which in the text format 0.0.4 are those of their samples,
/// with `_total`, and in OpenMetrics are not.
fn renamed(page: &str, name: impl Fn(&str) -> Option<String>) -> String {
    let counters: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut renamed = String::with_capacity(page.len());
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(family), Some(rest)) if counters.contains(&family) => {
                let family = name(family).unwrap_or_else(|| family.to_owned());
                renamed.push_str(&format!("# {keyword} {family} {rest}"));
            }
            _ => renamed.push_str(line),
        }
        renamed.push('\n');
    }
    renamed
}

fn direction(from: Replicas, to: Replicas) -> Option<Direction> {
    match from.cmp(&to) {
        std::cmp::Ordering::Less => Some(Direction::up),
        std::cmp::Ordering::Greater => Some(Direction::down),
        std::cmp::Ordering::Equal => None,
    }
}

#[derive(Debug)]
struct Views(Dashboard);

type Labels<'a> = Vec<(&'static str, &'a str)>;
/// A value, and the label beside the scaler's name that tells it from others of the family.
type Sample = (Option<(&'static str, String)>, f64);

impl Collector for Views {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let views = self.0.views();
        let mut gauge = |name, help, samples: &dyn Fn(&ScalerView) -> Vec<Sample>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for view in &views {
                for (label, value) in samples(view) {
                    let mut labels: Labels<'_> = vec![("scaler", view.scaler.as_str())];
                    labels.extend(label.as_ref().map(|(key, value)| (*key, value.as_str())));
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
            Ok(())
        };
        gauge("forewarm_replicas", "Replicas by phase", &|view| {
            Phase::ALL
                .into_iter()
                .map(|phase| (Some(("phase", phase.label().to_owned())), view.count(phase) as f64))
                .collect()
        })?;
        gauge("forewarm_target_replicas", "Replicas that are to be", &|view| {
            vec![(None, f64::from(view.target_replicas.0))]
        })?;
        gauge("forewarm_queue_depth", "Requests that wait at the gateway", &|view| {
            view.queued.map(|count| (None, count as f64)).into_iter().collect()
        })?;
        gauge("forewarm_in_flight_requests", "Requests at replicas", &|view| {
            view.in_flight.map(|count| (None, count as f64)).into_iter().collect()
        })?;
        gauge("forewarm_signal_age_seconds", "Age of the last reading of a signal", &|view| {
            let sample = |signal: &SignalView| (Some(("signal", signal.name.clone())), signal.age_seconds);
            view.signals.iter().take(MAX_SIGNALS).map(sample).collect()
        })?;
        let help = "Requests that ended, by outcome";
        let mut family = encoder.encode_descriptor("forewarm_requests", help, None, MetricType::Counter)?;
        for view in &views {
            let outcomes = [
                ("succeeded", view.succeeded_total),
                ("refused", view.refused_total),
                ("failed", view.failed_total),
            ];
            for (outcome, total) in outcomes {
                if let Some(total) = total {
                    let labels: Labels<'_> = vec![("scaler", view.scaler.as_str()), ("outcome", outcome)];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&total, None)?;
                }
            }
        }
        let mut counter = |name, help, total: &dyn Fn(&ScalerView) -> Option<f64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for view in &views {
                if let Some(total) = total(view) {
                    let labels: Labels<'_> = vec![("scaler", view.scaler.as_str())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&total, None)?;
                }
            }
            Ok::<_, fmt::Error>(())
        };
        counter("forewarm_requests_attained", "Requests that attained the objective", &|view| {
            view.attained_total.map(|count| count as f64)
        })?;
        counter("forewarm_requests_missed", "Requests that missed the objective", &|view| {
            view.missed_total.map(|count| count as f64)
        })?;
        counter("forewarm_requests_completed", "Requests that ended after a replica had them", &|view| {
            view.completed_total.map(|count| count as f64)
        })?;
        counter("forewarm_busy_seconds", "Modelled seconds of requests at replicas", &|view| {
            view.busy_seconds_total
        })?;
        Ok(())
    }
}
