//! The simulator beside the live system: the same workload through `forewarm run` with real engine processes, and
//! through virtual time.
//!
//! Prints one JSON row a line, for `cargo xtask bench validation`: the figure is the live one, the peer the
//! simulator, both the median of several runs. What a live run did is read from its journal. Times are modelled seconds.
//! On standard error it says how late requests were sent, when each side changed its target, and how far the runs
//! are apart. Runs go side by side where there is a core for each: it takes an hour on two, five minutes on thirteen.

use std::{
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use forewarm_control::{Store, journal::Record};
use forewarm_core::{Phase, Reading, ScalerId, ScalerSpec, SignalName};
use forewarm_engine::{ColdStart, EngineProfile};
use forewarm_load::{LoadConfig, LoadReport};
use forewarm_manifest::read_scalers;
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Looks, Objective, QueueOrder, Report, StageLaw, World,
    engine::{BatchingModel, EngineModel, SlotsModel},
    simulate,
};
use forewarm_workload::{Request, Workload, demo};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Modelled seconds a second: few, so that what HTTP and a busy machine take on the wall, milliseconds, is as little of a
/// modelled latency as it is in service.
const SPEED: f64 = 2.0;
/// Modelled time in which requests come: the burst on an idle fleet, and the way up the swell.
const LENGTH: Duration = Duration::from_secs(8 * 60);
/// Live runs of each case, whose median counts.
const RUNS: usize = 3;
/// Time on the wall between two looks of the live controller.
const CONTROLLER_GAP: Duration = Duration::from_millis(20);
/// The mean of the law of cold starts; the draw of [`SEED`] is what every start takes.
const COLD_START: Duration = Duration::from_secs(60);
const SEED: u64 = 1;
/// Within which a first token is promised.
const OBJECTIVE: Objective = Objective { ttft: Duration::from_secs(5), percent: 99.0 };
/// What the smallest context of the engines holds; the live one refuses more.
const LONGEST_TOKENS: u32 = 4_096;
/// Longest wait on the wall for the controller, and for one answer.
const PATIENCE: Duration = Duration::from_secs(120);

const POLICIES: [(&str, &str); 2] =
    [("queueDepth", "{queueDepth: {perReplica: 5}}"), ("forewarm", "{forewarm: {}}")];

/// An engine as the live process and the simulator know it, and the requests that the gateway gives it at a time.
struct Engine {
    name: &'static str,
    args: &'static [&'static str],
    max_concurrency: u32,
}

const ENGINES: [Engine; 2] = [
    Engine { name: "simple", args: &["--slots=8"], max_concurrency: 8 },
    Engine { name: "llama2-70b-h100-tp8", args: &["--profile=llama2-70b-h100-tp8"], max_concurrency: 16 },
];

impl Engine {
    fn model(&self) -> EngineModel {
        match self.name {
            "simple" => EngineModel::Slots(SlotsModel { slots: self.max_concurrency }),
            name => {
                let model = BatchingModel::named(name).expect("it is a preset");
                EngineModel::Batching(BatchingModel { max_num_seqs: self.max_concurrency, ..model })
            }
        }
    }
}

fn main() {
    // Cargo passes `--bench`; a word picks the cases with that in their names.
    let word = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut workload = demo(LENGTH, SEED);
    workload.requests.retain(|request| request.input_tokens + request.output_tokens <= LONGEST_TOKENS);
    let workload = Arc::new(workload);
    let mut cases = Vec::new();
    for engine in &ENGINES {
        EngineProfile::named(engine.name).expect("the live engine knows it");
        for (name, policy) in POLICIES {
            let case = format!("{name}, {}", engine.name);
            if case.contains(&word) {
                cases.push((case, engine, policy));
            }
        }
    }
    let runs = cases.iter().flat_map(|(case, engine, policy)| {
        let (case, workload) = (case.clone(), Arc::clone(&workload));
        std::iter::repeat_with(move || run(case.clone(), engine, policy, Arc::clone(&workload))).take(RUNS)
    });
    // One is left for what a machine does anyway.
    let at_once =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    let runs = stream::iter(runs).map(|run| async { tokio::spawn(run).await.expect("a run") });
    runtime.block_on(async {
        let mut runs = runs.buffered(at_once).chunks(RUNS);
        for (case, ..) in &cases {
            print(case, &runs.next().await.expect("runs of each case"));
        }
    });
}

/// A run of both.
async fn run(
    case: String,
    engine: &'static Engine,
    policy: &'static str,
    workload: Arc<Workload>,
) -> [Figure; 9] {
    let (live, spec) = run_live(engine, policy, &workload).await;
    let simulated = run_simulated(engine, spec, &workload, live.course.lead);
    tell(&case, &live, &simulated);
    figures(&live, &simulated)
}

