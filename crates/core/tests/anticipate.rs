//! forewarm's own policy: what it learns, what it keeps ready, and what it says about it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_core::{
    Bounds, ColdStartSpec, Decision, Environment, Forewarm, Missing, Observation, Phase, Policy, Reading,
    Reason, Replica, Replicas, STATE_VERSION, ScalerSpec, ScalerState, Signal, Tier, Timestamp, plan,
};
use proptest::prelude::*;

/// Between two looks.
const STEP_SECONDS: f64 = 15.0;
/// How long a request is worked on.
const SERVICE_SECONDS: f64 = 10.0;
/// What a replica works on at a time.
const SLOTS: u32 = 8;
const HOUR: u32 = 240;
const DAY: u32 = 24 * HOUR;

fn spec(percent: f64, min: u32, max: u32) -> ScalerSpec {
    ScalerSpec {
        environment: Environment::Dev,
        cold_start: ColdStartSpec { expected: Duration::from_secs(240), ..ColdStartSpec::default() },
        max_concurrency: SLOTS,
        ..ScalerSpec::new(
            "llama3",
            Bounds::new(min, max).unwrap(),
            Policy::Forewarm(Forewarm { percent, ttft: Forewarm::DEFAULT_TTFT }),
        )
    }
}

/// A service as a fluid: what arrives is worked on, or waits. Replicas start as long as they are expected to.
struct Service {
    spec: ScalerSpec,
    state: ScalerState,
    seconds: f64,
    /// When each replica was asked for.
    fleet: Vec<(String, f64)>,
    started: u32,
    waiting: f64,
    in_flight: f64,
    completed: f64,
    attained: f64,
    missed: f64,
    /// Share of the requests that is counted as missed whatever happens.
    counted_as_missed: Option<f64>,
}

impl Service {
    fn new(spec: ScalerSpec, replicas: u32) -> Self {
        let fleet = (0..replicas).map(|index| (format!("first-{index}"), -1e6)).collect();
        Self {
            spec,
            state: ScalerState::default(),
            seconds: 0.0,
            fleet,
            started: 0,
            waiting: 0.0,
            in_flight: 0.0,
            completed: 0.0,
            attained: 0.0,
            missed: 0.0,
            counted_as_missed: None,
        }
    }

    fn replicas(&self) -> Vec<Replica> {
        let starts = self.spec.cold_start.expected.as_secs_f64();
        self.fleet
            .iter()
            .map(|(id, since)| {
                let age = self.seconds - since;
                let phase = if age >= starts { Phase::Ready } else { Phase::Requested };
                Replica { age: Duration::from_secs_f64(age), ..Replica::new(id.clone(), phase) }
            })
            .collect()
    }

    fn observation(&self) -> Observation {
        let signals = [
            ("queued", self.waiting),
            ("in_flight", self.in_flight),
            ("busy_seconds_total", self.completed * SERVICE_SECONDS),
            ("completed_total", self.completed),
            ("attained_total", self.attained),
            ("missed_total", self.missed),
        ];
        Observation {
            at: Timestamp::from_seconds(self.seconds),
            replicas: self.replicas(),
            signals: signals.into_iter().map(|(name, value)| (name.into(), Signal::value(value))).collect(),
            ..Observation::default()
        }
    }

    fn apply(&mut self, decision: &Decision) {
        let placement = &decision.placement;
        self.fleet.retain(|(id, _)| {
            !placement.drain.iter().chain(&placement.stop).any(|gone| gone.as_str() == id.as_str())
        });
        for _ in 0..placement.start {
            self.started += 1;
            self.fleet.push((format!("r{:06}", self.started), self.seconds));
        }
    }

    /// One step in which so many requests would be worked on at a time if none had to wait.
    fn work(&mut self, load: f64) {
        let ready = self.replicas().iter().filter(|replica| replica.phase == Phase::Ready).count();
        let arrived = load * STEP_SECONDS / SERVICE_SECONDS;
        let can = ready as f64 * f64::from(SLOTS) * STEP_SECONDS / SERVICE_SECONDS;
        let done = can.min(arrived + self.waiting);
        let missed = match self.counted_as_missed {
            Some(share) => arrived * share,
            None => (arrived + self.waiting - done).min(arrived),
        };
        self.missed += missed;
        self.attained += arrived - missed;
        self.waiting += arrived - done;
        self.completed += done;
        self.in_flight = done * SERVICE_SECONDS / STEP_SECONDS;
        self.seconds += STEP_SECONDS;
    }

