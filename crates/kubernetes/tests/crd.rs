//! The CustomResourceDefinition: the committed file is what the types say, and it says what it should.

use std::path::Path;

use forewarm_kubernetes::resource::{InferenceScaler, crd_yaml};
use kube::CustomResourceExt as _;
use serde_json::Value;

#[test]
fn the_committed_file_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd.yaml");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let now = crd_yaml().unwrap();
    assert!(committed == now, "run `forewarm kube crd > deploy/crd.yaml`:\n{now}");
}

/// Every field says what it means, because `kubectl explain` shows nothing else.
#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(InferenceScaler::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut silent = Vec::new();
    walk("", schema, &mut silent);
    assert_eq!(silent, Vec::<String>::new());
}

fn walk(path: &str, schema: &Value, silent: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().unwrap_or_default().is_empty() {
            silent.push(path.clone());
        }
        walk(&path, field, silent);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], silent);
    }
}
