//! What the pipeline decides, and the reasons it gives.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{
    Behavior, Bounds, Decision, Environment, FailedStart, Missing, Mode, Observation, Pause, Phase, Policy,
    PreWarm, QueueDepth, RateLimit, RateUnit, Reading, Replica, Replicas, Requests, ScalerSpec, ScalerState,
    ScalingRules, SelectPolicy, Signal, Timestamp, plan,
};

fn requests(count: f64) -> Requests {
    Requests::new(count).unwrap()
}

fn spec(min: u32, max: u32) -> ScalerSpec {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: requests(5.0), pre_warm: None });
    ScalerSpec::new("llama3", Bounds::new(min, max).unwrap(), policy)
}

fn at(seconds: f64, replicas: &[(&str, Phase)], signals: &[(&str, f64)]) -> Observation {
    Observation {
        at: Timestamp::from_seconds(seconds),
        replicas: replicas.iter().map(|&(id, phase)| Replica::new(id, phase)).collect(),
        signals: signals.iter().map(|&(name, value)| (name.into(), Signal::value(value))).collect(),
        ..Observation::default()
    }
}

fn ready(count: usize) -> Vec<(&'static str, Phase)> {
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"]
        .into_iter()
        .take(count)
        .map(|id| (id, Phase::Ready))
        .collect()
}

fn labels(decision: &Decision) -> Vec<&'static str> {
    decision.steps.iter().map(|step| step.reason.label()).collect()
}

#[test]
fn the_number_and_every_reason_for_it() {
    struct Case {
        name: &'static str,
        running: usize,
        signals: &'static [(&'static str, f64)],
        to: u32,
        reasons: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "five waiting requests are worth one replica",
            running: 1,
            signals: &[("waiting", 5.0)],
            to: 1,
            reasons: &["queue_depth"],
        },
        Case {
            name: "one more asks for another replica",
            running: 1,
            signals: &[("waiting", 6.0)],
            to: 2,
            reasons: &["queue_depth", "starting"],
        },
        Case {
            name: "gateway and engines add up",
            running: 1,
            signals: &[("queued", 8.0), ("waiting", 4.0)],
            to: 3,
            reasons: &["queue_depth", "starting"],
        },
        Case {
            name: "never above max, and never silently",
            running: 1,
            signals: &[("waiting", 500.0)],
            to: 8,
            reasons: &["queue_depth", "lowered_to_max", "starting"],
        },
        Case {
            name: "an empty queue waits out the window",
            running: 3,
            signals: &[("waiting", 0.0)],
            to: 3,
            reasons: &["queue_depth", "stabilised"],
        },
        Case {
            name: "requests in flight keep what they need",
            running: 3,
            signals: &[("waiting", 0.0), ("in_flight", 24.0)],
            to: 3,
            reasons: &["queue_depth", "in_flight", "largest_wish"],
        },
        Case {
            name: "no signal at all holds",
            running: 3,
            signals: &[],
            to: 3,
            reasons: &["held_on_missing"],
        },
    ];
    for Case { name, running, signals, to, reasons } in cases {
        let decision = plan(&spec(1, 8), &mut ScalerState::default(), &at(0.0, &ready(running), signals));
        assert_eq!(decision.to, Replicas(to), "{name}");
        assert_eq!(labels(&decision), reasons, "{name}");
    }
}

#[test]
fn keepalive_starts_the_minimum() {
    let decision = plan(&spec(2, 8), &mut ScalerState::default(), &at(0.0, &[], &[("waiting", 0.0)]));
    assert_eq!((decision.from, decision.to), (Replicas(0), Replicas(2)));
    assert_eq!(decision.placement.start, 2);
    assert_eq!(labels(&decision), ["queue_depth", "raised_to_min", "starting"]);
}

