//! The pre-warming rule that users have today, exactly: threshold 0.7, lead 180 s, 15-second grid.

use std::time::Duration;

use forewarm_core::{
    PreWarm, Requests,
    prewarm::{PreWarmError, Verdict, lead_index, verdict},
};

fn requests(count: f64) -> Requests {
    Requests::new(count).expect("a number of requests")
}

fn rule() -> PreWarm {
    PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: requests(100.0) }
}

fn forecast(index: usize, value: f64) -> Vec<Requests> {
    let mut forecast = vec![requests(0.0); 13];
    forecast[index] = requests(value);
    forecast
}

#[test]
fn the_rule() {
    struct Case(&'static str, f64, Vec<Requests>, Verdict);
    let cases = [
        Case("the queue at the threshold", 70.0, forecast(0, 0.0), Verdict::Queue),
        Case("just below", 69.9, forecast(0, 0.0), Verdict::Wait),
        Case(
            "the forecast at index 12 is 180 s ahead",
            0.0,
            forecast(12, 70.0),
            Verdict::Forecast(requests(70.0)),
        ),
        Case("index 11 does not count", 0.0, forecast(11, 100.0), Verdict::Wait),
        Case("index 0 is now and does not count", 0.0, forecast(0, 100.0), Verdict::Wait),
        Case("a full queue needs no forecast", 70.0, vec![], Verdict::Queue),
    ];
    for Case(name, queue, forecast, expected) in cases {
        assert_eq!(verdict(&rule(), requests(queue), &forecast), Ok(expected), "{name}");
    }
}

#[test]
fn what_crashes_the_script_is_a_typed_error_here() {
    let empty = PreWarm { max_queue: requests(0.0), ..rule() };
    assert_eq!(verdict(&empty, requests(3.0), &forecast(12, 9.0)), Err(PreWarmError::ZeroMaxQueue));
    let short = verdict(&rule(), requests(3.0), &forecast(11, 0.0)[..12]).unwrap_err();
    assert_eq!(short, PreWarmError::ForecastTooShort { steps: 12, needed: 12, lead_seconds: 180.0 });
    insta::assert_snapshot!(short, @"the forecast has 12 steps of 15 s, and step 12 is needed for a lead time of 180 s");
}

#[test]
fn the_lead_time_is_rounded_down_to_the_grid() {
    for (seconds, index) in [(0, 0), (14, 0), (15, 1), (179, 11), (180, 12), (194, 12)] {
        assert_eq!(lead_index(Duration::from_secs(seconds)), index, "{seconds} s");
    }
}
