//! The parts of the forecast by themselves: offered load, the budget of misses, the panel of forecasters.

use std::time::Duration;

use forewarm_core::{
    Timestamp,
    forecast::{Look, MayMiss, MissBudget, OfferedLoad, Outlook, Panel, StepLoad},
};
use proptest::prelude::*;

/// How long a request may wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// As much may miss as the objective has it.
fn of(target: f64) -> MayMiss {
    MayMiss { allowance: target, now: target }
}

/// When a step ends.
fn end(step: u32) -> Timestamp {
    Timestamp::from_seconds(f64::from(step + 1) * 15.0)
}

fn look(seconds: f64, queued: f64, in_flight: f64, totals: Option<(f64, f64)>) -> Look {
    Look {
        at: Timestamp::from_seconds(seconds),
        queued,
        in_flight,
        busy_seconds_total: totals.map(|(busy, _)| busy),
        completed_total: totals.map(|(_, completed)| completed),
    }
}

/// The mean load of the step that this look ends, if it does, and how many steps that was.
fn seen(offered: &mut OfferedLoad, look: Look) -> Option<(f64, u32)> {
    offered.observe(look, PATIENCE).map(|(load, steps)| (load.mean(), steps))
}

#[test]
fn a_queue_that_grows_and_drains_is_not_taken_for_demand() {
    // Requests of 10 s arrive at 2 a second, which is 20 at a time; what works on them changes.
    let mut offered = OfferedLoad::default();
    let (mut queued, mut completed) = (0.0, 0.0);
    let at =
        |seconds, queued, completed: f64| look(seconds, queued, 0.0, Some((completed * 10.0, completed)));
    assert_eq!(seen(&mut offered, at(0.0, 0.0, 0.0)), None, "one look is no step");
    for step in 1..=40 {
        // First too few, then more than enough, until nothing waits.
        let can = if step <= 20 { 15.0 } else { 60.0 };
        let done = f64::min(can, queued + 30.0);
        queued += 30.0 - done;
        completed += done;
        let (load, steps) =
            offered.observe(at(f64::from(step) * 15.0, queued, completed), PATIENCE).expect("a step");
        let load = load.mean();
        assert!((load - 20.0).abs() < 1e-9, "step {step}: {load}, and {queued} wait");
        assert_eq!(steps, 1);
    }
    assert!(queued < 1e-9);
    let service = offered.service_seconds().expect("some were completed");
    assert!((service - 10.0).abs() < 1e-9, "{service}");
}

#[test]
fn looks_within_a_step_are_one_and_a_gap_is_its_mean() {
    let mut offered = OfferedLoad::default();
    let at = |seconds: f64| look(seconds, 0.0, 7.0, Some((seconds * 7.0, seconds)));
    for seconds in [0.0, 1.0, 14.999] {
        assert_eq!(seen(&mut offered, at(seconds)), None, "{seconds} s");
    }
    assert_eq!(seen(&mut offered, at(20.0)), Some((7.0, 1)));
    assert_eq!(seen(&mut offered, at(20.0)), None, "the same look again");
    assert_eq!(seen(&mut offered, at(20.0 + 3_600.0)), Some((7.0, 240)));
    assert_eq!(seen(&mut offered, at(600.0)), None, "the clock stepped back");
    assert_eq!(seen(&mut offered, at(615.0)), Some((7.0, 1)), "and goes on from there");
}

#[test]
fn where_counters_begin_anew_or_are_missing_what_is_in_the_system_counts() {
    let mut offered = OfferedLoad::default();
    offered.observe(look(0.0, 0.0, 4.0, Some((1_000.0, 100.0))), PATIENCE);
    assert_eq!(seen(&mut offered, look(15.0, 0.0, 4.0, Some((1_060.0, 106.0)))), Some((4.0, 1)));
    let service = offered.service_seconds();
    assert_eq!(seen(&mut offered, look(30.0, 2.0, 4.0, Some((40.0, 4.0)))), Some((5.0, 1)), "a restart");
    assert_eq!(seen(&mut offered, look(45.0, 2.0, 4.0, None)), Some((6.0, 1)), "nobody counts");
    assert_eq!(offered.service_seconds(), service, "what was learned stays");
    assert_eq!(
        seen(&mut offered, look(60.0, 2.0, 4.0, Some((120.0, 12.0)))),
        Some((6.0, 1)),
        "one look is none"
    );
    assert_eq!(seen(&mut offered, look(75.0, 2.0, 4.0, Some((195.0, 19.0)))), Some((5.0, 1)));
}

