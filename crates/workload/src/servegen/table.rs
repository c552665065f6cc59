//! The two tables of `ServeGen` statistics: how many requests a client sent in each ten minutes, and how long
//! they were in each six hours.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read},
    path::Path,
};

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma, Weibull};

use super::ServeGenError;
use crate::{
    quantile::QuantileLaw,
    read::{MAX_LISTED, ReadError, RowProblem, decompressed, read_line, shorten},
};

/// Length of a window of counts, in seconds.
pub(super) const WINDOW_SECONDS: u32 = 600;
/// Length of a stretch of token lengths, in seconds.
const TOKENS_SECONDS: u32 = 6 * 3_600;
/// Most rows of a table: the published ones have some 53,000 a week.
const MAX_TABLE_ROWS: usize = 5_000_000;

const WANTED_WHOLE: &str = "a whole number, 0 or more";

/// What a client sent in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    pub(super) client: u32,
    pub(super) requests: u64,
    pub(super) gaps: Gaps,
}

/// The law of the times between a client's requests in one window; its scale follows from the count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gaps {
    /// None was fitted: a Poisson process.
    Exponential,
    /// A Gamma law.
    Gamma(Gamma<f64>),
    /// A Weibull law.
    Weibull(Weibull<f64>),
}

impl Gaps {
    /// One gap, in a unit of its own.
    pub(super) fn sample(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Exponential => Exp1.sample(rng),
            Self::Gamma(law) => law.sample(rng),
            Self::Weibull(law) => law.sample(rng),
        }
    }
}

/// Token lengths of one client in one stretch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lengths {
    pub(super) input: QuantileLaw,
    pub(super) output: QuantileLaw,
}

/// Token lengths by client and stretch.
#[derive(Debug, Default)]
pub(super) struct TokenTable(BTreeMap<u32, BTreeMap<u32, Lengths>>);

impl TokenTable {
    /// Lengths of a client at a moment: those of its stretch, else of the last one before, else of the first
    /// one after; `None` for a client that has none at all.
    pub(super) fn at(&self, client: u32, seconds: u32) -> Option<&Lengths> {
        let stretches = self.0.get(&client)?;
        let before = stretches.range(..=seconds / TOKENS_SECONDS).next_back();
        before.or_else(|| stretches.first_key_value()).map(|(_, lengths)| lengths)
    }

    pub(super) fn has(&self, client: u32) -> bool {
        self.0.contains_key(&client)
    }

    pub(super) fn read(path: &Path, source: impl Read) -> Result<Self, ServeGenError> {
        let mut table = Self::default();
        read_table(path, source, |row| {
            let client = row.whole("client")?;
            let start = row.whole("t_s")?;
            let lengths = Lengths { input: row.law(&INPUT)?, output: row.law(&OUTPUT)? };
            table.0.entry(client).or_default().insert(start / TOKENS_SECONDS, lengths);
            Ok(())
        })?;
        Ok(table)
    }
}

/// Counts by window, in order.
pub(super) fn read_counts(
    path: &Path,
    source: impl Read,
) -> Result<BTreeMap<u32, Vec<Count>>, ServeGenError> {
    let mut windows: BTreeMap<u32, Vec<Count>> = BTreeMap::new();
    read_table(path, source, |row| {
        let window = row.whole("t_s")? / WINDOW_SECONDS;
        let gaps = match row.text("iat_dist")? {
            "" => Gaps::Exponential,
            "G" => Gaps::Gamma(row.law_of_gaps(|shape| Gamma::new(shape, 1.0).ok())?),
            "W" => Gaps::Weibull(row.law_of_gaps(|shape| Weibull::new(1.0, shape).ok())?),
            other => {
                return Err(row.problem("iat_dist", other, "G (Gamma), W (Weibull), or nothing (Poisson)"));
            }
        };
        let count = Count { client: row.whole("client")?, requests: u64::from(row.whole("n")?), gaps };
        windows.entry(window).or_default().push(count);
        Ok(())
    })?;
    // The order of rows in the file must not change what a seed means.
    windows.values_mut().for_each(|counts| counts.sort_by_key(|count| count.client));
    Ok(windows)
}

