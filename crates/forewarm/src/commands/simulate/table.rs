//! The comparison as a table for a terminal.

use std::io::IsTerminal;

use forewarm_sim::{
    DataPlane,
    compare::{ALL_MODELS, Row},
};

use crate::commands::{
    contender::CLAIRVOYANT,
    scenario::Scenario,
    table::{self, percent, span},
};

/// One table a trace, or one for a mix of models, under what it rests on.
pub(super) fn compared(scenario: &Scenario, rows: &[Row], for_terminal: bool) -> String {
    let styled = for_terminal && std::io::stdout().is_terminal();
    let mut text = scenario.in_words();
    for trace in &scenario.traces {
        let load = scenario.load(trace);
        let gpus = match trace.gpus_per_replica {
            1 => String::new(),
            gpus => format!(" of {gpus} GPUs"),
        };
        text += if scenario.is_mix() { "\n" } else { "\n\n" };
        text += &format!(
            "{}: {} requests in {:.1} h, {:.1} replicas{gpus} busy on average, {:.1} in the busiest minute",
            trace.short_name(),
            trace.requests.len(),
            trace.hours(),
            load.mean,
            load.peak
        );
        if !scenario.is_mix() {
            let rows: Vec<&Row> = rows.iter().filter(|row| row.trace == trace.name).collect();
            text += "\n";
            text += &of_trace(&rows, scenario.starts_may_fail(), styled);
            text += &out_of_reach(scenario, &rows);
        }
    }
    if scenario.is_mix() {
        text += "\n\n";
        text += &of_trace(&rows.iter().collect::<Vec<_>>(), scenario.starts_may_fail(), styled);
        for trace in &scenario.traces {
            let rows: Vec<&Row> = rows.iter().filter(|row| row.model == trace.model).collect();
            text += &out_of_reach(scenario, &rows);
        }
    }
    text
}

/// What to say where no plan attains the objective.
fn out_of_reach(scenario: &Scenario, rows: &[&Row]) -> String {
    let most = rows.iter().filter_map(|row| row.clairvoyant_attained).reduce(f64::max);
    let Some(most) = most.filter(|most| most * 100.0 < scenario.objective.percent) else {
        return String::new();
    };
    let whose = rows.first().and_then(|row| row.model.as_ref());
    let whose = whose.map_or_else(String::new, |model| format!(" of {model}"));
    format!(
        "\nNo plan attains the objective{whose} here: the best that is known gives {}, for the first cold start is in the way. Try `--min`.",
        percent(most)
    )
}

fn of_trace(rows: &[&Row], failed: bool, styled: bool) -> String {
    let planes = rows.iter().any(|row| row.data_plane != DataPlane::Gateway);
    let regret = rows.iter().any(|row| row.regret.is_some());
    let dollars = rows.iter().any(|row| row.dollars.is_some());
    let models = rows.iter().any(|row| row.model.is_some());
    let mut titles = vec!["policy"];
    titles.extend(models.then_some("model"));
    titles.extend(planes.then_some("queues"));
    titles.extend(["attained", "worst hour", "GPU-hours"]);
    titles.extend(regret.then_some("regret"));
    titles.extend(dollars.then_some("dollars"));
    titles.extend(["TTFT p50", "TTFT p99", "starts"]);
    titles.extend(failed.then_some("failed"));
    titles.extend(["flaps", "most", "lost"]);
    let best = cheapest(rows);
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let is_best = best == Some(index);
        let mut cells = vec![row.policy.clone()];
        cells.extend(models.then(|| row.model.clone().unwrap_or_default()));
        cells.extend(planes.then(|| match row.data_plane {
            DataPlane::Gateway => "gateway".to_owned(),
            DataPlane::Engine => "engines".to_owned(),
        }));
        cells.push(format!("{} {}", percent(row.attained), if row.meets_objective { "✓" } else { "✗" }));
        cells.push(percent(row.worst_hour));
        cells.push(format!("{:.2} {}", row.gpu_hours, if is_best { "★" } else { " " }));
        cells.extend(
            regret.then(|| row.regret.map_or_else(|| "–".to_owned(), |regret| format!("{regret:.3}"))),
        );
        cells.extend(
            dollars.then(|| row.dollars.map_or_else(|| "–".to_owned(), |dollars| format!("{dollars:.2}"))),
        );
        cells.extend([span(row.ttft_seconds.p50), span(row.ttft_seconds.p99)]);
        cells.push(row.starts.to_string());
        cells.extend(failed.then(|| row.failed_starts.to_string()));
        cells.extend([row.flaps, u64::from(row.max_replicas), row.lost].map(|count| count.to_string()));
        (cells, is_best)
    });
    let words: Vec<bool> =
        titles.iter().map(|title| matches!(*title, "policy" | "model" | "queues")).collect();
    table::table(&titles, &words, lines.collect(), styled)
}

/// The cheapest row that attains the objective, of a mix the cheapest sum; a policy that knows the requests is out of
/// competition.
fn cheapest(rows: &[&Row]) -> Option<usize> {
    let is_all = |row: &Row| row.model.as_deref().is_none_or(|model| model == ALL_MODELS);
    let competes = |row: &Row| row.meets_objective && row.policy != CLAIRVOYANT && is_all(row);
    let meets = rows.iter().enumerate().filter(|(_, row)| competes(row));
    meets.min_by(|(_, left), (_, right)| left.gpu_hours.total_cmp(&right.gpu_hours)).map(|(index, _)| index)
}
