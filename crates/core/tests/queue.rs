//! Workers and jobs that take messages from a queue: how many, who goes, and when they may be stopped.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    Bounds, Decision, Environment, Missing, Observation, Phase, Policy, QueuePolicy, Reading, Replica,
    Replicas, Requests, ScalerSpec, ScalerState, ScalingRules, Signal, Timestamp,
    peers::keda::{JobCounts, JobStrategy, jobs_to_create},
    plan,
};

fn policy(per_replica: f64) -> QueuePolicy {
    QueuePolicy {
        signal: "jobs".into(),
        in_flight: "working".into(),
        per_replica: Requests::new(per_replica).unwrap(),
        visibility_timeout: None,
        jobs: None,
    }
}

fn spec(policy: QueuePolicy) -> ScalerSpec {
    let mut spec = ScalerSpec::new("batch", Bounds::new(0, 10).unwrap(), Policy::Queue(policy));
    spec.environment = Environment::Batch;
    spec.behavior.scale_down = ScalingRules::default();
    spec
}

/// What there is at a moment: workers with their phases, and signals.
fn at(seconds: f64, workers: &[(&str, Phase)], signals: &[(&str, Signal)]) -> Observation {
    Observation {
        at: Timestamp::from_seconds(seconds),
        replicas: workers.iter().map(|&(id, phase)| Replica::new(id, phase)).collect(),
        signals: signals.iter().map(|(name, signal)| ((*name).into(), signal.clone())).collect(),
        ..Observation::default()
    }
}

fn value(total: f64) -> Signal {
    Signal::value(total)
}

/// What each worker says that it holds, read this many seconds ago.
fn shares(shares: &[(&str, f64)], age_seconds: f64) -> Signal {
    let per_replica: BTreeMap<_, _> = shares.iter().map(|&(id, share)| (id.into(), share)).collect();
    let total = per_replica.values().sum();
    Signal { reading: Reading::Value { total, per_replica }, age: Duration::from_secs_f64(age_seconds) }
}

fn labels(decision: &Decision) -> Vec<&'static str> {
    decision.steps.iter().map(|step| step.reason.label()).collect()
}

fn names(ids: &[forewarm_core::ReplicaId]) -> Vec<&str> {
    ids.iter().map(|id| id.as_str()).collect()
}

#[test]
fn workers_follow_the_queue_from_zero_and_to_zero() {
    struct Case {
        name: &'static str,
        workers: &'static [(&'static str, Phase)],
        signals: Vec<(&'static str, Signal)>,
        to: u32,
        reasons: &'static [&'static str],
    }
    let two = &[("a", Phase::Ready), ("b", Phase::Ready)];
    let cases = [
        Case {
            name: "an empty queue needs nobody",
            workers: &[],
            signals: vec![("jobs", value(0.0))],
            to: 0,
            reasons: &["messages"],
        },
        Case {
            name: "one message needs a worker",
            workers: &[],
            signals: vec![("jobs", value(1.0))],
            to: 1,
            reasons: &["messages", "starting"],
        },
        Case {
            name: "each worker is worth five",
            workers: two,
            signals: vec![("jobs", value(16.0)), ("working", value(2.0))],
            to: 4,
            reasons: &["messages", "messages_in_flight", "largest_wish", "starting"],
        },
        Case {
            name: "messages at workers keep them, although none waits",
            workers: two,
            signals: vec![("jobs", value(0.0)), ("working", value(7.0))],
            to: 2,
            reasons: &["messages", "messages_in_flight", "largest_wish"],
        },
        Case {
            name: "at most so many",
            workers: &[],
            signals: vec![("jobs", value(1e6))],
            to: 10,
            reasons: &["messages", "lowered_to_max", "starting"],
        },
        Case {
            name: "a queue that nobody can count takes nothing away",
            workers: two,
            signals: vec![("jobs", Signal::missing(Missing::Failed("connection refused".into())))],
            to: 2,
            reasons: &["held_on_missing"],
        },
        Case {
            name: "nor does one whose messages at workers nobody can count",
            workers: two,
            signals: vec![("jobs", value(0.0)), ("working", Signal::missing(Missing::Absent))],
            to: 2,
            reasons: &["messages", "held_on_missing"],
        },
        Case {
            name: "nor one that nobody asked for",
            workers: two,
            signals: vec![],
            to: 2,
            reasons: &["held_on_missing"],
        },
    ];
    for Case { name, workers, signals, to, reasons } in cases {
        let decision = plan(&spec(policy(5.0)), &mut ScalerState::default(), &at(0.0, workers, &signals));
        assert_eq!(decision.to, Replicas(to), "{name}: {decision:#?}");
        assert_eq!(labels(&decision), reasons, "{name}");
    }
}

