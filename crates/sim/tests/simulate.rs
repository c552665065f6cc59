//! The same core in virtual time.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{Bounds, Environment, Policy, QueueDepth, Requests, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Looks, Model, Objective, QueueOrder, Report, Step, World,
    engine::{EngineModel, SlotsModel},
    simulate, simulate_together,
};
use forewarm_workload::Request;

fn spec(min: u32) -> ScalerSpec {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    ScalerSpec {
        environment: Environment::Dev,
        ..ScalerSpec::new("sim", Bounds::new(min, 8).unwrap(), policy)
    }
}

fn world(initial_replicas: u32, cold_start_seconds: f64) -> World {
    World {
        engine: EngineModel::Slots(SlotsModel { slots: 8 }),
        cold_start: ColdStartLaw::fixed(cold_start_seconds),
        data_plane: DataPlane::Gateway,
        queue_order: QueueOrder::Arrival,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas,
        provider_capacity: None,
        seed: 1,
    }
}

fn ours(min: u32, cold_start_seconds: f64, requests: &[Request]) -> Report {
    simulate(&world(min, cold_start_seconds), &Decider::core(spec(min)), requests, false)
}

fn request(second: f64) -> Request {
    Request {
        arrival: Duration::from_secs_f64(second),
        input_tokens: 500,
        output_tokens: 100,
        cached_tokens: 0,
    }
}

fn near(left: f64, right: f64) -> bool {
    // Histograms keep three digits.
    (left - right).abs() <= right.abs() * 2e-3
}

#[test]
fn a_warm_replica_answers_in_the_time_of_the_simple_engine() {
    let report = ours(1, 240.0, &[request(10.0)]);
    assert_eq!((report.sent, report.attained, report.starts), (1, 1, 0));
    assert!(near(report.ttft_seconds.p50, 0.1) && near(report.e2e_seconds.p50, 3.1), "{report:?}");
    // From the start of the run until the end of the last request: 10 + 0.1 + 3 seconds of one replica.
    assert!((report.replica_hours * 3600.0 - 13.1).abs() < 1e-6, "{}", report.replica_hours);
}

#[test]
fn a_burst_on_an_idle_fleet_waits_one_cold_start_and_nothing_is_lost() {
    let burst: Vec<Request> = (0..40).map(|index| request(100.0 + f64::from(index) * 0.01)).collect();
    let report = ours(0, 240.0, &burst);
    assert_eq!((report.sent, report.attained, report.lost), (40, 0, 0));
    assert!(report.max_replicas >= 2, "{report:?}");
    assert!(report.ttft_seconds.p50 > 239.0 && report.ttft_seconds.p99 < 260.0, "{report:?}");
}

#[test]
fn what_comes_soon_after_a_look_is_seen_when_the_gap_ends() {
    // The controller has looked at 0 s, and looks again at 15 s whatever happens.
    let gap = Duration::from_millis(200);
    for (looks, seen_at) in [(Looks::OnTicks, 15.0), (Looks::OnWaiting, 1.0), (Looks::OnChanges { gap }, 0.2)]
    {
        let decider = Decider::with_looks(spec(0), looks);
        let report = simulate(&world(0, 60.0), &decider, &[request(0.1)], false);
        let billed_from = report.length_seconds - report.replica_hours * 3_600.0;
        assert!((billed_from - seen_at).abs() < 1e-6, "{looks:?}: {billed_from}");
    }
}

#[test]
fn a_change_of_the_work_in_flight_is_seen_where_every_change_is() {
    // The replica is not needed from the end of the first request at 4.1 s on: seen then, or 15 s after the look
    // at 2 s.
    let mut spec = spec(0);
    spec.behavior.scale_down.stabilization_window = Duration::from_secs(2);
    let requests = [request(1.0), request(40.0)];
    let cost = |looks| {
        let decider = Decider::with_looks(spec.clone(), looks);
        simulate(&world(1, 60.0), &decider, &requests, false).replica_hours * 3_600.0
    };
    let every = cost(Looks::OnChanges { gap: Duration::from_millis(20) });
    let waiting = cost(Looks::OnWaiting);
    assert!((waiting - every - 12.9).abs() < 1e-6, "{every} {waiting}");
}

#[test]
fn a_draining_replica_serves_again_instead_of_a_new_one() {
    // Long requests, of which one is alone in the second replica: that drains until they are done after 20 minutes.
    // Then more come than the first one has slots.
    let long = Request { output_tokens: 40_000, ..request(0.0) };
    let burst = (0..6).map(|index| request(900.0 + f64::from(index) * 0.01));
    let requests: Vec<Request> = std::iter::repeat_n(long, 5).chain(burst).collect();
    let world = World { engine: EngineModel::Slots(SlotsModel { slots: 4 }), ..world(2, 240.0) };
    let report = simulate(&world, &Decider::core(spec(1)), &requests, false);
    assert!(report.changes >= 2, "down, and up again: {report:?}");
    assert_eq!((report.starts, report.sent), (0, 11), "{report:?}");
    assert!(report.ttft_seconds.p99 < 30.0, "as soon as that is decided, without a cold start: {report:?}");
}

#[test]
fn who_can_no_longer_see_a_first_token_in_time_yields() {
    // The only slot is taken for 4.9 s. Then a prompt of half a second, for which it is too late, and one of a
    // hundredth wait.
    let taken = Request { input_tokens: 500, output_tokens: 160, ..request(0.0) };
    let long = Request { input_tokens: 2_500, output_tokens: 100, ..request(0.1) };
    let short = Request { input_tokens: 50, output_tokens: 1, ..request(0.2) };
    let attained = |queue_order| {
        let world =
            World { engine: EngineModel::Slots(SlotsModel { slots: 1 }), queue_order, ..world(1, 240.0) };
        simulate(&world, &Decider::Timetable(Vec::new()), &[taken, long, short], false).attained
    };
    assert_eq!(attained(QueueOrder::Arrival), 1);
    assert_eq!(attained(QueueOrder::LateYields), 2);
}

