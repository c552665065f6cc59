//! What is wrong with a line.

/// A line that is no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It does not start like a metric.
    #[error("no metric name; one starts with a letter, `_` or `:`")]
    Name,
    /// It is longer than [`super::MAX_LINE_BYTES`].
    #[error("the line is longer than {} bytes", super::MAX_LINE_BYTES)]
    TooLong,
    /// It is no text.
    #[error("the line is not UTF-8")]
    Utf8,
    /// A label without a proper name.
    #[error("no label name; one starts with a letter or `_`")]
    LabelName,
    /// A label without a quoted value.
    #[error("a label has no value; one looks like `name=\"value\"`")]
    LabelValue,
    /// The labels do not end.
    #[error("the labels are not closed by `}}`")]
    LabelsOpen,
    /// The value is no number.
    #[error("the value is not a number")]
    Value,
    /// The timestamp is no number.
    #[error("the timestamp is not a number")]
    Timestamp,
    /// The exemplar after `#` is not one.
    #[error("the exemplar is malformed; one looks like `# {{trace_id=\"x\"}} 1`")]
    Exemplar,
    /// There is something after the sample.
    #[error("there is text after the sample")]
    Trailing,
    /// OpenMetrics ended without `# EOF`: it was cut off.
    #[error("the text ends without `# EOF`")]
    Truncated,
}
