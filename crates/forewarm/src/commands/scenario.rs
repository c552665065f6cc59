//! What policies are tried on: traces, engine, cold start, objective. Shared by `simulate` and `tune`.

use std::{path::Path, time::Duration};

use anyhow::anyhow;
use clap::Args;
use forewarm_core::Bounds;
use forewarm_sim::{
    Clairvoyant, DataPlane, Decider, Model, Objective, QueueOrder, Report, Step, Together, World,
    clairvoyant,
    compare::{Price, Subject},
    engine::{BatchingModel, EngineModel, SlotsModel},
    lower_bound, simulate, simulate_together, warm_up,
};
use forewarm_workload::{Burst, Request, Workload, WorkloadSource};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    commands::{
        contender::{Contender, Terms},
        values::{self, ColdStart, ForModel},
    },
    exit::Failure,
};

#[derive(Args)]
pub(crate) struct ScenarioArgs {
    /// Request traces (Azure, BurstGPT, Mooncake or plain CSV; .zst and .gz too), `demo[:SEED]`,
    /// `servegen:RATES,TOKENS[?replicas=20&seed=1&days=2]`, or
    /// `prometheus:FILE[?input_tokens=1020&output_tokens=129&seed=1]`: a range query of requests per second. With a
    /// name each, `NAME=FILE`, they are the requests of several models that run at the same time.
    #[arg(long, value_name = "[NAME=]FILE", required = true, num_args = 1..)]
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
    /// N requests for each one of the trace, all but the first shifted by up to 30 s. `NAME=N`: of that model.
    #[arg(long, value_name = "[NAME=]N", value_parser = values::for_model)]
    scale: Vec<ForModel>,
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
    /// GPUs of a replica; default: 1. `NAME=N`: of that model.
    #[arg(long, value_name = "[NAME=]N", value_parser = values::for_model)]
    gpus_per_replica: Vec<ForModel>,
    /// All GPUs that the provider has, for all models together. A start for which none are left fails; it is tried
    /// again when the policy looks again. Default: no limit.
    #[arg(long, value_name = "GPUS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    capacity: Option<u32>,
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
    /// Whose requests it has, in a mix of several models.
    pub(crate) model: Option<String>,
    /// GPUs of one replica.
    pub(crate) gpus_per_replica: u32,
    /// Before anything is judged.
    history: Vec<Request>,
    pub(crate) requests: Vec<Request>,
}

/// What policies are tried on.
pub(crate) struct Scenario {
    pub(crate) traces: Vec<Trace>,
    pub(crate) objective: Objective,
    /// Dollars for one GPU and one hour.
    pub(crate) dollars_per_gpu_hour: Option<f64>,
    /// All GPUs that there are.
    pub(crate) capacity: Option<u32>,
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
            traces: self.traces()?,
            objective: self.objective,
            dollars_per_gpu_hour: self.price,
            capacity: self.capacity,
            cold_start: self.cold_start,
            failing: self.failing,
            engine,
            warm_up: self.warm_up,
            seed: self.seed,
            terms: Terms {
                min: self.min,
                max: self.max,
                max_concurrency,
                objective: self.objective,
                cold_start: self.cold_start.median,
                replica_requests_per_second: None,
            },
        };
        Ok(scenario)
    }

    fn traces(&self) -> Result<Vec<Trace>, Failure> {
        let sources: Vec<(Option<&str>, &str)> = self.trace.iter().map(|text| with_model(text)).collect();
        let models: Vec<&str> = sources.iter().filter_map(|(model, _)| *model).collect();
        if !models.is_empty() && models.len() < sources.len() {
            return Err(Failure::usage(anyhow!(
                "`--trace` has a model's name for some traces only: name all of them for one mix, or none"
            )));
        }
        if let Some(twice) = models.iter().enumerate().find(|(index, model)| models[..*index].contains(model))
        {
            return Err(Failure::usage(anyhow!("`--trace` has two traces of the model `{}`", twice.1)));
        }
        for (option, counts) in [("--scale", &self.scale), ("--gpus-per-replica", &self.gpus_per_replica)] {
            let known =
                |count: &&ForModel| count.model.as_deref().is_none_or(|model| models.contains(&model));
            if let Some(model) =
                counts.iter().find(|count| !known(count)).and_then(|count| count.model.as_ref())
            {
                return Err(Failure::usage(anyhow!(
                    "`{option} {model}=…` names no model: `--trace {model}=FILE` would"
                )));
            }
        }
        sources.into_iter().map(|(model, name)| self.read(model, name)).collect()
    }

    fn read(&self, model: Option<&str>, name: &str) -> Result<Trace, Failure> {
        let source: WorkloadSource = name.parse().map_err(Failure::usage)?;
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        let judged = self.duration.or(self.days.map(days));
        let end = judged.map(|judged| self.warm_up.saturating_add(judged).min(LONGEST));
        // The built-in workload is made as long as it is wanted; sped up, it has to be longer.
        let workload = source.load(end.map(|end| end.mul_f64(self.arrival_speed))).map_err(Failure::usage)?;
        workload.notes.iter().for_each(|note| tracing::warn!("{name}: {note}"));
        let workload = workload.sped_up(self.arrival_speed).scaled(of_model(&self.scale, model), self.seed);
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
        Ok(Trace {
            name: name.to_owned(),
            model: model.map(str::to_owned),
            gpus_per_replica: of_model(&self.gpus_per_replica, model),
            history: requests,
            requests: judged,
        })
    }
}