    fn plan(&mut self) -> Decision {
        let observation = self.observation();
        plan(&self.spec, &mut self.state, &observation)
    }

    fn step(&mut self, load: f64) -> Decision {
        self.work(load);
        let decision = self.plan();
        self.apply(&decision);
        decision
    }

    /// The decisions on so many steps of a load.
    fn run(&mut self, steps: u32, load: impl Fn(u32) -> f64) -> Vec<Decision> {
        (0..steps).map(|step| self.step(load(step))).collect()
    }
}

fn mean(decisions: &[Decision]) -> f64 {
    decisions.iter().map(|decision| f64::from(decision.to.0)).sum::<f64>() / decisions.len() as f64
}

fn labels(decision: &Decision) -> Vec<&'static str> {
    decision.steps.iter().map(|step| step.reason.label()).collect()
}

/// A load of 6 with bursts to 40 of five minutes, at no regular distance.
fn bursts(step: u32) -> f64 {
    let nth = step / 160;
    let begins = nth.wrapping_mul(2_654_435_761) % 130;
    if (begins..begins + 20).contains(&(step % 160)) && nth % 3 != 1 { 40.0 } else { 6.0 }
}

#[test]
fn a_steady_load_is_held_at_what_it_needs_and_little_more() {
    let mut service = Service::new(spec(99.0, 1, 50), 3);
    let decisions = service.run(DAY, |_| 20.0);
    // 20 at a time fill two and a half replicas.
    let held = &decisions[decisions.len() - HOUR as usize..];
    assert!(held.iter().all(|decision| (3..=4).contains(&decision.to.0)), "{:?}", held.last());
    assert!(held.iter().all(|decision| decision.from == decision.to), "it is not restless");
    assert_eq!(service.missed, 0.0);
}

#[test]
fn a_step_in_load_raises_replicas() {
    let mut service = Service::new(spec(99.0, 1, 50), 1);
    let before = service.run(6 * HOUR, |_| 4.0);
    assert!(before.last().unwrap().to <= Replicas(2));
    let after = service.run(HOUR / 2, |_| 40.0);
    assert!(after[3].to >= Replicas(3), "within a minute: {:?}", after[3]);
    assert!(after.last().unwrap().to >= Replicas(5), "40 at a time fill five: {:?}", after.last());
    assert!(service.waiting < 1.0, "the backlog is gone");
}

#[test]
fn bursts_keep_headroom_and_more_for_a_stricter_objective() {
    let [loose, strict] = [95.0, 99.9].map(|percent| {
        let mut service = Service::new(spec(percent, 1, 50), 2);
        service.run(DAY, bursts);
        let second_day = service.run(DAY, |step| bursts(step + DAY));
        (mean(&second_day), service.missed / (service.missed + service.attained))
    });
    // Between bursts a load of 6 needs one replica.
    assert!(loose.0 > 1.3, "{loose:?}");
    assert!(strict.0 > loose.0 + 0.5, "{loose:?} {strict:?}");
    assert!(strict.1 < loose.1, "{loose:?} {strict:?}");
}

#[test]
fn misses_above_what_is_aimed_at_raise_and_none_at_all_lowers() {
    let [none, as_aimed, many] = [0.0, 0.007, 0.05].map(|share| {
        let mut service = Service::new(spec(99.0, 1, 50), 2);
        service.counted_as_missed = Some(share);
        service.run(DAY / 2, bursts);
        mean(&service.run(DAY / 2, |step| bursts(step + DAY / 2)))
    });
    assert!(none < as_aimed && as_aimed < many, "{none} {as_aimed} {many}");
}

