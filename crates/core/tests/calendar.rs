//! Floors by the clock: across midnight, across the change of the clocks, over one another.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use forewarm_core::{
    Bounds, Environment, Observation, Policy, QueueDepth, Replicas, Requests, ScalerSpec, ScalerState,
    Signal, Timestamp,
    calendar::{Floor, InvalidFloor, Schedule},
    plan,
};

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn floor(timezone: &str, start: &str, end: &str) -> Floor {
    Floor::new(timezone, start, end, Replicas(5)).unwrap()
}

#[test]
fn a_floor_holds_from_its_start_to_its_end() {
    let berlin = "Europe/Berlin";
    // (zone, start, end, moment, holds, until)
    let cases = [
        // Working hours: the start counts, the end does not.
        (berlin, "0 8 * * 1-5", "0 18 * * 1-5", "2026-11-25T06:59:59Z", false, "2026-11-25T07:00:00Z"),
        (berlin, "0 8 * * 1-5", "0 18 * * 1-5", "2026-11-25T07:00:00Z", true, "2026-11-25T17:00:00Z"),
        (berlin, "0 8 * * 1-5", "0 18 * * 1-5", "2026-11-25T17:00:00Z", false, "2026-11-26T07:00:00Z"),
        (berlin, "0 8 * * 1-5", "0 18 * * 1-5", "2026-11-28T12:00:00Z", false, "2026-11-30T07:00:00Z"),
        // Across midnight, and across a weekend.
        ("UTC", "0 22 * * *", "0 6 * * *", "2026-11-25T23:30:00Z", true, "2026-11-26T06:00:00Z"),
        ("UTC", "0 22 * * *", "0 6 * * *", "2026-11-25T12:00:00Z", false, "2026-11-25T22:00:00Z"),
        ("UTC", "0 18 * * fri", "0 8 * * mon", "2026-11-29T12:00:00Z", true, "2026-11-30T08:00:00Z"),
        // 02:30 does not exist on 29 March 2026: it comes as 03:30, so the day has its floor.
        (berlin, "30 2 * * *", "0 9 * * *", "2026-03-29T01:15:00Z", false, "2026-03-29T01:30:00Z"),
        (berlin, "30 2 * * *", "0 9 * * *", "2026-03-29T01:30:00Z", true, "2026-03-29T07:00:00Z"),
        // 02:30 comes twice on 25 October 2026: a floor that ends then ends the first time.
        (berlin, "0 20 * * *", "30 2 * * *", "2026-10-25T00:29:00Z", true, "2026-10-25T00:30:00Z"),
        (berlin, "0 20 * * *", "30 2 * * *", "2026-10-25T00:30:00Z", false, "2026-10-25T19:00:00Z"),
        // A day that starts at 02:30 twice starts once: the second time changes nothing.
        (berlin, "30 2 * * *", "0 9 * * *", "2026-10-25T00:30:00Z", true, "2026-10-25T08:00:00Z"),
        (berlin, "30 2 * * *", "0 9 * * *", "2026-10-25T01:30:00Z", true, "2026-10-25T08:00:00Z"),
        // Summer and winter time: 08:00 in Berlin is another moment.
        (berlin, "0 8 * * *", "0 9 * * *", "2026-07-01T06:30:00Z", true, "2026-07-01T07:00:00Z"),
        (
            "Australia/Lord_Howe",
            "0 2 * * *",
            "0 3 * * *",
            "2026-10-03T15:45:00Z",
            true,
            "2026-10-03T16:00:00Z",
        ),
        // A start that comes again while the floor holds changes nothing.
        ("UTC", "0 8,9 * * *", "0 18 * * *", "2026-11-25T08:30:00Z", true, "2026-11-25T18:00:00Z"),
        // A quarter of an hour past each hour, and a leap day.
        ("UTC", "0 * * * *", "15 * * * *", "2026-11-25T10:14:59Z", true, "2026-11-25T10:15:00Z"),
        ("UTC", "0 0 29 2 *", "0 0 1 3 *", "2026-11-25T00:00:00Z", false, "2028-02-29T00:00:00Z"),
    ];
    for (zone, start, end, moment, holds, until) in cases {
        let found = floor(zone, start, end).holds(at(moment)).unwrap();
        assert_eq!((found.now, found.until), (holds, at(until)), "{start} to {end} in {zone} at {moment}");
    }
}

