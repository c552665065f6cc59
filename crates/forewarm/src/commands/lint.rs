//! `forewarm lint`, `forewarm explain` and `forewarm convert`: manifests as people have them.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use forewarm_manifest::{
    convert::{self, Conversion, Form},
    lint::{self, Finding, Severity, Source},
};

use crate::exit::{Failure, say};

/// Finds the traps in autoscaling manifests.
///
/// HorizontalPodAutoscaler, ScaledObject, Knative, EC2 and Application Auto Scaling policies, prometheus-adapter
/// rules, Deployments and InferenceScaler. Files given together are looked at together: two autoscalers on
/// one Deployment show only then. Exits with 1 when something is an error.
#[derive(Args)]
#[command(after_help = "Examples:\n  forewarm lint examples/seed/\n  \
    forewarm lint hpa.yaml deployment.yaml --output sarif\n  forewarm lint hpa.yaml --fix\n  forewarm explain FW010")]
pub(crate) struct LintArgs {
    /// Files, or directories of .yaml, .yml and .json files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    output: Output,
    /// Make the edits that are safe to make by machine.
    #[arg(long)]
    fix: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
    Sarif,
}

/// Tells what a finding of `lint` is about, why it hurts, and how to fix it.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as FW010; without one, all of them are listed.
    code: Option<String>,
}

/// Turns autoscaling manifests into another form; what cannot be carried over is listed, never dropped silently.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm convert --to inferencescaler hpa.yaml > forewarm.yaml")]
pub(crate) struct ConvertArgs {
    /// The form to convert to.
    #[arg(long, value_parser = form, value_name = "inferencescaler|hpa|scaledobject")]
    to: Form,
    /// HPA, ScaledObject, Knative service, AWS scaling policy or InferenceScaler.
    file: PathBuf,
}

fn form(word: &str) -> Result<Form, String> {
    let known = Form::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, form)| *form).ok_or_else(|| "one of inferencescaler, hpa, scaledobject".to_owned())
}

pub(crate) fn lint(args: &LintArgs) -> Result<(), Failure> {
    let mut sources = Vec::new();
    for path in &args.paths {
        collect(path, &mut sources).map_err(Failure::usage)?;
    }
    if sources.is_empty() {
        return Err(Failure::usage(anyhow!("there is no .yaml, .yml or .json file in the paths given")));
    }
    let mut findings = lint::lint(&sources);
    if args.fix {
        fix(&mut sources, &findings)?;
        findings = lint::lint(&sources);
    }
    match args.output {
        Output::Text => say(lint::to_text(&findings, &sources, std::io::stdout().is_terminal()).trim_end()),
        Output::Json => say(serde_json::to_string_pretty(&lint::to_json(&findings))?),
        Output::Sarif => say(serde_json::to_string_pretty(&lint::to_sarif(&findings))?),
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        return Err(anyhow!("{errors} of {} findings are errors", findings.len()).into());
    }
    Ok(())
}

fn collect(path: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let name = path.display().to_string();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {name}"))?;
        let mut paths =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        let manifest = |path: &PathBuf| {
            path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known))
        };
        return paths.iter().filter(|path| manifest(path)).try_for_each(|path| collect(path, sources));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    sources.push(Source { name, text });
    Ok(())
}

fn fix(sources: &mut [Source], findings: &[Finding]) -> Result<(), Failure> {
    for source in sources {
        let (text, edits) = lint::apply_fixes(&source.name, &source.text, findings);
        if edits > 0 {
            std::fs::write(&source.name, &text).with_context(|| format!("cannot write {}", source.name))?;
            tracing::info!(file = source.name, edits, "fixed");
            source.text = text;
        }
    }
    Ok(())
}

pub(crate) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    match &args.code {
        None => say(lint::codes_table().trim_end()),
        Some(code) => {
            let page = lint::explain(&code.to_ascii_uppercase()).ok_or_else(|| {
                Failure::usage(anyhow!("there is no finding `{code}`; `forewarm explain` lists all of them"))
            })?;
            say(page.trim_end());
        }
    }
    Ok(())
}

pub(crate) fn convert(args: &ConvertArgs) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::usage(anyhow!("cannot read {name}: {error}")))?;
    let conversions =
        convert::convert(&name, &text, args.to).map_err(|problems| Failure::usage(anyhow!("{problems}")))?;
    for (index, Conversion { name, yaml, dropped, assumed, carried: _ }) in conversions.iter().enumerate() {
        if index > 0 {
            say("---");
        }
        for note in dropped {
            say(format!("# not carried over from {name}: {}: {}", note.path, note.why));
        }
        for note in assumed {
            say(format!("# assumed: {}: {}", note.path, note.why));
        }
        say(yaml.trim_end());
    }
    Ok(())
}