#[test]
fn how_long_requests_take_is_unknown_until_one_was_completed() {
    let mut offered = OfferedLoad::default();
    offered.observe(look(0.0, 0.0, 0.0, Some((0.0, 0.0))), PATIENCE);
    assert_eq!(seen(&mut offered, look(15.0, 3.0, 3.0, Some((20.0, 0.0)))), Some((3.0, 1)));
    assert_eq!(offered.service_seconds(), None);
}

/// What is seen of requests that take so long each and arrive, so many at these seconds, where 8 are worked on at a time.
struct Bursts {
    offered: OfferedLoad,
    patience: Duration,
    service_seconds: f64,
    arrivals: Vec<(f64, f64)>,
}

impl Bursts {
    fn new(service_seconds: f64, arrivals: &[(f64, f64)]) -> Self {
        Self {
            offered: OfferedLoad::default(),
            patience: PATIENCE,
            service_seconds,
            arrivals: arrivals.to_vec(),
        }
    }

    /// Looks at these seconds, the first of which is the first of all; returns the loads of the steps.
    fn loads(&mut self, seconds: &[f64]) -> Vec<StepLoad> {
        seconds
            .iter()
            .filter_map(|&seconds| self.offered.observe(self.look(seconds), self.patience))
            .map(|(load, _)| load)
            .collect()
    }

    fn look(&self, seconds: f64) -> Look {
        let (mut work, mut busy, mut since) = (0.0, 0.0, 0.0);
        let arrivals = self
            .arrivals
            .iter()
            .filter(|(at, _)| *at <= seconds)
            .map(|(at, many)| (*at, many * self.service_seconds));
        for (at, more) in arrivals.chain([(seconds, 0.0)]) {
            let done = f64::min(8.0 * (at - since), work);
            (busy, work, since) = (busy + done, work - done + more, at);
        }
        let in_system = work / self.service_seconds;
        look(
            seconds,
            (in_system - 8.0).max(0.0),
            in_system.min(8.0),
            Some((busy, busy / self.service_seconds)),
        )
    }
}

#[test]
fn a_burst_of_short_requests_needs_more_than_the_mean_of_its_step() {
    // 60 requests of a second at the end of the first third of the second step.
    let mut bursts = Bursts::new(1.0, &[(0.0, 15.0), (20.0, 60.0)]);
    let [_, burst, after] =
        bursts.loads(&[0.0, 15.0, 20.0, 25.0, 30.0, 45.0]).try_into().expect("three steps");
    // 52 wait at the next look, and may until five seconds after that; eight are worked on, and count as they are.
    let is = |burst: &StepLoad| {
        [burst.mean(), burst.needed(), burst.at_once()].map(|load| (load * 1e6).round() / 1e6)
    };
    assert_eq!(is(&burst), [4.0, 5.2, 10.4]);
    let late = [3.0, 4.0, 5.0, 6.0].map(|capacity| (burst.excess(capacity) * 15.0).round());
    assert_eq!(late, [22.0, 12.0, 2.0, 0.0], "requests that come too late");
    assert_eq!(is(&after), [0.0, 0.0, 0.0]);

    // Who may wait for less needs more, and half a minute of patience hides it all.
    for (patience, needs) in [(1, [4.0, 8.666_667, 10.4]), (30, [4.0, 4.0, 4.0])] {
        let mut bursts = Bursts::new(1.0, &[(0.0, 15.0), (20.0, 60.0)]);
        bursts.patience = Duration::from_secs(patience);
        assert_eq!(is(&bursts.loads(&[0.0, 15.0, 20.0, 25.0, 30.0])[1]), needs, "{patience} s");
    }

    // It needs the same whenever it comes, if somebody looks then and the step goes on for as long as its part: what came is of the
    // part that begins with it.
    for at in [15.5, 17.0, 19.9, 22.0, 24.9] {
        let mut bursts = Bursts::new(1.0, &[(0.0, 15.0), (at, 60.0)]);
        let looks = [0.0, 15.0, at, at + 5.0, f64::min(at + 10.0, 30.0), 30.0];
        assert_eq!(is(&bursts.loads(&looks)[1])[1..], [5.2, 10.4], "a burst at {at} s");
    }

    // The same work in requests that take as long as the step is spread by their length.
    let mut long = Bursts::new(15.0, &[(0.0, 1.0), (20.0, 4.0)]);
    let loads = long.loads(&[0.0, 15.0, 20.0, 25.0, 30.0]);
    assert_eq!(is(&loads[1]), [4.0, 4.0, 4.0]);
}

