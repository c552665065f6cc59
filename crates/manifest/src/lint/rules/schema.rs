//! Texts that cannot be read, fields that nobody knows, versions that are gone.

use std::collections::BTreeMap;

use crate::{
    lint::{
        Source,
        finding::{Edit, Fix, Sink},
        known_fields::{Shape, shape_of},
        lines::Lines,
        registry::UNREADABLE,
        world::{Kind, Loc, Manifest, World},
    },
    scaler::read_scalers,
    suggest::nearest,
    yaml::{Span, Value, YamlError},
};

/// FW001. Runs while files are read, before there is a world.
pub(in crate::lint) fn unreadable(source: &Source, error: &YamlError, sink: &mut Sink) {
    let (line, column) = (error.line.max(1), error.column.max(1));
    let start: usize = source.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let span = Span { start, end: start, line, column };
    sink.rule(&UNREADABLE);
    sink.span(source, span, String::new(), format!("cannot be read: {}", error.message), None);
}

/// FW002.
pub(in crate::lint) fn unknown_fields(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        if let Some(shape) = shape_of(manifest) {
            walk(manifest, &manifest.root, shape, sink);
        }
    }
}

fn walk(manifest: &Manifest<'_>, loc: &Loc<'_>, shape: &Shape, sink: &mut Sink) {
    match (shape, &loc.node.value) {
        (Shape::Object(known), Value::Map(entries)) => {
            for entry in entries {
                match known.iter().find(|(name, _)| *name == entry.key) {
                    Some((name, shape)) => {
                        if let Some(value) = loc.get(name) {
                            walk(manifest, &value, shape, sink);
                        }
                    }
                    None => {
                        let near = nearest(&entry.key, known.iter().map(|(name, _)| *name));
                        let message =
                            format!("`{}` is not a field of this kind: it is ignored or refused", entry.key);
                        let fix = match near {
                            Some(near) => Fix::words(format!("did you mean `{near}`?")),
                            None => Fix::words("remove it"),
                        };
                        sink.entry(manifest, (loc, entry), message, fix);
                    }
                }
            }
        }
        (Shape::List(shape), Value::Seq(_)) => {
            for item in loc.items() {
                walk(manifest, &item, shape, sink);
            }
        }
        (Shape::Any | Shape::Object(_) | Shape::List(_), _) => {}
    }
}

/// FW003.
pub(in crate::lint) fn invalid_scaler(world: &World<'_>, sink: &mut Sink) {
    // A file is read as a whole; one that mixes kinds is for `lint` only, and not looked at here.
    let mut sources: BTreeMap<&str, (&Source, bool)> = BTreeMap::new();
    for manifest in &world.manifests {
        let ours = manifest.kind == Kind::InferenceScaler;
        let (_, all_ours) = sources.entry(&manifest.source.name).or_insert((manifest.source, true));
        *all_ours &= ours;
    }
    for (source, _) in sources.into_values().filter(|(_, all_ours)| *all_ours) {
        let Err(problems) = read_scalers(&source.name, &source.text) else { continue };
        let lines = Lines::of(&source.text);
        for problem in problems.list {
            let start = lines.offset(problem.line, problem.column);
            let span = Span { start, end: start, line: problem.line, column: problem.column };
            let fix = Fix::words(format!("wanted: {}", problem.wanted));
            sink.span(source, span, problem.path, format!("found {}", problem.found), Some(fix));
        }
    }
}

/// FW004.
pub(in crate::lint) fn old_api_version(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Hpa) {
        let Some(version) = manifest.root.get("apiVersion") else { continue };
        let fix = |text: &str| Fix::words(text.to_owned());
        match version.node.text() {
            Some("autoscaling/v1") => sink.at(
                manifest,
                &version,
                "autoscaling/v1 knows CPU only: no queue, no behavior".into(),
                fix("use autoscaling/v2 with a metric of the engine"),
            ),
            Some("autoscaling/v2beta2") => {
                // v2 took v2beta2's fields as they were.
                let edit = Edit::replace(version.node.span, "autoscaling/v2");
                let message = "autoscaling/v2beta2 is not served since Kubernetes 1.26".into();
                sink.at(manifest, &version, message, Fix::edit("use autoscaling/v2", vec![edit]));
            }
            Some("autoscaling/v2beta1") => sink.at(
                manifest,
                &version,
                "autoscaling/v2beta1 is not served since Kubernetes 1.25".into(),
                fix("use autoscaling/v2, whose metrics are `metric.name` and `target`"),
            ),
            Some(_) | None => {}
        }
    }
}

/// Lower and upper bound of every kind that has them.
fn bounds<'a>(manifest: &Manifest<'a>) -> Option<(f64, Loc<'a>, f64)> {
    let (min, max, default_min): (&[&str], &[&str], f64) = match manifest.kind {
        Kind::Hpa => (&["spec", "minReplicas"], &["spec", "maxReplicas"], 1.0),
        Kind::ScaledObject => (&["spec", "minReplicaCount"], &["spec", "maxReplicaCount"], 0.0),
        Kind::InferenceScaler => (&["spec", "replicas", "min"], &["spec", "replicas", "max"], 1.0),
        Kind::ScaledJob
        | Kind::Knative
        | Kind::Workload
        | Kind::AdapterRules
        | Kind::Ec2Policy
        | Kind::ApplicationPolicy
        | Kind::Other => return None,
    };
    let max_loc = manifest.root.at(max)?;
    let max_value = max_loc.node.number()?;
    Some((manifest.root.number(min).unwrap_or(default_min), max_loc, max_value))
}

/// FW005.
pub(in crate::lint) fn min_above_max(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        if let Some((min, max, value)) = bounds(manifest)
            && min > value
        {
            let fix = Fix::words(format!("raise it to at least {min}, or lower the minimum"));
            sink.at(
                manifest,
                &max,
                format!("the most replicas, {value}, are fewer than the fewest, {min}"),
                fix,
            );
        }
    }
}

/// FW006.
pub(in crate::lint) fn nothing_to_scale(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        if let Some((min, max, value)) = bounds(manifest)
            && min == value
        {
            let fix = Fix::words("raise the maximum, or drop the autoscaler");
            sink.at(manifest, &max, format!("the fewest and the most replicas are both {value}"), fix);
        }
    }
}
