//! Decisions on the screen and as JSON.

use forewarm_core::{Decision, Policy, Stage, Step, Timestamp};
use serde::Serialize;

use super::Contender;
use crate::{commands::output::Output, exit::say};

/// Later than this, in seconds, a time is one of the calendar: 2001.
const CALENDAR: f64 = 1e9;

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    policy: &'a str,
    t: f64,
    from: u32,
    to: u32,
    summary: String,
    steps: Vec<&'a Step>,
}

pub(super) struct Printer {
    output: Output,
    widths: Vec<usize>,
}

impl Printer {
    /// Prints what comes before the first decision.
    pub(super) fn new(output: Output, policies: &[Contender]) -> Self {
        let widths: Vec<usize> = policies.iter().map(|policy| policy.name.chars().count().max(7)).collect();
        if output == Output::Text {
            for Contender { name, spec, .. } in policies {
                say(format!(
                    "{name}: {}, {} to {}",
                    kind(&spec.policy),
                    spec.replicas.min.0,
                    spec.replicas.max
                ));
            }
            say("");
            if policies.len() > 1 {
                let names =
                    policies.iter().zip(&widths).map(|(policy, width)| format!("  {:>width$}", policy.name));
                say(format!("{:<10}{}", "t", names.collect::<String>()));
            }
        }
        Self { output, widths }
    }

    pub(super) fn print(
        &mut self,
        policies: &[Contender],
        at: Timestamp,
        decisions: &[Decision],
    ) -> Result<(), serde_json::Error> {
        match (self.output, policies, decisions) {
            (Output::Json, _, _) => {
                for (policy, decision) in policies.iter().zip(decisions) {
                    say(serde_json::to_string(&Line {
                        policy: &policy.name,
                        t: at.as_seconds(),
                        from: decision.from.0,
                        to: decision.to.0,
                        summary: decision.summary(),
                        steps: reasons(decision).collect(),
                    })?);
                }
            }
            (Output::Text, [_], [decision]) => {
                say(format!("{:<8}  {}", moment(at), decision.summary()));
                for step in reasons(decision) {
                    say(format!("  {:>9} {:>3}  {}", step.stage.label(), step.replicas.0, step.reason));
                }
            }
            (Output::Text, _, _) => self.row(policies, at, decisions),
        }
        Ok(())
    }

    /// The numbers side by side, and below them why those changed that did.
    fn row(&self, policies: &[Contender], at: Timestamp, decisions: &[Decision]) {
        let number = |decision: &Decision| match (decision.from.0, decision.to.0) {
            (from, to) if from == to => to.to_string(),
            (from, to) => format!("{from} → {to}"),
        };
        let cells = decisions
            .iter()
            .zip(&self.widths)
            .map(|(decision, width)| format!("  {:>width$}", number(decision)));
        say(format!("{:<10}{}", moment(at), cells.collect::<String>()));
        for (policy, decision) in
            policies.iter().zip(decisions).filter(|(_, decision)| decision.from != decision.to)
        {
            say(format!("            {}: {}", policy.name, decision.summary()));
        }
    }
}

/// What decided the number; which replicas would go or come is another matter.
fn reasons(decision: &Decision) -> impl Iterator<Item = &Step> {
    decision.steps.iter().filter(|step| step.stage != Stage::Allocate)
}

fn kind(policy: &Policy) -> &'static str {
    match policy {
        Policy::Forewarm(_) => "forewarm",
        Policy::QueueDepth(_) => "queue depth",
        Policy::Queue(_) => "queue",
        Policy::Hpa(_) => "HPA autoscaling/v2 of Kubernetes 1.37",
        Policy::Keda(_) => "ScaledObject of KEDA 2.21",
        Policy::Kpa(_) => "pod autoscaler of Knative 0.51",
        Policy::RayServe(_) => "Ray Serve 2.56",
        Policy::SkyServe(_) => "SkyServe 0.14",
        Policy::Dynamo(_) => "Dynamo planner 1.6",
    }
}

fn moment(at: Timestamp) -> String {
    if at.as_seconds() > CALENDAR
        && let Ok(at) = jiff::Timestamp::from_millisecond(at.as_millis())
    {
        return at.to_string();
    }
    format!("{} s", at.as_seconds())
}
