//! `forewarm replay`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use forewarm_control::{Store, journal::Record, replay as replay_records};
use forewarm_core::ScalerId;

use crate::exit::{Failure, say};

/// Decides again what a live journal recorded, and compares byte for byte.
///
/// Stop the controller first: one process at a time may hold the state file. Exits with 1 when a decision
/// comes out differently.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm replay --state-dir .forewarm\n  \
    forewarm replay --state-dir .forewarm --explain | tail -40")]
pub(crate) struct ReplayArgs {
    /// The controller's state directory.
    #[arg(long, value_name = "DIR", default_value = ".forewarm")]
    state_dir: PathBuf,
    /// Only this scaler.
    #[arg(long, value_name = "NAME")]
    scaler: Option<String>,
    /// Print every decision that changed or did something, with its reasons.
    #[arg(long)]
    explain: bool,
}

pub(crate) fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let mut mismatches = 0;
    for (scaler, records) in stored(&args.state_dir, args.scaler.as_deref())? {
        if args.explain {
            explain(&records);
        }
        let replayed = replay_records(&records);
        say(format!(
            "{scaler}: {} decisions replayed, {} differ",
            replayed.decisions,
            replayed.mismatches.len()
        ));
        for mismatch in replayed.mismatches.iter().take(3) {
            say(format!(
                "  record {}\n    recorded {}\n    replayed {}",
                mismatch.index, mismatch.recorded, mismatch.replayed
            ));
        }
        mismatches += replayed.mismatches.len();
    }
    if mismatches > 0 {
        Err(anyhow::anyhow!("{mismatches} decisions came out differently").into())
    } else {
        Ok(())
    }
}

/// The journals of a state directory, of all its scalers or of one.
pub(crate) fn stored(
    state_dir: &Path,
    scaler: Option<&str>,
) -> Result<Vec<(ScalerId, Vec<Record>)>, Failure> {
    if !state_dir.join("state.redb").exists() {
        let place = state_dir.display();
        return Err(Failure::usage(anyhow::anyhow!(
            "`--state-dir {place}` has no state.redb: no controller ran there"
        )));
    }
    let store = Store::open(state_dir)?;
    let scalers = store.scalers()?;
    if let Some(wanted) = scaler.filter(|wanted| scalers.iter().all(|found| found.as_str() != *wanted)) {
        let known: Vec<&str> = scalers.iter().map(|name| name.as_str()).collect();
        return Err(Failure::usage(anyhow::anyhow!(
            "`--scaler {wanted}` is not in this state; there are: {}",
            known.join(", ")
        )));
    }
    scalers
        .into_iter()
        .filter(|name| scaler.is_none_or(|wanted| wanted == name.as_str()))
        .map(|name| {
            let records =
                store.journal(&name).with_context(|| format!("cannot read the journal of `{name}`"))?;
            Ok((name, records))
        })
        .collect()
}

fn explain(records: &[Record]) {
    for record in records {
        match record {
            Record::Decision { decision, .. } if decision.is_news() => {
                say(format!("{}  {}", moment(decision.at), decision.summary()));
                for step in &decision.steps {
                    say(format!("  {:>9} {:>3}  {}", step.stage.label(), step.replicas.0, step.reason));
                }
            }
            Record::Outcome { error: Some(error) } => say(format!("  could not be done: {error}")),
            Record::Checkpoint { .. } | Record::Decision { .. } | Record::Outcome { error: None } => {}
        }
    }
}

/// A moment of the journal as people write it.
pub(crate) fn moment(at: forewarm_core::Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| at.to_string(), |at| at.to_string())
}