/// The model's name before a source, if it has one: a word and `=`. (A file of such a name is `./NAME=FILE`.)
fn with_model(text: &str) -> (Option<&str>, &str) {
    let is_word = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match text.split_once('=') {
        Some((name, source)) if is_word(name) => (Some(name), source),
        _ => (None, text),
    }
}

/// What counts for a model: the last number for it, or for all; 1 where there is none.
fn of_model(counts: &[ForModel], model: Option<&str>) -> u32 {
    let mine = counts.iter().rfind(|count| count.model.is_some() && count.model.as_deref() == model);
    mine.or(counts.iter().rfind(|count| count.model.is_none())).map_or(1, |count| count.count)
}

impl Trace {
    /// The model's name, or the file's without its directory.
    pub(crate) fn short_name(&self) -> &str {
        if let Some(model) = &self.model {
            return model;
        }
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
            model: self.model.clone(),
            gpus_per_replica: self.gpus_per_replica,
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

    /// Whether the traces are those of several models that run at the same time.
    pub(crate) fn is_mix(&self) -> bool {
        self.traces.iter().any(|trace| trace.model.is_some())
    }

    /// Whether starts fail for what the command line says.
    pub(crate) fn starts_may_fail(&self) -> bool {
        self.failing > 0.0 || self.capacity.is_some()
    }

    pub(crate) fn price(&self, trace: &Trace) -> Price {
        Price { gpus_per_replica: trace.gpus_per_replica, dollars_per_gpu_hour: self.dollars_per_gpu_hour }
    }

    fn world(&self, trace: &Trace, data_plane: DataPlane, initial_replicas: u32) -> World {
        World {
            engine: self.engine.clone(),
            cold_start: self.cold_start.law(self.failing),
            data_plane,
            queue_order: QueueOrder::LateYields,
            objective: self.objective,
            initial_replicas,
            provider_capacity: self.capacity.map(|gpus| gpus / trace.gpus_per_replica),
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
        let world = self.world(trace, data_plane, min);
        let decider = self.warmed_up(trace, &world, decider);
        simulate(&world, &decider, &trace.requests, record_timeline)
    }

    fn warmed_up(&self, trace: &Trace, world: &World, decider: &Decider) -> Decider {
        if trace.history.is_empty() {
            decider.clone()
        } else {
            warm_up(world, decider, &trace.history, self.warm_up)
        }
    }

    /// One run of all models at the same time; for each what decides, and the replicas that are ready at the beginning.
    pub(crate) fn run_mix(
        &self,
        data_plane: DataPlane,
        deciders: &[(Decider, u32)],
        record_timeline: bool,
    ) -> Together {
        let prepared: Vec<(&Trace, World, Decider)> = self
            .traces
            .iter()
            .zip(deciders)
            .map(|(trace, (decider, initial))| {
                let world = self.world(trace, data_plane, *initial);
                let decider = self.warmed_up(trace, &world, decider);
                (trace, world, decider)
            })
            .collect();
        let models: Vec<Model<'_>> = prepared
            .iter()
            .map(|(trace, world, decider)| Model {
                name: trace.short_name(),
                world,
                decider,
                requests: &trace.requests,
                gpus_per_replica: trace.gpus_per_replica,
            })
            .collect();
        simulate_together(&models, self.capacity, record_timeline)
    }

    /// What others are measured by, where it can be computed.
    pub(crate) fn measure(&self, trace: &Trace, bounds: Bounds) -> Option<Measure> {
        let world = self.world(trace, DataPlane::Gateway, bounds.min.0);
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
            model: trace.model.clone(),
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
        let capacity = self.capacity.map_or_else(String::new, |gpus| format!(" · {gpus} GPUs in all"));
        format!(
            "{} · a cold start takes {}{failing} · {engine}{capacity} · seed {}",
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
        let report = simulate(&self.world(trace, DataPlane::Gateway, 1), &one, &requests, false);
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
