//! `forewarm aws`: policies that AWS carries out, the metric that they follow, and what has to be allowed.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use forewarm_aws::{
    Account, FieldChange, PER_INSTANCE, Publisher, Wanted, inspect, instances_in_service, permissions,
    read_policies,
};
use forewarm_control::Clock;
use forewarm_core::{Reading, Signal};
use forewarm_signals::engine::{EngineKind, EngineScraper, EngineSignal, ScrapeOptions};

use crate::{
    commands::{engine_access::SchemedEngineArgs, values},
    exit::{Failure, say},
    lifecycle::{runtime, shutdown_on_signal},
};

/// Scaling policies that AWS carries out, the metric that they follow, and the permissions that forewarm needs.
///
/// Credentials, region and endpoint are found as every AWS tool finds them. `forewarm run` scales Auto Scaling
/// groups itself, within seconds; a policy of AWS follows one-minute averages, and cannot choose who goes.
#[derive(Args)]
pub(crate) struct AwsArgs {
    #[command(subcommand)]
    command: AwsCommand,
    /// The region; default: as the environment or the AWS profile says.
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// A role to assume.
    #[arg(long, global = true, value_name = "ARN")]
    role_arn: Option<String>,
}

#[derive(Subcommand)]
enum AwsCommand {
    /// Shows what `apply` would change. Exits with 1 when there is something.
    Diff(FileArgs),
    Apply(ApplyArgs),
    Publish(PublishArgs),
    /// Shows an Auto Scaling group: what it has, and what stands in forewarm's way.
    Group {
        /// Its name.
        name: String,
    },
    /// Prints a least-privilege IAM policy, a statement for each purpose.
    Permissions,
}

#[derive(Args)]
struct FileArgs {
    /// What `put_scaling_policy` or `register_scalable_target` of boto3 takes, as JSON; a list for several.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

/// Puts scaling policies, after showing what changes.
///
/// A file has the arguments of boto3's `put_scaling_policy`, of EC2 Auto Scaling (`AutoScalingGroupName`) or
/// of Application Auto Scaling (`ServiceNamespace`; variants of SageMaker, services of ECS). Each field goes to
/// the API that takes it; one that the API refuses is named, with the API that would take it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm aws apply -f asg.json --dry-run\n  \
    forewarm aws apply -f asg.json --yes")]
struct ApplyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// Publishes how many requests wait at a group's engines, as a metric of CloudWatch.
///
/// Two metrics, in one call: NAME, the whole queue, and NAMEPerInstance, the one that target tracking can
/// follow: it falls as capacity rises. When an engine in service does not answer, nothing is published: a part
/// of a queue looks like a short one, and 0 like an idle group.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm aws publish --group llm-gpu-asg\n  \
    forewarm aws publish --group llm-gpu-asg --dimension AutoScalingGroupName=llm-gpu-asg --once")]
struct PublishArgs {
    /// The Auto Scaling group.
    #[arg(long, value_name = "NAME")]
    group: String,
    /// Where an instance serves, with {privateIp}, {publicIp}, {privateDns} or {instanceId} in it.
    #[arg(long, default_value = "{privateIp}:8000", value_name = "HOST:PORT")]
    address: String,
    /// Which engine it is: vllm, sglang, tgi, triton or llamacpp.
    #[arg(long, default_value = "vllm", value_name = "KIND")]
    engine: EngineKind,
    #[command(flatten)]
    access: SchemedEngineArgs,
    /// The metric's namespace.
    #[arg(long, default_value = "Custom/LLMMetrics")]
    namespace: String,
    /// The metric's name.
    #[arg(long, default_value = "LLMQueueDepth")]
    name: String,
    /// A dimension of both metrics; may be repeated. A policy has to name the same ones.
    #[arg(long = "dimension", value_name = "NAME=VALUE", value_parser = dimension)]
    dimensions: Vec<(String, String)>,
    /// Time between two points. CloudWatch keeps one-minute averages.
    #[arg(long, value_parser = values::duration, default_value = "60s", value_name = "DURATION")]
    interval: Duration,
    /// Publish once, and exit with 1 when there was nothing to publish.
    #[arg(long)]
    once: bool,
}

fn dimension(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a dimension is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn aws(args: AwsArgs) -> Result<(), Failure> {
    let AwsArgs { command, region, role_arn } = args;
    if let AwsCommand::Permissions = command {
        say(serde_json::to_string_pretty(&permissions())?);
        return Ok(());
    }
    runtime(1)?.block_on(async {
        let account = Account::open(region.as_deref(), role_arn.as_deref()).await.map_err(Failure::usage)?;
        match command {
            AwsCommand::Diff(file) => diff(&file, &account).await,
            AwsCommand::Apply(args) => apply(args, &account).await,
            AwsCommand::Publish(args) => publish(args, &account).await,
            AwsCommand::Group { name } => {
                let lines = inspect(&account, &name).await?;
                let region = account.region();
                let lines =
                    lines.with_context(|| format!("there is no Auto Scaling group `{name}` in {region}"))?;
                lines.iter().for_each(say);
                Ok(())
            }
            AwsCommand::Permissions => Ok(()),
        }
    })
}

fn read(args: &FileArgs) -> Result<Vec<Wanted>, Failure> {
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::usage(anyhow!("cannot read `--file {name}`: {error}")))?;
    read_policies(&name, &text).map_err(Failure::usage)
}

/// Shows what would change; which of them do.
async fn show<'a>(wanted: &'a [Wanted], account: &Account) -> Result<Vec<&'a Wanted>, Failure> {
    let mut changing = Vec::new();
    for one in wanted {
        let changes = one.diff(account, wanted).await?;
        if changes.is_empty() {
            say(format!("{}: as wanted", one.title()));
            continue;
        }
        let new = changes.iter().all(|change| change.before.is_none());
        say(format!("{}: {}", one.title(), if new { "new" } else { "changes" }));
        changes.iter().for_each(|change| say(line(change)));
        changing.push(one);
    }
    Ok(changing)
}

