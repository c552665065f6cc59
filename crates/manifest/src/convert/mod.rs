//! From one kind of autoscaling manifest to another. What cannot be carried over is listed with the
//! reason, never dropped silently.

mod from_aws;
mod from_hpa;
mod from_keda;
mod from_knative;
mod from_ours;
mod intent;
mod ledger;
mod write;

use crate::{
    lint::{
        Source,
        world::{Kind, Manifest, World},
    },
    problem::{Collector, Problem, Problems},
    scaler::{KIND, read_scalers},
    yaml::{self, Node, Span},
};
use intent::Intent;
pub(crate) use intent::json;
use ledger::Ledger;

/// What to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// forewarm's own kind.
    InferenceScaler,
    /// `autoscaling/v2` HorizontalPodAutoscaler.
    Hpa,
    /// KEDA's ScaledObject.
    ScaledObject,
}

impl Form {
    /// Every form with its word on the command line.
    pub const ALL: [(&'static str, Form); 3] = [
        ("inferencescaler", Form::InferenceScaler),
        ("hpa", Form::Hpa),
        ("scaledobject", Form::ScaledObject),
    ];

    fn kind(self) -> &'static str {
        match self {
            Form::InferenceScaler => KIND,
            Form::Hpa => "HorizontalPodAutoscaler",
            Form::ScaledObject => "ScaledObject",
        }
    }
}

/// One manifest in its new form, and what became of every field of the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The name it had.
    pub name: String,
    /// The manifest, as YAML.
    pub yaml: String,
    /// Fields whose meaning is in the new manifest.
    pub carried: Vec<String>,
    /// Fields that have no place in the new manifest, each with the reason.
    pub dropped: Vec<Note>,
    /// Fields of the new manifest that the old one did not say: to be looked at.
    pub assumed: Vec<Note>,
}

/// A field and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The field.
    pub path: String,
    /// Why it is not carried over, or why it is what it is.
    pub why: String,
}

/// Every autoscaler of a text in another form: HPA, ScaledObject, Knative Service, scaling policy of EC2 or
/// Application Auto Scaling, InferenceScaler. Other documents are left out.
///
/// # Errors
/// When the text is no YAML, has no autoscaler, or one of them lacks what every form needs (a target, a
/// maximum); or an InferenceScaler is invalid.
pub fn convert(file_name: &str, text: &str, to: Form) -> Result<Vec<Conversion>, Problems> {
    let nodes = yaml::parse(text).map_err(|error| Problems::of_yaml(file_name, error))?;
    let source = Source { name: file_name.into(), text: text.into() };
    let documents: Vec<(&Source, Node)> = nodes.into_iter().map(|node| (&source, node)).collect();
    let world = World::of(&documents);
    let out = Collector::default();
    let conversions: Vec<_> =
        world.manifests.iter().filter_map(|manifest| one(manifest, to, &out)).flatten().collect();
    if conversions.is_empty() {
        let wanted = "an HPA, ScaledObject, Knative Service, scaling policy or InferenceScaler";
        out.add_if_empty(Span::default(), "no autoscaler", wanted);
    }
    out.finish(file_name, conversions)
}

/// `None`: not an autoscaler. `Some(None)`: one with problems.
fn one(manifest: &Manifest<'_>, to: Form, out: &Collector) -> Option<Option<Conversion>> {
    let mut ledger = Ledger::of(&manifest.root);
    let intent = match manifest.kind {
        Kind::Hpa => from_hpa::read(&mut ledger, out),
        Kind::ScaledObject => from_keda::read(&mut ledger, out),
        Kind::Knative => from_knative::read(&mut ledger, out),
        Kind::Ec2Policy | Kind::ApplicationPolicy => from_aws::read(manifest.kind, &mut ledger, out),
        Kind::InferenceScaler => {
            let alone = yaml::write(&intent::json(manifest.root.node)).unwrap_or_default();
            if !valid(manifest, &alone, out) {
                return Some(None);
            }
            from_ours::read(&mut ledger, out)
        }
        Kind::ScaledJob | Kind::Workload | Kind::AdapterRules | Kind::Other => return None,
    };
    if manifest.root.text(&["kind"]) == Some(to.kind()) {
        return Some(unchanged(manifest));
    }
    if manifest.kind == Kind::InferenceScaler && intent.is_none() {
        let found = "a target that no other form has";
        out.add("spec.target", manifest.root.node.span, found, "`kubernetes` or `processes`");
    }
    Some(intent.and_then(|mut intent: Intent| {
        if to == Form::InferenceScaler && intent.rules.is_some() {
            // Rules that forewarm's reader refuses, or has no place for, give way to a threshold of the queue.
            let draft = write::manifest(&intent, to, &mut ledger.clone());
            if read_scalers("", &yaml::write(&draft).ok()?).is_err() {
                intent.rules = None;
            }
        }
        let value = write::manifest(&intent, to, &mut ledger);
        let yaml = yaml::write(&value).ok()?;
        if to == Form::InferenceScaler && !valid(manifest, &yaml, out) {
            return None;
        }
        let (carried, dropped, assumed) = ledger.finish(to.kind());
        Some(Conversion { name: intent.name, yaml, carried, dropped, assumed })
    }))
}

/// Whether an InferenceScaler, read or written, obeys its own rules; notes the problems that it has.
fn valid(manifest: &Manifest<'_>, yaml: &str, out: &Collector) -> bool {
    let Err(problems) = read_scalers(&manifest.source.name, yaml) else { return true };
    for Problem { path, found, wanted, .. } in &problems.list {
        out.add(path, manifest.root.node.span, found, wanted);
    }
    false
}

/// A manifest that has the form already.
fn unchanged(manifest: &Manifest<'_>) -> Option<Conversion> {
    let yaml = yaml::write(&intent::json(manifest.root.node)).ok()?;
    let carried = ledger::leaves(&manifest.root);
    Some(Conversion { name: manifest.name().into(), yaml, carried, dropped: Vec::new(), assumed: Vec::new() })
}