#[test]
fn the_idle_go_first_and_all_that_may_hold_a_message_are_asked_to_finish_rather_than_stopped() {
    let workers = [
        ("busy", Phase::Ready),
        ("idle", Phase::Ready),
        ("unknown", Phase::Ready),
        ("loading", Phase::Loading),
        ("requested", Phase::Requested),
    ];
    let working = shares(&[("busy", 1.0), ("idle", 0.0)], 0.0);
    let mut taken = Vec::new();
    for to in (0..5).rev() {
        let signals = [("jobs", value(f64::from(to))), ("working", working.clone())];
        let decision = plan(&spec(policy(1.0)), &mut ScalerState::default(), &at(0.0, &workers, &signals));
        let placement = decision.placement;
        assert!(names(&placement.stop).iter().all(|id| *id == "requested"), "{placement:?}");
        let gone: Vec<_> =
            [&placement.stop, &placement.drain].into_iter().flatten().map(ToString::to_string).collect();
        let new = gone.iter().find(|id| !taken.contains(*id)).unwrap().clone();
        taken.push(new);
        if to == 1 {
            // One message is at a worker.
            break;
        }
    }
    assert_eq!(taken[2..], ["idle", "busy"]);
    let mut first = taken[..2].to_vec();
    first.sort();
    assert_eq!(first, ["loading", "requested"]);
}

/// A worker that drains since t = 100, and what is known of its work at a later moment.
fn drains(policy: QueuePolicy, later: f64, working: Option<Signal>) -> Decision {
    let spec = ScalerSpec { drain_deadline: Duration::from_secs(900), ..spec(policy) };
    let mut state = ScalerState::default();
    let signals = |working: Option<Signal>| {
        let mut signals = vec![("jobs", value(0.0))];
        signals.extend(working.map(|working| ("working", working)));
        signals
    };
    let _told = plan(&spec, &mut state, &at(100.0, &[("a", Phase::Draining)], &signals(None)));
    plan(&spec, &mut state, &at(100.0 + later, &[("a", Phase::Draining)], &signals(working)))
}

#[test]
fn a_worker_that_drains_is_stopped_once_it_is_known_to_hold_nothing() {
    struct Case {
        name: &'static str,
        later: f64,
        working: Option<Signal>,
        visibility: Option<u64>,
        stopped: Option<&'static str>,
    }
    let case = |name, later, working, visibility, stopped| Case { name, later, working, visibility, stopped };
    let whole = |total: f64, age: f64| Some(Signal { age: Duration::from_secs_f64(age), ..value(total) });
    let own = |share: f64, age: f64| Some(shares(&[("a", share)], age));
    let missing = || Some(Signal::missing(Missing::Failed("connection refused".into())));
    let cases = [
        case("it says so itself", 10.0, own(0.0, 1.0), None, Some("drained")),
        case("it said so before it was told", 10.0, own(0.0, 11.0), None, None),
        case("it holds one", 10.0, own(1.0, 1.0), None, None),
        case(
            "the queue says that nobody holds any, long after",
            70.0,
            whole(0.0, 5.0),
            None,
            Some("drained"),
        ),
        case("the queue's count may be late", 50.0, whole(0.0, 1.0), None, None),
        case("somebody holds one", 70.0, whole(1.0, 1.0), None, None),
        case("another says that it holds none", 70.0, Some(shares(&[("b", 1.0)], 1.0)), None, None),
        case("nobody knows", 800.0, None, None, None),
        case("nobody can be asked", 800.0, missing(), None, None),
        case("nobody knows, and its time is over", 900.0, None, None, Some("drain_deadline")),
        case("it holds one, and its time is over", 900.0, own(1.0, 1.0), None, Some("drain_deadline")),
        case("what it held is visible again", 30.0, None, Some(30), Some("visibility_over")),
        case("what it held may not be visible again", 29.0, None, Some(30), None),
        case("the queue cannot be asked either", 30.0, missing(), Some(30), Some("visibility_over")),
        case("it says that it works on, and keeps its message", 30.0, own(1.0, 1.0), Some(30), None),
        case("it said so too long ago to count", 300.0, own(1.0, 200.0), Some(30), Some("visibility_over")),
    ];
    for Case { name, later, working, visibility, stopped } in cases {
        let policy = QueuePolicy { visibility_timeout: visibility.map(Duration::from_secs), ..policy(1.0) };
        let decision = drains(policy, later, working);
        assert_eq!(names(&decision.placement.stop), stopped.map_or(vec![], |_| vec!["a"]), "{name}");
        if let Some(stopped) = stopped {
            assert!(labels(&decision).contains(&stopped), "{name}: {:?}", labels(&decision));
        }
    }
}

