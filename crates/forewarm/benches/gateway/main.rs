//! The gateway beside other proxies, all in one run on the same machine.
//!
//! Prints one JSON row a line, for `cargo xtask bench gateway`, which also gets the peers. The proxy has one core
//! to itself; the client and the replica share another. Rounds go through the proxies in turn, and the median of
//! the rounds counts, so that whatever else the machine does hits all of them.

mod client;
mod cores;
mod floor;
mod proxy;
mod upstream;

use std::{collections::BTreeMap, io::Write, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use client::Paced;
use proxy::{Kind, Proxy};
use tokio::time::Instant;
use upstream::{EVENTS, Upstream};

/// Rounds of requests, each of them short: what disturbs the machine for a moment hits few of them.
const ROUNDS: usize = 9;
const SATURATED: Duration = Duration::from_millis(700);
/// Rounds at half load. A stall of a hundredth of a round is its 99th percentile, so they are many, and so short that most of them
/// have none.
const PACED_ROUNDS: usize = 180;
const PACED: Duration = Duration::from_millis(40);
/// The first is for caches and connections, and does not count.
const WARM_UP: Duration = Duration::from_millis(500);
/// Rounds of streams.
const STREAM_ROUNDS: usize = 3;
/// Streams held at once: as many as the client can follow, of these.
const STREAMS: [usize; 4] = [2_000, 1_500, 1_000, 500];
/// What an interpreter can follow.
const FEW_STREAMS: usize = 50;
/// How late an event may be, 99 in 100 times, for the client to have followed.
const FOLLOWED: Duration = Duration::from_millis(10);
/// Requests that wait through a cold start, and how many of them the replica then takes at a time.
const WAITING: usize = 10_000;
const CAPACITY: u32 = 64;
/// Longest time for anything that one proxy has to do.
const BOUND: Duration = Duration::from_secs(60);
/// Those that are measured in turn; each is compared with the first one.
const FAST: [Kind; 5] = [Kind::Nginx, Kind::HaProxy, Kind::Hyper, Kind::PassThrough, Kind::Features];
const SLOW: [Kind; 2] = [Kind::SglangRouter, Kind::LiteLlm];

/// What was measured of each proxy, one figure a round.
type Figures = BTreeMap<(Measure, usize), Vec<f64>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    PerSecond,
    CpuPerRequest,
    AddedMedian,
    AddedTail,
    CpuPerEvent,
    LateTail,
    KibPerStream,
}

impl Measure {
    const OF_REQUESTS: [Measure; 4] =
        [Measure::PerSecond, Measure::CpuPerRequest, Measure::AddedMedian, Measure::AddedTail];
    const OF_STREAMS: [Measure; 3] = [Measure::CpuPerEvent, Measure::LateTail, Measure::KibPerStream];

    fn name_and_unit(self) -> (&'static str, &'static str) {
        match self {
            Measure::PerSecond => ("requests at full load", "/s"),
            Measure::CpuPerRequest => ("CPU per request", "µs"),
            Measure::AddedMedian => ("added at half load, p50", "µs"),
            Measure::AddedTail => ("added at half load, p99", "µs"),
            Measure::CpuPerEvent => ("CPU per streamed event", "µs"),
            Measure::LateTail => ("lateness of an event, p99", "ms"),
            Measure::KibPerStream => ("memory per held stream", "KiB"),
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, floor, listen, upstream] = arguments.as_slice()
        && floor == "--floor"
    {
        floor::run(listen.parse()?, upstream.parse()?);
        return Ok(());
    }
    if std::thread::available_parallelism()?.get() < 2 {
        return skip("everything", "it takes a core for the proxy and another for client and replica");
    }
    let pid = std::process::id().to_string();
    let core = cores::of_client();
    let pinned = Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", &core, &pid]).output();
    pinned.context("cannot run taskset, of util-linux")?;
    let peers = std::env::var_os("FOREWARM_BENCH_PEERS").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(Path::new(&peers)))
}

async fn measure(peers: &Path) -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut figures = Figures::new();
    let mut there = Vec::new();
    for kind in FAST {
        match Proxy::serving(kind, upstream.address, peers).await {
            Ok(proxy) => there.push(proxy),
            Err(error) => skip(kind.name(), &format!("{error:#}"))?,
        }
    }
    let direct = requests(&upstream, &there, &mut figures).await?;
    rows(&figures, &Measure::OF_REQUESTS)?;
    row("requests at full load: no proxy, the client's most", direct, "/s", None)?;
    let there: Vec<Kind> = there.iter().map(|proxy| proxy.kind).collect();
    streams(&upstream, &there, peers, &mut figures).await?;
    rows(&figures, &Measure::OF_STREAMS)?;
    let ours = FAST.iter().position(|kind| *kind == Kind::Features);
    let ours = ours.and_then(|index| figures.get(&(Measure::PerSecond, index)));
    let ours = ours.map(|rounds| median(rounds.clone())).context("ours was measured")?;
    for kind in SLOW {
        if let Err(error) = slow(kind, &upstream, peers, ours).await {
            skip(kind.name(), &format!("{error:#}"))?;
        }
    }
    for kind in [Kind::PassThrough, Kind::Features] {
        waiting(kind, &upstream, peers).await?;
    }
    Ok(())
}

