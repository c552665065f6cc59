//! Writes Prometheus text as vLLM's client library does: counters end in `_total`, and every counter and histogram
//! has a `_created` gauge beside it.

use std::fmt::Write as _;

use super::histogram::Histogram;

/// Text under construction.
pub(super) struct Exposition {
    text: String,
    created: f64,
}

/// Label pairs ready to print, without braces.
pub(super) type Labels<'a> = &'a str;

impl Exposition {
    /// Starts a text whose `_created` values are `created` (Unix seconds).
    pub(super) fn new(created: f64) -> Self {
        // A whole page of an engine is about 50 KiB; one allocation is enough for it.
        Self { text: String::with_capacity(64 * 1024), created }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, series: &[(Labels<'_>, f64)]) {
        self.head(name, help, "gauge");
        for (labels, value) in series {
            self.sample(name, "", labels, *value);
        }
    }

    /// `name` is without `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, series: &[(Labels<'_>, f64)]) {
        self.head(&format!("{name}_total"), help, "counter");
        for (labels, value) in series {
            self.sample(name, "_total", labels, *value);
        }
        self.created(name, help, series.iter().map(|(labels, _)| *labels));
    }

    /// Histograms of one family, by labels. `le` goes where the alphabet puts it: the labels are given in two parts,
    /// those before and those after it.
    pub(super) fn histograms(&mut self, name: &str, help: &str, series: &[(SplitLabels<'_>, &Histogram)]) {
        self.head(name, help, "histogram");
        for (labels, histogram) in series {
            for (bound, count) in histogram.cumulative() {
                let bound = if bound.is_finite() { number(bound) } else { "+Inf".into() };
                let with_bound = labels.with(&format!("le=\"{bound}\""));
                self.sample(name, "_bucket", &with_bound, count as f64);
            }
            let labels = labels.with("");
            self.sample(name, "_count", &labels, histogram.count() as f64);
            self.sample(name, "_sum", &labels, histogram.sum());
        }
        let all: Vec<String> = series.iter().map(|(labels, _)| labels.with("")).collect();
        self.created(name, help, all.iter().map(String::as_str));
    }

    fn created<'a>(&mut self, name: &str, help: &str, labels: impl Iterator<Item = Labels<'a>>) {
        let mut labels = labels.peekable();
        if labels.peek().is_none() {
            return;
        }
        self.head(&format!("{name}_created"), help, "gauge");
        let created = self.created;
        for labels in labels {
            self.sample(name, "_created", labels, created);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.text.push_str(part);
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels<'_>, value: f64) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.is_empty() {
            write!(self.text, "{{{labels}}}").expect("writing to a String can't fail");
        }
        self.text.push(' ');
        self.text.push_str(&number(value));
        self.text.push('\n');
    }
}

/// Labels with a gap for `le`.
#[derive(Clone, Copy)]
pub(super) struct SplitLabels<'a> {
    pub(super) before: &'a str,
    pub(super) after: &'a str,
}

impl SplitLabels<'_> {
    fn with(&self, middle: &str) -> String {
        let parts = [self.before, middle, self.after];
        let present: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        present.join(",")
    }
}

/// Escapes a label's value.
pub(super) fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// A number as Python's Prometheus client writes it: with a point, or in exponent form from seven digits on.
fn number(value: f64) -> String {
    let plain = format!("{value:?}");
    let Some(point) = plain.find('.').filter(|point| *point > 6 && value > 0.0 && !plain.contains('e'))
    else {
        return plain;
    };
    let digits = format!("{}{}", &plain[1..point], &plain[point + 1..]);
    let digits = digits.trim_end_matches('0');
    let separator = if digits.is_empty() { "" } else { "." };
    format!("{}{separator}{digits}e+{:02}", &plain[..1], point - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_pythons_client_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (7.0, "7.0"),
            (14532.0, "14532.0"),
            (999_999.0, "999999.0"),
            (1_000_000.0, "1e+06"),
            (1_073_741_824.0, "1.073741824e+09"),
            (0.001_709_401_709_401_703_3, "0.0017094017094017033"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