#[test]
fn what_is_missing_or_partial_holds_and_never_takes_away() {
    let partial = |total| Signal {
        reading: Reading::Partial { total, per_replica: [].into(), reporting: 1, expected: 4 },
        age: Duration::ZERO,
    };
    let stale = Signal { age: Duration::from_secs(61), ..Signal::value(0.0) };
    let nothing = || Signal::missing(Missing::Failed("timeout".into()));
    struct Case(&'static str, &'static str, Option<Signal>, &'static str);
    let cases = [
        Case("never asked for", "queued", None, "held_on_missing"),
        Case("no queue", "queued", Some(nothing()), "held_on_missing"),
        Case("a queue in part", "queued", Some(partial(0.0)), "held_on_partial"),
        Case("an old queue", "queued", Some(stale.clone()), "held_on_missing"),
        Case("a queue that is no number", "queued", Some(Signal::value(f64::NAN)), "held_on_missing"),
        Case("no work", "in_flight", Some(nothing()), "held_on_missing"),
        Case("work never asked for", "in_flight", None, "held_on_missing"),
        Case("work in part", "in_flight", Some(partial(0.0)), "held_on_partial"),
        Case("old work", "in_flight", Some(stale), "held_on_missing"),
        Case("an engine's queue in part", "waiting", Some(partial(0.0)), "held_on_partial"),
    ];
    for Case(name, signal, reading, reason) in cases {
        let mut service = Service::new(spec(99.0, 0, 50), 6);
        service.run(HOUR, |_| 40.0);
        let before = service.state.target.unwrap();
        // For an hour nothing seems to happen: half of that is not known.
        for _ in 0..HOUR {
            service.work(0.0);
            let mut observation = service.observation();
            match reading.clone() {
                Some(reading) => observation.signals.insert(signal.into(), reading),
                None => observation.signals.remove(signal),
            };
            let decision = plan(&service.spec, &mut service.state, &observation);
            assert_eq!(decision.to, before, "{name}: {decision:?}");
            assert!(labels(&decision).contains(&reason), "{name}: {decision:?}");
        }
    }
}

#[test]
fn what_is_known_of_a_backlog_raises_even_where_the_rest_is_not() {
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    service.run(HOUR, |_| 8.0);
    let mut observation = service.observation();
    observation.at = Timestamp::from_seconds(service.seconds + STEP_SECONDS);
    observation.signals.insert("queued".into(), Signal::value(2_000.0));
    observation.signals.insert("waiting".into(), Signal::missing(Missing::Failed("timeout".into())));
    let decision = plan(&service.spec, &mut service.state, &observation);
    // 8 at a time, and 2000 × 10 s of work in 120 s.
    assert_eq!(decision.to, Replicas(22), "{decision:?}");
    assert!(labels(&decision).contains(&"backlog"), "{decision:?}");
}

#[test]
fn counters_that_nobody_keeps_hold_nothing() {
    let mut service = Service::new(spec(99.0, 1, 50), 1);
    let mut last = None;
    for _ in 0..HOUR {
        service.work(20.0);
        let mut observation = service.observation();
        observation.signals.retain(|name, _| !name.as_str().ends_with("_total"));
        let decision = plan(&service.spec, &mut service.state, &observation);
        service.apply(&decision);
        last = Some(decision);
    }
    let last = last.unwrap();
    assert!(last.to >= Replicas(3), "{last:?}");
    assert!(last.steps[0].reason.to_string().contains("none was judged yet"), "{}", last.steps[0].reason);
}

#[test]
fn a_fleet_that_nobody_ever_used_is_not_started_and_the_first_arrival_starts_one() {
    let mut service = Service::new(spec(99.9, 0, 50), 0);
    let idle = service.run(2 * HOUR, |_| 0.0);
    assert!(idle.iter().all(|decision| decision.to == Replicas(0)), "{:?}", idle.last());

    let mut observation = service.observation();
    observation.at = Timestamp::from_seconds(service.seconds + 1.0);
    observation.signals.insert("queued".into(), Signal::value(1.0));
    let decision = plan(&service.spec, &mut service.state, &observation);
    assert_eq!((decision.to, decision.placement.start), (Replicas(1), 1), "{decision:?}");
}

#[test]
fn idle_for_hours_is_zero_where_zero_is_allowed() {
    for (environment, least) in [(Environment::Dev, 0), (Environment::Production, 1)] {
        for busy_steps in [1, HOUR, DAY] {
            let mut spec = spec(99.0, 0, 50);
            spec.environment = environment;
            let mut service = Service::new(spec, 2);
            service.run(busy_steps, |_| 10.0);
            let idle = service.run(4 * HOUR, |_| 0.0);
            let last = idle.last().unwrap();
            assert_eq!(last.to, Replicas(least), "{environment:?} after {busy_steps}: {last:?}");
            let guarded = labels(last).contains(&"zero_guard");
            assert_eq!(guarded, environment == Environment::Production, "{last:?}");
        }
    }
}

#[test]
fn a_backlog_before_any_completion_is_all_served_at_once() {
    let mut service = Service::new(spec(99.0, 1, 50), 1);
    let mut observation = service.observation();
    observation.signals.insert("queued".into(), Signal::value(21.0));
    observation.signals.insert("in_flight".into(), Signal::value(8.0));
    let decision = plan(&service.spec, &mut service.state, &observation);
    assert_eq!(decision.to, Replicas(4), "29 requests, 8 at a time: {decision:?}");
}

#[test]
fn counters_that_begin_anew_are_no_load_and_no_misses() {
    let mut service = Service::new(spec(99.0, 1, 50), 3);
    service.run(6 * HOUR, |_| 20.0);
    let before = service.state.target.unwrap();
    // The gateway restarted.
    (service.completed, service.attained, service.missed) = (0.0, 0.0, 0.0);
    let after = service.run(HOUR, |_| 20.0);
    for decision in after {
        assert_eq!(decision.to, before, "{decision:?}");
    }
}

#[test]
fn a_clock_that_steps_back_or_stands_still_for_hours_does_no_harm() {
    for jump in [-6.0, 0.01, 12.0, 24.0 * 400.0] {
        let mut service = Service::new(spec(99.0, 1, 50), 3);
        service.run(6 * HOUR, |_| 20.0);
        // Replicas age as before, whatever the clock says.
        service.seconds += jump * 3600.0;
        service.fleet.iter_mut().for_each(|(_, since)| *since += jump * 3600.0);
        if jump > 1.0 {
            service.completed += 20.0 / SERVICE_SECONDS * jump * 3600.0;
        }
        let held = service.run(10, |_| 20.0);
        assert!(held.iter().all(|decision| (3..=4).contains(&decision.to.0)), "{jump} h: {held:?}");
        // And it still sees what happens.
        let less = service.run(2 * HOUR, |_| 4.0);
        assert!(less.last().unwrap().to <= Replicas(2), "{jump} h: {:?}", less.last());
        let after = service.run(HOUR / 2, |_| 80.0);
        assert!(after.last().unwrap().to >= Replicas(10), "{jump} h: {:?}", after.last());
    }
}

#[test]
fn the_next_look_is_asked_for_when_the_step_ends() {
    let mut service = Service::new(spec(99.0, 1, 50), 3);
    let ends = |service: &Service| Some(Timestamp::from_seconds(service.seconds + STEP_SECONDS));
    for _ in 0..HOUR {
        let decision = service.step(20.0);
        assert_eq!(decision.wake_at, ends(&service), "{decision:?}");
    }
    // A look within the step does not put it off.
    let next = ends(&service);
    service.seconds += STEP_SECONDS / 3.0;
    assert_eq!(service.plan().wake_at, next);
}

#[test]
fn while_short_requests_are_worked_on_a_step_is_looked_at_in_parts() {
    let mut service = Service::new(spec(99.0, 1, 50), 1);
    // Eight at a time, a second each: when, how many so far, how many now, and when to look next.
    let looks =
        [(0.0, 0.0, 8.0, 15.0), (15.0, 120.0, 8.0, 20.0), (20.0, 160.0, 8.0, 25.0), (25.0, 200.0, 0.0, 30.0)];
    for (seconds, completed, in_flight, next) in looks {
        service.seconds = seconds;
        let mut observation = service.observation();
        for (name, value) in
            [("in_flight", in_flight), ("busy_seconds_total", completed), ("completed_total", completed)]
        {
            observation.signals.insert(name.into(), Signal::value(value));
        }
        let decision = plan(&service.spec, &mut service.state, &observation);
        assert_eq!(decision.wake_at, Some(Timestamp::from_seconds(next)), "{seconds} s");
    }
}

#[test]
fn a_lead_time_that_changes_under_way_is_followed() {
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    service.run(6 * HOUR, bursts);
    for (seconds, range) in [(900, 1..=10), (15, 1..=10), (3_600 * 24, 1..=50), (240, 1..=10)] {
        service.spec.cold_start.expected = Duration::from_secs(seconds);
        // What was ready stays so.
        service.state.cold_starts = Default::default();
        for step in 0..2 * HOUR {
            service.work(bursts(step));
            let decision = service.plan();
            assert!(range.contains(&decision.to.0), "{seconds} s: {decision:?}");
        }
    }
    service.spec.cold_start.expected = Duration::MAX;
    drop(service.plan());
}

#[test]
fn a_restart_in_the_middle_changes_no_bit() {
    let mut whole = Service::new(spec(99.0, 0, 50), 2);
    let mut restarted = Service::new(spec(99.0, 0, 50), 2);
    for step in 0..4 * HOUR {
        let stored = serde_json::to_string(&restarted.state).unwrap();
        restarted.state = serde_json::from_str(&stored).unwrap();
        let load = bursts(step) + f64::from(step % 7) / 3.0;
        assert_eq!(whole.step(load), restarted.step(load), "step {step}");
    }
    assert_eq!(whole.state, restarted.state);
}

#[test]
fn planning_twice_on_the_same_observation_changes_nothing() {
    let mut service = Service::new(spec(99.0, 0, 50), 2);
    for step in 0..2 * HOUR {
        let first = service.step(bursts(step));
        let observation = service.observation();
        // The fleet has followed the first decision; nothing else has happened.
        let state = service.state.clone();
        let second = plan(&service.spec, &mut service.state, &observation);
        assert_eq!((second.from, second.to), (first.to, first.to), "step {step}");
        let third = plan(&service.spec, &mut service.state, &observation);
        assert_eq!(third, second, "step {step}");
        service.state = state;
    }
}

#[test]
fn the_reasons_read_well() {
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    service.run(DAY, bursts);
    let reason = |decision: &Decision, label: &str| {
        let step = decision.steps.iter().find(|step| step.reason.label() == label);
        step.unwrap_or_else(|| panic!("no {label}: {decision:?}")).reason.to_string()
    };
    insta::assert_snapshot!(reason(&service.step(6.0), "anticipated"), @"59.7 requests at a time are exceeded in 255 s with a probability of 1.86 % (6 lately; forecast from the mean of 30 min), a replica takes 8; 2.91 % missed so far, 0.29 % may miss");
    service.run(8, |_| 120.0);
    insta::assert_snapshot!(reason(&service.step(120.0), "backlog"), @"756 requests wait, 10.0 s of work each, to be done within 120 s beside what comes");
    let first = plan(&service.spec, &mut ScalerState::default(), &service.observation());
    insta::assert_snapshot!(reason(&first, "backlog"), @"756 requests wait, and how long one takes is not known yet");
    let mut surprised = Service::new(spec(99.0, 1, 50), 2);
    surprised.run(HOUR / 3, |step| if (30..32).contains(&step) { 60.0 } else { 4.0 });
    insta::assert_snapshot!(reason(&surprised.step(4.0), "anticipated"), @"44.6 requests at a time are kept ready for, 74 % of the 60 that came once, until more is known; exceeded in 255 s with a probability of 0.00 % (4 lately; forecast from the mean of 5 min), a replica takes 8; 30.84 % missed so far, 0.70 % may miss");
    let mut young = Service::new(spec(99.0, 1, 50), 2);
    young.counted_as_missed = Some(0.0);
    young.run(2, |_| 0.0);
    insta::assert_snapshot!(reason(&young.step(0.0), "anticipated"), @"0 requests at a time are exceeded in 255 s with a probability of 0.90 % (0 lately; forecast from the mean of 5 min), a replica takes 8; none was judged yet, 0.72 % may miss");
}

#[test]
fn what_is_kept_for_a_burst_goes_by_the_median_start_and_the_lead_by_the_p90() {
    for (seconds, lead, allowed) in [([240; 10], 255.0, 0.0072), ([600; 10], 615.0, 0.0056)] {
        assert_eq!(lead_and_allowed(&seconds), (lead, allowed));
    }
    let two_are_slow = [240, 240, 240, 240, 240, 240, 240, 240, 600, 600];
    assert_eq!(lead_and_allowed(&two_are_slow), (615.0, 0.0072));
}

/// The lead time in seconds, and the share that may miss, to a hundredth of a percent, of a new service whose starts took so
/// many seconds.
fn lead_and_allowed(starts_seconds: &[u64]) -> (f64, f64) {
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    for seconds in starts_seconds {
        service.state.cold_starts.observe(Tier::Cold, Duration::from_secs(*seconds));
    }
    service.run(2, |_| 3.0);
    anticipated(&service.step(3.0))
}

fn anticipated(decision: &Decision) -> (f64, f64) {
    let told = decision.steps.iter().find_map(|step| {
        let Reason::Anticipated { lead_seconds, allowed, .. } = step.reason else { return None };
        Some((lead_seconds, (allowed * 1e4).round() / 1e4))
    });
    told.unwrap()
}

#[test]
fn a_state_of_the_version_before_goes_on_and_is_of_this_one_then() {
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    service.counted_as_missed = Some(0.0);
    service.run(DAY, |_| 6.0);
    let mut before = serde_json::to_value(&service.state).unwrap();
    before["version"] = 2.into();
    let budget = before["anticipation"]["budget"].as_object_mut().unwrap();
    assert!(budget.remove("aimed").is_some());
    let offered = before["anticipation"]["offered"].as_object_mut().unwrap();
    assert!(["part", "parts"].iter().all(|since| offered.remove(*since).is_some()));
    service.state = serde_json::from_value(before).unwrap();
    // As if the service had begun today: what was aimed at then is not known.
    assert_eq!(anticipated(&service.step(6.0)).1, 0.0072);
    assert_eq!(service.state.version, STATE_VERSION);
}

#[test]
fn a_reason_is_read_back_as_it_was_written() {
    let mut service = Service::new(spec(99.9, 1, 50), 2);
    for decision in service.run(HOUR, |step| if step % 50 == 49 { 100.0 } else { 3.0 }) {
        for step in decision.steps {
            let text = serde_json::to_string(&step.reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), step.reason);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn never_outside_its_bounds_and_always_with_a_reason(
        percent in 0.0..=100.0_f64,
        (min, span) in (0_u32..5, 0_u32..10),
        max_concurrency in prop::sample::select(vec![0, 1, 8, u32::MAX]),
        loads in prop::collection::vec(prop_oneof![4 => 0.0..100.0_f64, 1 => Just(0.0), 1 => 0.0..1e300_f64], 1..60),
    ) {
        let mut spec = spec(percent, min, (min + span).max(1));
        spec.max_concurrency = max_concurrency;
        let mut service = Service::new(spec, min);
        for load in loads {
            let decision = service.step(load);
            prop_assert!(decision.to >= service.spec.replicas.min && decision.to <= service.spec.replicas.max);
            prop_assert!(!decision.steps.is_empty());
            let stored = serde_json::to_string(&service.state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<ScalerState>(&stored).unwrap(), &service.state);
        }
    }
}

#[test]
fn a_huge_load_asks_for_all_there_are() {
    for huge in [1e9, 1e20, 1e300, f64::MAX] {
        let mut spec = spec(99.0, 1, 50);
        spec.max_concurrency = 1;
        let mut state = ScalerState::default();
        for step in 0..100 {
            let signals = ["queued", "waiting", "in_flight", "busy_seconds_total", "completed_total"];
            let observation = Observation {
                at: Timestamp::from_seconds(f64::from(step) * STEP_SECONDS),
                signals: signals.into_iter().map(|name| (name.into(), Signal::value(huge))).collect(),
                ..Observation::default()
            };
            let decision = plan(&spec, &mut state, &observation);
            assert_eq!(decision.to, Replicas(50), "{huge} at {step}");
            let stored = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<ScalerState>(&stored).unwrap(), state);
        }
    }
}

#[test]
fn who_waits_in_an_ebb_does_not_bring_back_what_has_passed() {
    // Eight minutes of work after each hour; a minute after the last of it, the mean of five minutes is still high.
    let mut service = Service::new(spec(99.0, 1, 50), 2);
    let is_work = |step: u32| step % HOUR < 32;
    service.run(DAY + 36, |step| if is_work(step) { 60.0 } else { 10.0 });
    let wish = |waiting: f64| {
        let mut observation = service.observation();
        observation.signals.insert("queued".into(), Signal::value(waiting));
        observation.at = observation.at + Duration::from_secs(1);
        plan(&service.spec, &mut service.state.clone(), &observation)
    };
    let (calm, waits, many) = (wish(0.0), wish(1.0), wish(500.0));
    assert!(labels(&waits).contains(&"backlog"), "{waits:?}");
    assert_eq!(waits.to, calm.to, "{waits:?}");
    assert!(calm.to.0 < 5, "{calm:?}");
    assert!(many.to > waits.to, "what really waits is worked off: {many:?}");
}