/// Quantile columns, from the 5th percentile to the maximum.
const INPUT: [&str; 9] = [
    "input_tokens_p05",
    "input_tokens_p10",
    "input_tokens_p25",
    "input_tokens_p50",
    "input_tokens_p75",
    "input_tokens_p90",
    "input_tokens_p95",
    "input_tokens_p99",
    "input_tokens_max",
];
const OUTPUT: [&str; 9] = [
    "output_tokens_p05",
    "output_tokens_p10",
    "output_tokens_p25",
    "output_tokens_p50",
    "output_tokens_p75",
    "output_tokens_p90",
    "output_tokens_p95",
    "output_tokens_p99",
    "output_tokens_max",
];
const PROBABILITIES: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

struct Row<'t> {
    line: u64,
    names: &'t [String],
    fields: Vec<&'t str>,
}

impl Row<'_> {
    fn problem(&self, column: &'static str, found: &str, wanted: &'static str) -> TableProblem {
        TableProblem::Row(RowProblem { line: self.line, column, found: shorten(found), wanted })
    }

    fn text(&self, column: &'static str) -> Result<&str, TableProblem> {
        let place = self.names.iter().position(|name| name == column).ok_or(TableProblem::Column(column))?;
        self.fields.get(place).copied().ok_or_else(|| self.problem(column, "", "a value"))
    }

    fn whole(&self, column: &'static str) -> Result<u32, TableProblem> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.problem(column, text, WANTED_WHOLE))
    }

    fn law_of_gaps<L>(&self, law: impl Fn(f64) -> Option<L>) -> Result<L, TableProblem> {
        let text = self.text("iat_shape")?;
        let shape = text.parse::<f64>().ok().filter(|shape| shape.is_finite() && *shape > 0.0);
        shape.and_then(law).ok_or_else(|| self.problem("iat_shape", text, "a number above 0"))
    }

    fn law(&self, columns: &[&'static str; 9]) -> Result<QuantileLaw, TableProblem> {
        let mut points = Vec::with_capacity(columns.len() + 1);
        for (&column, probability) in columns.iter().zip(PROBABILITIES) {
            let text = self.text(column)?;
            let wanted = "a number of tokens, 0 or more";
            let tokens = text.parse::<f64>().map_err(|_| self.problem(column, text, wanted))?;
            // Every request has a token to read and one to write.
            points.push((probability, tokens.max(1.0)));
        }
        // Below the 5th percentile the slope of the next stretch goes on, down to one token.
        let (p05, p10) = (points[0].1, points[1].1);
        points.insert(0, (0.0, (p05 - (p10 - p05)).clamp(1.0, p05)));
        let ascending = "percentiles that do not fall";
        QuantileLaw::new(points).ok_or_else(|| self.problem(columns[0], &self.fields.join(","), ascending))
    }
}

enum TableProblem {
    Column(&'static str),
    Row(RowProblem),
}

fn read_table(
    path: &Path,
    source: impl Read,
    mut take: impl FnMut(&Row<'_>) -> Result<(), TableProblem>,
) -> Result<(), ServeGenError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut lines = BufReader::new(decompressed(source).map_err(io)?);
    let mut line = String::new();
    read_line(&mut lines, &mut line).map_err(io)?;
    let names: Vec<String> = line.trim_end().split(',').map(|name| name.trim().to_owned()).collect();
    let (mut problems, mut total, mut rows, mut number) = (Vec::new(), 0, 0_usize, 1);
    loop {
        line.clear();
        number += 1;
        if read_line(&mut lines, &mut line).map_err(io)? == 0 {
            break;
        }
        let text = line.trim_end();
        if text.is_empty() {
            continue;
        }
        rows += 1;
        if rows > MAX_TABLE_ROWS {
            return Err(ReadError::TooManyRows { path: path.to_owned(), limit: MAX_TABLE_ROWS }.into());
        }
        match take(&Row { line: number, names: &names, fields: text.split(',').map(str::trim).collect() }) {
            Ok(()) => {}
            Err(TableProblem::Column(column)) => {
                let found = shorten(&names.join(","));
                return Err(ServeGenError::MissingColumn { path: path.to_owned(), column, found });
            }
            Err(TableProblem::Row(problem)) => {
                total += 1;
                if problems.len() < MAX_LISTED {
                    problems.push(problem);
                }
            }
        }
    }
    if total > 0 {
        return Err(ReadError::BadRows { path: path.to_owned(), problems, total }.into());
    }
    if rows == 0 {
        return Err(ReadError::Empty { path: path.to_owned() }.into());
    }
    Ok(())
}