#[test]
fn what_is_missing_stale_or_partial_never_scales_down_and_may_scale_up() {
    let stale = Signal { age: Duration::from_secs(61), ..Signal::value(0.0) };
    let partial = |total| Signal {
        reading: Reading::Partial { total, per_replica: [].into(), reporting: 1, expected: 4 },
        age: Duration::ZERO,
    };
    let nan = Signal::value(f64::NAN);
    let cases = [
        ("absent", Signal::missing(Missing::Absent), 4, "held_on_missing"),
        ("failed", Signal::missing(Missing::Failed("timeout".into())), 4, "held_on_missing"),
        ("reset", Signal::missing(Missing::Reset), 4, "held_on_missing"),
        ("stale", stale, 4, "held_on_missing"),
        ("not a number", nan, 4, "held_on_missing"),
        ("negative", Signal::value(-3.0), 4, "held_on_missing"),
        ("partly zero", partial(0.0), 4, "held_on_partial"),
        ("partly many", partial(30.0), 6, "starting"),
    ];
    for (name, signal, to, reason) in cases {
        // No window: whatever holds the number is the missing value.
        let mut spec = spec(1, 8);
        spec.behavior.scale_down.stabilization_window = Duration::ZERO;
        let mut observation = at(0.0, &ready(4), &[]);
        observation.signals.insert("waiting".into(), signal);
        let decision = plan(&spec, &mut ScalerState::default(), &observation);
        assert_eq!(decision.to, Replicas(to), "{name}: {decision:?}");
        assert_eq!(labels(&decision).last(), Some(&reason), "{name}");
    }
}

#[test]
fn a_fleet_that_cannot_be_seen_is_left_alone() {
    let mut state = ScalerState::default();
    let first = plan(&spec(1, 8), &mut state, &at(0.0, &ready(3), &[("waiting", 14.0)]));
    assert_eq!(first.to, Replicas(3));
    let before = state.clone();
    let mut blind = at(15.0, &[], &[("waiting", 100.0)]);
    blind.fleet_error = Some("connection refused".into());
    let decision = plan(&spec(1, 8), &mut state, &blind);
    assert_eq!((decision.to, decision.placement.is_empty()), (Replicas(3), true));
    assert_eq!(labels(&decision), ["held_on_unseen_fleet"]);
    assert_eq!(state, before, "nothing is learned from an unseen fleet");
}

#[test]
fn coming_replicas_count_so_a_burst_is_sized_once() {
    let mut state = ScalerState::default();
    let first = plan(&spec(1, 8), &mut state, &at(0.0, &ready(1), &[("waiting", 20.0)]));
    assert_eq!(first.placement.start, 3);
    for second in 1..200 {
        let fleet =
            [("r0", Phase::Ready), ("a", Phase::Loading), ("b", Phase::Loading), ("c", Phase::Requested)];
        let decision = plan(&spec(1, 8), &mut state, &at(f64::from(second), &fleet, &[("waiting", 20.0)]));
        assert!(decision.placement.is_empty(), "second {second}: {:?}", decision.placement);
    }
}

#[test]
fn zero_takes_a_deliberate_word_in_production() {
    let cases = [
        ("production", Environment::Production, false, 1, true),
        ("production, allowed", Environment::Production, true, 0, false),
        ("staging", Environment::Staging, false, 0, false),
        ("batch", Environment::Batch, false, 0, false),
    ];
    for (name, environment, allow_scale_to_zero, to, guarded) in cases {
        let mut spec = spec(0, 8);
        spec.environment = environment;
        spec.allow_scale_to_zero = allow_scale_to_zero;
        let mut state = ScalerState::default();
        let idle = [("waiting", 0.0), ("in_flight", 0.0), ("arrivals_total", 7.0)];
        drop(plan(&spec, &mut state, &at(0.0, &ready(1), &idle)));
        let decision = plan(&spec, &mut state, &at(301.0, &ready(1), &idle));
        assert_eq!(decision.to, Replicas(to), "{name}");
        assert_eq!(labels(&decision).contains(&"zero_guard"), guarded, "{name}");
    }
}