/// Small answers in one piece: at full load, and at half of what nginx, or else ours, can do. Returns what the
/// client can do by itself.
async fn requests(upstream: &Upstream, there: &[Proxy], figures: &mut Figures) -> Result<f64> {
    let mut direct = Vec::new();
    for proxy in there {
        client::saturate(proxy.address, WARM_UP).await.with_context(|| proxy.kind.name())?;
    }
    for round in 0..ROUNDS {
        direct.push(client::saturate(upstream.address, SATURATED).await? as f64 / SATURATED.as_secs_f64());
        for proxy in turns(there, round) {
            let (before, begun) = (proxy.usage(), Instant::now());
            let answered =
                client::saturate(proxy.address, SATURATED).await.with_context(|| proxy.kind.name())?;
            let (seconds, after) = (begun.elapsed().as_secs_f64(), proxy.usage());
            let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e6 / answered as f64;
            note(figures, Measure::PerSecond, proxy.kind, answered as f64 / seconds);
            note(figures, Measure::CpuPerRequest, proxy.kind, cpu);
        }
    }
    let first = there.first().and_then(|proxy| index(proxy.kind)).unwrap_or(0);
    let full = figures.get(&(Measure::PerSecond, first)).cloned().context("nothing was measured")?;
    let half = median(full) / 2.0;
    row("half load", half, "/s", None)?;
    let direct_to = Paced::new(upstream.address);
    let through: Vec<(Kind, Paced)> =
        there.iter().map(|proxy| (proxy.kind, Paced::new(proxy.address))).collect();
    for round in 0..PACED_ROUNDS {
        let alone = direct_to.send(half, PACED).await?;
        for (kind, client) in turns(&through, round) {
            let with = client.send(half, PACED).await.with_context(|| kind.name())?;
            for (measure, q) in [(Measure::AddedMedian, 0.5), (Measure::AddedTail, 0.99)] {
                let added = quantile(&with, q).saturating_sub(quantile(&alone, q));
                note(figures, measure, *kind, added.as_secs_f64() * 1e6);
            }
        }
    }
    Ok(median(direct))
}

/// All of them, each round from another one on, and every other round backwards: who comes first, or after whom, is nobody's
/// advantage.
fn turns<T>(there: &[T], round: usize) -> impl Iterator<Item = &T> {
    let (count, first) = (there.len(), round / 2);
    (0..count).filter_map(move |turn| {
        let step = if round.is_multiple_of(2) { turn } else { count - 1 - turn };
        there.get((first + step) % count)
    })
}

/// As many streams at once as the client can follow, each through a proxy that has just been started.
async fn streams(upstream: &Upstream, there: &[Kind], peers: &Path, figures: &mut Figures) -> Result<()> {
    let mut count = 0;
    for streams in STREAMS {
        count = streams;
        let late = client::streams(upstream.address, streams, || {}).await?;
        let late = quantile(&late, 0.99);
        row(&format!("lateness of an event, p99: no proxy, {count} streams"), millis(late), "ms", None)?;
        if late <= FOLLOWED {
            break;
        }
    }
    for _ in 0..STREAM_ROUNDS {
        for &kind in there {
            let proxy = Proxy::serving(kind, upstream.address, peers).await?;
            let (late, cpu, bytes) = hold(&proxy, count).await?;
            note(figures, Measure::CpuPerEvent, kind, cpu);
            note(figures, Measure::LateTail, kind, millis(late));
            note(figures, Measure::KibPerStream, kind, bytes / 1024.0);
        }
    }
    Ok(())
}

/// Holds streams; returns how late their events were, 99 in 100 times, the microseconds that one costs, and the
/// bytes that a stream takes.
async fn hold(proxy: &Proxy, count: usize) -> Result<(Duration, f64, f64)> {
    // So that what is needed anyway is there.
    client::saturate(proxy.address, WARM_UP).await?;
    let before = proxy.usage();
    let mut held = 0;
    let late = client::streams(proxy.address, count, || held = proxy.usage().resident_bytes).await;
    let late = late.with_context(|| proxy.kind.name())?;
    let cpu = (proxy.usage().cpu - before.cpu).as_secs_f64() * 1e6 / (count * (EVENTS + 1)) as f64;
    let bytes = held.saturating_sub(before.resident_bytes) as f64 / count as f64;
    Ok((quantile(&late, 0.99), cpu, bytes))
}

