//! `forewarm signal`.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use forewarm_aws::AwsSources;
use forewarm_control::{Clock, ports::FleetReplica};
use forewarm_core::{
    Cadence, Decision, Evidence, KedaPolicy, Missing, Observation, Phase, Policy, Reading, Replica,
    ScalerSpec, ScalerState, Signal, Timestamp, plan,
};
use forewarm_manifest::{CheckedScaler, NamedSignal, SignalSource, read_scalers};
use forewarm_signals::{SourceError, Sources, describe, measure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    commands::output::Output,
    exit::{Failure, say},
    lifecycle::runtime,
};

/// What is measured outside.
#[derive(Subcommand)]
pub(crate) enum SignalCommand {
    // Described where its arguments are.
    Test(TestArgs),
}

/// Reads each signal of a manifest once, and explains.
///
/// Says what was asked, of whom, what came of it or why nothing did, and what forewarm would do if that were all it
/// knew. Nothing is started, stopped or written. The triggers of `policy.keda` that name a server are signals, too.
/// Floors by the clock are told beside them.
///
/// Ends with 0 when every signal has a value, 1 when one has none, 2 when the manifest is wrong.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm signal test -f forewarm.yaml\n  \
    forewarm signal test -f forewarm.yaml lag --output json\n  \
    forewarm signal test -f forewarm.yaml --replica 127.0.0.1:8000\n\n\
    docs/signals.md says what each kind of signal can be told.")]
pub(crate) struct TestArgs {
    /// Manifests; several files, and several documents in one, are taken together.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Only these signals.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Where an engine is, for signals of the engines' own metrics. May be repeated.
    #[arg(long = "replica", value_name = "HOST:PORT", value_parser = address)]
    replicas: Vec<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_address = |(host, port): (&str, &str)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if parts.is_some_and(is_address) {
        return Ok(text.to_owned());
    }
    Err("a host and a port are wanted, such as 127.0.0.1:8000".to_owned())
}

pub(crate) fn signal(command: SignalCommand) -> Result<(), Failure> {
    let SignalCommand::Test(args) = command;
    let mut scalers = Vec::new();
    for path in &args.file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(anyhow!("cannot read `--file {name}`: {error}")))?;
        scalers.extend(read_scalers(&name, &text).map_err(Failure::usage)?);
    }
    let mut chosen = Vec::new();
    let mut known = Vec::new();
    for scaler in &scalers {
        let signals = measure::named(scaler, &|name| std::env::var(name).ok())
            .map_err(|error| wrong(scaler, &error))?;
        known.extend(signals.iter().map(|signal| signal.name.clone()));
        let wanted = |signal: &NamedSignal| args.names.is_empty() || args.names.contains(&signal.name);
        chosen.push((scaler, signals.into_iter().filter(wanted).collect::<Vec<_>>()));
    }
    if let Some(unknown) = args.names.iter().find(|name| !known.contains(name)) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::usage(anyhow!("there is no signal `{unknown}`; the manifest has {known}")));
    }
    if chosen.iter().all(|(scaler, signals)| signals.is_empty() && !has_clock(scaler)) {
        let wanted =
            "`spec.signals`, `spec.floors`, and triggers of `policy.keda` that name a server or a time";
        return Err(Failure::usage(anyhow!("the manifest has nothing to read: that is {wanted}")));
    }
    let missing = runtime(1)?.block_on(test(&args, chosen))?;
    if missing > 0 {
        return Err(anyhow!("{missing} of the signals had no value").into());
    }
    Ok(())
}

