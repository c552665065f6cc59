//! What holds for every input.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{
    Bounds, Environment, Forewarm, Missing, Notice, Observation, Phase, Policy, PreWarm, QueueDepth,
    RateLimit, RateUnit, Replica, ReplicaId, Replicas, Requests, ScalerSpec, ScalerState, Signal, Tier,
    Timestamp, plan,
};
use proptest::prelude::*;

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(Phase::ALL.to_vec())
}

fn tier() -> impl Strategy<Value = Tier> {
    prop::sample::select(vec![Tier::Cold, Tier::Stopped, Tier::Running])
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        4 => (0.0..500.0_f64, 0_u64..120).prop_map(|(value, age)| Signal {
            age: Duration::from_secs(age),
            ..Signal::value(value)
        }),
        1 => Just(Signal::missing(Missing::Absent)),
        1 => any::<f64>().prop_map(Signal::value),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    let notice = prop::option::of(0_u64..300)
        .prop_map(|left| Notice { why: "spot interruption".to_owned(), left: left.map(Duration::from_secs) });
    let notice = prop::option::weighted(0.2, notice);
    let replica = ("[a-f]", phase(), 0_u64..4000, prop::option::of(0_u32..20), tier(), notice).prop_map(
        |(id, phase, age, in_flight, tier, notice)| Replica {
            age: Duration::from_secs(age),
            in_flight,
            tier,
            notice,
            ..Replica::new(id, phase)
        },
    );
    let names = vec![
        "queued",
        "waiting",
        "in_flight",
        "running",
        "arrivals_total",
        "busy_seconds_total",
        "completed_total",
        "attained_total",
        "missed_total",
    ];
    let names = prop::sample::subsequence(names, 0..=9);
    let standby = prop::collection::btree_map(tier(), 0_u32..4, 0..3);
    (prop::collection::vec(replica, 0..6), names, prop::collection::vec(signal(), 9), standby).prop_map(
        |(mut replicas, names, signals, standby)| {
            replicas.sort_by(|a, b| a.id.cmp(&b.id));
            replicas.dedup_by(|a, b| a.id == b.id);
            let signals = names.into_iter().map(Into::into).zip(signals).collect();
            Observation { replicas, signals, standby, ..Observation::default() }
        },
    )
}

