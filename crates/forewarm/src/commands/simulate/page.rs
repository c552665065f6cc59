//! Comparisons as one page that needs nothing beside itself: its data is in it as JSON, and its own script draws.

use forewarm_sim::{
    Course, Timeline,
    compare::{ALL_MODELS, Row},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    commands::scenario::{Scenario, Trace},
    exit::Failure,
};

const PAGE: &str = include_str!("../../../pages/simulate.html");
const STYLE: &str = include_str!("../../../pages/simulate.css");
const SCRIPT: &str = include_str!("../../../pages/simulate.js");

/// Spans that a timeline is drawn in: one for two or three pixels.
const SPANS: usize = 600;
/// Decisions that are listed for a run; the rest is counted.
const MAX_DECISIONS: usize = 1_000;

/// A run with its course.
#[derive(Serialize)]
struct Run<'a> {
    row: &'a Row,
    course: Course,
    decisions: &'a [(f64, String)],
    decisions_left_out: usize,
}

/// The page of a comparison.
pub(crate) fn compared(scenario: &Scenario, runs: &[(Row, Timeline)]) -> Result<String, Failure> {
    let mut traces: Vec<Value> = scenario
        .traces
        .iter()
        .map(|trace| {
            let load = scenario.load(trace);
            let runs = drawn(runs, |row| row.trace == trace.name && row.model == trace.model);
            json!({
                "name": trace.short_name(),
                "requests": trace.requests.len(),
                "hours": trace.hours(),
                "mean_load": load.mean,
                "peak_load": load.peak,
                "runs": runs,
            })
        })
        .collect();
    if scenario.is_mix() {
        let loads: Vec<_> = scenario.traces.iter().map(|trace| scenario.load(trace)).collect();
        traces.push(json!({
            "name": "all models",
            "requests": scenario.traces.iter().map(|trace| trace.requests.len()).sum::<usize>(),
            "hours": scenario.traces.iter().map(Trace::hours).fold(0.0, f64::max),
            "mean_load": loads.iter().map(|load| load.mean).sum::<f64>(),
            "peak_load": loads.iter().map(|load| load.peak).sum::<f64>(),
            "runs": drawn(runs, |row| row.model.as_deref() == Some(ALL_MODELS)),
        }));
    }
    filled(&json!({
        "kind": "simulate",
        "rests_on": scenario.in_words(),
        "wanted_percent": scenario.objective.percent,
        "slots": scenario.terms.max_concurrency,
        "traces": traces,
    }))
}

/// The runs of these rows, as they are drawn.
fn drawn(runs: &[(Row, Timeline)], is_one: impl Fn(&Row) -> bool) -> Vec<Run<'_>> {
    let chosen = runs.iter().filter(|(row, _)| is_one(row));
    chosen
        .map(|(row, timeline)| {
            let decisions = &timeline.decisions;
            let shown = decisions.len().min(MAX_DECISIONS);
            Run {
                row,
                course: timeline.course(SPANS),
                decisions: decisions.get(..shown).unwrap_or_default(),
                decisions_left_out: decisions.len() - shown,
            }
        })
        .collect()
}

/// The page with its data in it.
pub(crate) fn filled(data: &Value) -> Result<String, Failure> {
    // Inside a script element only `</` and `<!--` could end the data before its time.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let version = env!("CARGO_PKG_VERSION");
    Ok(PAGE
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
        .replace("{version}", version)
        .replace("{data}", &data))
}
