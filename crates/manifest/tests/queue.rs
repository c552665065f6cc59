//! The policy of batch work: what is accepted, what is refused, and in which words.

use std::time::Duration;

use forewarm_core::{Behavior, Policy, QueuePolicy, Replicas, Requests, peers::keda::JobStrategy};
use forewarm_manifest::{CheckedScaler, Problems, read_scalers};

fn read(policy: &str, more: &str) -> Result<CheckedScaler, Problems> {
    let text = format!(
        "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {{name: transcribe}}
spec:
  target: {{exec: {{command: [fleet]}}}}
  environment: batch
  replicas: {{min: 0, max: 8}}
  policy: {{queue: {{{policy}}}}}
  signals:
    - {{name: waiting, prometheus: {{serverAddress: 'http://prometheus:9090', query: rabbitmq_queue_messages}}}}
    - {{name: unacked, prometheus: {{serverAddress: 'http://prometheus:9090', query: rabbitmq_queue_messages_unacked}}}}
{more}
"
    );
    read_scalers("f.yaml", &text).map(|mut scalers| scalers.remove(0))
}

#[test]
fn workers_and_jobs_arrive_and_are_written_again() {
    let default = QueuePolicy {
        signal: "waiting".into(),
        in_flight: "running".into(),
        per_replica: Requests::new(1.0).expect("one"),
        visibility_timeout: None,
        jobs: None,
    };
    let custom = JobStrategy::Custom { queue_length_deduction: 2, running_job_percentage: 0.5 };
    let cases = [
        ("", default.clone()),
        (
            "signal: unacked, inFlight: unacked, perReplica: 5, visibilityTimeout: 15m",
            QueuePolicy {
                signal: "unacked".into(),
                in_flight: "unacked".into(),
                per_replica: Requests::new(5.0).expect("five"),
                visibility_timeout: Some(Duration::from_secs(900)),
                jobs: None,
            },
        ),
        ("scalingStrategy: {}", QueuePolicy { jobs: Some(JobStrategy::Default), ..default.clone() }),
        (
            "scalingStrategy: {strategy: accurate}",
            QueuePolicy { jobs: Some(JobStrategy::Accurate), ..default.clone() },
        ),
        (
            "scalingStrategy: {strategy: custom, customScalingQueueLengthDeduction: 2, customScalingRunningJobPercentage: '0.5'}",
            QueuePolicy { jobs: Some(custom), ..default },
        ),
    ];
    for (policy, expected) in cases {
        let scaler = read(policy, "").unwrap_or_else(|problems| panic!("{problems}"));
        let is_job = expected.jobs.is_some();
        assert_eq!(scaler.spec.policy, Policy::Queue(expected), "{policy}");
        assert_eq!(scaler.spec.replicas.min, Replicas(0), "batch may go to zero without a further word");
        let behavior = if is_job { Behavior::pass_through() } else { Behavior::default() };
        assert_eq!(scaler.spec.behavior, behavior, "{policy}");
        assert!(!scaler.takes_requests());
        let yaml = scaler.to_yaml().expect("yaml");
        assert_eq!(read_scalers("f", &yaml).expect(&yaml), [scaler]);
    }
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let cases = [
        ("signal: jobs", "", "spec.policy.queue.signal", "`jobs`, which is not one of `signals`"),
        ("inFlight: taken", "", "spec.policy.queue.inFlight", "`taken`, which is not one of `signals`"),
        ("perReplica: 0", "", "spec.policy.queue.perReplica", "above zero"),
        ("visibilityTimeout: 0s", "", "spec.policy.queue.visibilityTimeout", "above zero"),
        ("visibilityTimeout: 1h", "", "spec.policy.queue.visibilityTimeout", "longer than `drainDeadline`"),
        ("strategy: eager", "", "spec.policy.queue.strategy", "scalingStrategy"),
        (
            "scalingStrategy: {strategy: eagre}",
            "",
            "spec.policy.queue.scalingStrategy.strategy",
            "did you mean `eager`",
        ),
        (
            "scalingStrategy: {strategy: eager, customScalingQueueLengthDeduction: 1}",
            "",
            "spec.policy.queue.scalingStrategy",
            "settings of `custom` beside `eager`",
        ),
        (
            "scalingStrategy: {strategy: custom, customScalingRunningJobPercentage: 50}",
            "",
            "spec.policy.queue.scalingStrategy.customScalingRunningJobPercentage",
            "a share from 0 to 1",
        ),
        ("", "  models: [whisper]", "spec.models", "the gateway sends them nothing"),
    ];
    for (policy, more, path, words) in cases {
        let problems = read(policy, more).expect_err(policy);
        assert_eq!(problems.list.len(), 1, "{policy}: {problems}");
        assert_eq!(problems.list[0].path, path, "{policy}");
        assert!(problems.to_string().contains(words), "{policy}: {problems}");
    }
    assert!(read("visibilityTimeout: 1h", "  drainDeadline: 1h").is_ok());
}