/// A peer that is written in an interpreted language, or far from its bounds otherwise.
async fn slow(kind: Kind, upstream: &Upstream, peers: &Path, ours: f64) -> Result<()> {
    let proxy = Proxy::serving(kind, upstream.address, peers).await?;
    let full = async {
        client::saturate(proxy.address, WARM_UP).await?;
        let (before, begun) = (proxy.usage(), Instant::now());
        let answered = client::saturate(proxy.address, SATURATED).await? as f64;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), proxy.usage());
        anyhow::Ok((answered / seconds, (after.cpu - before.cpu).as_secs_f64() * 1e6 / answered))
    };
    let (per_second, cpu) = tokio::time::timeout(BOUND, full).await.context("it took too long")??;
    let name = kind.name();
    row(&format!("CPU per request: {name}"), cpu, "µs", None)?;
    row("requests at full load: forewarm, all features", ours, "/s", Some((name, per_second)))?;
    let held = tokio::time::timeout(BOUND, hold(&proxy, FEW_STREAMS)).await.context("it took too long")??;
    let (late, cpu, _) = held;
    row(&format!("CPU per streamed event: {name}, {FEW_STREAMS} streams"), cpu, "µs", None)?;
    row(&format!("lateness of an event, p99: {name}, {FEW_STREAMS} streams"), millis(late), "ms", None)
}

/// Requests that wait for the first replica, and then go to it.
async fn waiting(kind: Kind, upstream: &Upstream, peers: &Path) -> Result<()> {
    let proxy = Proxy::start(kind, upstream.address, peers).await?;
    proxy.plan(None).await?;
    let before = proxy.usage();
    let mut clients = client::wait(proxy.address, WAITING);
    let mut queued = 0;
    while queued < WAITING as u64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        queued = proxy.queued().await?;
    }
    let bytes = proxy.usage().resident_bytes.saturating_sub(before.resident_bytes) as f64 / WAITING as f64;
    upstream.watch();
    let ready = Instant::now();
    proxy.plan(Some((upstream.address, CAPACITY))).await?;
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let all = ready.elapsed();
    let mut sent: Vec<Duration> = upstream.seen().iter().map(|at| at.duration_since(ready)).collect();
    sent.sort();
    let first = &sent[..sent.len().min(CAPACITY as usize)];
    let name = kind.name();
    for q in [0.5, 0.99] {
        let what = format!("ready to sent, first {CAPACITY} of {WAITING}, p{}: {name}", q * 100.0);
        row(&what, millis(quantile(first, q)), "ms", None)?;
    }
    row(&format!("ready to all {WAITING} answered: {name}"), millis(all), "ms", None)?;
    row(&format!("memory per waiting request: {name}"), bytes / 1024.0, "KiB", None)
}

fn rows(figures: &Figures, measures: &[Measure]) -> Result<()> {
    for &measure in measures {
        let of = |index: usize| figures.get(&(measure, index)).map(|rounds| median(rounds.clone()));
        let (name, unit) = measure.name_and_unit();
        for (index, kind) in FAST.iter().enumerate() {
            if let Some(figure) = of(index) {
                let peer = of(0).filter(|_| index > 0).map(|peer| (FAST[0].name(), peer));
                row(&format!("{name}: {}", kind.name()), figure, unit, peer)?;
            }
        }
    }
    Ok(())
}

fn index(kind: Kind) -> Option<usize> {
    FAST.iter().position(|fast| *fast == kind)
}

fn note(figures: &mut Figures, measure: Measure, kind: Kind, figure: f64) {
    if let Some(index) = index(kind) {
        figures.entry((measure, index)).or_default().push(figure);
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn quantile(spans: &[Duration], q: f64) -> Duration {
    let mut spans = spans.to_vec();
    let at = ((q * spans.len() as f64).ceil() as usize).clamp(1, spans.len()) - 1;
    *spans.select_nth_unstable(at).1
}

fn row(name: &str, figure: f64, unit: &str, peer: Option<(&str, f64)>) -> Result<()> {
    let mut row = serde_json::json!({"name": name, "figure": figure, "unit": unit});
    if let Some((peer, peer_figure)) = peer {
        row["peer"] = peer.into();
        row["peer_figure"] = peer_figure.into();
        row["ratio"] = (figure / peer_figure).into();
    }
    Ok(writeln!(std::io::stdout(), "{row}")?)
}

fn skip(name: &str, why: &str) -> Result<()> {
    let row = serde_json::json!({"name": name, "skipped": why});
    Ok(writeln!(std::io::stdout(), "{row}")?)
}