#[test]
fn one_waiting_request_wakes_a_fleet_at_zero() {
    let mut spec = spec(0, 8);
    spec.environment = Environment::Dev;
    let decision = plan(&spec, &mut ScalerState::default(), &at(0.0, &[], &[("queued", 1.0)]));
    assert_eq!((decision.to, decision.placement.start), (Replicas(1), 1));
    assert_eq!(decision.ready_at, Some(Timestamp::from_seconds(240.0)), "the prior is the first estimate");
}

#[test]
fn a_request_between_two_observations_restarts_the_idle_window() {
    let mut spec = spec(0, 8);
    spec.environment = Environment::Dev;
    let mut state = ScalerState::default();
    let seen = |second: f64, arrived: f64| {
        at(second, &ready(1), &[("queued", 0.0), ("in_flight", 0.0), ("arrivals_total", arrived)])
    };
    drop(plan(&spec, &mut state, &seen(0.0, 3.0)));
    drop(plan(&spec, &mut state, &seen(200.0, 4.0)));
    assert_eq!(
        plan(&spec, &mut state, &seen(400.0, 4.0)).to,
        Replicas(1),
        "200 s of idleness are not enough"
    );
    assert_eq!(plan(&spec, &mut state, &seen(501.0, 4.0)).to, Replicas(0));
}

