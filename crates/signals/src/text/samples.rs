//! Samples out of a buffer, line by line.

use super::{Labels, ParseError, Problem, labels::trim};

/// Longest line that is read as a sample: longer than any engine's, short enough that one line cannot
/// take the time of a scrape.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Which of the two formats a text is in. They differ in the unit of timestamps and in their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, `text/plain`: timestamps in milliseconds.
    #[default]
    Prometheus,
    /// OpenMetrics, `application/openmetrics-text`: timestamps in seconds, `# EOF` at the end.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` names; Prometheus text when it names neither.
    pub fn of_content_type(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series' name, whole: `vllm:num_requests_waiting`, `…_bucket`, `…_total`.
    pub name: &'a str,
    /// Its labels.
    pub labels: Labels<'a>,
    /// Its value: any number, NaN and infinities included.
    pub value: f64,
    /// When it was taken, in seconds since 1970, if the line says.
    pub timestamp_seconds: Option<f64>,
}

/// Iterates over the samples of a text whose names `wanted` accepts; the other lines are skipped
/// unread. A bad line is an `Err`, after which the iteration goes on with the next line, so a caller
/// decides line by line what it tolerates.
#[derive(Clone, Debug)]
pub struct Samples<'a, F> {
    rest: &'a [u8],
    line: usize,
    format: Format,
    wanted: F,
    ended: bool,
}

impl<'a> Samples<'a, fn(&str) -> bool> {
    /// Every sample of `text`.
    pub fn all(text: &'a [u8], format: Format) -> Self {
        Self::of(text, format, |_| true)
    }
}

impl<'a, F: FnMut(&str) -> bool> Samples<'a, F> {
    /// The samples of `text` whose names `wanted` accepts.
    pub fn of(text: &'a [u8], format: Format, wanted: F) -> Self {
        Self { rest: text, line: 0, format, wanted, ended: false }
    }

    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', self.rest);
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &self.rest[self.rest.len()..]),
        };
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn sample(&mut self, line: &'a [u8]) -> Result<Option<Sample<'a>>, Problem> {
        let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let line = &line[start..];
        let Some(&first) = line.first() else { return Ok(None) };
        if first == b'#' {
            self.ended |= self.format == Format::OpenMetrics && line == b"# EOF";
            return Ok(None);
        }
        if !is_name(first) || first.is_ascii_digit() {
            return Err(Problem::Name);
        }
        let end = line.iter().position(|&byte| !is_name(byte)).unwrap_or(line.len());
        if !matches!(line.get(end), Some(b' ' | b'\t' | b'{') | None) {
            return Err(Problem::Name);
        }
        let name = std::str::from_utf8(&line[..end]).map_err(|_| Problem::Name)?;
        if !(self.wanted)(name) {
            return Ok(None);
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(Problem::TooLong);
        }
        let rest = std::str::from_utf8(&line[end..]).map_err(|_| Problem::Utf8)?;
        self.after_name(name, rest).map(Some)
    }

    fn after_name(&self, name: &'a str, rest: &'a str) -> Result<Sample<'a>, Problem> {
        let rest = trim(rest);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => Labels::read(inside)?,
            None => (Labels::default(), rest),
        };
        let (token, rest) = token(rest);
        let value = number(token).ok_or(Problem::Value)?;
        let (timestamp_seconds, rest) = self.timestamp(rest)?;
        if let Some(exemplar) = rest.strip_prefix('#') {
            check_exemplar(exemplar)?;
        } else if !rest.is_empty() {
            return Err(Problem::Trailing);
        }
        Ok(Sample { name, labels, value, timestamp_seconds })
    }

    fn timestamp(&self, rest: &'a str) -> Result<(Option<f64>, &'a str), Problem> {
        if rest.is_empty() || rest.starts_with('#') {
            return Ok((None, rest));
        }
        let (token, rest) = token(rest);
        let seconds = match self.format {
            Format::Prometheus => token.parse::<i64>().map_err(|_| Problem::Timestamp)? as f64 / 1000.0,
            Format::OpenMetrics => {
                number(token).filter(|seconds| seconds.is_finite()).ok_or(Problem::Timestamp)?
            }
        };
        Ok((Some(seconds), rest))
    }
}

impl<'a, F: FnMut(&str) -> bool> Iterator for Samples<'a, F> {
    type Item = Result<Sample<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.ended {
                return None;
            }
            let Some(line) = self.next_line() else {
                self.ended = true;
                let cut_off = self.format == Format::OpenMetrics;
                return cut_off.then_some(Err(ParseError { line: self.line, problem: Problem::Truncated }));
            };
            match self.sample(line) {
                Ok(None) => {}
                Ok(Some(sample)) => return Some(Ok(sample)),
                Err(problem) => return Some(Err(ParseError { line: self.line, problem })),
            }
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
}

/// The text up to the next blank, and what follows the blanks.
fn token(text: &str) -> (&str, &str) {
    let text = trim(text);
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], trim(&text[end..]))
}

/// Rust reads what the formats allow: decimals, exponents, `NaN`, `+Inf`.
fn number(token: &str) -> Option<f64> {
    token.parse().ok()
}

fn check_exemplar(text: &str) -> Result<(), Problem> {
    let inside = trim(text).strip_prefix('{').ok_or(Problem::Exemplar)?;
    let (_, rest) = Labels::read(inside).map_err(|_| Problem::Exemplar)?;
    let (value, rest) = token(rest);
    number(value).ok_or(Problem::Exemplar)?;
    if !rest.is_empty() {
        number(rest.trim_end()).ok_or(Problem::Exemplar)?;
    }
    Ok(())
}
