//! Instances that stand by, those that are taken away, and who else sets the number.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{
    Bounds, Contested, Decision, Forewarm, Notice, Observation, Phase, Policy, QueueDepth, Reason, Replica,
    Requests, ScalerSpec, ScalerState, Signal, Standby, Tier, Timestamp, plan,
};

fn spec(min: u32, max: u32) -> ScalerSpec {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    let mut spec = ScalerSpec::new("llama3", Bounds::new(min, max).unwrap(), policy);
    spec.behavior.scale_down.stabilization_window = Duration::ZERO;
    spec
}

fn at(seconds: f64, replicas: Vec<Replica>, waiting: f64) -> Observation {
    Observation {
        at: Timestamp::from_seconds(seconds),
        replicas,
        signals: [("waiting".into(), Signal::value(waiting)), ("in_flight".into(), Signal::value(0.0))]
            .into(),
        ..Observation::default()
    }
}

/// Shows `count` starts from a tier, each of which takes so long.
fn teach(spec: &ScalerSpec, state: &mut ScalerState, tier: Tier, count: u32, seconds: f64) {
    for index in 0..count {
        let begin = if tier == Tier::Cold { 0.0 } else { 4000.0 } + f64::from(index) * 1000.0;
        let replica = |phase| vec![Replica { tier, ..Replica::new(format!("{tier:?}-{index}"), phase) }];
        drop(plan(spec, state, &at(begin, replica(Phase::Requested), 1.0)));
        drop(plan(spec, state, &at(begin + seconds, replica(Phase::Ready), 1.0)));
    }
}

fn told(decision: &Decision) -> Vec<String> {
    let is_told = |reason: &Reason| matches!(reason, Reason::Starting { .. }) || reason.is_by_others();
    decision.steps.iter().filter(|step| is_told(&step.reason)).map(|step| step.reason.to_string()).collect()
}

#[test]
fn starts_of_what_stands_by_are_learned_apart_and_reckoned_with_while_any_is_left() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    teach(&spec, &mut state, Tier::Cold, 3, 300.0);
    teach(&spec, &mut state, Tier::Stopped, 3, 60.0);
    let starts = &state.cold_starts;
    assert_eq!(starts.samples(), 3);
    assert_eq!(starts.expected(&spec.cold_start), Duration::from_secs(300));
    assert_eq!(starts.expected_from(Tier::Stopped, &spec.cold_start), Duration::from_secs(60));
    // Of this tier nothing was seen yet.
    assert_eq!(starts.expected_from(Tier::Running, &spec.cold_start), Duration::from_secs(300));

    let ready = || vec![Replica::new("r0", Phase::Ready)];
    let decide = |waiting: f64, standby: &[(Tier, u32)]| {
        let standby = standby.iter().copied().collect::<Standby>();
        let observation = Observation { standby, ..at(9000.0, ready(), waiting) };
        plan(&spec, &mut state.clone(), &observation)
    };
    let in_seconds = |decision: &Decision| decision.ready_at.unwrap().as_seconds() - 9000.0;
    let both = decide(20.0, &[(Tier::Stopped, 2)]);
    assert_eq!(both.placement.start, 3);
    assert_eq!(in_seconds(&both), 60.0, "the first is a warm one");
    assert_eq!(
        told(&both),
        [
            "3 replicas to start, 0 on the way; 2 from stopped instances that stand by, in about 60 s; a start takes \
          about 300 s"
        ]
    );
    let warm = decide(10.0, &[(Tier::Stopped, 2)]);
    assert_eq!(
        told(&warm),
        ["1 replica to start, 0 on the way; 1 from stopped instance that stands by, in about 60 s"]
    );
    let none = decide(10.0, &[(Tier::Stopped, 0)]);
    assert_eq!((in_seconds(&none), told(&none).len()), (300.0, 1));
    assert!(!told(&none)[0].contains("stand"), "{:?}", told(&none));
    // What comes is as late as what it began with.
    let coming = |tier| Replica { tier, age: Duration::from_secs(20), ..Replica::new("r1", Phase::Loading) };
    for (tier, seconds) in [(Tier::Stopped, 40.0), (Tier::Cold, 280.0)] {
        let observation = at(9000.0, vec![Replica::new("r0", Phase::Ready), coming(tier)], 6.0);
        assert_eq!(in_seconds(&plan(&spec, &mut state.clone(), &observation)), seconds, "{tier:?}");
    }
    // A state written before there were tiers is read.
    let text = serde_json::to_string(&ScalerState::default()).unwrap();
    assert!(!text.contains("warm"), "{text}");
}