#[test]
fn rate_limits_mean_what_they_mean_in_autoscaling_v2() {
    let mut spec = spec(1, 8);
    // The manifest in examples/seed/hpa.yaml.
    spec.behavior = Behavior {
        scale_up: ScalingRules {
            stabilization_window: Duration::from_secs(30),
            select_policy: SelectPolicy::Max,
            policies: vec![RateLimit { unit: RateUnit::Pods, value: 2, period: Duration::from_secs(60) }],
        },
        scale_down: ScalingRules {
            stabilization_window: Duration::from_secs(600),
            select_policy: SelectPolicy::Max,
            policies: vec![RateLimit { unit: RateUnit::Pods, value: 1, period: Duration::from_secs(300) }],
        },
    };
    let mut state = ScalerState::default();
    let mut targets = Vec::new();
    let mut count = 1;
    for tick in 0..200 {
        let waiting = if tick < 40 { 100.0 } else { 0.0 };
        let decision =
            plan(&spec, &mut state, &at(f64::from(tick) * 15.0, &ready(count), &[("waiting", waiting)]));
        count = decision.to.0 as usize;
        targets.push((tick * 15, decision.to.0));
    }
    let changes: Vec<(i32, u32)> =
        targets.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1]).collect();
    // Up: the window of 30 s, then two a minute. Down: ten minutes after the last wish, one in five.
    let expected = [
        (30, 3),
        (90, 5),
        (150, 7),
        (210, 8),
        (1185, 7),
        (1485, 6),
        (1785, 5),
        (2085, 4),
        (2385, 3),
        (2685, 2),
        (2985, 1),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_pause_overrides_and_expires() {
    let mut spec = spec(1, 8);
    spec.pause = Some(Pause { replicas: Replicas(2), until: Timestamp::from_seconds(100.0) });
    let mut state = ScalerState::default();
    let held = plan(&spec, &mut state, &at(0.0, &ready(1), &[("waiting", 40.0)]));
    assert_eq!((held.to, held.wake_at), (Replicas(2), Some(Timestamp::from_seconds(100.0))));
    assert_eq!(held.limit().map(|step| step.reason.label()), Some("paused"));
    let free = plan(&spec, &mut state, &at(100.0, &ready(2), &[("waiting", 40.0)]));
    assert_eq!(free.to, Replicas(8));
}

#[test]
fn the_fuse_stops_a_policy_that_changes_its_mind_on_every_event() {
    let mut spec = spec(1, 8);
    spec.behavior.scale_down.stabilization_window = Duration::ZERO;
    spec.max_changes_per_minute = 4;
    let mut state = ScalerState::default();
    let mut changes = 0;
    let mut fused = 0;
    for second in 0..60 {
        let waiting = if second % 2 == 0 { 10.0 } else { 5.0 };
        let decision = plan(&spec, &mut state, &at(f64::from(second), &ready(1), &[("waiting", waiting)]));
        changes += u32::from(decision.from != decision.to);
        fused += u32::from(labels(&decision).contains(&"too_many_changes"));
    }
    assert_eq!(changes, 4);
    assert!(fused > 20, "{fused}");
}

#[test]
fn shadow_mode_decides_and_does_nothing() {
    let mut spec = spec(1, 8);
    spec.mode = Mode::Shadow;
    let mut state = ScalerState::default();
    let decision = plan(&spec, &mut state, &at(0.0, &ready(2), &[("waiting", 40.0)]));
    assert_eq!((decision.from, decision.to, decision.placement.is_empty()), (Replicas(2), Replicas(8), true));
    let decision = plan(&spec, &mut state, &at(15.0, &ready(5), &[("waiting", 40.0)]));
    assert_eq!(decision.from, Replicas(5), "what the incumbent did is what it compares with");
}

#[test]
fn a_shadow_that_is_followed_late_says_the_same_again_and_has_changed_its_mind_once() {
    let mut spec = spec(1, 8);
    spec.mode = Mode::Shadow;
    spec.max_changes_per_minute = 4;
    let limit = RateLimit { unit: RateUnit::Pods, value: 4, period: Duration::from_secs(30) };
    spec.behavior.scale_up.policies = vec![limit];
    let mut state = ScalerState::default();
    // Whoever acts looks every 15 s; the queue says more often that it is long.
    for second in 0..30 {
        let running = if second < 14 { 1 } else { 5 };
        let decision = plan(&spec, &mut state, &at(f64::from(second), &ready(running), &[("waiting", 40.0)]));
        assert_eq!(decision.to, Replicas(5), "second {second}: {:?}", labels(&decision));
    }
    let decision = plan(&spec, &mut state, &at(30.0, &ready(5), &[("waiting", 40.0)]));
    assert_eq!(decision.to, Replicas(8));
}

#[test]
fn who_goes_is_chosen_by_phase_then_work_then_age() {
    let mut spec = spec(1, 8);
    spec.behavior.scale_down.stabilization_window = Duration::ZERO;
    let replica = |id: &str, phase, age: u64, in_flight| Replica {
        age: Duration::from_secs(age),
        in_flight,
        ..Replica::new(id, phase)
    };
    let mut observation = at(0.0, &[], &[("waiting", 5.0)]);
    observation.replicas = vec![
        replica("busy", Phase::Ready, 900, Some(7)),
        replica("idle", Phase::Ready, 500, Some(0)),
        replica("unknown", Phase::Ready, 100, None),
        replica("old-start", Phase::Loading, 90, None),
        replica("new-start", Phase::Requested, 1, None),
    ];
    let order = |keep: u32| {
        let mut observation = observation.clone();
        observation.signals.insert("waiting".into(), Signal::value(f64::from(keep) * 5.0));
        let decision = plan(&spec, &mut ScalerState::default(), &observation);
        let ids =
            |list: &[forewarm_core::ReplicaId]| list.iter().map(|id| id.to_string()).collect::<Vec<_>>();
        (ids(&decision.placement.stop), ids(&decision.placement.drain))
    };
    assert_eq!(order(4), (vec!["new-start".to_owned()], vec![]));
    assert_eq!(order(3), (vec!["new-start".to_owned(), "old-start".to_owned()], vec![]));
    assert_eq!(order(1).1, ["idle", "busy"], "one whose work is unknown counts as the busiest");
}

#[test]
fn a_draining_replica_stops_when_it_is_empty_or_late() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    let seen = |second: f64, in_flight| {
        let mut observation = at(second, &ready(1), &[("waiting", 1.0)]);
        observation.replicas.push(Replica { in_flight, ..Replica::new("old", Phase::Draining) });
        observation
    };
    for (second, in_flight) in [(0.0, Some(3)), (900.0, None), (1799.0, Some(1))] {
        let decision = plan(&spec, &mut state, &seen(second, in_flight));
        assert!(decision.placement.is_empty(), "{second}: {:?}", decision.placement);
    }
    let late = plan(&spec, &mut state.clone(), &seen(1800.0, Some(1)));
    assert_eq!(labels(&late).last(), Some(&"drain_deadline"));
    let empty = plan(&spec, &mut state, &seen(1799.5, Some(0)));
    assert_eq!(empty.placement.stop, ["old".into()]);
    assert_eq!(labels(&empty).last(), Some(&"drained"));
}

