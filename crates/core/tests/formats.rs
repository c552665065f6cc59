//! What controllers and gateways of another version write is read, and what they must know is said.

use std::time::Duration;

use forewarm_core::{
    Decision, Placement,
    pool::{PoolPlan, PoolReport, Priority, QueueLimits},
};
use serde_json::{Value, from_value, json, to_value};

fn limits() -> Value {
    json!({"maxRequests": 9, "maxBytes": 1000, "timeoutSeconds": 60.0, "coldStartTimeoutSeconds": 900.0})
}

#[test]
fn what_was_written_before_there_was_an_objective_is_read_and_written_the_same() {
    let plan = json!({"scaler": "s", "models": [], "endpoints": [], "queue": limits()});
    let read: PoolPlan = from_value(plan.clone()).unwrap();
    assert_eq!(read.queue.ttft_objective, None);
    assert_eq!(to_value(read).unwrap(), plan, "an older gateway takes it");
    let report: PoolReport = from_value(json!({"queued": 3, "arrivedTotal": 7})).unwrap();
    assert_eq!((report.queued, report.attained_total, report.busy_seconds_total), (3, 0, 0.0));
    let decision = json!({
        "scaler": "s", "atMillis": 0, "from": 1, "to": 1, "steps": [],
        "placement": {"start": 0, "drain": [], "stop": []},
    });
    let read: Decision = from_value(decision.clone()).unwrap();
    assert_eq!(read.placement, Placement::default());
    assert_eq!(to_value(read).unwrap(), decision, "a journal replays to the same bytes");
}

#[test]
fn an_objective_is_seconds() {
    let with = |seconds: Value| {
        let mut limits = limits();
        limits["ttftObjectiveSeconds"] = seconds;
        from_value::<QueueLimits>(limits)
    };
    let read = with(json!(2.5)).unwrap();
    assert_eq!(read.ttft_objective, Some(Duration::from_millis(2500)));
    assert_eq!(to_value(read).unwrap()["ttftObjectiveSeconds"], json!(2.5));
    assert_eq!(with(Value::Null).unwrap().ttft_objective, None);
    let error = with(json!(-1.0)).unwrap_err().to_string();
    assert!(error.contains("-1 is not a span in seconds"), "{error}");
}

#[test]
fn who_shares_a_queue_and_what_each_class_got_is_written_only_where_there_is_something_to_say() {
    let mut limits = limits();
    limits["tenants"] = json!({"header": "x-tenant", "user": true, "weights": {"search": 4}});
    let endpoint = json!({
        "replica": "r", "address": "r:80", "maxConcurrency": 8, "kvTokens": 24_000, "draining": false,
    });
    let plan = json!({
        "scaler": "s", "models": [], "endpoints": [endpoint], "queue": limits,
        "concurrency": {"learned": true, "slowStart": false},
    });
    let read: PoolPlan = from_value(plan.clone()).unwrap();
    assert_eq!(read.queue.tenants.weights["search"].get(), 4);
    assert_eq!((read.endpoints[0].kv_tokens, read.concurrency.learned), (Some(24_000), true));
    assert_eq!(to_value(read).unwrap(), plan);
    let report: PoolReport = from_value(json!({"classes": {"high": {"queued": 2, "shedTotal": 1}}})).unwrap();
    let high = &report.classes[&Priority::High];
    assert_eq!((high.queued, high.shed_total, high.arrived_total), (2, 1, 0));
    assert_eq!(to_value(PoolReport::default()).unwrap().get("classes"), None);
}