#[test]
fn parts_that_are_not_known_or_out_of_order_are_none() {
    let at = |seconds: f64, queued: f64| look(seconds, queued, 8.0, Some((seconds * 8.0, seconds * 8.0)));
    let begun = || {
        let mut offered = OfferedLoad::default();
        for (seconds, queued) in [(0.0, 0.0), (15.0, 0.0), (20.0, 50.0)] {
            offered.observe(at(seconds, queued), PATIENCE);
        }
        offered
    };
    let needed = |mut offered: OfferedLoad, looks: &[Look]| {
        looks.iter().filter_map(|look| offered.observe(*look, PATIENCE)).map(|(load, _)| load.needed()).last()
    };
    assert_eq!(needed(begun(), &[at(25.0, 10.0), at(30.0, 0.0)]), Some(9.0), "90 within five seconds");
    let unknown = Look { busy_seconds_total: None, ..at(25.0, 10.0) };
    assert_eq!(needed(begun(), &[unknown, at(30.0, 0.0)]), Some(8.0), "its mean is known");
    assert_eq!(needed(begun(), &[at(19.0, 50.0), at(30.0, 0.0)]), None, "the clock stepped back");
    let after = [at(19.0, 50.0), at(34.0, 50.0)];
    assert_eq!(needed(begun(), &after), Some(8.0), "and a step begins that knows of no burst");
}

#[test]
fn a_step_is_looked_at_in_parts_while_short_requests_are_worked_on() {
    let next = |service_seconds: f64, arrivals: &[(f64, f64)], looks: &[f64]| {
        let mut bursts = Bursts::new(service_seconds, arrivals);
        bursts.loads(looks);
        bursts.offered.look_next_at().map(|at| at.as_seconds())
    };
    let always = [(0.0, 30.0), (15.0, 200.0)];
    assert_eq!(next(1.0, &always, &[]), None);
    assert_eq!(next(1.0, &always, &[0.0]), Some(15.0), "it is not known that they are short");
    assert_eq!(next(1.0, &always, &[0.0, 15.0]), Some(20.0));
    assert_eq!(next(1.0, &always, &[0.0, 15.0, 18.0]), Some(20.0));
    assert_eq!(next(1.0, &always, &[0.0, 15.0, 20.0]), Some(25.0));
    assert_eq!(next(1.0, &always, &[0.0, 15.0, 27.0]), Some(30.0), "the step ends");
    assert_eq!(next(7.0, &always, &[0.0, 15.0]), Some(22.5), "by two");
    assert_eq!(next(8.0, &always, &[0.0, 15.0]), Some(30.0), "long ones");
    assert_eq!(next(1.0, &always[..1], &[0.0, 15.0]), Some(30.0), "there is nothing to look at");
}

#[test]
fn in_the_first_hour_more_is_kept_for_bursts_than_they_needed() {
    // 80 requests of a second each five minutes, and nothing else; in a day it is known how sudden they are.
    let kept = |days: u32| {
        let bursts = days * 288 + 3;
        let arrivals: Vec<(f64, f64)> =
            (0..bursts).map(|burst| (f64::from(burst) * 300.0 + 5.0, 80.0)).collect();
        let looks: Vec<f64> = (0..bursts * 60).map(|look| f64::from(look) * 5.0).collect();
        let loads = Bursts::new(1.0, &arrivals).loads(&looks);
        let kept = |counts: fn(&StepLoad) -> StepLoad| {
            outlooks_of(0.01, loads.iter().map(counts)).last().expect("an outlook").load
        };
        [
            kept(Clone::clone),
            kept(|load| StepLoad::even(load.needed())),
            kept(|load| StepLoad::even(load.mean())),
        ]
    };
    let [kept_at_first, needed, mean] = kept(0);
    assert!(kept_at_first > needed * 1.02 && needed > mean * 1.2, "{kept_at_first} {needed} {mean}");
    let [kept, needed, mean] = kept(1);
    assert!((kept / needed - 1.0).abs() < 0.01 && needed > mean * 1.2, "{kept} {needed} {mean}");
}