fn line(change: &FieldChange) -> String {
    let FieldChange { field, before, after } = change;
    match (before, after) {
        (Some(before), Some(after)) => format!("  ~ {field}: {before} → {after}"),
        (None, Some(after)) => format!("  + {field}: {after}"),
        (Some(before), None) => format!("  - {field}: {before}"),
        (None, None) => format!("    {field}"),
    }
}

async fn diff(args: &FileArgs, account: &Account) -> Result<(), Failure> {
    match show(&read(args)?, account).await?.len() {
        0 => Ok(()),
        count => Err(anyhow!("{count} would change; `forewarm aws apply` changes them").into()),
    }
}

async fn apply(args: ApplyArgs, account: &Account) -> Result<(), Failure> {
    let wanted = read(&args.file)?;
    let changing = show(&wanted, account).await?;
    if args.dry_run || changing.is_empty() {
        return Ok(());
    }
    if !args.yes && !confirmed()? {
        say("nothing was changed");
        return Ok(());
    }
    // Targets before their policies: those are taken of registered targets only.
    let (targets, policies): (Vec<_>, Vec<_>) =
        changing.into_iter().partition(|one| matches!(one, Wanted::Target(_)));
    for one in targets.into_iter().chain(policies) {
        one.put(account).await?;
        say(format!("{}: done", one.title()));
    }
    Ok(())
}

fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(anyhow!(
            "nobody is there to ask: `--yes` applies, `--dry-run` only shows"
        )));
    }
    say("apply? [y/N]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn publish(args: PublishArgs, account: &Account) -> Result<(), Failure> {
    let publisher = Publisher::new(account, &args.namespace, &args.name, &args.dimensions);
    let options = ScrapeOptions { access: args.access.access()?, ..ScrapeOptions::of(args.engine) };
    let scraper = EngineScraper::new(options, Clock::start(1.0))?;
    if args.once {
        let (total, instances) = measure(&args, account, &scraper).await?;
        publisher.put(total, instances).await?;
        say(format!("{} {total}, {}{PER_INSTANCE} over {instances}", args.name, args.name));
        return Ok(());
    }
    let shutdown = shutdown_on_signal()?;
    let mut due = tokio::time::interval(args.interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = due.tick() => {}
        }
        let published = async {
            let (total, instances) = measure(&args, account, &scraper).await?;
            publisher.put(total, instances).await?;
            tracing::info!(total, instances, "published");
            anyhow::Ok(())
        };
        if let Err(error) = published.await {
            tracing::warn!(error = format!("{error:#}"), "nothing is published");
        }
    }
}

/// How many requests wait, and at how many engines; an error when that is not known of each of them.
async fn measure(
    args: &PublishArgs,
    account: &Account,
    scraper: &EngineScraper,
) -> Result<(f64, usize), anyhow::Error> {
    let group = &args.group;
    let replicas = instances_in_service(account, group, &args.address).await?;
    let replicas = replicas
        .with_context(|| format!("there is no Auto Scaling group `{group}` in {}", account.region()))?;
    let waiting: EngineSignal = "waiting".parse()?;
    let report = scraper.scrape(&replicas).await;
    if let Some((id, error)) = report.silent.iter().next() {
        return Err(anyhow!("{id} does not say how many requests wait: {error}"));
    }
    match report.signals.get(&waiting).map(|Signal { reading, .. }| reading) {
        Some(Reading::Value { total, .. }) => Ok((*total, replicas.len())),
        Some(Reading::Partial { .. } | Reading::Missing(_)) | None => Err(anyhow!(
            "no engine of group `{group}` says how many requests wait; {} in service",
            replicas.len()
        )),
    }
}
