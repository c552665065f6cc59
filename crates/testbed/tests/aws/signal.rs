//! Signals from SQS and CloudWatch.

use std::{sync::Arc, time::Duration};

use forewarm_aws::{Account, AwsSources, Publisher};
use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_core::{Missing, Reading};
use forewarm_manifest::{read_scalers, signal::SignalSource};
use forewarm_signals::OtherSources as _;
use forewarm_testbed::{ElasticMq, assets};

use crate::support::{cloud, only_allowed, sdk};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The source of a signal, as a manifest describes it.
fn source(account: &Account, signal: &str) -> Arc<dyn Source> {
    let manifest = format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: s}}\nspec:\n  \
         target: {{awsAutoScalingGroup: {{name: g}}}}\n  replicas: {{min: 1, max: 8}}\n  \
         policy: {{queueDepth: {{perReplica: 5}}}}\n  signals:\n    - {{name: depth, {signal}}}\n"
    );
    let scalers = read_scalers("forewarm.yaml", &manifest).expect("a manifest");
    let described: &SignalSource = &scalers[0].signals[0].source;
    let source = AwsSources::with(account.clone()).source(described, TIMEOUT, Clock::start(1.0));
    source.expect("a signal of AWS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_depth_is_what_waits_and_what_is_asked_for_besides() {
    let assets = match assets("elasticmq") {
        Ok(assets) => assets,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = ElasticMq::start(&assets, folder.path(), &["llm"]).await.expect("ElasticMQ");
    let sdk = sdk(&server.address).await;
    let client = aws_sdk_sqs::Client::new(&sdk);
    let account = Account::with(sdk).expect("an account");
    let url = server.queue("llm");
    for index in 0..6 {
        let message = client.send_message().queue_url(&url).message_body(index.to_string());
        message.send().await.expect("a message");
    }
    let delayed = client.send_message().queue_url(&url).message_body("later").delay_seconds(600);
    delayed.send().await.expect("a message");
    let received = client.receive_message().queue_url(&url).max_number_of_messages(2).visibility_timeout(600);
    assert_eq!(received.send().await.expect("messages").messages().len(), 2);

    let source = |name: &str, in_flight: bool, delayed: bool| {
        let url = server.queue(name);
        let signal = format!(
            "awsSqsQueue: {{queueURL: '{url}', scaleOnInFlight: {in_flight}, scaleOnDelayed: {delayed}}}"
        );
        source(&account, &signal)
    };
    for (in_flight, delayed, expected) in [(false, false, 4.0), (true, false, 6.0), (true, true, 7.0)] {
        let signal = source("llm", in_flight, delayed).read(&[]).await;
        assert!(matches!(signal.reading, Reading::Value { total, .. } if total == expected), "{signal:?}");
    }
    let missing = source("no-such-queue", true, false).read(&[]).await;
    let Reading::Missing(Missing::Failed(why)) = missing.reading else { panic!("{missing:?}") };
    assert!(why.contains("sqs:GetQueueAttributes"), "{why}");
    let llm = source("llm", true, false);
    server.server.kill();
    let gone = llm.read(&[]).await;
    assert!(matches!(gone.reading, Reading::Missing(Missing::Failed(_))), "never 0: {gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_read_back_whole_and_per_instance() {
    let Some(cloud) = cloud().await else { return };
    let account = Account::with(sdk(&cloud.url()).await).expect("an account");
    let dimensions = [("AutoScalingGroupName".to_owned(), "published".to_owned())];
    let read = async |name: &str| {
        let signal = format!(
            "awsCloudwatch: {{namespace: Custom/LLMMetrics, metricName: {name}, dimensionName: AutoScalingGroupName, \
             dimensionValue: published, metricStatPeriod: '60'}}"
        );
        source(&account, &signal).read(&[]).await
    };
    let before = read("LLMQueueDepth").await;
    assert!(matches!(before.reading, Reading::Missing(Missing::Absent)), "{before:?}");
    let publisher = Publisher::new(&account, "Custom/LLMMetrics", "LLMQueueDepth", &dimensions);
    publisher.put(12.0, 4).await.expect("taken");
    for (name, expected) in [("LLMQueueDepth", 12.0), ("LLMQueueDepthPerInstance", 3.0)] {
        let signal = read(name).await;
        assert!(matches!(signal.reading, Reading::Value { total, .. } if total == expected), "{signal:?}");
        assert!(signal.age < Duration::from_secs(60), "{signal:?}");
    }
    assert_eq!(cloud.calls()["cloudwatch:PutMetricData"], 1, "both in one call");
    only_allowed(&cloud, &[]);
}
