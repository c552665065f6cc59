//! Reads request traces as they are published: Azure, BurstGPT, Mooncake, plain CSV; plain, `.gz` or `.zst`.
//!
//! The format is told by the first line, the compression by the first bytes. A row that makes no sense is
//! an error that names line, column, value and what would be right; nothing is guessed.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{Request, Workload};

/// Problems that are listed; the rest is counted.
pub(crate) const MAX_LISTED: usize = 10;
/// Longest line: a Mooncake row with the block hashes of a million tokens has some 40 KB.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Most rows: beyond this a trace belongs in a simulator that streams it.
pub(crate) const MAX_ROWS: usize = 50_000_000;
/// Longest time between the first and the last arrival: ten years.
pub(crate) const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be opened or decompressed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its first line fits no known format.
    #[error(
        "{} is in no known format: its first line is `{first_line}`; known are \
         `arrival_s,input_tokens,output_tokens` (plain), `TIMESTAMP,ContextTokens,GeneratedTokens` (Azure), \
         `Timestamp,…,Request tokens,Response tokens,…` (BurstGPT) and JSON lines with `timestamp`, \
         `input_length`, `output_length` (Mooncake)",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its first line, shortened.
        first_line: String,
    },
    /// Rows make no sense.
    #[error("{} has {total} bad row(s):{}", path.display(), list(problems))]
    BadRows {
        /// The file.
        path: PathBuf,
        /// The first of them.
        problems: Vec<RowProblem>,
        /// How many there are.
        total: usize,
    },
    /// It has more rows than fit in memory.
    #[error("{} has more than {limit} rows; cut it into parts", path.display())]
    TooManyRows {
        /// The file.
        path: PathBuf,
        /// How many may be.
        limit: usize,
    },
    /// There is no request in it.
    #[error("{} has no requests", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// One value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// Line of the file, from 1.
    pub line: u64,
    /// Name of the column.
    pub column: &'static str,
    /// What is there.
    pub found: String,
    /// What would be right.
    pub wanted: &'static str,
}

fn list(problems: &[RowProblem]) -> String {
    let line = |problem: &RowProblem| {
        format!(
            "\n  line {}: {} is `{}`, wanted {}",
            problem.line, problem.column, problem.found, problem.wanted
        )
    };
    problems.iter().map(line).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Azure,
    BurstGpt,
    Mooncake,
}

/// The columns of a CSV trace, by their place in a row.
struct Columns {
    arrival: usize,
    input: usize,
    output: usize,
    /// Few traces say what a prefix cache would have had.
    cached: Option<usize>,
}

/// Reads a whole trace; arrivals are counted from the first one.
///
/// # Errors
/// When it cannot be read, is in no known format, has bad rows, or none.
pub fn read_trace(path: &Path) -> Result<Workload, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    read_trace_from(path, file)
}

/// Reads a whole trace from what is not a file, or not one yet; `path` is its name in errors.
///
/// # Errors
/// As [`read_trace`].
pub fn read_trace_from(path: &Path, source: impl Read) -> Result<Workload, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut lines = BufReader::new(decompressed(source).map_err(io)?);
    let mut line = String::new();
    read_line(&mut lines, &mut line).map_err(io)?;
    let unknown = || ReadError::UnknownFormat { path: path.to_owned(), first_line: shorten(&line) };
    if line.is_empty() {
        return Err(ReadError::Empty { path: path.to_owned() });
    }
    let (format, columns) = detect(line.trim_end()).ok_or_else(unknown)?;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut total = 0;
    // JSON lines have no header: the first line is a row already.
    let mut number = 1;
    let mut have_row = format == Format::Mooncake;
    loop {
        if !have_row {
            line.clear();
            number += 1;
            if read_line(&mut lines, &mut line).map_err(io)? == 0 {
                break;
            }
            if rows.len() >= MAX_ROWS {
                return Err(ReadError::TooManyRows { path: path.to_owned(), limit: MAX_ROWS });
            }
        }
        have_row = false;
        let text = line.trim_end();
        if text.is_empty() {
            continue;
        }
        match parse(format, &columns, number, text) {
            Ok(row) => rows.push(row),
            Err(problem) => {
                total += 1;
                if problems.len() < MAX_LISTED {
                    problems.push(problem);
                }
            }
        }
    }
    if total > 0 {
        return Err(ReadError::BadRows { path: path.to_owned(), problems, total });
    }
    let Some(first) = rows.iter().map(|row: &Row| row.arrival_seconds).reduce(f64::min) else {
        return Err(ReadError::Empty { path: path.to_owned() });
    };
    Ok(workload(rows, first))
}

/// A row before arrivals are counted from the first one.
struct Row {
    arrival_seconds: f64,
    input_tokens: u32,
    output_tokens: u32,
    cached_tokens: u32,
}

