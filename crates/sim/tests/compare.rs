//! Runs side by side: what is drawn of them, what is searched, what history is worth.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use forewarm_core::{Bounds, Environment, Policy, QueueDepth, Requests, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Moment, Objective, QueueOrder, Step, Timeline, World,
    compare::frontier,
    engine::{EngineModel, SlotsModel},
    knobs, parallel, simulate,
    tune::{Outcome, search},
    warm_up,
};
use forewarm_workload::Request;

fn spec(min: u32) -> ScalerSpec {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    ScalerSpec {
        environment: Environment::Dev,
        ..ScalerSpec::new("sim", Bounds::new(min, 8).unwrap(), policy)
    }
}

fn world(initial_replicas: u32) -> World {
    World {
        engine: EngineModel::Slots(SlotsModel { slots: 1 }),
        cold_start: ColdStartLaw::fixed(60.0),
        data_plane: DataPlane::Gateway,
        queue_order: QueueOrder::Arrival,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas,
        provider_capacity: None,
        seed: 1,
    }
}

fn request(second: f64) -> Request {
    Request {
        arrival: Duration::from_secs_f64(second),
        input_tokens: 500,
        output_tokens: 100,
        cached_tokens: 0,
    }
}

#[test]
fn results_come_in_the_order_of_the_jobs() {
    let jobs: Vec<u64> = (0..200).collect();
    let done = AtomicUsize::new(0);
    let spin = |job: &u64| (0..(200 - job) * 500).fold(*job, |sum, n| sum.wrapping_add(n * n));
    let results = parallel::map(&jobs, spin, || {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(results, jobs.iter().map(spin).collect::<Vec<_>>());
    assert_eq!(done.into_inner(), 200);
    assert_eq!(parallel::map(&[], |job: &u64| *job, || ()), Vec::<u64>::new());
}

#[test]
fn the_frontier_is_what_nothing_beats() {
    let points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.5), (2.5, 0.95), (1.0, 0.4), (9.0, 1.0), (9.0, 0.99)];
    assert_eq!(frontier(&points), [1, 3, 5]);
    assert_eq!(frontier(&[]), Vec::<usize>::new());
}

#[test]
fn a_long_timeline_is_drawn_without_losing_a_peak() {
    let moment = |second: u32| Moment {
        at_seconds: f64::from(second),
        target: if second == 777 { 9 } else { 2 },
        ready: 1,
        coming: 1,
        in_flight: second % 2,
        queued: 0,
        anticipated: None,
    };
    let timeline = Timeline { moments: (0..1_000).map(moment).collect(), ..Timeline::default() };
    let course = timeline.course(100);
    assert_eq!(course.at_seconds.len(), 100);
    assert_eq!((course.at_seconds[77], course.target[77]), (770.0, [2.0, 2.7, 9.0]));
    assert_eq!((course.with_coming[3], course.in_system[3]), ([2.0; 3], [0.0, 0.5, 1.0]));
    let short = Timeline { moments: vec![moment(777)], ..Timeline::default() }.course(100);
    assert_eq!(short.target, [[9.0; 3]], "a span of one moment is exact");
    assert!(Timeline::default().course(100).at_seconds.is_empty());
}

/// A search over a policy whose outcome is a formula.
#[test]
fn a_search_finds_the_cheapest_that_attains_the_objective() {
    let waiting = |spec: &ScalerSpec| {
        let Policy::QueueDepth(policy) = &spec.policy else { panic!("the spec has another policy") };
        policy.per_replica.get()
    };
    let runs = AtomicUsize::new(0);
    let run = |spec: &ScalerSpec| {
        runs.fetch_add(1, Ordering::Relaxed);
        let kept = f64::from(spec.replicas.min.0);
        Outcome {
            attained: (0.9 + 0.02 * kept - 0.005 * waiting(spec)).min(1.0),
            replica_hours: 10.0 * kept + 100.0 / waiting(spec),
        }
    };
    let given = spec(1);
    let found = search(&given, &knobs(&given, true), 0.95, run, || ());
    assert_eq!(found.candidates[0].spec, given, "the settings as given come first");
    assert_eq!(found.candidates.len(), runs.into_inner(), "no candidate is run twice");
    let best = &found.candidates[found.best];
    assert!(best.outcome.attained >= 0.95);
    let cheaper =
        |outcome: &Outcome| outcome.attained >= 0.95 && outcome.replica_hours < best.outcome.replica_hours;
    assert!(found.candidates.iter().all(|candidate| !cheaper(&candidate.outcome)));
    let fixed = search(&given, &knobs(&given, false), 2.0, run_nothing, || ());
    assert!(fixed.candidates.iter().all(|candidate| candidate.spec.replicas == given.replicas));
}

