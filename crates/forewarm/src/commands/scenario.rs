//! What policies are tried on: traces, engine, cold start, objective. Shared by `simulate` and `tune`.

use std::{path::Path, time::Duration};

use anyhow::anyhow;
use clap::Args;
use forewarm_core::Bounds;
use forewarm_sim::{
    Clairvoyant, DataPlane, Decider, Objective, QueueOrder, Report, Step, World, clairvoyant,
    compare::{Price, Subject},
    engine::{BatchingModel, EngineModel, SlotsModel},
    lower_bound, simulate, warm_up,
};
use forewarm_workload::{Burst, Request, Workload, WorkloadSource};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    commands::{
        contender::{Contender, Terms},
        values::{self, ColdStart},
    },
    exit::Failure,
};

#[derive(Args)]
pub(crate) struct ScenarioArgs {
    /// Request traces (Azure, BurstGPT, Mooncake or plain CSV; .zst and .gz too), `demo[:SEED]`,
    /// `servegen:RATES,TOKENS[?replicas=20&seed=1&days=2]`, or
    /// `prometheus:FILE[?input_tokens=1020&output_tokens=129&seed=1]`: a range query of requests per second.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    trace: Vec<String>,
    /// How long a start takes: `240s` always, `heavy:240s` in the median and up to four times as long, with one
    /// start in a hundred that hangs.
    #[arg(long, value_parser = values::cold_start, default_value = "240s", value_name = "DURATION")]
    cold_start: ColdStart,
    /// Share of starts that end in an error.
    #[arg(long, value_parser = values::percent, default_value = "0%", value_name = "PERCENT")]
    failing: f64,
    /// What requests have to attain. A request whose prompt alone takes longer has twice that time.
    #[arg(long, value_parser = values::objective, default_value = "ttft=5s@99%", value_name = "OBJECTIVE")]
    objective: Objective,
    /// Requests that a replica works on at a time, each as fast as if it were alone: input / 5,000 + 0.03 × output
    /// seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// A replica that batches continuously instead: a model by name, or a JSON file with its sizes and step times.
    #[arg(long, value_parser = profile, conflicts_with = "slots", value_name = "FILE|NAME")]
    profile: Option<BatchingModel>,
    /// The fewest replicas, for every policy; default: what its manifest says. Runs start with so many ready.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) min: Option<u32>,
    /// The most replicas, for every policy; default: what its manifest says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: Option<u32>,
    /// N requests for each one of the trace, all but the first shifted by up to 30 s.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: u32,
    /// Lets the requests of the trace come S times as fast one after the other. Only arrivals: what a request, a start
    /// or a window takes stays as it is. (`--speed` of `forewarm load` and `demo` is about all of modelled time.)
    #[arg(long, default_value = "1", value_name = "S", value_parser = values::speed)]
    arrival_speed: f64,
    /// Requests on top of the trace: `at=1h,requests=500,over=30s`. May be given several times.
    #[arg(long, value_parser = values::burst, value_name = "BURST")]
    burst: Vec<Burst>,
    /// Gives each policy so much of the beginning of the trace as history, and judges it on the rest.
    #[arg(long, value_parser = values::duration, default_value = "0s", value_name = "DURATION")]
    warm_up: Duration,
    /// Only so much of the trace is judged.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// The same in days.
    #[arg(long, conflicts_with = "duration", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: Option<u32>,
    /// The same seed gives the same run: starts, shifts and bursts are drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// GPUs of a replica.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    gpus_per_replica: u32,
    /// Price of a GPU for an hour.
    #[arg(long, value_parser = price, value_name = "DOLLARS")]
    price: Option<f64>,
}

/// No trace is longer: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn price(text: &str) -> Result<f64, String> {
    let price = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("`{text}` is no price: write dollars for a GPU and an hour, like `2.5`"))
}