fn workload(rows: Vec<Row>, first: f64) -> Workload {
    let mut requests: Vec<Request> = rows
        .into_iter()
        .map(|row| Request {
            arrival: Duration::from_secs_f64((row.arrival_seconds - first).clamp(0.0, MAX_SECONDS)),
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cached_tokens: row.cached_tokens,
        })
        .collect();
    let mut notes = Vec::new();
    let disorder = requests.windows(2).filter(|pair| pair[1].arrival < pair[0].arrival).count();
    if disorder > 0 {
        notes.push(format!("{disorder} rows came before the row above them and were put in order"));
        requests.sort_by_key(|request| request.arrival);
    }
    Workload { requests, notes }
}

/// The bytes of a trace, decompressed where its first bytes say so.
pub(crate) fn decompressed<'r>(mut source: impl Read + 'r) -> std::io::Result<Box<dyn Read + 'r>> {
    let mut magic = Vec::new();
    source.by_ref().take(4).read_to_end(&mut magic)?;
    let kind = <[u8; 4]>::try_from(magic.as_slice()).unwrap_or_default();
    let whole = Cursor::new(magic).chain(source);
    Ok(match kind {
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        _ => Box::new(whole),
    })
}

pub(crate) fn read_line(lines: &mut impl BufRead, line: &mut String) -> std::io::Result<usize> {
    let count = lines.by_ref().take(MAX_LINE_BYTES).read_line(line)?;
    if count as u64 == MAX_LINE_BYTES {
        return Err(std::io::Error::other(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
    }
    Ok(count)
}

fn detect(first_line: &str) -> Option<(Format, Columns)> {
    if first_line.starts_with('{') {
        return Some((Format::Mooncake, Columns { arrival: 0, input: 0, output: 0, cached: None }));
    }
    let names: Vec<&str> = first_line.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
    let place = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
    let columns = |format, arrival, input, output| {
        let cached = place("cached_tokens").or_else(|| place("prefix_hit_tokens_inf_cache"));
        Some((
            format,
            Columns { arrival: place(arrival)?, input: place(input)?, output: place(output)?, cached },
        ))
    };
    columns(Format::Plain, "arrival_s", "input_tokens", "output_tokens")
        .or_else(|| columns(Format::Azure, "TIMESTAMP", "ContextTokens", "GeneratedTokens"))
        .or_else(|| columns(Format::BurstGpt, "Timestamp", "Request tokens", "Response tokens"))
}

fn parse(format: Format, columns: &Columns, line: u64, text: &str) -> Result<Row, RowProblem> {
    if format == Format::Mooncake {
        return parse_mooncake(line, text);
    }
    let problem = |column, found: &str, wanted| RowProblem { line, column, found: shorten(found), wanted };
    // None of these formats quotes its fields.
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let field =
        |place: usize, column| fields.get(place).copied().ok_or_else(|| problem(column, "", "a value"));
    let arrival = field(columns.arrival, "arrival")?;
    let arrival_seconds = if format == Format::Azure { azure_seconds(arrival) } else { arrival.parse().ok() };
    let arrival_seconds = arrival_seconds.filter(|seconds: &f64| seconds.is_finite()).ok_or_else(|| {
        let wanted =
            if format == Format::Azure { "a time like 2023-11-16 18:15:46.6805900" } else { "seconds" };
        problem("arrival", arrival, wanted)
    })?;
    let tokens = |place, column| {
        let text = field(place, column)?;
        // Some published traces write counts as 120.0.
        let count = text.parse::<f64>().ok().filter(|count| (0.0..=f64::from(u32::MAX)).contains(count));
        count.map(|count| count as u32).ok_or_else(|| problem(column, text, "a number of tokens, 0 or more"))
    };
    let input_tokens = tokens(columns.input, "input tokens")?;
    let output_tokens = tokens(columns.output, "output tokens")?;
    let cached_tokens = match columns.cached {
        Some(place) => tokens(place, "cached tokens")?,
        None => 0,
    };
    if cached_tokens > input_tokens {
        let found = cached_tokens.to_string();
        return Err(problem("cached tokens", &found, "at most the input tokens"));
    }
    Ok(Row { arrival_seconds, input_tokens, output_tokens, cached_tokens })
}

#[derive(Deserialize)]
struct MooncakeRow {
    timestamp: f64,
    input_length: u32,
    output_length: u32,
}

fn parse_mooncake(line: u64, text: &str) -> Result<Row, RowProblem> {
    let wanted = "an object with timestamp (ms), input_length and output_length";
    let row: MooncakeRow = serde_json::from_str(text).map_err(|_| RowProblem {
        line,
        column: "row",
        found: shorten(text),
        wanted,
    })?;
    Ok(Row {
        arrival_seconds: row.timestamp / 1e3,
        input_tokens: row.input_length,
        output_tokens: row.output_length,
        cached_tokens: 0,
    })
}

/// Seconds of `2023-11-16 18:15:46.6805900`, counted from an arbitrary day.
fn azure_seconds(text: &str) -> Option<f64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.trim_end_matches('Z').split(':');
    let hours: f64 = time.next()?.parse().ok()?;
    let minutes: f64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next()?.split('+').next()?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day) as f64 * 86_400.0 + hours * 3_600.0 + minutes * 60.0 + seconds)
}

/// Days of the civil calendar since 1 March of year 0 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 1
}

pub(crate) fn shorten(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(60).chain(['…']).collect() }
}
