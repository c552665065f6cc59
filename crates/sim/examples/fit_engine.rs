//! Fits step times to published measurements of real GPUs: `cargo run -p forewarm-sim --example fit_engine`.
//!
//! Prints the table of `docs/research/engine-model.md`. A decode step is fitted as a + b·B + c·B·context with the
//! mean context (the prompt and half of the output), a prefill as p0 + p1·tokens, both over the medians of
//! repeated measurements. Plain least squares minimise the error in ms; the relative ones, in percent.

use std::{collections::BTreeMap, error::Error, io::Write, path::PathBuf};

use forewarm_sim::engine::BatchingModel;
use serde::Deserialize;

/// A row of Splitwise's and SageServe's tables.
#[derive(Deserialize)]
struct Row {
    model: String,
    hardware: String,
    prompt_size: u32,
    batch_size: u32,
    token_size: u32,
    prompt_time: f64,
    token_time: f64,
    tensor_parallel: u32,
}

/// A row of SageServe's table of prefills.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefill {
    prompt_length: u32,
    exec_time: f64,
}

/// Numbers that go into a time, and the measured times, in ms.
type Measured<const N: usize> = BTreeMap<[u32; 3], ([f64; N], Vec<f64>)>;

/// What was measured of one model on one kind of hardware.
#[derive(Default)]
struct Set {
    decode: Measured<3>,
    prefill: Measured<2>,
}