/// Whether the time of day decides something.
fn has_clock(scaler: &CheckedScaler) -> bool {
    let is_cron = |policy: &KedaPolicy| policy.object.triggers.iter().any(|trigger| trigger.r#type == "cron");
    let by_trigger = matches!(&scaler.spec.policy, Policy::Keda(policy) if is_cron(policy));
    by_trigger || !scaler.spec.floors.is_empty()
}

/// One signal as it was read.
struct Read {
    signal: NamedSignal,
    found: Signal,
    /// Why a part of it is not there, where that is known part by part.
    silent: Vec<String>,
    took: Duration,
}

/// Reads them one after the other, and returns how many have no value.
async fn test(args: &TestArgs, chosen: Vec<(&CheckedScaler, Vec<NamedSignal>)>) -> Result<usize, Failure> {
    let clock = Clock::start(1.0);
    let sources = Sources::new(clock).with(AwsSources::default());
    let mut missing = 0;
    let mut told = Vec::new();
    for (scaler, signals) in chosen {
        let mut reads = Vec::new();
        for signal in signals {
            let started = Instant::now();
            let (found, silent) = read(args, scaler, &signal, &sources, clock).await?;
            missing += usize::from(matches!(found.reading, Reading::Missing(_)));
            reads.push(Read { signal, found, silent, took: started.elapsed() });
        }
        let decision = decide(scaler, &reads, clock);
        match args.output {
            Output::Text => in_text(scaler, &reads, &decision, clock.now()),
            Output::Json => told.push(in_json(scaler, &reads, &decision)),
        }
    }
    if args.output == Output::Json {
        say(serde_json::to_string_pretty(&told)?);
    }
    Ok(missing)
}

/// What the signal is, and which engines do not say their share of it, and why.
async fn read(
    args: &TestArgs,
    scaler: &CheckedScaler,
    signal: &NamedSignal,
    sources: &Sources,
    clock: Clock,
) -> Result<(Signal, Vec<String>), Failure> {
    let nothing = |why: &str| Ok((Signal::missing(Missing::Failed(why.to_owned())), Vec::new()));
    let limit = measure::options(scaler).timeout;
    let source = measure::source(scaler, signal, sources).map_err(|error| wrong(scaler, &error))?;
    if let Some(source) = source {
        let late =
            |_| Signal::missing(Missing::Failed(format!("no answer within {} s", limit.as_secs_f64())));
        let found = tokio::time::timeout(limit, source.read(&[])).await.unwrap_or_else(late);
        return Ok((found, Vec::new()));
    }
    let SignalSource::Engine { metric } = &signal.source else {
        return nothing("this kind is not read here");
    };
    let metric = measure::engine_signal(&signal.name, metric).map_err(|error| wrong(scaler, &error))?;
    if args.replicas.is_empty() {
        return nothing("no engine was named; `--replica HOST:PORT` names one");
    }
    let scraper = measure::scraper(scaler, clock).map_err(|error| wrong(scaler, &error))?;
    let report = scraper.scrape(&engines(&args.replicas)).await;
    let found = report.signals.get(&metric).cloned().unwrap_or_else(|| Signal::missing(Missing::Absent));
    Ok((found, report.silent.iter().map(|(replica, why)| format!("{replica}: {why}")).collect()))
}

fn wrong(scaler: &CheckedScaler, error: &SourceError) -> Failure {
    Failure::usage(anyhow!("`{}`: {error}", scaler.spec.scaler))
}

fn engines(addresses: &[String]) -> Vec<FleetReplica> {
    let engine = |address: &String| FleetReplica {
        address: Some(address.clone()),
        ..FleetReplica::new(address.as_str(), Phase::Ready)
    };
    addresses.iter().map(engine).collect()
}

/// What would be decided if this were all that is known, with as many replicas as are kept at all times.
fn decide(scaler: &CheckedScaler, reads: &[Read], clock: Clock) -> Decision {
    let replica = |index: u32| Replica {
        age: Duration::from_secs(3600),
        ..Replica::new(format!("replica-{index}").as_str(), Phase::Ready)
    };
    let observation = Observation {
        at: clock.now(),
        replicas: (0..scaler.spec.replicas.min.0).map(replica).collect(),
        signals: reads.iter().map(|read| (read.signal.name.as_str().into(), read.found.clone())).collect(),
        ..Observation::default()
    };
    let spec = ScalerSpec { cadence: Cadence::EveryObservation, pause: None, ..scaler.spec.clone() };
    plan(&spec, &mut ScalerState::default(), &observation)
}

fn in_text(scaler: &CheckedScaler, reads: &[Read], decision: &Decision, now: Timestamp) {
    let mut summary = decision.summary();
    say(format!("{}:", scaler.spec.scaler));
    for Read { signal, found, silent, took } in reads {
        say(format!("  {}: {}", signal.name, describe(&signal.source)));
        let milliseconds = took.as_millis();
        match found.evidence(scaler.spec.max_signal_age) {
            Evidence::Known(value) => {
                let age = found.age.as_secs_f64();
                say(format!("    {value}, {age:.1} s old, read in {milliseconds} ms"));
            }
            Evidence::AtLeast(value) => {
                say(format!("    at least {value}, as a part did not answer; read in {milliseconds} ms"));
                silent.iter().for_each(|why| say(format!("    {why}")));
            }
            Evidence::Unknown(why) => {
                let said = if let Missing::Failed(error) = &why { error.clone() } else { why.to_string() };
                say(format!("    nothing after {milliseconds} ms: {said}"));
                if why == Missing::Absent {
                    say(format!("    {}", absent(&signal.source)));
                }
                // Said once is enough.
                summary = summary.replace(&format!(": {why}"), "");
            }
        }
    }
    for floor in &scaler.spec.floors {
        let (start, end, zone) = (floor.start(), floor.end(), floor.timezone());
        say(format!("  at least {}, from `{start}` to `{end}` in {zone}", floor.replicas()));
        if let Some(holds) = floor.holds(now) {
            let what = if holds.now { "holds until" } else { "does not hold before" };
            say(format!("    {what} {}", by_the_clock(holds.until, zone)));
        }
    }
    say(format!("  If this were all, with {} ready: {summary}", scaler.spec.replicas.min));
}

/// What a source that answers and has no such value may need.
fn absent(source: &SignalSource) -> &'static str {
    match source {
        SignalSource::Engine { .. } => {
            "the engine's page of metrics has none of that name: is it another engine than `spec.engine.kind`?"
        }
        SignalSource::Prometheus(_) => {
            "the query matches no series now: look at its names and labels. Where none means 0, \
             `ignoreNullValues: true` says so"
        }
        SignalSource::AwsCloudWatch(_) => {
            "there is no point in that time: names and dimensions have to be those of the metric, to the letter; \
             `metricCollectionTime` says how far back is looked"
        }
        SignalSource::Kafka(_)
        | SignalSource::RabbitMq(_)
        | SignalSource::MetricsApi(_)
        | SignalSource::AwsSqsQueue(_) => "the server answers and leaves it out",
    }
}

/// A moment as the clocks of a zone show it.
fn by_the_clock(at: Timestamp, zone: &str) -> String {
    let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).map(|at| at.to_zoned(zone));
    at.map_or_else(|error| error.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

fn in_json(scaler: &CheckedScaler, reads: &[Read], decision: &Decision) -> Value {
    let signal = |read: &Read| {
        json!({
            "name": read.signal.name,
            "kind": read.signal.source.kind(),
            "asked": describe(&read.signal.source),
            "read": read.found,
            "tookSeconds": read.took.as_secs_f64(),
        })
    };
    json!({
        "scaler": scaler.spec.scaler,
        "signals": reads.iter().map(signal).collect::<Vec<_>>(),
        "decision": decision,
        "summary": decision.summary(),
    })
}
