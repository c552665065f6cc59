//! The same core in virtual time.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{Bounds, Environment, Policy, QueueDepth, Requests, ScalerSpec};
use forewarm_sim::{Objective, Request, Simulation, simulate};

fn world(min: u32, cold_start_seconds: u64) -> Simulation {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    let spec = ScalerSpec {
        environment: Environment::Dev,
        ..ScalerSpec::new("sim", Bounds::new(min, 8).unwrap(), policy)
    };
    Simulation {
        spec,
        slots: 8,
        cold_start: Duration::from_secs(cold_start_seconds),
        objective: Objective { ttft: Duration::from_secs(5) },
    }
}

fn request(second: f64) -> Request {
    Request { arrival: Duration::from_secs_f64(second), input_tokens: 500, output_tokens: 100 }
}

#[test]
fn a_warm_replica_answers_in_the_time_of_the_simple_engine() {
    let report = simulate(&world(1, 240), &[request(10.0)]);
    assert_eq!((report.sent, report.attained, report.starts), (1, 1, 0));
    assert_eq!(report.ttft_seconds, [0.1, 0.1]);
    // From the start of the run until the end of the last request: 10 + 0.1 + 3 seconds of one replica.
    assert!((report.replica_hours * 3600.0 - 13.1).abs() < 1e-6, "{}", report.replica_hours);
}

#[test]
fn a_burst_on_an_idle_fleet_waits_one_cold_start_and_nothing_is_lost() {
    let burst: Vec<Request> = (0..40).map(|index| request(100.0 + f64::from(index) * 0.01)).collect();
    let report = simulate(&world(0, 240), &burst);
    assert_eq!((report.sent, report.attained), (40, 0));
    assert!(report.max_replicas >= 2, "{report:?}");
    assert!(report.ttft_seconds[0] > 239.0 && report.ttft_seconds[1] < 260.0, "{report:?}");
}

#[test]
fn a_run_repeats_exactly() {
    let requests: Vec<Request> =
        (0..5_000).map(|index| request(f64::from(index) * 0.3 + f64::from(index % 7))).collect();
    let mut requests = requests;
    requests.sort_by_key(|request| request.arrival);
    let first = simulate(&world(1, 60), &requests);
    assert_eq!(first, simulate(&world(1, 60), &requests));
    assert_eq!(first.sent, 5_000);
}