#[test]
fn it_is_looked_at_again_when_its_visibility_or_its_time_is_over() {
    let wake = |visibility: Option<u64>| {
        let policy = QueuePolicy { visibility_timeout: visibility.map(Duration::from_secs), ..policy(1.0) };
        drains(policy, 10.0, None).wake_at
    };
    assert_eq!(wake(Some(30)), Some(Timestamp::from_seconds(130.0)));
    assert_eq!(wake(None), Some(Timestamp::from_seconds(1000.0)));
}

#[test]
fn a_worker_that_was_told_to_finish_is_never_asked_back() {
    let workers = [("a", Phase::Draining), ("b", Phase::Ready)];
    let signals = [("jobs", value(2.0)), ("working", shares(&[("a", 1.0), ("b", 1.0)], 0.0))];
    let decision = plan(&spec(policy(1.0)), &mut ScalerState::default(), &at(0.0, &workers, &signals));
    assert_eq!((decision.placement.revive.len(), decision.placement.start), (0, 1));
}

#[test]
fn jobs_are_created_as_keda_creates_them() {
    struct Case {
        strategy: JobStrategy,
        /// Messages, messages a job, unfinished jobs, those that do not run, bounds.
        counts: (f64, f64, i64, i64, i64, i64),
        create: i64,
    }
    let case = |strategy, counts, create| Case { strategy, counts, create };
    let custom = |queue_length_deduction, running_job_percentage| JobStrategy::Custom {
        queue_length_deduction,
        running_job_percentage,
    };
    use JobStrategy::{Accurate, Default, Eager};
    let cases = [
        // Each unfinished job stands for a message.
        case(Default, (3.0, 1.0, 0, 0, 0, 10), 3),
        case(Default, (3.0, 1.0, 2, 1, 0, 10), 1),
        case(Default, (3.0, 1.0, 5, 0, 0, 10), 0),
        case(Default, (30.0, 1.0, 4, 0, 0, 10), 6),
        case(Default, (0.0, 1.0, 0, 0, 0, 10), 0),
        // A job for five messages; a sixth needs another.
        case(Default, (6.0, 5.0, 0, 0, 0, 10), 2),
        case(Default, (6.0, 5.0, 1, 0, 0, 10), 1),
        // A job is worth less than a message: no more than there are messages.
        case(Default, (2.0, 0.5, 0, 0, 0, 10), 2),
        // The minimum, whatever the queue is.
        case(Default, (0.0, 1.0, 0, 0, 2, 10), 2),
        case(Default, (0.0, 1.0, 2, 0, 2, 10), 0),
        case(Default, (3.0, 1.0, 2, 0, 2, 10), 3),
        // A number and a share are taken off.
        case(custom(1, 0.5), (10.0, 1.0, 4, 0, 0, 20), 7),
        case(custom(0, 0.5), (10.0, 1.0, 3, 0, 0, 20), 9),
        case(custom(20, 0.0), (10.0, 1.0, 0, 0, 0, 20), 0),
        // Only jobs that do not run yet stand for a message.
        case(Accurate, (3.0, 1.0, 5, 0, 0, 10), 3),
        case(Accurate, (3.0, 1.0, 5, 2, 0, 10), 1),
        case(Accurate, (8.0, 1.0, 5, 0, 0, 10), 5),
        case(Accurate, (8.0, 1.0, 5, 4, 0, 10), 4),
        // All that fit.
        case(Eager, (3.0, 1.0, 5, 2, 0, 10), 3),
        case(Eager, (30.0, 1.0, 5, 2, 0, 10), 3),
        case(Eager, (3.0, 1.0, 9, 2, 0, 10), 0),
    ];
    for Case { strategy, counts, create } in cases {
        let (messages, per_job, unfinished, pending, min, max) = counts;
        let found = jobs_to_create(strategy, JobCounts { messages, per_job, unfinished, pending, min, max });
        assert_eq!(found, create, "{strategy:?} {counts:?}");
    }
}

