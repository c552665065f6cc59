//! The manifests of the table, and the seed configuration.

mod fw001_to_fw021;
mod fw022_to_fw038;
mod fw039_to_fw080;

use std::path::Path;

use forewarm_manifest::lint::Source;

/// A rule, a manifest that it is about, the same put right, and the field that is named.
pub(crate) struct Case {
    pub(crate) code: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) good: &'static str,
    pub(crate) path: &'static str,
}

/// The files of `examples/seed`.
pub(crate) fn seed() -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/seed");
    let read = |name: &str| Source {
        name: format!("examples/seed/{name}"),
        text: std::fs::read_to_string(folder.join(name)).expect("a file of examples/seed"),
    };
    ["hpa.yaml", "scaledobject.yaml", "asg.json"].map(read).into()
}

/// What stands before the table of codes in `docs/lint.md`.
pub(crate) const LINT_DOC_HEAD: &str = "\
# Lint

`forewarm lint PATH…` finds the traps in autoscaling manifests: HorizontalPodAutoscaler, KEDA's ScaledObject
and ScaledJob, Knative services, EC2 Auto Scaling and Application Auto Scaling policies, prometheus-adapter
rules, Deployments and StatefulSets, and InferenceScaler. What a document is, its content tells. Files given
together are looked at together: two autoscalers on one Deployment show only then.

- `--output text|json|sarif` chooses the form; it exits with 1 when something is an error.
- `--fix` makes the edits that are safe to make by machine, and leaves everything else as it is, comments
  included.
- `forewarm explain CODE` tells what a code is about, why it hurts, how to fix it, and where that is written.

Nothing in a foreign manifest stops it: fields that it does not know are findings of their own. Texts of more
than 16 MiB, 64 levels or 300,000 nodes (aliases expanded) are not read.

## Codes

";

/// What stands between the table and the findings.
pub(crate) const LINT_DOC_SEED: &str = "
## What it finds in `examples/seed`

`forewarm lint examples/seed`:

";

/// One case or more for every code.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [fw001_to_fw021::CASES, fw022_to_fw038::CASES, fw039_to_fw080::CASES].into_iter().flatten()
}