#[test]
fn in_the_first_hours_most_of_what_came_once_is_kept_ready_for() {
    // Half a minute of 60 out of a load of 4: how much is kept a quarter of an hour later, and when all that is in the first minute.
    let outlook = |begins: u32, later: u32| {
        let load = |step| if (begins..begins + 2).contains(&step) { 60.0 } else { 4.0 };
        *outlooks(0.01, (0..=begins + later).map(load)).last().expect("an outlook")
    };
    let kept = |begins: u32, later: u32| outlook(begins, later).load;
    assert!(kept(8 * MINUTE, 15 * MINUTE) > 40.0, "{}", kept(8 * MINUTE, 15 * MINUTE));
    assert_eq!(outlook(8 * MINUTE, 15 * MINUTE).seen, Some(60.0), "it says so");
    assert_eq!(outlook(0, 15 * MINUTE).seen, None, "a forecast from an even load asks for more");
    assert_eq!(outlook(DAY, HOUR).seen, None, "by then the forecast is trusted");
    assert!(kept(1, 15 * MINUTE) < 40.0, "a first minute says little: {}", kept(1, 15 * MINUTE));
    let [at_first, after_a_day] = [8 * MINUTE, DAY].map(|begins| kept(begins, HOUR));
    assert!(after_a_day < at_first * 0.8, "{at_first} {after_a_day}");
}

#[test]
fn many_requests_at_a_time_are_taken_for_steadier_beforehand_unless_few_may_miss() {
    // How many times the load is kept after a quarter of an hour of it.
    let kept = |load: f64, target: f64| {
        outlooks(target, (0..MINUTE * 15).map(|_| load))
            .last()
            .map(|outlook| outlook.load / load)
            .expect("an outlook")
    };
    let [few_miss, hardly_any_misses] = [0.01, 0.0001].map(|target| kept(80.0, target) / kept(8.0, target));
    assert!(few_miss < 0.8, "{few_miss}");
    assert!(hardly_any_misses > 0.85, "{hardly_any_misses}");
}

const COLD_START: Duration = Duration::from_secs(240);

/// A budget of 99 % after so many steps of a hundred requests, of which this share missed, and of a load of 10.
fn budget(steps: u32, missed: f64, capacity: f64) -> MissBudget {
    let mut budget = MissBudget::default();
    for step in 0..=steps {
        let (total, aim) = (f64::from(step) * 100.0, budget.aim(0.01, COLD_START));
        budget.observe(total * (1.0 - missed), total * missed, 1, &StepLoad::even(10.0), capacity, aim);
    }
    budget
}

/// What may miss next.
fn target(budget: &MissBudget, allowance: f64) -> f64 {
    budget.target(allowance, budget.aim(allowance, COLD_START))
}

#[test]
fn a_budget_before_anything_was_judged_aims_below_the_allowance() {
    let budget = MissBudget::default();
    assert_eq!(budget.missed(), None);
    assert_eq!(budget.bias(0.01), 1.0);
    assert!((target(&budget, 0.01) - 0.0072).abs() < 1e-9, "{}", target(&budget, 0.01));
}

#[test]
fn debts_are_paid_back_and_what_was_saved_may_be_spent() {
    let targets = [0.0, 0.005, 0.0085, 0.012, 0.1].map(|missed| target(&budget(2_000, missed, 20.0), 0.01));
    assert!(targets.is_sorted_by(|less, more| less > more), "{targets:?}");
    assert!(targets[0] > 0.01, "nothing missed: {targets:?}");
    let targets = [0.012, 0.1].map(|missed| target(&budget(6_000, missed, 20.0), 0.01));
    assert!(targets.iter().all(|target| (target - 0.00288).abs() < 1e-9), "the least: {targets:?}");
    let strict = [0.001, 0.01].map(|missed| target(&budget(2_000, missed, 20.0), 0.001) / 0.001);
    assert!(strict[0] > strict[1] && strict[1] < 0.2, "a debt beside a small allowance: {strict:?}");
}