fn jobs(strategy: JobStrategy) -> ScalerSpec {
    spec(QueuePolicy { jobs: Some(strategy), ..policy(1.0) })
}

#[test]
fn a_job_that_has_ended_is_not_started_again() {
    let spec = jobs(JobStrategy::Default);
    let mut state = ScalerState::default();
    let first = plan(&spec, &mut state, &at(0.0, &[], &[("jobs", value(3.0))]));
    assert_eq!((first.to, first.placement.start), (Replicas(3), 3));
    assert_eq!(labels(&first), ["jobs", "starting"]);
    let three = [("a", Phase::Ready), ("b", Phase::Ready), ("c", Phase::Ready)];
    let running = plan(&spec, &mut state, &at(5.0, &three, &[("jobs", value(3.0))]));
    assert_eq!(running.placement.start, 0);
    // Two are done; the queue is counted again.
    let later = plan(&spec, &mut state, &at(20.0, &three[..1], &[("jobs", value(1.0))]));
    assert_eq!((later.to, later.placement.start), (Replicas(1), 0));
    // The queue cannot be counted: what ends meanwhile is not replaced either.
    let lost = Signal::missing(Missing::Failed("connection refused".into()));
    let unknown = plan(&spec, &mut state, &at(35.0, &[], &[("jobs", lost)]));
    assert_eq!((unknown.to, unknown.placement.start), (Replicas(0), 0));
    assert!(unknown.placement.drain.is_empty());
}

#[test]
fn a_count_from_before_jobs_came_or_went_starts_no_more() {
    let spec = jobs(JobStrategy::Accurate);
    let mut state = ScalerState::default();
    let counted_at_zero = |now: f64| Signal { age: Duration::from_secs_f64(now), ..value(3.0) };
    let first = plan(&spec, &mut state, &at(0.0, &[], &[("jobs", value(3.0))]));
    assert_eq!(first.placement.start, 3);
    // They run now, and have taken the three; the same count would start three more.
    let three = [("a", Phase::Ready), ("b", Phase::Ready), ("c", Phase::Ready)];
    for now in [4.0, 9.0] {
        let decision = plan(&spec, &mut state, &at(now, &three, &[("jobs", counted_at_zero(now))]));
        assert_eq!(decision.placement.start, 0, "{now}");
        assert_eq!(labels(&decision), ["jobs_await_count"], "{now}");
    }
    let counted = plan(&spec, &mut state, &at(15.0, &three, &[("jobs", value(2.0))]));
    assert_eq!(counted.placement.start, 2);
}

#[test]
fn the_fuse_that_stops_a_loop_does_not_start_jobs_that_have_ended() {
    let spec = ScalerSpec { max_changes_per_minute: 1, ..jobs(JobStrategy::Default) };
    let mut state = ScalerState::default();
    let started = plan(&spec, &mut state, &at(0.0, &[], &[("jobs", value(3.0))]));
    assert_eq!(started.placement.start, 3);
    let ended = plan(&spec, &mut state, &at(5.0, &[], &[("jobs", value(0.0))]));
    assert_eq!((ended.to, ended.placement.start), (Replicas(0), 0));
}
