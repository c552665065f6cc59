//! What a run is judged by.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    Timeline,
    time::{Micros, seconds},
};

/// Quantiles of a latency, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half are at most this.
    pub p50: f64,
    /// 95 % are.
    pub p95: f64,
    /// 99 % are.
    pub p99: f64,
}

/// What came of a run. Times are modelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Requests that arrived.
    pub sent: u64,
    /// Requests that attained the objective.
    pub attained: u64,
    /// Requests without an honest end; a run goes on until there is none.
    pub lost: u64,
    /// Smallest share attained in any hour with at least 100 requests.
    pub worst_hour: f64,
    /// Smallest share attained in any day with at least 100 requests.
    pub worst_day: f64,
    /// Replica-hours from the request for a replica until it stopped.
    pub replica_hours: f64,
    /// Of them: before the replica was ready.
    pub starting_hours: f64,
    /// Starts of replicas, those at the beginning apart.
    pub starts: u64,
    /// Starts that failed or were given up.
    pub failed_starts: u64,
    /// The most replicas that existed at once.
    pub max_replicas: u32,
    /// Decisions that changed the target.
    pub changes: u64,
    /// Changes of direction within 10 minutes.
    pub flaps: u64,
    /// Time to the first token.
    pub ttft_seconds: Latency,
    /// Time to the last token.
    pub e2e_seconds: Latency,
    /// Mean time between two tokens of a request.
    pub itl_seconds: Latency,
    /// Length of the run.
    pub length_seconds: f64,
    /// The run's course, if it was asked for.
    #[serde(skip)]
    pub timeline: Timeline,
}

/// Fewer requests than this in an hour or a day say nothing about it.
pub(crate) const WORTH_JUDGING: u64 = 100;

impl Report {
    /// Share of requests that attained the objective; 1 when there were none.
    pub fn attainment(&self) -> f64 {
        share(self.attained, self.sent)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Keeps the account of requests while a run goes on.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) sent: u64,
    pub(crate) attained: u64,
    pub(crate) missed: u64,
    /// By hour of arrival: sent and missed.
    hours: Vec<(u64, u64)>,
    ttft: Histogram<u64>,
    e2e: Histogram<u64>,
    itl: Histogram<u64>,
}

/// Latencies are told apart up to this: a hundred days.
const LONGEST: Micros = 100 * 24 * HOUR;
const HOUR: Micros = 3_600_000_000;
const HOURS_A_DAY: usize = 24;

impl Account {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!("the bounds are right"))
        };
        Self {
            sent: 0,
            attained: 0,
            missed: 0,
            hours: Vec::new(),
            ttft: histogram(),
            e2e: histogram(),
            itl: histogram(),
        }
    }

    /// Takes in a first token; whether the request missed its bound.
    pub(crate) fn first_token(&mut self, arrival: Micros, at: Micros, bound: Micros) -> bool {
        let ttft = at.saturating_sub(arrival);
        self.sent += 1;
        let missed = ttft > bound;
        self.missed += u64::from(missed);
        self.attained += u64::from(!missed);
        let hour = (arrival / HOUR) as usize;
        if self.hours.len() <= hour {
            self.hours.resize(hour + 1, (0, 0));
        }
        if let Some((sent, misses)) = self.hours.get_mut(hour) {
            *sent += 1;
            *misses += u64::from(missed);
        }
        self.ttft.saturating_record(ttft);
        missed
    }

    pub(crate) fn finished(&mut self, arrival: Micros, first_token: Micros, at: Micros, output_tokens: u32) {
        self.e2e.saturating_record(at.saturating_sub(arrival));
        if output_tokens > 1 {
            self.itl.saturating_record(at.saturating_sub(first_token) / u64::from(output_tokens - 1));
        }
    }

    /// Adds the requests of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.attained += other.attained;
        self.missed += other.missed;
        self.hours.resize(self.hours.len().max(other.hours.len()), (0, 0));
        for (mine, theirs) in self.hours.iter_mut().zip(&other.hours) {
            *mine = (mine.0 + theirs.0, mine.1 + theirs.1);
        }
        // All of them have the same bounds, so that nothing is out of range.
        for (mine, theirs) in
            [(&mut self.ttft, &other.ttft), (&mut self.e2e, &other.e2e), (&mut self.itl, &other.itl)]
        {
            mine.add(theirs).unwrap_or_else(|_| unreachable!("the bounds are the same"));
        }
    }

    /// Fills in what the account knows.
    pub(crate) fn close(&self, report: &mut Report) {
        let worst = |spans: &mut dyn Iterator<Item = (u64, u64)>| {
            spans
                .filter(|&(sent, _)| sent >= WORTH_JUDGING)
                .map(|(sent, missed)| share(sent - missed, sent))
                .fold(1.0, f64::min)
        };
        report.sent = self.sent;
        report.attained = self.attained;
        report.worst_hour = worst(&mut self.hours.iter().copied());
        report.worst_day = worst(
            &mut self
                .hours
                .chunks(HOURS_A_DAY)
                .map(|day| day.iter().fold((0, 0), |(sent, missed), hour| (sent + hour.0, missed + hour.1))),
        );
        report.ttft_seconds = latency(&self.ttft);
        report.e2e_seconds = latency(&self.e2e);
        report.itl_seconds = latency(&self.itl);
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let quantile = |q| histogram.value_at_quantile(q) as f64 / seconds(1.0) as f64;
    Latency { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) }
}