#[test]
fn a_draining_replica_is_taken_back_before_another_is_started() {
    let spec = spec(1, 8);
    let draining = |id: &str, in_flight| Replica { in_flight, ..Replica::new(id, Phase::Draining) };
    let seen = |second: f64, waiting: f64, draining: &[Replica]| {
        let mut observation = at(second, &ready(1), &[("waiting", waiting)]);
        observation.replicas.extend_from_slice(draining);
        observation
    };
    let replicas = [draining("empty", Some(0)), draining("working", Some(3)), draining("unknown", None)];
    let mut state = ScalerState::default();
    // Just enough comes back: the one with the most work first, which unknown work may be. Those that are left go on
    // as before.
    let decision = plan(&spec, &mut state.clone(), &seen(0.0, 10.0, &replicas));
    assert_eq!((decision.to, decision.placement.start), (Replicas(2), 0));
    assert_eq!(
        (ids(&decision.placement.revive), ids(&decision.placement.stop)),
        ("unknown".into(), "empty".into())
    );
    assert_eq!(labels(&decision), ["queue_depth", "revived", "drained"]);
    // All of them, and one more has to start; what has finished is not stopped.
    let decision = plan(&spec, &mut state.clone(), &seen(0.0, 25.0, &replicas));
    assert_eq!(ids(&decision.placement.revive), "unknown working empty");
    assert_eq!((decision.placement.start, decision.placement.stop.len()), (1, 0));
    // Not one that was told to stop, however soon after.
    let stopped = plan(&spec, &mut state, &seen(0.0, 5.0, &replicas));
    assert_eq!(ids(&stopped.placement.stop), "empty");
    let decision = plan(&spec, &mut state, &seen(0.1, 20.0, &replicas));
    assert_eq!((ids(&decision.placement.revive), decision.placement.start), ("unknown working".into(), 1));
    // Nor one that cannot finish.
    let decision = plan(&spec, &mut state, &seen(1800.0, 10.0, &replicas[1..]));
    assert_eq!((ids(&decision.placement.stop), decision.placement.start), ("working unknown".into(), 1));
    // A start that has to wait after a failure keeps nobody from coming back.
    let mut observation = seen(0.0, 15.0, &[draining("working", Some(3))]);
    observation.failed_starts =
        vec![FailedStart { id: "r".into(), phase: Phase::Loading, error: "exit status 1".into() }];
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    assert_eq!((ids(&decision.placement.revive), decision.placement.start), ("working".into(), 0));
}

#[test]
fn a_replica_that_somebody_else_takes_away_is_replaced_and_finishes_its_work() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    let seen = |second: f64, in_flight| {
        let mut observation = at(second, &ready(1), &[("waiting", 10.0)]);
        observation.replicas.push(Replica { in_flight, ..Replica::new("spot", Phase::Leaving) });
        observation
    };
    let working = plan(&spec, &mut state, &seen(0.0, Some(3)));
    assert_eq!(
        (working.placement.start, working.placement.revive.len(), working.placement.stop.len()),
        (1, 0, 0)
    );
    let done = plan(&spec, &mut state, &seen(1.0, Some(0)));
    assert_eq!((done.placement.revive.len(), ids(&done.placement.stop)), (0, "spot".into()));
}