#[test]
fn the_debt_of_the_first_hours_is_not_paid_back_in_them() {
    // Ten times too many, after ever longer: what may miss falls with the hours.
    let targets = [60, 240, 1_440, DAY].map(|steps| target(&budget(steps, 0.1, 20.0), 0.01));
    assert!(targets.is_sorted_by(|sooner, later| sooner > later), "{targets:?}");
    assert!(targets[0] > 2.0 * targets[3], "{targets:?}");
    // Days in which nobody came are no hours of service.
    let mut idle = MissBudget::default();
    (0..7 * DAY).for_each(|_| idle.observe(0.0, 0.0, 1, &StepLoad::even(0.0), 8.0, 0.0072));
    (1..=240).for_each(|step| {
        idle.observe(f64::from(step) * 90.0, f64::from(step) * 10.0, 1, &StepLoad::even(10.0), 8.0, 0.0072)
    });
    assert!((target(&idle, 0.01) / targets[1] - 1.0).abs() < 0.05, "{} {targets:?}", target(&idle, 0.01));
    // But who has few requests, each day some, does not begin each day.
    let mut rare = MissBudget::default();
    let mut total = 0.0;
    for step in 0..10 * DAY {
        total += if step % 50 == 0 { 100.0 } else { 0.0 };
        rare.observe(total * 0.9, total * 0.1, 1, &StepLoad::even(0.2), 8.0, 0.0072);
    }
    assert!(target(&rare, 0.01) < 0.5 * 0.01, "{}", target(&rare, 0.01));
    // A strict objective is left no time.
    let strict = [60, DAY].map(|steps| target(&budget(steps, 0.1, 20.0), 0.001));
    assert!((strict[0] / strict[1] - 1.0).abs() < 1e-9, "{strict:?}");
}

#[test]
fn less_is_kept_for_a_burst_where_it_is_little_beside_the_account_or_soon_over() {
    let aim = |days: u32, seconds: u64, allowance| {
        budget(days * DAY, 0.005, 20.0).aim(allowance, Duration::from_secs(seconds)) / allowance
    };
    for (days, seconds, allowance, expected) in [
        (0, 240, 0.01, 0.72),
        (1, 240, 0.01, 0.72),
        // Eight hours beside 4.95 days that are remembered.
        (7, 240, 0.01, 0.9327),
        (7, 240, 0.05, 0.9327),
        // A burst is more beside the allowance of a stricter objective.
        (7, 240, 0.005, 0.9048),
        (7, 240, 0.001, 0.7871),
        (0, 60, 0.01, 0.86),
        (1, 60, 0.01, 0.9122),
        (7, 60, 0.01, 0.9832),
        (1, 600, 0.01, 1.0 - 0.28 * 2.5_f64.sqrt()),
        (1, 3_600, 0.01, 0.3),
        (7, 0, 0.01, 1.0),
    ] {
        let aim = aim(days, seconds, allowance);
        assert!(
            (aim - expected).abs() < 1e-3,
            "{days} days, {seconds} s, {allowance}: {aim}, not {expected}"
        );
    }
}

#[test]
fn another_cold_start_changes_what_is_aimed_at_from_then_on_only() {
    // All that was aimed at was missed, for weeks.
    let mut budget = MissBudget::default();
    let (mut attained, mut missed) = (0.0, 0.0);
    for _ in 0..20 * DAY {
        let aim = budget.aim(0.01, COLD_START);
        (attained, missed) = (attained + 100.0 * (1.0 - aim), missed + 100.0 * aim);
        budget.observe(attained, missed, 1, &StepLoad::even(10.0), 20.0, aim);
    }
    for seconds in [60, 240, 600] {
        let aim = budget.aim(0.01, Duration::from_secs(seconds));
        let target = budget.target(0.01, aim);
        assert!((target / aim - 1.0).abs() < 0.02, "{seconds} s: {target} of {aim}");
    }
}

#[test]
fn a_gap_weighs_no_more_than_what_is_remembered_of_it() {
    let mut budget = budget(2_000, 0.005, 20.0);
    budget.observe(300_000.0 * 0.995, 300_000.0 * 0.005, 30 * DAY, &StepLoad::even(0.1), 20.0, 0.0072);
    // A memory of 9.5 days.
    assert!(
        (budget.aim(0.01, COLD_START) / 0.01 - (1.0 - 1.0 / 3.0 / 9.49)).abs() < 0.003,
        "{}",
        budget.aim(0.01, COLD_START) / 0.01
    );
}