/// What the two are compared by.
struct Live {
    load: LoadReport,
    course: Course,
}

async fn run_live(engine: &Engine, policy: &str, workload: &Workload) -> (Live, ScalerSpec) {
    let directory = tempfile::tempdir().expect("a directory");
    let manifest = manifest(engine, policy);
    let file = directory.path().join("forewarm.yaml");
    std::fs::write(&file, &manifest).expect("a file");
    let spec = read_scalers("forewarm.yaml", &manifest).expect("it is right").remove(0).spec;
    let [listen, admin] = [free_address(), free_address()];
    let state = directory.path().join("state");
    let mut controller = Command::new(env!("CARGO_BIN_EXE_forewarm"))
        .arg("run")
        .arg("--file")
        .arg(&file)
        .arg("--state-dir")
        .arg(&state)
        .args(["--listen", &listen, "--admin", &admin, "--on-exit=stop", "--log=warn"])
        .arg(format!("--speed={SPEED}"))
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts");
    until_ready(&admin).await;
    let config = LoadConfig {
        target: listen,
        model: "m".to_owned(),
        speed: SPEED,
        stream: true,
        deadline: PATIENCE,
        full_prompts: false,
    };
    let (progress, _) = watch::channel(Default::default());
    let load = forewarm_load::run(config, workload, progress, CancellationToken::new()).await.expect("load");
    end(&mut controller);
    (Live { load, course: Course::read(&state, &spec.scaler, &workload.requests) }, spec)
}

fn manifest(engine: &Engine, policy: &str) -> String {
    let mut command =
        vec![env!("CARGO_BIN_EXE_forewarm"), "--log=warn", "engine", "--port={port}", "--model=m"];
    let own = [
        format!("--cold-start={}s", COLD_START.as_secs_f64()),
        format!("--seed={SEED}"),
        format!("--speed={SPEED}"),
        "--shutdown-timeout=600s".to_owned(),
    ];
    command.extend(own.iter().map(String::as_str));
    command.extend(engine.args);
    let command = serde_json::to_string(&command).expect("strings");
    let (concurrency, ttft, percent) =
        (engine.max_concurrency, OBJECTIVE.ttft.as_secs_f64(), OBJECTIVE.percent);
    let expected = COLD_START.as_secs_f64();
    format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: m}}\nspec:\n  \
         target: {{processes: {{command: {command}, port: 0}}}}\n  \
         engine: {{kind: vllm, maxConcurrency: {concurrency}}}\n  models: [m]\n  environment: dev\n  \
         replicas: {{min: 0, max: 8}}\n  objective: {{ttft: {ttft}s, percent: {percent}}}\n  \
         coldStart: {{expected: {expected}s, deadline: 30m}}\n  policy: {policy}\n"
    )
}

/// The workload comes `lead` after the controller's first look, as it did live: a policy that counts by intervals
/// from there cuts the same requests into the same ones then.
fn run_simulated(engine: &Engine, spec: ScalerSpec, workload: &Workload, lead: Duration) -> Report {
    let start = ColdStart::typical().scaled_to_mean(COLD_START).with_seed(SEED).draw();
    let seconds = start.stages.iter().map(|(_, span)| span.as_secs_f64()).sum();
    let world = World {
        engine: engine.model(),
        cold_start: ColdStartLaw {
            provisioning: StageLaw::Fixed { seconds: 0.0 },
            loading: StageLaw::Fixed { seconds },
            failing: 0.0,
            hanging: 0.0,
        },
        data_plane: DataPlane::Gateway,
        queue_order: QueueOrder::LateYields,
        objective: OBJECTIVE,
        initial_replicas: 0,
        provider_capacity: None,
        seed: SEED,
    };
    let looks = Looks::OnChanges { gap: CONTROLLER_GAP.mul_f64(SPEED) };
    let later = |request: &Request| Request { arrival: request.arrival + lead, ..*request };
    let requests: Vec<Request> = workload.requests.iter().map(later).collect();
    simulate(&world, &Decider::with_looks(spec, looks), &requests, true)
}

/// What a journal says about a run.
#[derive(Default)]
struct Course {
    /// From the controller's first look to the beginning of the workload, as the first arrival shows it.
    lead: Duration,
    replica_seconds: f64,
    starting_seconds: f64,
    starts: u32,
    attained: f64,
    /// When the target changed, in seconds since the controller's first look, and to what.
    changes: Vec<(f64, String)>,
}

