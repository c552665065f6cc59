//! From an object of the API server to a checked scaler, by the reader of manifest files.

use forewarm_core::ScalerId;
use forewarm_manifest::{API_VERSION, CheckedScaler, KIND, KubernetesTarget, Target, read_scalers};
use serde_json::{Value, json};

/// A scaler whose target is an object of its own namespace.
#[derive(Clone, Debug)]
pub struct ReadScaler {
    /// All of it. Its id has the namespace before the name: `ai-serving.llama3`.
    pub checked: CheckedScaler,
    /// Its target.
    pub target: KubernetesTarget,
}

/// Reads the specification of an object.
///
/// # Errors
/// Every problem, in the words of `forewarm lint`.
pub fn read(namespace: &str, name: &str, spec: &Value) -> Result<ReadScaler, String> {
    let manifest = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    let mut scalers = read_scalers(name, &manifest.to_string()).map_err(|problems| {
        let lines: Vec<String> = problems.list.iter().map(ToString::to_string).collect();
        lines.join("; ")
    })?;
    let Some(mut checked) = scalers.pop() else { return Err("there is no specification".to_owned()) };
    let Target::Kubernetes(target) = checked.target.clone() else {
        return Err(
            "spec.target: found another target, wanted `kubernetes`: a cluster has no others".to_owned()
        );
    };
    checked.spec.scaler = ScalerId::from(format!("{namespace}.{name}"));
    Ok(ReadScaler { checked, target })
}