impl Set {
    fn add(&mut self, row: &Row, per_token_ms: f64, prompt_ms: Option<f64>) {
        let key = [row.prompt_size, row.batch_size, row.token_size];
        let [prompt, batch, tokens] = key.map(f64::from);
        let decode =
            self.decode.entry(key).or_insert(([1.0, batch, batch * (prompt + tokens / 2.0)], Vec::new()));
        decode.1.push(per_token_ms);
        if let Some(ms) = prompt_ms {
            self.prefill.entry(key).or_insert(([1.0, prompt * batch], Vec::new())).1.push(ms);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let shared =
        std::env::var_os("FOREWARM_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let directory = shared.join("traces/perf");
    if !directory.is_dir() {
        writeln!(out, "skipped: {} does not exist; set FOREWARM_SHARED", directory.display())?;
        return Ok(());
    }
    let reader = |name: &str| -> Result<_, Box<dyn Error>> {
        let file = std::fs::File::open(directory.join(name))?;
        Ok(csv::Reader::from_reader(zstd::Decoder::new(file)?))
    };
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();

    for row in reader("splitwise_perf_model.csv.zst")?.deserialize() {
        let row: Row = row?;
        // The power-capped rows repeat the others' decode times.
        if !row.hardware.ends_with("-pcap") {
            let set =
                sets.entry(format!("{} {} TP{}", row.model, row.hardware, row.tensor_parallel)).or_default();
            set.add(&row, row.token_time, Some(row.prompt_time));
        }
    }
    for name in ["Llama-3.1-8B-tp-2", "Llama-3.1-8B-tp-4", "Llama-3.2-3B-tp-2", "Llama-3.2-3B-tp-4"] {
        for row in reader(&format!("sageserve_{name}.csv.zst"))?.deserialize() {
            let row: Row = row?;
            let set =
                sets.entry(format!("{} {} TP{}", row.model, row.hardware, row.tensor_parallel)).or_default();
            // Seconds, of the whole decode. At 8,192 tokens of prompt it takes three times as long as at 4,096: not
            // a line. Prompts of a batch take the same time whatever the batch: not a measurement of their tokens.
            if row.prompt_size < 8192 {
                let per_token = row.token_time * 1e3 / f64::from(row.token_size - 1);
                set.add(&row, per_token, (row.batch_size == 1).then_some(row.prompt_time * 1e3));
            }
        }
    }
    let set = sets.entry("Llama-3.1-8B a100-80gb TP4".into()).or_default();
    set.prefill.clear();
    for (number, row) in reader("sageserve_llama-3.1-8B-tp-4-prefill.csv.zst")?.deserialize().enumerate() {
        let row: Prefill = row?;
        let point = ([1.0, f64::from(row.prompt_length)], vec![row.exec_time * 1e3]);
        set.prefill.insert([row.prompt_length, 1, number as u32], point);
    }

    writeln!(out, "| set | fit | points | a | b | c | error | points | p0 | p1 | error |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for (name, set) in &sets {
        for (fit, relative) in [("plain", false), ("relative", true)] {
            let (decode, decode_error) = least_squares(&set.decode, relative);
            let (prefill, prefill_error) = least_squares(&set.prefill, relative);
            let ([a, b, c], [p0, p1]) = (decode, prefill);
            writeln!(
                out,
                "| {name} | {fit} | {} | {a:.2} | {b:.3} | {c:.3e} | {decode_error:.1} % | {} | {p0:.1} | {p1:.4} | \
                 {prefill_error:.1} % |",
                set.decode.len(),
                set.prefill.len(),
            )?;
        }
    }
    writeln!(out, "\n| built-in model | decode error | prefill error |\n|---|---|---|")?;
    for name in BatchingModel::names() {
        let set = &sets[measured_as(name).ok_or(name)?];
        let time = BatchingModel::named(name)?.step_time;
        let decode = [time.decode_base_ms, time.decode_per_request_ms, time.decode_per_context_token_ms];
        let decode = error_percent(&medians(&set.decode), &decode);
        let prefill = [time.prefill_base_ms, time.prefill_per_token_ms];
        let prefill = error_percent(&medians(&set.prefill), &prefill);
        writeln!(out, "| `{name}` | {decode:.1} % | {prefill:.1} % |")?;
    }
    Ok(())
}

/// The set that a built-in model was fitted to.
fn measured_as(name: &str) -> Option<&'static str> {
    Some(match name {
        "llama2-70b-h100-tp8" => "llama2-70b h100-80gb TP8",
        "llama2-70b-h100-tp4" => "llama2-70b h100-80gb TP4",
        "llama2-70b-a100-tp8" => "llama2-70b a100-80gb TP8",
        "llama2-70b-a100-tp4" => "llama2-70b a100-80gb TP4",
        "bloom-176b-h100-tp8" => "bloom-176b h100-80gb TP8",
        "bloom-176b-a100-tp8" => "bloom-176b a100-80gb TP8",
        "llama3.1-8b-a100-tp4" => "Llama-3.1-8B a100-80gb TP4",
        "llama3.1-8b-a100-tp2" => "Llama-3.1-8B a100-80gb TP2",
        "llama3.2-3b-a100-tp4" => "Llama-3.2-3B a100-80gb TP4",
        "llama3.2-3b-a100-tp2" => "Llama-3.2-3B a100-80gb TP2",
        _ => return None,
    })
}

fn medians<const N: usize>(measured: &Measured<N>) -> Vec<([f64; N], f64)> {
    measured.values().map(|(inputs, times)| (*inputs, median(times))).collect()
}

/// Mean absolute error in percent.
fn error_percent<const N: usize>(points: &[([f64; N], f64)], coefficients: &[f64; N]) -> f64 {
    let predict = |inputs: &[f64; N]| inputs.iter().zip(coefficients).map(|(x, c)| x * c).sum::<f64>();
    let errors: f64 = points.iter().map(|(inputs, time)| (predict(inputs) / time - 1.0).abs()).sum();
    errors / points.len() as f64 * 100.0
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Coefficients, and the mean absolute error in percent: the normal equations by Gauss and Jordan.
fn least_squares<const N: usize>(measured: &Measured<N>, relative: bool) -> ([f64; N], f64) {
    let points = medians(measured);
    let mut rows = [[0.0; N]; N];
    let mut right = [0.0; N];
    for (inputs, time) in &points {
        let weight = if relative { 1.0 / (time * time) } else { 1.0 };
        for i in 0..N {
            for j in 0..N {
                rows[i][j] += weight * inputs[i] * inputs[j];
            }
            right[i] += weight * inputs[i] * time;
        }
    }
    for i in 0..N {
        // A sum of squares, so the pivot is not 0 unless there are too few points.
        for k in (0..N).filter(|&k| k != i) {
            let factor = rows[k][i] / rows[i][i];
            let pivot = rows[i];
            for (value, of_pivot) in rows[k].iter_mut().zip(pivot) {
                *value -= factor * of_pivot;
            }
            right[k] -= factor * right[i];
        }
    }
    let coefficients = std::array::from_fn(|i| right[i] / rows[i][i]);
    (coefficients, error_percent(&points, &coefficients))
}