#[test]
fn misses_beyond_what_the_load_explains_are_a_bias() {
    // Nothing was in excess of the capacity, yet 4 % missed: bursts shorter than a step.
    assert!(budget(2_000, 0.04, 20.0).bias(0.01) > 3.0);
    // A fifth was in excess and 1 % missed: it could wait.
    assert!(budget(2_000, 0.01, 8.0).bias(0.01) < 1.0);
    // As the load has it.
    let bias = budget(2_000, 0.2, 8.0).bias(0.01);
    assert!((bias - 1.0).abs() < 1e-6, "{bias}");
}

#[test]
fn totals_that_begin_anew_are_no_misses_of_the_past() {
    let mut budget = budget(2_000, 0.02, 20.0);
    let before = budget.missed();
    budget.observe(98.0, 2.0, 1, &StepLoad::even(10.0), 20.0, 0.0072);
    let after = budget.missed();
    assert!(before.zip(after).is_some_and(|(before, after)| (before - after).abs() < 1e-9), "{after:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn target_and_bias_stay_within_their_bounds(
        looks in prop::collection::vec((0.0..1e6_f64, 0.0..1e6_f64, 1_u32..10_000, 0.0..1e9_f64, 0.0..1e9_f64), 0..40),
        allowance in 1e-5..=1.0_f64,
        lead_seconds in 0_u64..100_000,
    ) {
        let mut budget = MissBudget::default();
        for (attained, missed, steps, load, capacity) in looks {
            // Sometimes less than before: who counts has restarted.
            let aim = budget.aim(allowance, Duration::from_secs(lead_seconds));
            prop_assert!((0.3 - 1e-9..=1.0).contains(&(aim / allowance)), "{aim}");
            budget.observe(attained, missed, steps, &StepLoad::even(load), capacity, aim);
            let aim = budget.aim(allowance, Duration::from_secs(lead_seconds));
            let target = budget.target(allowance, aim) / aim;
            let least = 0.4 * (allowance / 0.01).sqrt().min(1.0);
            prop_assert!((least * (1.0 - 1e-9)..=4.0 + 1e-9).contains(&target), "{target}");
            prop_assert!((0.5..=4.0).contains(&budget.bias(allowance)));
            prop_assert!(budget.missed().is_none_or(|missed| (0.0..=1.0).contains(&missed)));
        }
    }

    #[test]
    fn offered_load_is_a_number_whatever_is_counted(
        looks in prop::collection::vec((-100.0..1e4_f64, 0.0..1e300_f64, 0.0..1e300_f64, prop::option::of((0.0..1e15_f64, 0.0..1e15_f64))), 1..40),
    ) {
        let mut offered = OfferedLoad::default();
        let mut now = 0.0;
        for (gap, queued, in_flight, totals) in looks {
            now += gap;
            if let Some((load, steps)) = offered.observe(look(now, queued, in_flight, totals), PATIENCE) {
                for load in [load.mean(), load.needed(), load.at_once(), load.excess(0.0)] {
                    prop_assert!(load.is_finite() && load >= 0.0);
                }
                prop_assert!(steps >= 1);
            }
            prop_assert!(offered.service_seconds().is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0));
        }
    }

    #[test]
    fn what_bursts_need_is_the_least_with_which_nothing_comes_too_late(
        service_seconds in 0.2..8.0_f64,
        arrivals in prop::collection::vec((0.0..90.0_f64, 0.0..60.0_f64), 1..12),
        gaps in prop::collection::vec(0.1..7.0_f64, 30..60),
    ) {
        let mut arrivals = arrivals;
        arrivals.sort_by(|left, right| left.0.total_cmp(&right.0));
        let looks: Vec<f64> = gaps.iter().scan(0.0, |now, gap| { *now += gap; Some(*now) }).collect();
        for load in Bursts::new(service_seconds, &arrivals).loads(&looks) {
            let needed = load.needed();
            prop_assert!(load.excess(needed) <= 1e-9, "{load:?}");
            prop_assert!(needed == 0.0 || load.excess(needed * 0.99) > 0.0, "{load:?}");
            prop_assert!(load.excess(0.0) >= load.mean() && load.excess(needed * 0.5) <= load.excess(needed * 0.4));
        }
    }

    #[test]
    fn who_may_miss_less_never_keeps_less_as_long_as_one_forecaster_decides(
        loads in prop::collection::vec(0.0..200.0_f64, 1..200),
        lag in 1_usize..40,
        (small, more) in (1e-5..0.2_f64, 0.0..0.5_f64),
    ) {
        let [mut strict, mut loose] = [Panel::default(), Panel::default()];
        for (step, load) in (0..).zip(loads) {
            let at = end(step);
            let strict = strict.observe(Some(at), &StepLoad::even(load), lag, 8.0, of(small), 1);
            let loose = loose.observe(Some(at), &StepLoad::even(load), lag, 8.0, MayMiss { now: small + more, ..of(small) }, 1);
            prop_assert_eq!(strict.forecaster, loose.forecaster);
            prop_assert!(strict.load >= loose.load, "{strict:?} {loose:?}");
            prop_assert!(strict.exceedance <= loose.exceedance);
        }
    }
}