fn run_nothing(_: &ScalerSpec) -> Outcome {
    Outcome { attained: 0.0, replica_hours: 1.0 }
}

#[test]
fn every_policy_has_knobs_that_turn() {
    use forewarm_core::{DynamoPolicy, RayServePolicy, SkyServePolicy, peers::sky_serve::SkyServeSpec};
    let sky = SkyServeSpec { target_qps_per_replica: Some(1.0), ..SkyServeSpec::default() };
    for policy in [
        spec(1).policy,
        Policy::RayServe(RayServePolicy::default()),
        Policy::SkyServe(SkyServePolicy { rules: sky }),
        Policy::Dynamo(DynamoPolicy { engine_requests_per_second: Some(1.0), ..DynamoPolicy::default() }),
        Policy::Kpa(Box::default()),
    ] {
        let mut turned = ScalerSpec { policy, ..spec(1) };
        let knobs = knobs(&turned, true);
        assert!(knobs.len() >= 3, "{turned:?}");
        for knob in knobs {
            let value = *knob.values.last().unwrap();
            (knob.set)(&mut turned, value);
            // A knob that needs another one first (the queue of a policy that does not pre-warm) stays without.
            assert!((knob.get)(&turned).is_none_or(|now| now == value), "{} of {turned:?}", knob.name);
        }
    }
}

#[test]
fn history_is_remembered_and_nothing_else_is() {
    // In the history replicas took a minute to start; they are what a decision tells its readers to expect.
    let storm: Vec<Request> = (0..40).map(|index| request(f64::from(index))).collect();
    let length = Duration::from_secs(3_600);
    let fresh = Decider::core(spec(1));
    let warmed = warm_up(&world(1), &fresh, &storm, length);
    let Decider::Core { state, epoch, .. } = &warmed else { panic!("the decider changed its kind") };
    assert_eq!(*epoch, length);
    assert!(state.cold_starts != forewarm_core::ColdStarts::default(), "starts were learned from");
    // The run itself begins with its own replicas, at its own zero.
    let report = simulate(&world(1), &warmed, &[request(10.0)], true);
    assert_eq!((report.sent, report.attained, report.max_replicas), (1, 1, 1));
    assert!((report.length_seconds - 13.1).abs() < 1e-6);
    let timetable = Decider::Timetable(vec![Step { at: 0, replicas: 2 }]);
    assert!(
        matches!(warm_up(&world(2), &timetable, &storm, length), Decider::Timetable(steps) if steps.len() == 1)
    );
}

#[test]
fn what_waits_in_a_draining_engine_is_served() {
    // One slot an engine, two engines; after the storm one of them is to go while requests wait in it.
    let storm: Vec<Request> = (0..10).map(|_| request(1.0)).collect();
    let two_then_one =
        Decider::Timetable(vec![Step { at: 0, replicas: 2 }, Step { at: 5_000_000, replicas: 1 }]);
    let report = simulate(&World { data_plane: DataPlane::Engine, ..world(2) }, &two_then_one, &storm, false);
    assert_eq!((report.sent, report.lost), (10, 0));
    // Five requests of 3.1 s in turn, in both.
    assert!((report.length_seconds - 16.5).abs() < 1e-6, "{report:?}");
}
