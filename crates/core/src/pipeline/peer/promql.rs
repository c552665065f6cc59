//! The part of PromQL that scaling queries use: `waiting`, `sum(waiting{…})`, `sum(rate(requests_total[2m]))`.
//!
//! Labels are not looked at: an observation is of one target only, and what belongs to it was chosen when
//! it was made.

use std::time::Duration;

/// How several series become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// Added up; a plain selector is taken for a single series, which is its own sum.
    Sum,
    /// The mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// A query that is understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Query<'a> {
    pub(super) metric: &'a str,
    /// The growth over this span: per second, or of the whole span.
    pub(super) growth: Option<Growth>,
    pub(super) fold: Fold,
}

/// `rate` and `increase`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    pub(super) window: Duration,
    pub(super) per_second: bool,
}

/// Reads a query; `None` when it is more than is understood.
pub(super) fn parse(query: &str) -> Option<Query<'_>> {
    let mut rest = query;
    let parsed = expression(&mut rest)?;
    rest.trim().is_empty().then_some(parsed)
}

fn expression<'a>(rest: &mut &'a str) -> Option<Query<'a>> {
    let name = word(rest)?;
    let fold = match name {
        "sum" => Some(Fold::Sum),
        "avg" => Some(Fold::Mean),
        "max" => Some(Fold::Max),
        "min" => Some(Fold::Min),
        _ => None,
    };
    if !takes(rest, '(') {
        labels(rest)?;
        return Some(Query { metric: name, growth: None, fold: Fold::Sum });
    }
    let inner = match (fold, name) {
        (Some(fold), _) => {
            let inner = expression(rest)?;
            // A fold of a fold is one series already.
            if inner.fold == Fold::Sum { Query { fold, ..inner } } else { inner }
        }
        (None, "rate" | "irate" | "increase") => {
            let metric = word(rest)?;
            labels(rest)?;
            let window = range(rest)?;
            let growth = Some(Growth { window, per_second: name != "increase" });
            Query { metric, growth, fold: Fold::Sum }
        }
        (None, _) => return None,
    };
    takes(rest, ')').then_some(inner)
}

/// A metric's or function's name.
fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    *rest = behind;
    name.starts_with(|c: char| !c.is_ascii_digit()).then_some(name)
}

fn takes(rest: &mut &str, wanted: char) -> bool {
    match rest.trim_start().strip_prefix(wanted) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

/// Steps over `{…}`, if it is there.
fn labels(rest: &mut &str) -> Option<()> {
    if !takes(rest, '{') {
        return Some(());
    }
    let mut quote = None;
    let mut escaped = false;
    for (place, c) in rest.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => {
                *rest = &rest[place + 1..];
                return Some(());
            }
            None => {}
        }
    }
    None
}

/// `[2m]`, `[1h30m]`.
fn range(rest: &mut &str) -> Option<Duration> {
    let (span, behind) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
    *rest = behind;
    let mut span = span.trim();
    let mut total = Duration::ZERO;
    while !span.is_empty() {
        let digits = span.find(|c: char| !c.is_ascii_digit())?;
        let (count, behind) = span.split_at(digits);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        let part = count.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        span = behind;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_scale_are_read_and_others_are_not_guessed_at() {
        let plain = |metric, fold| Some(Query { metric, growth: None, fold });
        let grown = |metric, seconds, per_second| {
            let growth = Some(Growth { window: Duration::from_secs(seconds), per_second });
            Some(Query { metric, growth, fold: Fold::Sum })
        };
        let cases = [
            ("vllm:num_requests_waiting", plain("vllm:num_requests_waiting", Fold::Sum)),
            (r#"sum(waiting{namespace="ai-serving"})"#, plain("waiting", Fold::Sum)),
            (r#" avg ( waiting { a = "}" , b=~'x\'}' } ) "#, plain("waiting", Fold::Mean)),
            ("max(sum(waiting))", plain("waiting", Fold::Max)),
            (r#"rate(http_requests_total{job="vllm"}[2m])"#, grown("http_requests_total", 120, true)),
            ("sum(rate(requests_total[1h30m]))", grown("requests_total", 5400, true)),
            ("increase(requests_total[90s])", grown("requests_total", 90, false)),
            ("", None),
            ("5", None),
            ("sum(waiting", None),
            ("sum(waiting))", None),
            ("sum(waiting) by (model)", None),
            ("sum by (model) (waiting)", None),
            ("waiting > 5", None),
            ("waiting{a=\"x", None),
            ("histogram_quantile(0.9, waiting)", None),
            ("rate(waiting)", None),
            ("rate(waiting[2x])", None),
            ("rate(waiting[0s])", None),
            ("rate(waiting[99999999999999999999d])", None),
        ];
        for (text, query) in cases {
            assert_eq!(parse(text), query, "{text:?}");
        }
    }
}