#[test]
fn over_days_a_smaller_allowance_keeps_more() {
    // Bursts of five minutes on a low load; whose forecast decides may differ at times.
    let load = |step: u32| if step % 150 < 20 && !step.is_multiple_of(7) { 60.0 } else { 10.0 };
    let kept = [0.1, 0.03, 0.01, 0.001].map(|target| {
        let mut panel = Panel::default();
        (0..6_000)
            .map(|step| {
                panel.observe(Some(end(step)), &StepLoad::even(load(step)), 17, 8.0, of(target), 1).load
            })
            .sum::<f64>()
    });
    assert!(kept.is_sorted(), "{kept:?}");
    assert!(kept[3] > kept[0] * 1.2, "{kept:?}");
}

#[test]
fn a_quiet_day_makes_bold_only_where_it_should_not_have_been_quiet() {
    // How much likelier what is no longer kept for is after a day without any miss.
    let bolder = |target: f64| {
        let mut panel = Panel::default();
        let mut step = |index, load| {
            panel.observe(Some(end(index)), &StepLoad::even(load), 17, 8.0, of(target), 1).exceedance
        };
        // One high step, so that the highest load is no bound.
        let first = (0..60).fold(0.0, |_, index| step(index, if index == 0 { 400.0 } else { 10.0 }));
        (60..5_820).fold(first, |_, index| step(index, 10.0)) / first
    };
    let [often, rarely] = [0.01, 0.001].map(bolder);
    assert!(often > 3.0, "one in a hundred would have been seen: {often}");
    assert!(rarely < 2.0, "one in a thousand need not have been: {rarely}");
}

/// Steps of a minute, of an hour, of a day, and from a decision until its replicas serve.
const MINUTE: u32 = 4;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;
const LAG: usize = 17;

/// What a panel says after each step of these loads, of which this share may miss.
fn outlooks(target: f64, loads: impl Iterator<Item = f64>) -> Vec<Outlook> {
    outlooks_of(target, loads.map(StepLoad::even))
}

fn outlooks_of(target: f64, loads: impl Iterator<Item = StepLoad>) -> Vec<Outlook> {
    let mut panel = Panel::default();
    let observe = |(step, load)| panel.observe(Some(end(step)), &load, LAG, 8.0, of(target), 1);
    (0..).zip(loads).map(observe).collect()
}

/// The most and the least that is kept between these moments.
fn kept(outlooks: &[Outlook], between: std::ops::Range<u32>) -> (f64, f64) {
    let between = &outlooks[between.start as usize..between.end as usize];
    let loads = || between.iter().map(|outlook| outlook.load);
    (loads().fold(0.0, f64::max), loads().fold(f64::INFINITY, f64::min))
}

/// A load of 10, and for eight minutes after each hour a job of 60, a little larger or smaller each time. The jobs of these
/// hours are left out.
fn hourly(hours: u32, left_out: &[u32]) -> impl Iterator<Item = f64> + '_ {
    (0..hours * HOUR).map(|step| {
        let (hour, within) = (step / HOUR, step % HOUR);
        let has_job = within < 8 * MINUTE && !left_out.contains(&hour);
        10.0 + f64::from(step % 3) + if has_job { 55.0 + f64::from(hour * 7 % 11) } else { 0.0 }
    })
}

