//! Puts together what was seen: the fleet, the gateway, the signals.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    Missing, Notice, Observation, Reading, Replica, ReplicaId, Signal, SignalName, Timestamp,
    pool::PoolReport,
};

use crate::ports::{FleetError, FleetView, GatewayError};

/// Builds the observation of one moment.
///
/// `report` is `None` where no gateway belongs to the scaler; then nobody was asked for its signals.
pub fn observation(
    at: Timestamp,
    fleet: Result<&FleetView, &FleetError>,
    report: Option<Result<&PoolReport, &GatewayError>>,
    signals: Vec<(SignalName, Signal)>,
) -> Observation {
    let mut observation = Observation { at, ..Observation::default() };
    observation.signals = signals.into_iter().map(|(name, signal)| (name, at_millisecond(signal))).collect();
    match report {
        Some(Ok(report)) => add_report(&mut observation, report),
        Some(Err(error)) => add_silence(&mut observation, error),
        None => {}
    }
    match fleet {
        Ok(view) => {
            observation.failed_starts = view.failed_starts.clone();
            observation.standby = view.standby.clone();
            observation.contested = view.contested.clone();
            observation.replicas = view
                .replicas
                .iter()
                .map(|replica| Replica {
                    id: replica.id.clone(),
                    phase: replica.phase,
                    age: millisecond(replica.age),
                    in_flight: in_flight(&observation, report, &replica.id),
                    ordinal: replica.ordinal,
                    tier: replica.tier,
                    notice: replica
                        .notice
                        .clone()
                        .map(|notice| Notice { left: notice.left.map(millisecond), ..notice }),
                })
                .collect();
        }
        Err(error) => observation.fleet_error = Some(chain(error)),
    }
    observation
}

/// An error with its sources, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn add_report(observation: &mut Observation, report: &PoolReport) {
    let mut add = |name: &str, signal: Signal| observation.signals.insert(SignalName::from(name), signal);
    add("queued", Signal::value(report.queued as f64));
    for (name, total) in totals(report) {
        add(name, Signal::value(total));
    }
    let per_replica = report.in_flight.iter().map(|(id, &count)| (id.clone(), f64::from(count))).collect();
    let reading = Reading::Value { total: report.in_flight_sum() as f64, per_replica };
    add("in_flight", Signal { reading, age: Duration::ZERO });
}

/// What only grows while the gateway lives.
fn totals(report: &PoolReport) -> [(&'static str, f64); 5] {
    [
        ("arrivals_total", report.arrived_total as f64),
        ("busy_seconds_total", report.busy_seconds_total),
        ("completed_total", report.completed_total as f64),
        ("attained_total", report.attained_total as f64),
        ("missed_total", report.missed_total as f64),
    ]
}

fn add_silence(observation: &mut Observation, error: &GatewayError) {
    let totals = totals(&PoolReport::default()).map(|(name, _)| name);
    for name in ["queued", "in_flight"].into_iter().chain(totals) {
        let missing = Signal::missing(Missing::Failed(error.to_string()));
        observation.signals.insert(SignalName::from(name), missing);
    }
}

/// The work of one replica: the larger of what the gateway and the engine count, `None` when neither says.
fn in_flight(
    observation: &Observation,
    report: Option<Result<&PoolReport, &GatewayError>>,
    replica: &ReplicaId,
) -> Option<u32> {
    let by_gateway = match report {
        Some(Ok(report)) => Some(report.in_flight.get(replica).copied().unwrap_or(0)),
        // A gateway that does not answer may still be sending requests there.
        Some(Err(_)) => return None,
        None => None,
    };
    let by_engine = share(observation, "running", replica)
        .map(|running| running + share(observation, "waiting", replica).unwrap_or(0.0));
    match (by_gateway, by_engine) {
        (Some(counted), Some(reported)) => Some(counted.max(reported as u32)),
        (Some(counted), None) => Some(counted),
        (None, Some(reported)) => Some(reported as u32),
        (None, None) => None,
    }
}

fn share(observation: &Observation, name: &str, replica: &ReplicaId) -> Option<f64> {
    let shares: &BTreeMap<ReplicaId, f64> = match &observation.signals.get(name)?.reading {
        Reading::Value { per_replica, .. } | Reading::Partial { per_replica, .. } => per_replica,
        Reading::Missing(_) => return None,
    };
    shares.get(replica).copied()
}

/// Spans in an observation are whole milliseconds, so that the journal's numbers read back exactly.
fn millisecond(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn at_millisecond(signal: Signal) -> Signal {
    Signal { age: millisecond(signal.age), ..signal }
}
