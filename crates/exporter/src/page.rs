//! A round as a page of metrics: which names there are, and what each means.

use forewarm_signals::engine::{EngineKind, EngineMetric, EngineReading};

use crate::{
    exposition::{Exposition, Kind, labels},
    gpu::{Gpu, GpuReading},
    round::Round,
};

const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;
const MIB_PER_GIB: f64 = 1024.0;

struct EngineFamily {
    metric: EngineMetric,
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

const ENGINE_FAMILIES: &[EngineFamily] = &[
    EngineFamily {
        metric: EngineMetric::Waiting,
        name: "forewarm_engine_requests_waiting",
        kind: Kind::Gauge,
        help: "Requests that wait in the engine's queue.",
    },
    EngineFamily {
        metric: EngineMetric::Running,
        name: "forewarm_engine_requests_running",
        kind: Kind::Gauge,
        help: "Requests in the engine's batch.",
    },
    EngineFamily {
        metric: EngineMetric::KvUsage,
        name: "forewarm_engine_kv_cache_usage_ratio",
        kind: Kind::Gauge,
        help: "Used share of the KV cache, 0 to 1, of the fullest engine behind the address.",
    },
    EngineFamily {
        metric: EngineMetric::PromptTokensTotal,
        name: "forewarm_engine_prompt_tokens_total",
        kind: Kind::Counter,
        help: "Prompt tokens taken in.",
    },
    EngineFamily {
        metric: EngineMetric::GenerationTokensTotal,
        name: "forewarm_engine_generation_tokens_total",
        kind: Kind::Counter,
        help: "Tokens generated.",
    },
    EngineFamily {
        metric: EngineMetric::RequestsFinishedTotal,
        name: "forewarm_engine_requests_finished_total",
        kind: Kind::Counter,
        help: "Requests finished, for whatever reason.",
    },
    EngineFamily {
        metric: EngineMetric::RejectionsTotal,
        name: "forewarm_engine_requests_rejected_total",
        kind: Kind::Counter,
        help: "Requests turned away by the engine's admission limit; waiting stops growing there.",
    },
    EngineFamily {
        metric: EngineMetric::PreemptionsTotal,
        name: "forewarm_engine_preemptions_total",
        kind: Kind::Counter,
        help: "Requests pushed out of the batch for want of KV cache.",
    },
];

/// Writes the whole page.
pub(crate) fn page(round: &Round, engine: EngineKind) -> String {
    let mut page = Exposition::default();
    compatibility(&mut page, round);
    engines(&mut page, round, engine);
    gpus(&mut page, &round.gpus);
    page.into_text()
}

/// The names and units of the exporters that this one replaces.
fn compatibility(page: &mut Exposition, round: &Round) {
    // The sum, or nothing: a sum without an engine that did not answer would look like less load.
    let waiting: Option<f64> =
        round.engines.values().map(|reading| reading.as_ref().ok()?.total().get(EngineMetric::Waiting)).sum();
    let depth = waiting.filter(|_| !round.engines.is_empty()).map(|depth| (String::new(), depth));
    page.family("llm_queue_depth", Kind::Gauge, "Number of pending requests", depth);
    let used = gpus_of(&round.gpus)
        .iter()
        .filter_map(|gpu| Some((labels(&[("gpu_id", &gpu.index)]), gpu.memory_used_mib? / MIB_PER_GIB)));
    let help = "GPU memory usage in GB of 2^30 bytes; forewarm_gpu_memory_used_bytes has bytes";
    page.family("llm_gpu_memory_used_gb", Kind::Gauge, help, used);
}

fn engines(page: &mut Exposition, round: &Round, engine: EngineKind) {
    let kind = engine.label();
    let up = round.engines.iter().map(|(replica, reading)| {
        (labels(&[("engine", kind), ("replica", replica)]), f64::from(u8::from(reading.is_ok())))
    });
    page.family("forewarm_engine_up", Kind::Gauge, "1 if the engine answered in the last round.", up);
    let answered: Vec<(&str, &EngineReading)> = round
        .engines
        .iter()
        .filter_map(|(replica, reading)| Some((replica.as_str(), reading.as_ref().ok()?)))
        .collect();
    let samples = |metric: EngineMetric, suffix: &'static str| {
        answered.iter().flat_map(move |(replica, reading)| {
            reading.by_model().iter().filter_map(move |(model, metrics)| {
                let labels = labels(&[("engine", kind), ("replica", replica), ("model", model)]);
                Some((format!("{suffix}{labels}"), metrics.get(metric)?))
            })
        })
    };
    for family in ENGINE_FAMILIES {
        page.family(family.name, family.kind, family.help, samples(family.metric, ""));
    }
    page.family(
        "forewarm_engine_time_to_first_token_seconds",
        Kind::Summary,
        "Time from a request's arrival at the engine to its first token.",
        samples(EngineMetric::TtftSecondsSum, "_sum")
            .chain(samples(EngineMetric::TtftSecondsCount, "_count")),
    );
}

fn gpus(page: &mut Exposition, reading: &GpuReading) {
    let states = GpuReading::STATES
        .into_iter()
        .map(|state| (labels(&[("state", state)]), f64::from(u8::from(state == reading.state()))));
    page.family("forewarm_gpu_source_state", Kind::Gauge, "1 for the state that GPU metrics are in.", states);
    let mut family = |name: &str, kind: Kind, help: &str, value: fn(&Gpu) -> Option<f64>| {
        let samples = gpus_of(reading).iter().filter_map(|gpu| {
            let labels = labels(&[("gpu", &gpu.index), ("uuid", &gpu.uuid), ("model", &gpu.model)]);
            Some((labels, value(gpu)?))
        });
        page.family(name, kind, help, samples);
    };
    let gauge = Kind::Gauge;
    family(
        "forewarm_gpu_utilization_ratio",
        gauge,
        "Share of time in which a kernel ran, 0 to 1; one request holds it at 1, so it says nothing about load.",
        |gpu| gpu.utilization,
    );
    family("forewarm_gpu_memory_used_bytes", gauge, "Used memory.", |gpu| {
        gpu.memory_used_mib.map(|mib| mib * BYTES_PER_MIB)
    });
    family("forewarm_gpu_memory_total_bytes", gauge, "All memory.", |gpu| {
        gpu.memory_total_mib.map(|mib| mib * BYTES_PER_MIB)
    });
    family("forewarm_gpu_power_watts", gauge, "Power draw.", |gpu| gpu.power_watts);
    family("forewarm_gpu_temperature_celsius", gauge, "Temperature of the chip.", |gpu| {
        gpu.temperature_celsius
    });
    family(
        "forewarm_gpu_uncorrected_ecc_errors_total",
        Kind::Counter,
        "Memory errors since the driver was loaded that ECC could not correct.",
        |gpu| gpu.uncorrected_ecc_errors,
    );
}

fn gpus_of(reading: &GpuReading) -> &[Gpu] {
    match reading {
        GpuReading::Gpus(gpus) => gpus,
        GpuReading::NoDriver(_) | GpuReading::NoGpu | GpuReading::Failed(_) => &[],
    }
}