fn ids(list: &[forewarm_core::ReplicaId]) -> String {
    list.iter().map(forewarm_core::ReplicaId::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_start_that_takes_too_long_is_replaced() {
    let spec = spec(1, 8);
    let mut observation = at(5000.0, &[], &[("waiting", 1.0)]);
    observation.replicas =
        vec![Replica { age: Duration::from_secs(1800), ..Replica::new("stuck", Phase::Loading) }];
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    assert_eq!(decision.placement.stop, ["stuck".into()]);
    assert_eq!(decision.placement.start, 1);
    assert_eq!(labels(&decision), ["queue_depth", "start_expired", "starting"]);
}

#[test]
fn starts_that_fail_are_tried_again_ever_more_slowly() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    let mut starts = Vec::new();
    let mut failed = Vec::new();
    for second in 0..1200 {
        let mut observation = at(f64::from(second), &[], &[("waiting", 1.0)]);
        observation.failed_starts = std::mem::take(&mut failed);
        let decision = plan(&spec, &mut state, &observation);
        if decision.placement.start == 1 {
            starts.push(second);
            let error = "exit status 1".to_owned();
            failed = vec![FailedStart { id: format!("r{second}").into(), phase: Phase::Provisioning, error }];
        }
    }
    let waits: Vec<i32> = starts.windows(2).map(|pair| pair[1] - pair[0] - 1).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn the_cold_start_is_learned_and_told() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    for (index, seconds) in [100.0, 120.0, 110.0].into_iter().enumerate() {
        let id = format!("r{index}");
        let begin = index as f64 * 1000.0;
        drop(plan(&spec, &mut state, &at(begin, &[(&id, Phase::Requested)], &[("waiting", 1.0)])));
        drop(plan(&spec, &mut state, &at(begin + seconds, &[(&id, Phase::Ready)], &[("waiting", 1.0)])));
    }
    assert_eq!(state.cold_starts.samples(), 3);
    let decision = plan(&spec, &mut state, &at(4000.0, &ready(1), &[("waiting", 9.0)]));
    assert_eq!(decision.ready_at, Some(Timestamp::from_seconds(4120.0)), "the p90 of what was seen");
}

#[test]
fn pre_warming_raises_before_the_queue_asks() {
    let mut spec = spec(1, 8);
    let rule = PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: requests(10.0) };
    spec.policy = Policy::QueueDepth(QueueDepth { per_replica: requests(20.0), pre_warm: Some(rule) });
    let mut state = ScalerState::default();
    let decision = plan(&spec, &mut state, &at(0.0, &ready(1), &[("waiting", 7.0)]));
    assert_eq!(decision.to, Replicas(2));
    assert_eq!(labels(&decision), ["queue_depth", "pre_warm_queue", "starting"]);
    let fleet = [("r0", Phase::Ready), ("r1", Phase::Loading)];
    let again = plan(&spec, &mut state, &at(15.0, &fleet, &[("waiting", 8.0)]));
    assert_eq!(again.to, Replicas(2), "a replica on its way is not asked for twice");
}

#[test]
fn a_rising_queue_is_forecast() {
    let mut spec = spec(1, 8);
    let rule = PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: requests(100.0) };
    spec.policy = Policy::QueueDepth(QueueDepth { per_replica: requests(50.0), pre_warm: Some(rule) });
    let mut state = ScalerState::default();
    let fired = (0..60)
        .map(|tick| {
            plan(
                &spec,
                &mut state,
                &at(f64::from(tick) * 15.0, &ready(1), &[("waiting", f64::from(tick) * 2.0)]),
            )
        })
        .find(|decision| labels(decision).contains(&"pre_warm_forecast"))
        .expect("a steady ramp crosses the threshold in the forecast first");
    // 2 requests a step: the queue itself reaches 70 at step 35, the forecast twelve steps earlier.
    let step = fired.at.as_seconds() / 15.0;
    assert!((23.0..30.0).contains(&step), "fired at step {step}");
}

