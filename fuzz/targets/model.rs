//! The model that a request's body names.
#![no_main]

use forewarm_gateway::fuzzing::model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let found = model(body);
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body)
        && let Some(model) = &found
    {
        assert_eq!(fields.get("model").and_then(|model| model.as_str()), Some(model.as_str()));
    }
    // Whatever the body is, its beginning is looked at without harm.
    let prefix = forewarm_gateway::fuzzing::prefix(body, 64);
    if found.is_some() {
        let renamed = forewarm_gateway::fuzzing::renamed(body, "another \"name\"");
        assert_eq!(forewarm_gateway::fuzzing::model(&renamed).as_deref(), Some("another \"name\""));
        assert_eq!(forewarm_gateway::fuzzing::prefix(&renamed, 64).is_some(), prefix.is_some());
    }
    if let Some(model) = found {
        let body = serde_json::json!({"messages": [{"model": "other"}], "model": model, "stream": true});
        assert_eq!(forewarm_gateway::fuzzing::model(body.to_string().as_bytes()), Some(model));
    }
});