#[test]
fn an_expression_means_what_cron_means() {
    let cases = [
        ("*/20 3 * * *", "2026-11-25T03:20:00Z", "2026-11-25T03:40:00Z"),
        ("5/20 3 * * *", "2026-11-25T03:05:00Z", "2026-11-25T03:25:00Z"),
        ("0 0 1,15 * *", "2026-11-02T00:00:00Z", "2026-11-15T00:00:00Z"),
        // Day of month and of week, both named: either.
        ("0 0 13 * FRI", "2026-11-07T00:00:00Z", "2026-11-13T00:00:00Z"),
        ("0 0 1 * FRI", "2026-11-07T00:00:00Z", "2026-11-13T00:00:00Z"),
        ("0 0 * * 7", "2026-11-25T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("0 0 * jan-feb *", "2026-11-25T00:00:00Z", "2027-01-01T00:00:00Z"),
        // A step over `*` restricts, and does not name: 2 February on a Sunday, and 29 February past a century.
        ("0 0 2 2 */7", "2031-02-03T00:00:00Z", "2042-02-02T00:00:00Z"),
        ("0 0 29 2 */7", "2088-03-01T00:00:00Z", "2128-02-29T00:00:00Z"),
        ("0 0 ? * 1-5/2", "2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("@weekly", "2026-11-25T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("@yearly", "2026-11-25T00:00:00Z", "2027-01-01T00:00:00Z"),
    ];
    for (text, after, next) in cases {
        let schedule: Schedule = text.parse().unwrap();
        let found = schedule.next(&jiff::tz::TimeZone::UTC, after.parse().unwrap());
        assert_eq!(found, Some(next.parse().unwrap()), "{text} after {after}");
    }
}

#[test]
fn what_is_no_floor_says_what_would_be() {
    let cases = [
        (
            ("Mars/Olympus", "0 8 * * *", "0 9 * * *"),
            "\"Mars/Olympus\" is no time zone; one is called like `Europe/Berlin` or `UTC`",
        ),
        (
            ("UTC", "8 * * *", "0 9 * * *"),
            "`start`: \"8 * * *\" has 4 fields, and five are needed (minute, hour, day of month, month, day of week): `0 8 * * 1-5`",
        ),
        (
            ("UTC", "0 24 * * *", "0 9 * * *"),
            "`start`: the hour is \"24\": `*`, numbers from 0 to 23, ranges and lists of them",
        ),
        (
            ("UTC", "0 8 * * *", "0 9 * * 5-1"),
            "`end`: the day of week is \"5-1\": a range goes upwards, as in `1-5`",
        ),
        (
            ("UTC", "*/0 8 * * *", "0 9 * * *"),
            "`start`: the minute is \"*/0\": a step is a whole number above 0, as in `*/15`",
        ),
        (("UTC", "0 8 30 2 *", "0 9 * * *"), "`start`: \"0 8 30 2 *\" names a day that never comes"),
        (
            ("UTC", "@every 5m", "0 9 * * *"),
            "`start`: \"@every 5m\" is not known; @hourly, @daily, @weekly, @monthly and @yearly are",
        ),
        (("UTC", "0 8 * * *", "0 8 * * *"), "`start` and `end` are the same"),
    ];
    for ((zone, start, end), said) in cases {
        let error: InvalidFloor = Floor::new(zone, start, end, Replicas(1)).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn the_highest_floor_lifts_the_number_and_says_until_when() {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    let spec = ScalerSpec {
        environment: Environment::Dev,
        floors: vec![
            Floor::new("UTC", "0 8 * * *", "0 18 * * *", Replicas(3)).unwrap(),
            Floor::new("UTC", "0 12 * * *", "0 13 * * *", Replicas(6)).unwrap(),
            Floor::new("UTC", "0 9 * * *", "0 17 * * *", Replicas(4)).unwrap(),
        ],
        ..ScalerSpec::new("llama3", Bounds::new(0, 5).unwrap(), policy)
    };
    let mut state = ScalerState::default();
    let mut planned = |moment: &str| {
        let signals = [("queued".into(), Signal::value(0.0)), ("in_flight".into(), Signal::value(0.0))];
        plan(
            &spec,
            &mut state,
            &Observation { at: at(moment), signals: signals.into(), ..Default::default() },
        )
    };
    let before = planned("2026-11-25T07:59:59Z");
    assert_eq!(before.to, Replicas(0));
    assert_eq!(before.wake_at, Some(at("2026-11-25T08:00:00Z")), "the start is not slept through");
    let lifted = planned("2026-11-25T08:00:00Z");
    assert_eq!(lifted.to, Replicas(3));
    let why = lifted.steps.iter().find(|step| step.reason.label() == "calendar_floor").unwrap();
    assert_eq!(
        why.reason.to_string(),
        "at least 3 replicas by the calendar for another 36000 s (since `0 8 * * *` in UTC)"
    );
    assert_eq!(planned("2026-11-25T09:00:00Z").to, Replicas(4));
    assert_eq!(planned("2026-11-25T12:00:00Z").to, Replicas(5), "never above the upper bound");
    assert_eq!(planned("2026-11-25T13:00:00Z").to, Replicas(4));
}

#[test]
fn a_floor_survives_the_journal() {
    let floor = floor("Europe/Berlin", "0 8 * * 1-5", "0 18 * * 1-5");
    let text = serde_json::to_string(&floor).unwrap();
    assert_eq!(
        text,
        r#"{"timezone":"Europe/Berlin","start":"0 8 * * 1-5","end":"0 18 * * 1-5","replicas":5}"#
    );
    assert_eq!(serde_json::from_str::<Floor>(&text).unwrap(), floor);
}