#[test]
fn forewarms_own_policy_looks_as_far_ahead_as_the_last_replica_that_may_start_takes() {
    let mut spec = spec(1, 4);
    spec.policy = Policy::Forewarm(Forewarm { percent: 99.0, ttft: Forewarm::DEFAULT_TTFT });
    let mut state = ScalerState::default();
    teach(&spec, &mut state, Tier::Cold, 3, 300.0);
    teach(&spec, &mut state, Tier::Stopped, 3, 60.0);
    let lead = |standby: u32| {
        let mut state = state.clone();
        let leads = (0..8).filter_map(|step| {
            let replicas = vec![Replica::new("r0", Phase::Ready)];
            let mut observation = at(9000.0 + f64::from(step) * 15.0, replicas, 0.0);
            observation.standby = Standby::from([(Tier::Stopped, standby)]);
            observation.signals.insert("queued".into(), Signal::value(0.0));
            let decision = plan(&spec, &mut state, &observation);
            decision.steps.iter().find_map(|step| {
                let Reason::Anticipated { lead_seconds, .. } = step.reason else { return None };
                Some(lead_seconds)
            })
        });
        leads.last().unwrap()
    };
    // One step beside the start. Three may still be started.
    assert_eq!((lead(0), lead(2), lead(3)), (315.0, 315.0, 75.0));
}

#[test]
fn who_is_taken_away_serves_until_another_does_or_its_time_is_up() {
    let spec = spec(2, 8);
    let mut state = ScalerState::default();
    let going = |left: Option<u64>| Replica {
        notice: Some(Notice { why: "spot interruption".into(), left: left.map(Duration::from_secs) }),
        in_flight: Some(3),
        ..Replica::new("spot", Phase::Ready)
    };
    let other = || Replica::new("r0", Phase::Ready);
    let coming = |phase| Replica::new("r1", phase);
    let ids = |list: &[forewarm_core::ReplicaId]| list.iter().map(ToString::to_string).collect::<Vec<_>>();

    let first = plan(&spec, &mut state, &at(0.0, vec![other(), going(Some(118))], 0.0));
    assert_eq!((first.to.0, first.placement.start, ids(&first.placement.drain)), (2, 1, vec![]));
    assert_eq!(
        told(&first)[1],
        "`spot` will be taken away (spot interruption), in 118 s, and serves until another does in its place"
    );
    assert_eq!(first.wake_at, Some(Timestamp::from_seconds(58.0)), "when it has a minute left");
    let waiting =
        plan(&spec, &mut state, &at(30.0, vec![other(), going(Some(88)), coming(Phase::Loading)], 0.0));
    assert!(waiting.placement.is_empty(), "{:?}", waiting.placement);
    // Its time is up…
    let late = at(60.0, vec![other(), going(Some(58)), coming(Phase::Loading)], 0.0);
    let late = plan(&spec, &mut state.clone(), &late);
    assert_eq!((late.placement.start, ids(&late.placement.drain)), (0, vec!["spot".to_owned()]));
    assert_eq!(told(&late), ["`spot` drains: it will be taken away (spot interruption), and its time is up"]);
    // … or the other one serves.
    let ready = at(50.0, vec![other(), going(Some(68)), coming(Phase::Ready)], 0.0);
    let ready = plan(&spec, &mut state.clone(), &ready);
    assert_eq!((ready.placement.start, ids(&ready.placement.drain)), (0, vec!["spot".to_owned()]));
    assert_eq!(
        told(&ready),
        ["`spot` drains: it will be taken away (spot interruption), and enough others serve"]
    );
    // Without a date it serves for as long as that takes.
    let likely = plan(&spec, &mut state, &at(5000.0, vec![other(), going(None)], 0.0));
    assert_eq!((likely.placement.start, likely.placement.drain.len()), (1, 0));
}

#[test]
fn when_fewer_are_wanted_those_go_first_that_are_taken_away_anyway() {
    let spec = spec(1, 8);
    let mut state = ScalerState::default();
    let notice = Notice { why: "rebalance recommendation".into(), left: None };
    let going = Replica { notice: Some(notice), in_flight: Some(9), ..Replica::new("spot", Phase::Ready) };
    let idle = Replica { in_flight: Some(0), ..Replica::new("r0", Phase::Ready) };
    let decision = plan(&spec, &mut state, &at(0.0, vec![idle, going], 0.0));
    assert_eq!((decision.to.0, decision.placement.start), (1, 0));
    assert_eq!(decision.placement.drain, ["spot".into()]);
}

#[test]
fn who_else_sets_the_number_is_named() {
    let contested = Contested { by: "a user request".into(), from: 1, to: 2 };
    let mut observation = at(0.0, vec![Replica::new("r0", Phase::Ready)], 0.0);
    observation.contested = Some(contested);
    let decision = plan(&spec(1, 8), &mut ScalerState::default(), &observation);
    assert_eq!(told(&decision), ["somebody else set the number of replicas from 1 to 2: a user request"]);
    let line = serde_json::to_value(&decision.steps[decision.steps.len() - 1]).unwrap();
    assert_eq!((&line["reason"], &line["by"]), (&"contested".into(), &"a user request".into()));
    // An observation with all of it reads back.
    let notice = Some(Notice { why: "x".into(), left: Some(Duration::from_secs(2)) });
    observation.replicas.push(Replica { notice, tier: Tier::Stopped, ..Replica::new("r1", Phase::Ready) });
    observation.standby = Standby::from([(Tier::Hibernated, 2)]);
    let line = serde_json::to_string(&observation).unwrap();
    assert_eq!(serde_json::from_str::<Observation>(&line).unwrap(), observation);
}
