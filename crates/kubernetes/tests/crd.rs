//! The CustomResourceDefinition: the committed file is what the types say, and it says what it should.

use std::{collections::BTreeSet, path::Path};

use forewarm_kubernetes::{
    read::read,
    resource::{InferenceScaler, crd_yaml},
};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

#[test]
fn the_committed_file_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd.yaml");
    let now = crd_yaml().unwrap();
    if std::env::var_os("FOREWARM_WRITE_GENERATED").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "run `cargo xtask generate`:\n{now}");
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

/// The names that the reader of files knows, as its errors list them, are those of the schema.
#[test]
fn a_file_and_an_object_have_the_same_policies_and_signals() {
    let crd = serde_json::to_value(InferenceScaler::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let names = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().unwrap().keys().filter(|name| *name != "name").cloned().collect()
    };
    let known = |change: Value| -> BTreeSet<String> {
        let mut spec = json!({
            "target": {"kubernetes": {"kind": "Deployment", "name": "llama3"}},
            "replicas": {"min": 1, "max": 8},
            "policy": {"queueDepth": {}},
        });
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let error = read("ai", "llama3", &spec).unwrap_err();
        let list = error.split_once("exactly one of ").unwrap().1.to_owned();
        list.split(", ").map(|name| name.trim().to_owned()).collect()
    };
    assert_eq!(names(&spec["policy"]), known(json!({"policy": {}})));
    assert_eq!(names(&spec["signals"]["items"]), known(json!({"signals": [{"name": "waiting"}]})));
    // What comes from the environment is the controller's, and no object may ask for it.
    let listed = |change: Value, field: &str| -> BTreeSet<String> {
        let error = read("ai", "llama3", &change).unwrap_err();
        let line = error.split("; ").find(|line| line.starts_with(field)).unwrap().to_owned();
        let list = line.split_once("wanted one of ").unwrap().1.split(" (did").next().unwrap().to_owned();
        list.split(", ").map(str::to_owned).collect()
    };
    assert_eq!(names(&spec["engine"]), listed(json!({"engine": {"nothing": 1}}), "spec.engine.nothing"));
    let tls = json!({"engine": {"scheme": "HTTPS", "tls": {"nothing": 1}}});
    assert_eq!(names(&spec["engine"]["properties"]["tls"]), listed(tls, "spec.engine.tls.nothing"));
    let fields: BTreeSet<String> = spec.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, listed(json!({"nothing": 1, "replicas": {"min": 1, "max": 8}}), "spec.nothing"));
}
