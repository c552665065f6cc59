//! Values on the command line that need more than a number.

use std::time::Duration;

use forewarm_manifest::quantity;
use forewarm_sim::{ColdStartLaw, Objective};
use forewarm_workload::Burst;

/// Reads a Go-style duration as manifests have it: `90s`, `5m`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text)
        .map_err(|_| format!("`{text}` is no duration: write it like `90s`, `5m` or `1h30m`"))
}

/// Reads a speed: how many times as fast.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no speed: it must be a number from 0.1 to 1000");
    let speed: f64 = text.parse().map_err(|_| wrong())?;
    if (0.1..=1_000.0).contains(&speed) { Ok(speed) } else { Err(wrong()) }
}

/// A number for all models of a mix, or for the one that is named: `4`, `llama3=4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForModel {
    pub(crate) model: Option<String>,
    pub(crate) count: u32,
}

/// Reads one, of 1 to 10,000.
pub(crate) fn for_model(text: &str) -> Result<ForModel, String> {
    let (model, count) = match text.split_once('=') {
        Some((model, count)) => (Some(model.to_owned()), count),
        None => (None, text),
    };
    let count = count.parse().ok().filter(|count| (1..=10_000).contains(count));
    let count = count.ok_or_else(|| {
        format!("`{text}` is no number from 1 to 10000; for one model of several write it like `llama3=4`")
    })?;
    Ok(ForModel { model, count })
}

/// Reads a share written in percent: `1%`, `0.5%`.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no percentage: write it like `1%`, from 0% to 100%");
    let percent: f64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(wrong()) }
}

/// Reads an objective: `ttft=5s@99%`.
pub(crate) fn objective(text: &str) -> Result<Objective, String> {
    let wrong = |what: &str| {
        format!("`{text}` is no objective: {what}; write it like `ttft=5s@99%`, 99 % of requests within 5 s")
    };
    let (bound, share) = text
        .strip_prefix("ttft=")
        .and_then(|rest| rest.split_once('@'))
        .ok_or_else(|| wrong("it has no `ttft=` and `@`"))?;
    let ttft = quantity::duration(bound).map_err(|_| wrong(&format!("`{bound}` is no duration")))?;
    let share = share.strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = share.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    let percent = percent.ok_or_else(|| wrong("the share must be above 0% and at most 100%"))?;
    Ok(Objective { ttft, percent })
}

/// Reads how long starts take: `240s` for all of them, or `heavy:240s` for a median with a heavy tail.
pub(crate) fn cold_start(text: &str) -> Result<ColdStart, String> {
    let (heavy, span) = text.strip_prefix("heavy:").map_or((false, text), |span| (true, span));
    match quantity::duration(span) {
        Ok(median) if !(heavy && median.is_zero()) => Ok(ColdStart { median, heavy }),
        Ok(_) | Err(_) => Err(format!("`{text}` is no cold start: write it like `240s`, or `heavy:240s`")),
    }
}

/// How long starts take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ColdStart {
    pub(crate) median: Duration,
    heavy: bool,
}

impl ColdStart {
    /// The law, with a share of starts that fail.
    pub(crate) fn law(self, failing: f64) -> ColdStartLaw {
        let median = self.median.as_secs_f64();
        let law = if self.heavy { ColdStartLaw::heavy_tailed(median) } else { ColdStartLaw::fixed(median) };
        ColdStartLaw { failing, ..law }
    }
}

impl std::fmt::Display for ColdStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = if self.heavy { " in the median, with a heavy tail" } else { "" };
        write!(f, "{}{tail}", quantity::write_duration(self.median))
    }
}

/// Reads a burst on top of a workload: `at=1h,requests=500,over=30s`.
pub(crate) fn burst(text: &str) -> Result<Burst, String> {
    let wrong =
        |what: &str| format!("`{text}` is no burst: {what}; write it like `at=1h,requests=500,over=30s`");
    let (mut at, mut requests, mut over) = (None, None, Duration::ZERO);
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| wrong(&format!("`{part}` has no `=`")))?;
        let span = || quantity::duration(value).map_err(|_| wrong(&format!("`{value}` is no duration")));
        match name {
            "at" => at = Some(span()?),
            "over" => over = span()?,
            "requests" => {
                let count = value.parse().ok().filter(|count| (1..=10_000_000).contains(count));
                requests = Some(count.ok_or_else(|| wrong("requests must be from 1 to 10,000,000"))?);
            }
            _ => return Err(wrong(&format!("`{name}` is none of at, requests, over"))),
        }
    }
    match (at, requests) {
        (Some(at), Some(requests)) => Ok(Burst { at, requests, over }),
        _ => Err(wrong("it needs `at` and `requests`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubectl_reads_them() {
        for (text, seconds) in
            [("90s", 90.0), ("5m", 300.0), ("1h30m", 5_400.0), ("500ms", 0.5), ("1.5s", 1.5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5s", "5x", "1h30", "99999999999999999999h"] {
            assert!(duration(text).is_err_and(|error| error.contains("write it like")), "{text}");
        }
    }

    #[test]
    fn what_a_scenario_needs_is_read_or_said_to_be_wrong() {
        assert_eq!(percent("1.5%"), Ok(0.015));
        let wanted = Objective { ttft: Duration::from_millis(1_500), percent: 99.9 };
        assert_eq!(objective("ttft=1.5s@99.9%"), Ok(wanted));
        assert_eq!(wanted.to_string(), "ttft=1.5s@99.9%");
        assert_eq!(cold_start("heavy:4m").unwrap().median, Duration::from_secs(240));
        let storm = Burst { at: Duration::from_secs(60), requests: 7, over: Duration::from_secs(3) };
        assert_eq!(burst("at=1m,requests=7,over=3s"), Ok(storm));
        for wrong in ["1", "101%", "-1%", "x%"] {
            assert!(percent(wrong).is_err_and(|error| error.contains("write it like")), "{wrong}");
        }
        for wrong in ["5s", "ttft=5s", "ttft=5@99%", "ttft=5s@0%", "ttft=5s@101%", "e2e=5s@99%"] {
            assert!(objective(wrong).is_err_and(|error| error.contains("ttft=5s@99%")), "{wrong}");
        }
        for wrong in ["", "240", "heavy:", "heavy:0s", "light:240s"] {
            assert!(cold_start(wrong).is_err_and(|error| error.contains("heavy:240s")), "{wrong}");
        }
        for wrong in
            ["", "at=1h", "requests=5", "at=1h,requests=0", "at=1h,requests=5,for=3s", "at=1,requests=5"]
        {
            assert!(burst(wrong).is_err_and(|error| error.contains("write it like")), "{wrong}");
        }
    }
}