prop_compose! {
    fn spec()(
        min in 0_u32..4,
        span in 0_u32..6,
        per_replica in 1.0..20.0_f64,
        window in 0_u64..400,
        limit in prop::option::of((any::<bool>(), 1_u32..200, 1_u64..200)),
        pre_warm in prop::option::of((0.1..1.0_f64, 0_u64..400)),
        production in any::<bool>(),
        percent in prop::option::of(0.0..=100.0_f64),
        expected in 0_u64..2_000,
    ) -> ScalerSpec {
        let pre_warm = pre_warm.map(|(threshold, lead)| PreWarm {
            threshold,
            lead_time: Duration::from_secs(lead),
            max_queue: Requests::new(100.0).unwrap(),
        });
        let policy = match percent {
            Some(percent) => Policy::Forewarm(Forewarm { percent, ttft: Forewarm::DEFAULT_TTFT }),
            None => Policy::QueueDepth(QueueDepth { per_replica: Requests::new(per_replica).unwrap(), pre_warm }),
        };
        let mut spec = ScalerSpec::new("s", Bounds::new(min, (min + span).max(1)).unwrap(), policy);
        spec.environment = if production { Environment::Production } else { Environment::Dev };
        spec.cold_start.expected = Duration::from_secs(expected);
        spec.behavior.scale_down.stabilization_window = Duration::from_secs(window);
        spec.behavior.scale_up.policies = limit
            .map(|(percent, value, period)| RateLimit {
                unit: if percent { RateUnit::Percent } else { RateUnit::Pods },
                value,
                period: Duration::from_secs(period),
            })
            .into_iter()
            .collect();
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_decision_keeps_the_rules(spec in spec(), observations in prop::collection::vec((observation(), 0_u64..200), 1..30)) {
        let mut state = ScalerState::default();
        let mut now = 0;
        for (mut observation, gap) in observations {
            now += gap;
            observation.at = Timestamp::from_seconds(now as f64);
            let decision = plan(&spec, &mut state, &observation);

            prop_assert!(decision.to <= spec.replicas.max);
            prop_assert!(decision.to >= spec.replicas.min);
            prop_assert!(decision.to > Replicas(0) || spec.may_reach_zero());
            prop_assert!(!decision.steps.is_empty(), "doing nothing has a reason too");
            if decision.acts() {
                prop_assert!(!decision.summary().is_empty());
            }
            prop_assert!(decision.wake_at.is_none_or(|at| at > decision.at));
            let placement = &decision.placement;
            // Who is taken away anyway drains beside whatever else happens.
            let stays = |id: &&ReplicaId| observation.replicas.iter().any(|it| &it.id == *id && it.notice.is_none());
            let drains = placement.drain.iter().filter(stays).count();
            prop_assert!(placement.start == 0 || drains == 0, "starts and drains at once");
            for id in &placement.drain {
                let replica = observation.replicas.iter().find(|replica| &replica.id == id);
                prop_assert_eq!(replica.map(|replica| replica.phase), Some(Phase::Ready));
            }
            prop_assert!(placement.revive.is_empty() || drains == 0, "gives and takes at once");
            for id in &placement.revive {
                let replica = observation.replicas.iter().find(|replica| &replica.id == id);
                prop_assert_eq!(replica.map(|replica| replica.phase), Some(Phase::Draining));
                prop_assert!(!placement.stop.contains(id));
            }
            // No start failed, so what serves or comes afterwards is the target.
            let gone = |id| placement.drain.contains(id) || placement.stop.contains(id);
            let kept = observation.replicas.iter().filter(|replica| replica.stays() && !gone(&replica.id));
            let there = kept.count() + placement.revive.len() + placement.start as usize;
            prop_assert_eq!(there, decision.to.0 as usize);

            // The memory survives a restart to the last bit.
            let stored = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<ScalerState>(&stored).unwrap(), state.clone());
            let stored = serde_json::to_string(&decision).unwrap();
            prop_assert_eq!(serde_json::from_str::<forewarm_core::Decision>(&stored).unwrap(), decision);
        }
    }

    #[test]
    fn who_is_taken_away_is_replaced_first(
        wanted in 1_u32..6,
        start_seconds in 1_u64..180,
        notices in prop::collection::vec((0_usize..6, 0_u64..180, prop::option::of(240_u64..600)), 0..6),
        lacking in prop::option::of(0_u64..900),
    ) {
        let mut spec = ScalerSpec::new(
            "s",
            Bounds::new(wanted, 8).unwrap(),
            Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None }),
        );
        spec.behavior.scale_down.stabilization_window = Duration::ZERO;
        let mut state = ScalerState::default();
        let mut fleet: Vec<(Replica, u64, Option<u64>)> =
            (0..wanted).map(|index| (Replica::new(format!("r{index}"), Phase::Ready), 0, None)).collect();
        for now in (0..1_500_u64).step_by(5) {
            for (index, at, left) in &notices {
                if *at * 5 == now && let Some((replica, _, ends)) = fleet.get_mut(*index) && replica.phase == Phase::Ready {
                    replica.notice = Some(Notice { why: "spot".to_owned(), left: None });
                    *ends = left.map(|left| now + left);
                }
            }
            fleet.retain(|(_, _, ends)| ends.is_none_or(|ends| now < ends));
            for (replica, since, ends) in &mut fleet {
                replica.in_flight = Some(0);
                if let (Some(notice), Some(ends)) = (&mut replica.notice, ends) {
                    notice.left = Some(Duration::from_secs(*ends - now));
                }
                if replica.phase == Phase::Loading && now - *since >= start_seconds {
                    replica.phase = Phase::Ready;
                }
            }
            let observation = Observation {
                at: Timestamp::from_seconds(now as f64),
                replicas: fleet.iter().map(|(replica, _, _)| replica.clone()).collect(),
                signals: [("waiting".into(), Signal::value(0.0))].into(),
                ..Observation::default()
            };
            let decision = plan(&spec, &mut state, &observation);
            prop_assert_eq!(decision.to, Replicas(wanted));
            for (replica, _, _) in &mut fleet {
                if decision.placement.drain.contains(&replica.id) {
                    replica.phase = Phase::Leaving;
                }
            }
            fleet.retain(|(replica, _, _)| !decision.placement.stop.contains(&replica.id));
            // There is no capacity for a while at most.
            let is_lacking = lacking.is_some_and(|from| (from..from + 60).contains(&now));
            for index in 0..if is_lacking { 0 } else { decision.placement.start } {
                fleet.push((Replica::new(format!("n{now}-{index}"), Phase::Loading), now, None));
            }
            // A start and what capacity lacks fit into the time that every notice leaves.
            let serving = fleet.iter().filter(|(replica, _, _)| replica.phase == Phase::Ready).count();
            let late = start_seconds + if lacking.is_some() { 60 } else { 0 } + 15 >= 180;
            prop_assert!(late || serving >= wanted as usize, "{serving} of {wanted} serve at {now}: {decision:?}");
        }
        let left = fleet.iter().filter(|(replica, _, _)| replica.stays()).count();
        prop_assert_eq!((left, fleet.len()), (wanted as usize, wanted as usize), "{:?}", fleet);
    }

    #[test]
    fn planning_twice_on_what_did_happen_changes_nothing(spec in spec(), observation in observation()) {
        // Pre-warming asks for one more than there is, until it comes: the fleet has to follow.
        prop_assume!(!matches!(&spec.policy, Policy::QueueDepth(policy) if policy.pre_warm.is_some()));
        // A rate limit looks at the clock, so a second look at the same moment may not move either way.
        let mut state = ScalerState::default();
        let first = plan(&spec, &mut state, &observation);
        let second = plan(&spec, &mut state, &observation);
        prop_assert_eq!(second.to, first.to);
        prop_assert_eq!(second.from, first.to);
    }

    #[test]
    fn more_waiting_requests_never_mean_fewer_replicas(spec in spec(), low in 0.0..300.0_f64, more in 0.0..300.0_f64, ready in 0_usize..6) {
        let decide = |waiting: f64| {
            let replicas = (0..ready).map(|index| Replica::new(format!("r{index}"), Phase::Ready)).collect();
            let signals = [("waiting".into(), Signal::value(waiting))].into();
            let observation = Observation { replicas, signals, ..Observation::default() };
            plan(&spec, &mut ScalerState::default(), &observation).to
        };
        prop_assert!(decide(low) <= decide(low + more));
    }

    #[test]
    fn an_observation_reads_back_as_it_was_written(observation in observation()) {
        prop_assume!(observation.signals.values().all(|signal| signal.evidence(Duration::MAX) != signal.evidence(Duration::ZERO) || serde_json::to_string(signal).is_ok_and(|text| !text.contains("null"))));
        let line = serde_json::to_string(&observation).unwrap();
        prop_assert_eq!(serde_json::from_str::<Observation>(&line).unwrap(), observation);
    }
}