impl Course {
    /// Until the last of so many requests has ended: there the simulator ends too.
    fn read(state: &Path, scaler: &ScalerId, requests: &[Request]) -> Self {
        let records = Store::open(state).and_then(|store| store.journal(scaler)).expect("a journal");
        let mut course = Self::default();
        let mut began = None;
        let mut last: Option<(Duration, u32, u32)> = None;
        for record in &records {
            let Record::Decision { observation, decision } = record else { continue };
            let total = |name: &str| match observation
                .signals
                .get(&SignalName::from(name))
                .map(|signal| &signal.reading)
            {
                Some(Reading::Value { total, .. }) => *total,
                _ => 0.0,
            };
            let at = observation.at.since(*began.get_or_insert(observation.at));
            if course.lead.is_zero() && total("arrivals_total") > 0.0 {
                let first = requests.first().map_or(Duration::ZERO, |first| first.arrival);
                course.lead = at.saturating_sub(first);
            }
            if let Some((before, all, starting)) = last {
                let span = (at - before).as_secs_f64();
                course.replica_seconds += span * f64::from(all);
                course.starting_seconds += span * f64::from(starting);
            }
            let starting = |phase| !matches!(phase, Phase::Ready | Phase::Draining);
            last = Some((at, observation.count_where(|_| true), observation.count_where(starting)));
            course.starts += decision.placement.start;
            course.attained = total("attained_total");
            if decision.from != decision.to {
                course.changes.push((at.as_secs_f64(), decision.summary()));
            }
            if total("completed_total") >= requests.len() as f64 {
                break;
            }
        }
        course
    }
}

/// What, in which unit, live, and in the simulator.
type Figure = (&'static str, &'static str, f64, f64);

fn figures(live: &Live, simulated: &Report) -> [Figure; 9] {
    let Live { load, course } = live;
    let Report { ttft_seconds: ttft, e2e_seconds: e2e, .. } = simulated;
    let latency = &load.latency_seconds;
    let sent = load.requests.sent as f64;
    [
        ("replica-seconds", "s", course.replica_seconds, simulated.replica_hours * 3_600.0),
        ("of them starting", "s", course.starting_seconds, simulated.starting_hours * 3_600.0),
        ("starts", "", f64::from(course.starts), simulated.starts as f64),
        ("changes of the target", "", course.changes.len() as f64, simulated.changes as f64),
        ("attained", "%", 100.0 * course.attained / sent, 100.0 * simulated.attainment()),
        ("TTFT p50", "s", latency.ttft.p50, ttft.p50),
        ("TTFT p99", "s", latency.ttft.p99, ttft.p99),
        ("end to end p50", "s", latency.e2e.p50, e2e.p50),
        ("end to end p99", "s", latency.e2e.p99, e2e.p99),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A row for each figure, and on standard error live ÷ simulator of each run.
fn print(case: &str, runs: &[[Figure; 9]]) {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    for index in 0..9 {
        let of_runs = || runs.iter().map(|figures| figures[index]);
        let (what, unit, ..) = runs[0][index];
        let (figure, peer_figure) =
            (median(of_runs().map(|it| it.2).collect()), median(of_runs().map(|it| it.3).collect()));
        let row = serde_json::json!({"name": format!("{case}: {what}"), "figure": figure, "unit": unit,
            "peer": "simulator", "peer_figure": peer_figure, "ratio": figure / peer_figure});
        writeln!(out, "{row}").expect("somebody reads the rows");
        let ratios: Vec<String> = of_runs().map(|it| format!("{:.3}", it.2 / it.3)).collect();
        writeln!(err, "{case}: {what}: live / simulator of each run: {}", ratios.join(", "))
            .expect("a terminal");
    }
}

fn tell(case: &str, live: &Live, simulated: &Report) {
    let Live { load, course } = live;
    let mut err = std::io::stderr();
    let lag = load.send_lag_wall_seconds.p99 * 1e3;
    writeln!(err, "{case}: {:?}; sent late by {lag:.1} ms on the wall (p99)", load.requests)
        .expect("a terminal");
    for (side, changes) in [("live", &course.changes), ("simulator", &simulated.timeline.decisions)] {
        for (at, summary) in changes {
            writeln!(err, "  {side:<9} {at:>7.1} s  {summary}").expect("a terminal");
        }
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string()
}

async fn until_ready(admin: &str) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ready = async {
        while !http
            .get(format!("http://{admin}/readyz"))
            .send()
            .await
            .is_ok_and(|it| it.status().is_success())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the controller is ready in time");
}

/// SIGTERM, and wait: every replica is stopped then.
fn end(controller: &mut Child) {
    let told = Command::new("kill").arg(controller.id().to_string()).status().expect("kill");
    assert!(told.success() && controller.wait().expect("an end").success(), "it ended badly");
}