/// A built-in model of an engine, or one from a file.
fn profile(word: &str) -> Result<BatchingModel, String> {
    let path = Path::new(word);
    if !path.exists() {
        return BatchingModel::named(word).map_err(|unknown| format!("{unknown}, and there is no such file"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("`{word}` cannot be read: {error}"))?;
    let model: BatchingModel =
        serde_json::from_str(&text).map_err(|error| format!("`{word}` is no engine profile: {error}"))?;
    model.check().map_err(|problem| format!("`{word}`: {problem}"))?;
    Ok(model)
}

/// A trace, read.
pub(crate) struct Trace {
    /// As it was named.
    pub(crate) name: String,
    /// Before anything is judged.
    history: Vec<Request>,
    pub(crate) requests: Vec<Request>,
}

/// What policies are tried on.
pub(crate) struct Scenario {
    pub(crate) traces: Vec<Trace>,
    pub(crate) objective: Objective,
    pub(crate) price: Price,
    cold_start: ColdStart,
    failing: f64,
    engine: EngineModel,
    warm_up: Duration,
    seed: u64,
    pub(crate) terms: Terms,
}

impl ScenarioArgs {
    /// Reads the traces.
    pub(crate) fn load(&self) -> Result<Scenario, Failure> {
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(Failure::usage(anyhow!("`--min {min}` is above `--max {max}`")));
        }
        let (engine, max_concurrency) = match self.profile {
            Some(model) => (EngineModel::Batching(model), model.max_num_seqs),
            None => (EngineModel::Slots(SlotsModel { slots: self.slots }), self.slots),
        };
        let scenario = Scenario {
            traces: self.trace.iter().map(|name| self.read(name)).collect::<Result<_, _>>()?,
            objective: self.objective,
            price: Price { gpus_per_replica: self.gpus_per_replica, dollars_per_gpu_hour: self.price },
            cold_start: self.cold_start,
            failing: self.failing,
            engine,
            warm_up: self.warm_up,
            seed: self.seed,
            terms: Terms {
                min: self.min,
                max: self.max,
                max_concurrency,
                percent: self.objective.percent,
                cold_start: self.cold_start.median,
                replica_requests_per_second: None,
            },
        };
        Ok(scenario)
    }

    fn read(&self, name: &str) -> Result<Trace, Failure> {
        let source: WorkloadSource = name.parse().map_err(Failure::usage)?;
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        let judged = self.duration.or(self.days.map(days));
        let end = judged.map(|judged| self.warm_up.saturating_add(judged).min(LONGEST));
        // The built-in workload is made as long as it is wanted; sped up, it has to be longer.
        let workload = source.load(end.map(|end| end.mul_f64(self.arrival_speed))).map_err(Failure::usage)?;
        workload.notes.iter().for_each(|note| tracing::warn!("{name}: {note}"));
        let workload = workload.sped_up(self.arrival_speed).scaled(self.scale, self.seed);
        let workload =
            self.burst.iter().fold(workload, |workload, &burst| workload.with_burst(burst, self.seed));
        let Workload { mut requests, .. } = workload;
        let judged_from = requests.partition_point(|request| request.arrival < self.warm_up);
        let mut judged = requests.split_off(judged_from);
        judged.iter_mut().for_each(|request| request.arrival -= self.warm_up);
        if judged.is_empty() {
            return Err(Failure::usage(anyhow!(
                "`--trace {name}` has no request left to judge: its last one comes before `--warm-up {}` has passed",
                forewarm_manifest::quantity::write_duration(self.warm_up)
            )));
        }
        Ok(Trace { name: name.to_owned(), history: requests, requests: judged })
    }
}

impl Trace {
    /// The file's name without its directory.
    pub(crate) fn short_name(&self) -> &str {
        let plain = !self.name.contains(':');
        plain.then(|| Path::new(&self.name).file_name()?.to_str()).flatten().unwrap_or(&self.name)
    }

    /// Time to the last arrival, in hours.
    pub(crate) fn hours(&self) -> f64 {
        self.requests.last().map_or(0.0, |request| request.arrival.as_secs_f64() / 3_600.0)
    }

    /// Two traces: the part before a share of the time, and the part from there on.
    pub(crate) fn split(&self, share: f64) -> (Trace, Trace) {
        let at = self.requests.last().map_or(Duration::ZERO, |request| request.arrival).mul_f64(share);
        let border = self.requests.partition_point(|request| request.arrival < at);
        let (before, after) = self.requests.split_at(border);
        let after =
            after.iter().map(|request| Request { arrival: request.arrival - at, ..*request }).collect();
        let part = |history: &[Request], requests| Trace {
            name: self.name.clone(),
            history: history.to_vec(),
            requests,
        };
        (part(&self.history, before.to_vec()), part(&[], after))
    }
}

impl Scenario {
    /// The policies of the command line, as they are set for a trace: some are told what a replica serves of it.
    pub(crate) fn contenders(&self, words: &[String], trace: &Trace) -> Result<Vec<Contender>, Failure> {
        let terms = Terms { replica_requests_per_second: Some(self.capacity(trace)), ..self.terms };
        words.iter().map(|word| Contender::read(word, terms)).collect()
    }

    fn world(&self, data_plane: DataPlane, initial_replicas: u32) -> World {
        World {
            engine: self.engine.clone(),
            cold_start: self.cold_start.law(self.failing),
            data_plane,
            queue_order: QueueOrder::LateYields,
            objective: self.objective,
            initial_replicas,
            provider_capacity: None,
            seed: self.seed,
        }
    }

    /// One run.
    pub(crate) fn run(
        &self,
        trace: &Trace,
        data_plane: DataPlane,
        min: u32,
        decider: &Decider,
        record_timeline: bool,
    ) -> Report {
        let world = self.world(data_plane, min);
        if trace.history.is_empty() {
            return simulate(&world, decider, &trace.requests, record_timeline);
        }
        let decider = warm_up(&world, decider, &trace.history, self.warm_up);
        simulate(&world, &decider, &trace.requests, record_timeline)
    }

    /// What others are measured by, where it can be computed.
    pub(crate) fn measure(&self, trace: &Trace, bounds: Bounds) -> Option<Measure> {
        let world = self.world(DataPlane::Gateway, bounds.min.0);
        let simple = matches!(self.engine, EngineModel::Slots(_));
        simple.then(|| {
            let plan = clairvoyant(&world, (bounds.min.0, bounds.max.0), &trace.requests);
            // What nobody attains has no least cost.
            let attains = plan.report.attainment() * 100.0 >= self.objective.percent;
            let bound_replica_hours = attains.then(|| lower_bound(&world, bounds.min.0, &trace.requests));
            Measure { plan, bound_replica_hours }
        })
    }

    /// What a row of such a run is about.
    pub(crate) fn subject(&self, trace: &Trace, data_plane: DataPlane, policy: &str) -> Subject {
        Subject {
            policy: policy.to_owned(),
            trace: trace.name.clone(),
            data_plane,
            objective: self.objective,
        }
    }

    /// What the numbers rest on, in a sentence.
    pub(crate) fn in_words(&self) -> String {
        let failing = match self.failing {
            0.0 => String::new(),
            share => format!(", {}% of starts fail", share * 100.0),
        };
        let engine = match &self.engine {
            EngineModel::Slots(model) => format!("{} slots a replica", model.slots),
            EngineModel::Batching(model) => format!("up to {} requests in a batch", model.max_num_seqs),
        };
        format!(
            "{} · a cold start takes {}{failing} · {engine} · seed {}",
            self.objective, self.cold_start, self.seed
        )
    }

    /// Requests a second that a replica serves when it is never idle: as a load test would measure it, with
    /// requests picked evenly from the trace.
    fn capacity(&self, trace: &Trace) -> f64 {
        let every = trace.requests.len().div_ceil(LOAD_TEST);
        let at_once = |request: &Request| Request { arrival: Duration::ZERO, ..*request };
        let requests: Vec<Request> = trace.requests.iter().step_by(every).map(at_once).collect();
        let one = Decider::Timetable(vec![Step { at: 0, replicas: 1 }]);
        let report = simulate(&self.world(DataPlane::Gateway, 1), &one, &requests, false);
        requests.len() as f64 / report.length_seconds.max(1e-3)
    }

    /// Replicas that the trace keeps busy on average and in its busiest minute.
    pub(crate) fn load(&self, trace: &Trace) -> Load {
        let mut busiest = 0;
        let mut minute = (0, 0);
        for request in &trace.requests {
            let now = request.arrival.as_secs() / 60;
            minute = if minute.0 == now { (now, minute.1 + 1) } else { (now, 1) };
            busiest = busiest.max(minute.1);
        }
        let capacity = self.capacity(trace);
        let mean = trace.requests.len() as f64 / (trace.hours() * 3_600.0).max(60.0);
        Load { mean: mean / capacity, peak: f64::from(busiest) / 60.0 / capacity }
    }
}

/// Requests of a load test.
const LOAD_TEST: usize = 2_000;

/// What policies are measured by.
pub(crate) struct Measure {
    /// What a policy would do that knows the requests.
    pub(crate) plan: Clairvoyant,
    /// What no policy can do without.
    pub(crate) bound_replica_hours: Option<f64>,
}

/// Offered load in replicas.
pub(crate) struct Load {
    pub(crate) mean: f64,
    /// Of the minute in which the most requests come.
    pub(crate) peak: f64,
}

/// A bar on standard error that counts runs; nothing when nobody looks.
pub(crate) fn progress(runs: Option<usize>) -> ProgressBar {
    let bar = match runs {
        Some(runs) => ProgressBar::new(runs as u64),
        None => ProgressBar::no_length(),
    };
    let template = if runs.is_some() {
        "{bar:24} {pos}/{len} runs  {elapsed}"
    } else {
        "{spinner} {pos} runs  {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
