//! `forewarm what-if`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use forewarm_control::{WhatIf, what_if as decide_again};
use forewarm_core::{ColdStartSpec, Forewarm, ScalerSpec};
use forewarm_sim::Objective;
use serde_json::{Value, json};

use crate::{
    commands::{
        contender::{Contender, Play, Terms},
        output::Output,
        replay::{moment, stored},
    },
    exit::{Failure, say},
};

/// Asks what another policy would have decided on what a live controller saw.
///
/// Decides on every recorded observation again, with the other policy, and prints where the two differ. The recorded
/// observations do not react: they show the fleet and the queue that the recorded decisions made. To see what would
/// have come of another policy, use `forewarm simulate`.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm what-if --state-dir .forewarm --policy other.yaml")]
pub(crate) struct WhatIfArgs {
    /// The controller's state directory.
    #[arg(long, value_name = "DIR", default_value = ".forewarm")]
    state_dir: PathBuf,
    /// The other policy: a manifest, or a name as in `forewarm simulate --help`. A name takes the recorded scaler's
    /// bounds.
    #[arg(long, value_name = "POLICY")]
    policy: String,
    /// Only this scaler.
    #[arg(long, value_name = "NAME")]
    scaler: Option<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

pub(crate) fn what_if(args: &WhatIfArgs) -> Result<(), Failure> {
    // The recorded scaler says what its replicas are like.
    let cold_start = ColdStartSpec::default().expected;
    let terms = Terms {
        min: None,
        max: None,
        max_concurrency: 8,
        objective: Objective { ttft: Forewarm::DEFAULT_TTFT, percent: Forewarm::DEFAULT_PERCENT },
        cold_start,
        replica_requests_per_second: None,
    };
    let contender = Contender::read(&args.policy, terms)?;
    let Play::Core(other) = &contender.play else {
        let name = &args.policy;
        return Err(Failure::usage(anyhow!("`--policy {name}` decides nothing: it looks at no observation")));
    };
    let named = contender.manifest.is_none();
    let with = |recorded: &ScalerSpec| ScalerSpec {
        policy: other.policy.clone(),
        behavior: other.behavior.clone(),
        replicas: if named { recorded.replicas } else { other.replicas },
        pause: None,
        ..recorded.clone()
    };
    let mut rows = Vec::new();
    for (scaler, records) in stored(&args.state_dir, args.scaler.as_deref())? {
        let found = decide_again(&records, with);
        match args.output {
            Output::Text => in_text(scaler.as_str(), &args.policy, &found),
            Output::Json => rows.push(in_json(scaler.as_str(), &args.policy, &found)),
        }
    }
    match args.output {
        Output::Text => say(
            "The recorded observations do not react to the other policy; `forewarm simulate` plays its consequences.",
        ),
        Output::Json => say(serde_json::to_string_pretty(&rows)?),
    }
    Ok(())
}

fn in_text(scaler: &str, policy: &str, found: &WhatIf) {
    say(format!(
        "{scaler}: `{policy}` wants another number at {} of {} looks; {:.2} replica-hours instead of {:.2}",
        found.differing, found.decisions, found.other_replica_hours, found.recorded_replica_hours
    ));
    for turn in &found.turns {
        let told =
            if turn.recorded == turn.other { "the same again".to_owned() } else { turn.summary.clone() };
        say(format!("  {}  {:>3} recorded, {:>3} here  {told}", moment(turn.at), turn.recorded, turn.other));
    }
}

fn in_json(scaler: &str, policy: &str, found: &WhatIf) -> Value {
    let turn = |turn: &forewarm_control::Turn| json!({"at": moment(turn.at), "recorded": turn.recorded, "other": turn.other, "summary": turn.summary});
    json!({
        "scaler": scaler,
        "policy": policy,
        "decisions": found.decisions,
        "differing": found.differing,
        "recorded_replica_hours": found.recorded_replica_hours,
        "other_replica_hours": found.other_replica_hours,
        "turns": found.turns.iter().map(turn).collect::<Vec<_>>(),
    })
}
