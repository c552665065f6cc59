//! The text parser by tables and properties.

use std::borrow::Cow;

use forewarm_signals::text::{Format, MAX_LINE_BYTES, Problem, Samples};
use proptest::prelude::*;

type Owned = (String, Vec<(String, String)>, f64, Option<f64>);
type Row = (&'static str, &'static [(&'static str, &'static str)], f64, Option<f64>);

fn one(line: &str, format: Format) -> Result<Owned, Problem> {
    let text = match format {
        Format::Prometheus => line.to_owned(),
        Format::OpenMetrics => format!("{line}\n# EOF\n"),
    };
    let sample =
        Samples::all(text.as_bytes(), format).next().expect("a line").map_err(|error| error.problem)?;
    let labels = sample.labels.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
    Ok((sample.name.to_owned(), labels, sample.value, sample.timestamp_seconds))
}

#[test]
fn reads_what_the_formats_allow() {
    let table: &[Row] = &[
        ("m 1", &[], 1.0, None),
        ("m{} 1", &[], 1.0, None),
        ("  m\t 1.5e3  ", &[], 1500.0, None),
        ("m +Inf", &[], f64::INFINITY, None),
        ("m -Inf", &[], f64::NEG_INFINITY, None),
        ("m 7 1795486737341", &[], 7.0, Some(1_795_486_737.341)),
        ("m{a=\"b\"} 7\r", &[("a", "b")], 7.0, None),
        ("m{a=\"b\",} 7", &[("a", "b")], 7.0, None),
        ("m{a=\"1\", b = \"2\" } 7", &[("a", "1"), ("b", "2")], 7.0, None),
        ("m{a=\"}\",b=\",\"}7", &[("a", "}"), ("b", ",")], 7.0, None),
        (r#"m{a="\\ \" \n \t"} 7"#, &[("a", "\\ \" \n \\t")], 7.0, None),
        (r#"m{a="\\"} 7"#, &[("a", "\\")], 7.0, None),
        ("m{a=\"ü\"} 7", &[("a", "ü")], 7.0, None),
        ("m_bucket{le=\"1\"} 7 # {trace_id=\"x\"} 0.5", &[("le", "1")], 7.0, None),
    ];
    for &(line, labels, value, timestamp) in table {
        let (_, found, number, at) =
            one(line, Format::Prometheus).unwrap_or_else(|problem| panic!("{line}: {problem}"));
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, labels, "{line}");
        assert_eq!((number, at), (value, timestamp), "{line}");
    }
    let (name, _, value, _) = one("vllm:x_total NaN", Format::Prometheus).expect("NaN is a value");
    assert_eq!(name, "vllm:x_total");
    assert!(value.is_nan());
}

#[test]
fn open_metrics_counts_time_in_seconds_and_ends() {
    let (_, _, value, at) =
        one("m_total 7 1795486737.5 # {trace_id=\"x\"} 0.5 1795486737.1", Format::OpenMetrics)
            .expect("a sample");
    assert_eq!((value, at), (7.0, Some(1_795_486_737.5)));
    let after_end: Vec<_> = Samples::all(b"a 1\n# EOF\nb 2\n", Format::OpenMetrics).collect();
    assert_eq!(after_end.len(), 1, "what follows `# EOF` is not read");
    let last = Samples::all(b"a 1\nb 2\n", Format::OpenMetrics).last().expect("an error");
    assert_eq!(last.map_err(|error| (error.line, error.problem)), Err((2, Problem::Truncated)));
}

#[test]
fn names_the_line_and_the_problem_and_goes_on() {
    let table = [
        ("<!DOCTYPE html>", Problem::Name),
        ("1m 1", Problem::Name),
        ("m-x 1", Problem::Name),
        ("m", Problem::Value),
        ("m x", Problem::Value),
        ("m{a=\"b\"}", Problem::Value),
        ("m{a=\"b\" 1", Problem::LabelsOpen),
        ("m{a=\"b\",", Problem::LabelsOpen),
        ("m{1=\"b\"} 1", Problem::LabelName),
        ("m{a=b} 1", Problem::LabelValue),
        ("m{a} 1", Problem::LabelValue),
        ("m{a=\"b} 1", Problem::LabelValue),
        (r#"m{a="b\"} 1"#, Problem::LabelValue),
        (r#"m{a="b\"#, Problem::LabelValue),
        ("m 1 x", Problem::Timestamp),
        ("m 1 1.5", Problem::Timestamp),
        ("m 1 2 3", Problem::Trailing),
        ("m 1 # x", Problem::Exemplar),
    ];
    for (line, problem) in table {
        let text = format!("# HELP m what\n\n{line}\nafter 1\n");
        let read: Vec<_> = Samples::all(text.as_bytes(), Format::Prometheus).collect();
        assert_eq!(read.len(), 2, "{line}");
        let error = read[0].expect_err(line);
        assert_eq!((error.line, error.problem), (3, problem), "{line}");
        assert_eq!(read[1].expect("the next line").name, "after", "{line}");
    }
}

#[test]
fn unwanted_lines_cost_nothing_and_long_ones_are_refused() {
    let long = format!("wanted{{a=\"{}\"}} 1\nwanted 2\nother{{broken\n", "x".repeat(MAX_LINE_BYTES));
    let read: Vec<_> = Samples::of(long.as_bytes(), Format::Prometheus, |name| name == "wanted").collect();
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].map_err(|error| error.problem).expect_err("too long"), Problem::TooLong);
    assert_eq!(read[1].expect("a sample").value, 2.0);
}

#[test]
fn labels_are_borrowed_unless_escaped() {
    let sample = Samples::all(b"m{a=\"plain\",b=\"x\\ny\"} 1", Format::Prometheus).next().expect("a line");
    let labels = sample.expect("a sample").labels;
    assert!(matches!(labels.get("a"), Some(Cow::Borrowed("plain"))));
    assert!(matches!(labels.get("b"), Some(Cow::Owned(value)) if value == "x\ny"));
    assert_eq!(labels.get("c"), None);
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

proptest! {
    #[test]
    fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), open in any::<bool>()) {
        let format = if open { Format::OpenMetrics } else { Format::Prometheus };
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 2;
        let mut items = 0;
        for sample in Samples::all(&bytes, format) {
            items += 1;
            if let Ok(sample) = sample {
                prop_assert!(sample.labels.iter().count() <= bytes.len());
            }
        }
        prop_assert!(items <= lines);
    }

    #[test]
    fn anything_like_a_line_ends_without_a_panic(line in "[a-z:{}=\",\\\\ #0-9.\n\t+NaInf-]{0,200}") {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            for sample in Samples::all(line.as_bytes(), format).flatten() {
                prop_assert!(sample.labels.iter().count() <= line.len());
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
        labels in proptest::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,10}", any::<String>()), 0..4),
        value in any::<f64>().prop_filter("NaN differs from itself", |value| !value.is_nan()),
    ) {
        // A carriage return at the end of a line is that line's end, so values keep clear of it.
        let labels: Vec<(String, String)> = labels.into_iter().map(|(name, value)| (name, value.replace('\r', ""))).collect();
        let inner: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let line = format!("{name}{{{}}} {value}\n", inner.join(","));
        let sample = Samples::all(line.as_bytes(), Format::Prometheus).next().expect("a line").expect("a sample");
        prop_assert_eq!(sample.name, name);
        prop_assert_eq!(sample.value, value);
        let read: Vec<(String, String)> = sample.labels.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
        prop_assert_eq!(read, labels);
    }
}