#[test]
fn a_run_repeats_exactly() {
    let mut requests: Vec<Request> =
        (0..5_000).map(|index| request(f64::from(index) * 0.3 + f64::from(index % 7))).collect();
    requests.sort_by_key(|request| request.arrival);
    let first = ours(1, 60.0, &requests);
    assert_eq!(first, ours(1, 60.0, &requests));
    assert_eq!(first.sent, 5_000);
}

#[test]
fn a_timetable_is_followed_and_billed_to_the_second() {
    let timetable = Decider::Timetable(vec![
        Step { at: 100_000_000, replicas: 3 },
        Step { at: 500_000_000, replicas: 1 },
    ]);
    let report = simulate(&world(1, 240.0), &timetable, &[request(0.0), request(1_000.0)], false);
    // One replica to the end, two more from 100 s to 500 s.
    assert!((report.replica_hours * 3600.0 - (1_003.1 + 800.0)).abs() < 1e-6, "{report:?}");
    assert!((report.starting_hours * 3600.0 - 480.0).abs() < 1e-6, "{report:?}");
    assert_eq!((report.starts, report.attained), (2, 2));
}

#[test]
fn behind_a_service_each_engine_has_its_own_queue() {
    // Two replicas with one slot; the first request is long. In turn, the third waits behind it although
    // the other replica is idle; a shared queue would not let it wait.
    let long = Request { arrival: Duration::ZERO, input_tokens: 5, output_tokens: 1_000, cached_tokens: 0 };
    let short = |second: f64| Request { output_tokens: 1, ..request(second) };
    let requests = [long, short(1.0), short(2.0)];
    let static_two = Decider::Timetable(vec![Step { at: 0, replicas: 2 }]);
    let one_slot = World { engine: EngineModel::Slots(SlotsModel { slots: 1 }), ..world(2, 240.0) };
    let shared = simulate(&one_slot, &static_two, &requests, false);
    let in_turn =
        simulate(&World { data_plane: DataPlane::Engine, ..one_slot }, &static_two, &requests, false);
    assert_eq!((shared.attained, in_turn.attained), (3, 2), "{in_turn:?}");
}

#[test]
fn models_with_room_for_all_run_as_if_each_were_alone() {
    let worlds = [world(1, 60.0), world(0, 120.0)];
    let deciders = [Decider::core(spec(1)), Decider::core(spec(0))];
    let requests: [Vec<Request>; 2] = [
        (0..600).map(|index| request(f64::from(index) * 0.5)).collect(),
        (0..40).map(|index| request(100.0 + f64::from(index) * 0.01)).collect(),
    ];
    let model = |index: usize| Model {
        name: ["a", "b"][index],
        world: &worlds[index],
        decider: &deciders[index],
        requests: &requests[index],
        gpus_per_replica: [1, 4][index],
    };
    for gpus in [None, Some(1_000)] {
        let together = simulate_together(&[model(0), model(1)], gpus, true);
        for index in 0..2 {
            let alone = simulate(&worlds[index], &deciders[index], &requests[index], true);
            assert_eq!(together.models[index], alone, "{gpus:?}");
        }
        let [a, b] = &together.models[..] else { panic!("two models") };
        assert_eq!(together.sum.sent, 640);
        assert_eq!(together.sum.attained, a.attained + b.attained);
        assert!((together.sum.replica_hours - a.replica_hours - b.replica_hours).abs() < 1e-12);
        assert!(together.sum.max_replicas <= a.max_replicas + b.max_replicas);
        assert!(together.most_gpus >= 4 * b.max_replicas && together.sum.ttft_seconds.p99 > 100.0);
        assert_eq!(together.sum.timeline.moments[1].ready, 1);
    }
}

#[test]
fn gpus_that_one_model_holds_are_missing_to_the_other_until_it_gives_them_back() {
    let worlds = [world(0, 60.0), world(0, 60.0)];
    // The first wants four replicas for 300 s; the second wants four from 10 s on.
    let steps = |steps: &[(u64, u32)]| {
        let step = |&(second, replicas): &(u64, u32)| Step { at: second * 1_000_000, replicas };
        Decider::Timetable(steps.iter().map(step).collect())
    };
    let deciders = [steps(&[(0, 4), (300, 0)]), steps(&[(10, 4)])];
    let requests: [Vec<Request>; 2] =
        [vec![request(0.0), request(290.0)], (0..20).map(|index| request(20.0 + f64::from(index))).collect()];
    let models: Vec<Model<'_>> = (0..2)
        .map(|index| Model {
            name: ["a", "b"][index],
            world: &worlds[index],
            decider: &deciders[index],
            requests: &requests[index],
            gpus_per_replica: [2, 1][index],
        })
        .collect();
    let together = simulate_together(&models, Some(9), false);
    assert_eq!(together.most_gpus, 9);
    let [first, second] = &together.models[..] else { panic!("two models") };
    assert_eq!((first.failed_starts, first.max_replicas), (0, 4));
    // One of nine GPUs is left to it, as long as the other runs.
    assert_eq!(second.max_replicas, 1);
    assert!(second.failed_starts >= 3, "{second:?}");
    assert_eq!((second.sent, second.lost), (20, 0));
    let alone = simulate(&worlds[1], &deciders[1], &requests[1], false);
    assert_eq!((alone.failed_starts, alone.max_replicas), (0, 4));
    assert_eq!(together, simulate_together(&models, Some(9), false), "a run repeats");
}