#[test]
fn what_comes_every_hour_is_prepared_for_a_lead_time_before_and_no_sooner() {
    let outlooks = outlooks(0.01, hourly(24, &[]));
    for hour in 12..23 {
        let starts = hour * HOUR;
        // Replicas that are to serve from the first step on are asked for by now.
        let ready = &outlooks[starts as usize - LAG];
        assert!(ready.load > 60.0, "hour {hour}: {ready:?}");
        assert_eq!(ready.forecaster.to_string(), "usual course of an hour");
        let (most, _) = kept(&outlooks, starts + 20 * MINUTE..starts + 45 * MINUTE);
        assert!(most < 45.0, "hour {hour}: {most} between two jobs");
        let (_, least) = kept(&outlooks, starts..starts + 3 * MINUTE);
        assert!(least > 60.0, "hour {hour}: {least} while it runs");
    }
}

#[test]
fn what_usually_comes_and_does_not_is_waited_for_only_for_minutes() {
    let outlooks = outlooks(0.01, hourly(24, &[20]));
    let due = 20 * HOUR;
    assert!(outlooks[due as usize - LAG].load > 60.0);
    let (most, _) = kept(&outlooks, due + 15 * MINUTE..due + 45 * MINUTE);
    assert!(most < 45.0, "{most}");
    let next = outlooks[(due + HOUR) as usize - LAG].load;
    assert!(next > 45.0, "one that was left out is not the end of all: {next}");
}

#[test]
fn a_season_keeps_its_phase_over_a_time_that_nobody_looked() {
    let mut panel = Panel::default();
    let mut ready = 0.0;
    for (step, load) in (0..).zip(hourly(24, &[])).take(20 * HOUR as usize - LAG + 1) {
        // For 97 minutes, hours before: what is known of it is a mean that no minute has, which is no usual one.
        let (at, load) = match (15 * HOUR..15 * HOUR + 97 * MINUTE).contains(&step) {
            true => (None, 20.0),
            false => (Some(end(step)), load),
        };
        ready = panel.observe(at, &StepLoad::even(load), LAG, 8.0, of(0.01), 1).load;
    }
    assert!(ready > 60.0, "{ready}");
}

#[test]
fn what_comes_every_day_and_what_comes_every_week_is_prepared_for() {
    // Two hours of work, each day at three; and each day of the week at another time.
    let prepared_for = |begins: fn(u32) -> u32, days: std::ops::Range<u32>, by: &str| {
        let loads = (0..days.end * DAY).map(|step| {
            let begins = begins(step / DAY);
            let is_work = (begins..begins + 2 * HOUR).contains(&(step % DAY));
            f64::from(step % 5) + if is_work { 80.0 } else { 8.0 }
        });
        let outlooks = outlooks(0.001, loads);
        for day in days {
            let before = &outlooks[(day * DAY + begins(day)) as usize - LAG];
            assert!(before.load > 75.0, "day {day}: {before:?}");
            assert_eq!(before.forecaster.to_string(), by, "day {day}");
        }
    };
    prepared_for(|_| 3 * HOUR, 3..6, "usual course of a day");
    prepared_for(|day| (2 + day * 5 % 7 * 3) * HOUR, 15..20, "usual course of a week");
}

#[test]
fn where_the_load_falls_as_it_usually_does_the_last_step_is_told_beside_the_mean() {
    let outlooks = outlooks(0.01, hourly(6, &[]));
    let ebb = &outlooks[(5 * HOUR + 9 * MINUTE) as usize];
    assert!(ebb.recent > 40.0 && ebb.last < 20.0, "{ebb:?}");
}

#[test]
fn where_nothing_comes_again_what_may_miss_does_and_no_more() {
    // Rates that change at random after random times.
    let (mut seed, mut rate, mut left) = (7_u64, 20.0, 0);
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let rates = (0..5 * DAY).map(|_| {
        if left == 0 {
            (rate, left) = (5.0 + 60.0 * random() * random(), (random() * 400.0) as u32);
        }
        left = left.saturating_sub(1);
        rate * (0.9 + 0.2 * random())
    });
    let loads: Vec<f64> = rates.collect();
    let outlooks = outlooks(0.01, loads.iter().copied());
    // Ready is what was asked for a lead time ago, in whole replicas, and is wanted still.
    let ready = |step: usize| outlooks[step].load.min(outlooks[step - LAG].load);
    let capacity = |step: usize| (ready(step) / 8.0).floor() * 8.0 + 8.0;
    let missed: f64 = (DAY as usize..loads.len()).map(|step| (loads[step] - capacity(step)).max(0.0)).sum();
    let share = missed / loads[DAY as usize..].iter().sum::<f64>();
    assert!((0.004..0.012).contains(&share), "{share}");
}
