//! What happened, in numbers: the end of a demo.

use forewarm_core::{Phase, Timestamp};
use forewarm_load::{LoadReport, Quantiles};
use serde::Serialize;

use crate::meter::PhaseMeter;

/// The report of a demo. Times are modelled seconds where they are not called wall.
#[derive(Debug, Serialize)]
pub(crate) struct DemoReport {
    pub(crate) requests: forewarm_load::Account,
    pub(crate) latency_seconds: Latencies,
    pub(crate) replica_seconds: ReplicaSeconds,
    pub(crate) cold_starts: usize,
    pub(crate) cold_start_seconds: Option<ColdStartSeconds>,
    pub(crate) decisions: u64,
    pub(crate) max_replicas: u32,
    /// What the same time with `max_replicas` replicas all along would have used.
    pub(crate) static_replica_seconds: f64,
    pub(crate) speed: Speed,
    pub(crate) modelled_seconds: f64,
    pub(crate) wall_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latencies {
    pub(crate) ttft: Quantiles,
    pub(crate) itl: Quantiles,
    pub(crate) e2e: Quantiles,
    pub(crate) queue_wait: Quantiles,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplicaSeconds {
    requested: f64,
    provisioning: f64,
    loading: f64,
    ready: f64,
    draining: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ColdStartSeconds {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
}

/// Whether this machine kept up with the compressed time.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) asked: f64,
    pub(crate) reached: f64,
    /// 99th percentile of how late this process's timers ran, on the wall.
    pub(crate) lag_wall_seconds_p99: f64,
    pub(crate) kept_up: bool,
}

impl ReplicaSeconds {
    pub(crate) fn of(meter: &PhaseMeter) -> Self {
        Self {
            requested: meter.seconds(Phase::Requested),
            provisioning: meter.seconds(Phase::Provisioning),
            loading: meter.seconds(Phase::Loading),
            ready: meter.seconds(Phase::Ready),
            draining: meter.seconds(Phase::Draining) + meter.seconds(Phase::Leaving),
        }
    }

    fn total(&self) -> f64 {
        self.requested + self.provisioning + self.loading + self.ready + self.draining
    }
}

impl Latencies {
    pub(crate) fn of(load: &LoadReport) -> Self {
        let latency = &load.latency_seconds;
        Self { ttft: latency.ttft, itl: latency.itl, e2e: latency.e2e, queue_wait: latency.queue_wait }
    }
}

impl DemoReport {
    /// The report as a person reads it.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let requests = &self.requests;
        let mut line = |label: &str, value: String| {
            text.push_str(&format!("  {label:<18} {value}\n"));
        };
        let failed =
            if requests.failed == 0 { String::new() } else { format!(" {:?}", requests.failed_by_cause) };
        line(
            "requests",
            format!(
                "{} sent = {} succeeded + {} refused + {} failed{failed} + {} lost",
                requests.sent, requests.succeeded, requests.refused, requests.failed, requests.lost
            ),
        );
        let latency = &self.latency_seconds;
        for (label, quantiles) in [
            ("TTFT", latency.ttft),
            ("between tokens", latency.itl),
            ("end to end", latency.e2e),
            ("wait in queue", latency.queue_wait),
        ] {
            line(
                label,
                format!(
                    "p50 {}  p95 {}  p99 {}",
                    span(quantiles.p50),
                    span(quantiles.p95),
                    span(quantiles.p99)
                ),
            );
        }
        let seconds = &self.replica_seconds;
        let saved = 100.0 * (1.0 - seconds.total() / self.static_replica_seconds.max(1.0));
        line(
            "replica-minutes",
            format!(
                "{:.1}: {:.1} starting, {:.1} ready, {:.1} draining",
                seconds.total() / 60.0,
                (seconds.requested + seconds.provisioning + seconds.loading) / 60.0,
                seconds.ready / 60.0,
                seconds.draining / 60.0
            ),
        );
        line(
            "a static fleet",
            format!(
                "of {} all along: {:.1} replica-minutes; {saved:.0} % less was used",
                self.max_replicas,
                self.static_replica_seconds / 60.0
            ),
        );
        let learned = self.cold_start_seconds.as_ref();
        let learned = learned
            .map_or_else(String::new, |cold| format!(", p50 {} p90 {}", span(cold.p50), span(cold.p90)));
        line("cold starts", format!("{}{learned}", self.cold_starts));
        line("decisions", format!("{} that changed or did something", self.decisions));
        line(
            "time",
            format!(
                "{} modelled in {} on the wall ({:.1} × of {:.0} × asked)",
                span(self.modelled_seconds),
                span(self.wall_seconds),
                self.speed.reached,
                self.speed.asked
            ),
        );
        if !self.speed.kept_up {
            let lag = self.speed.lag_wall_seconds_p99 * 1e3;
            text += &format!(
                "\n  This machine did not keep up (timers ran {lag:.1} ms late at the 99th percentile): the latencies\n  \
                 above are the machine's, not forewarm's. Try a lower --speed.\n"
            );
        }
        text
    }
}

/// Seconds as a person writes them.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{:.1} min", s / 60.0),
    }
}

/// What a fleet of `replicas` would use between two moments.
pub(crate) fn static_fleet(replicas: u32, from: Timestamp, to: Timestamp) -> f64 {
    f64::from(replicas) * to.since(from).as_secs_f64()
}
