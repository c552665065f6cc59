//! Runs side by side: one row for each policy on each trace.

use serde::Serialize;

use crate::{DataPlane, Latency, Objective, Report};

/// What a GPU costs, and how many of them a replica has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// GPUs of one replica.
    pub gpus_per_replica: u32,
    /// Dollars for one GPU and one hour, if known.
    pub dollars_per_gpu_hour: Option<f64>,
}

/// What a run is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct References {
    /// Replica-hours of a policy that knows the arrivals.
    pub clairvoyant_replica_hours: Option<f64>,
    /// The share of the requests that attain the objective's bound under it: where no plan attains the objective,
    /// as much as one could.
    pub clairvoyant_attained: Option<f64>,
    /// Replica-hours that no policy can do without.
    pub bound_replica_hours: Option<f64>,
}

/// One policy on one trace: the JSON of `forewarm simulate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The policy, as it was named.
    pub policy: String,
    /// The trace, as it was named; empty for the sum of a mix.
    pub trace: String,
    /// In a mix of several models: whose requests; `all` for their sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where requests wait.
    pub data_plane: DataPlane,
    /// As it is written on a command line.
    pub objective: String,
    /// Share of all requests that attained the objective's bound.
    pub attained: f64,
    /// Whether that share is at least what the objective asks for.
    pub meets_objective: bool,
    /// The share of the worst hour.
    pub worst_hour: f64,
    /// The share of the worst day.
    pub worst_day: f64,
    /// From each replica's request until it stopped, times its GPUs.
    pub gpu_hours: f64,
    /// The same of a policy that knows the arrivals.
    pub clairvoyant_gpu_hours: Option<f64>,
    /// The share that attains the bound under that policy.
    pub clairvoyant_attained: Option<f64>,
    /// A lower bound for every policy.
    pub bound_gpu_hours: Option<f64>,
    /// `gpu_hours / clairvoyant_gpu_hours`.
    pub regret: Option<f64>,
    /// What the GPU-hours cost, where a price is known.
    pub dollars: Option<f64>,
    /// Time to the first token.
    pub ttft_seconds: Latency,
    /// Time between two tokens.
    pub itl_seconds: Latency,
    /// Time to the last token.
    pub e2e_seconds: Latency,
    /// Requests that arrived.
    pub sent: u64,
    /// Requests without an honest end.
    pub lost: u64,
    /// Starts of replicas.
    pub starts: u64,
    /// Those that failed or were given up.
    pub failed_starts: u64,
    /// The part of the GPU-hours in which replicas were not ready yet.
    pub starting_gpu_hours: f64,
    /// Changes of the target.
    pub changes: u64,
    /// Changes of direction within 10 minutes.
    pub flaps: u64,
    /// The most replicas at once.
    pub max_replicas: u32,
    /// Length of the run.
    pub length_seconds: f64,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The policy, as it was named.
    pub policy: String,
    /// The trace, as it was named.
    pub trace: String,
    /// Whose requests, in a mix of several models.
    pub model: Option<String>,
    /// Where requests wait.
    pub data_plane: DataPlane,
    /// What requests have to attain.
    pub objective: Objective,
}

impl Row {
    /// The row of a run.
    pub fn new(subject: Subject, report: &Report, references: References, price: Price) -> Self {
        let gpu_hours = |replica_hours: f64| replica_hours * f64::from(price.gpus_per_replica);
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let attained = report.attainment();
        Self {
            policy: subject.policy,
            trace: subject.trace,
            model: subject.model,
            data_plane: subject.data_plane,
            objective: subject.objective.to_string(),
            attained,
            meets_objective: attained * 100.0 >= subject.objective.percent,
            worst_hour: report.worst_hour,
            worst_day: report.worst_day,
            gpu_hours: gpu_hours(report.replica_hours),
            clairvoyant_gpu_hours: references.clairvoyant_replica_hours.map(gpu_hours),
            clairvoyant_attained: references.clairvoyant_attained,
            bound_gpu_hours: references.bound_replica_hours.map(gpu_hours),
            regret: references.clairvoyant_replica_hours.and_then(|best| share(report.replica_hours, best)),
            dollars: price.dollars_per_gpu_hour.map(|dollars| dollars * gpu_hours(report.replica_hours)),
            ttft_seconds: report.ttft_seconds,
            itl_seconds: report.itl_seconds,
            e2e_seconds: report.e2e_seconds,
            sent: report.sent,
            lost: report.lost,
            starts: report.starts,
            failed_starts: report.failed_starts,
            starting_gpu_hours: gpu_hours(report.starting_hours),
            changes: report.changes,
            flaps: report.flaps,
            max_replicas: report.max_replicas,
            length_seconds: report.length_seconds,
        }
    }
}

/// The name of the sum over the models of a mix.
pub const ALL_MODELS: &str = "all";

impl Row {
    /// The sum over the models of a mix, whose rows these are: `report` is about all of their requests. Costs are added
    /// up. Each model's clairvoyant has the GPUs for itself.
    pub fn sum(rows: &[Row], subject: Subject, report: &Report) -> Self {
        let sum = |of: fn(&Row) -> Option<f64>| rows.iter().map(of).sum::<Option<f64>>();
        let alike = Price { gpus_per_replica: 1, dollars_per_gpu_hour: None };
        let gpu_hours: f64 = rows.iter().map(|row| row.gpu_hours).sum();
        let clairvoyant_gpu_hours = sum(|row| row.clairvoyant_gpu_hours);
        Self {
            trace: String::new(),
            model: Some(ALL_MODELS.to_owned()),
            gpu_hours,
            clairvoyant_gpu_hours,
            bound_gpu_hours: sum(|row| row.bound_gpu_hours),
            regret: clairvoyant_gpu_hours.filter(|best| *best > 0.0).map(|best| gpu_hours / best),
            dollars: sum(|row| row.dollars),
            starting_gpu_hours: rows.iter().map(|row| row.starting_gpu_hours).sum(),
            ..Self::new(subject, report, References::default(), alike)
        }
    }
}

/// The indices of those that nothing else beats in both cost and share attained, the cheapest first.
pub fn frontier(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    let of = |index: &usize| points.get(*index).copied().unwrap_or_default();
    order.sort_by(|left, right| {
        let ((cost, attained), (other_cost, other_attained)) = (of(left), of(right));
        cost.total_cmp(&other_cost).then(other_attained.total_cmp(&attained))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|index| {
        let better = of(index).1 > best;
        best = best.max(of(index).1);
        better
    });
    order
}