#[test]
fn an_explanation_reads_like_one() {
    let mut spec = spec(1, 8);
    spec.behavior.scale_up.policies =
        vec![RateLimit { unit: RateUnit::Pods, value: 2, period: Duration::from_secs(60) }];
    let observation = at(0.0, &ready(1), &[("queued", 31.0), ("waiting", 2.0), ("in_flight", 8.0)]);
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    let mut page = format!("{}\n", decision.summary());
    for step in &decision.steps {
        page += &format!("{:>9} {:>2}  {}\n", step.stage.label(), step.replicas.0, step.reason);
    }
    insta::assert_snapshot!(page, @r"
    1 → 3 replicas: 33 requests wait, a replica is worth 5 of them; a wish for 7 replicas is limited to +2 replicas in 60 s
      propose  7  33 requests wait, a replica is worth 5 of them
      propose  1  8 requests are being worked on, a replica takes 8 at a time
      combine  7  the largest wish counts
    rateLimit  3  a wish for 7 replicas is limited to +2 replicas in 60 s
     allocate  3  2 replicas to start, 0 on the way; a start takes about 240 s
    ");
    let json = serde_json::to_string(&decision.steps[4]).unwrap();
    insta::assert_snapshot!(json, @r#"{"stage":"allocate","replicas":3,"reason":"starting","count":2,"coming":0,"coldStartSeconds":240.0}"#);
}

#[test]
fn where_places_are_fixed_the_last_goes_and_not_before_those_behind_it() {
    let mut spec = spec(1, 8);
    spec.behavior.scale_down.stabilization_window = Duration::ZERO;
    let place = |ordinal: u32, phase, in_flight| Replica {
        ordinal: Some(ordinal),
        in_flight: Some(in_flight),
        ..Replica::new(format!("llm-{ordinal}"), phase)
    };
    let mut observation = at(0.0, &[], &[("waiting", 5.0)]);
    observation.replicas =
        vec![place(0, Phase::Ready, 0), place(1, Phase::Loading, 0), place(2, Phase::Ready, 7)];
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    assert_eq!((decision.to, decision.placement.drain), (Replicas(1), vec!["llm-2".into()]));
    assert_eq!(decision.placement.stop, vec!["llm-1".into()]);

    // The one before the last is done, the last is not.
    observation.replicas =
        vec![place(0, Phase::Ready, 0), place(1, Phase::Draining, 0), place(2, Phase::Draining, 3)];
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    assert_eq!(decision.placement.stop, vec![]);
    // More are wanted: the first of them serves again.
    observation.signals.insert("waiting".into(), Signal::value(6.0));
    let decision = plan(&spec, &mut ScalerState::default(), &observation);
    assert_eq!(decision.placement.revive, vec!["llm-1".into()]);
}

#[test]
fn after_a_restart_nothing_is_taken_away_until_enough_was_seen_but_bounds_hold() {
    let mut spec = spec(1, 8);
    spec.behavior.scale_down.stabilization_window = Duration::ZERO;
    let mut state = ScalerState::default();
    state.hold_until(Timestamp::from_seconds(300.0));
    let fleet: [(&str, Phase); 3] = [("a", Phase::Ready), ("b", Phase::Ready), ("c", Phase::Ready)];
    let held = plan(&spec, &mut state, &at(10.0, &fleet, &[("waiting", 0.0)]));
    assert_eq!(held.to, Replicas(3));
    assert_eq!(
        held.summary(),
        "3 replicas as before: a wish for 1 replica is held for another 290 s: the controller was away, and has not \
         seen enough yet"
    );
    spec.replicas = Bounds::new(1, 2).unwrap();
    assert_eq!(plan(&spec, &mut state, &at(11.0, &fleet, &[("waiting", 0.0)])).to, Replicas(2));
    assert_eq!(plan(&spec, &mut state, &at(301.0, &fleet, &[("waiting", 0.0)])).to, Replicas(1));
}
