//! Signals of AWS in a cluster.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use forewarm_aws::{Account, AwsSources};
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::LeaseOptions,
};
use forewarm_testbed::{ElasticMq, assets, control_plane::Workload};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{rig::Rig, shared};

#[tokio::test]
async fn a_queue_of_sqs_scales_a_deployment_and_no_scaler_chooses_a_role() {
    let Some(plane) = shared().await else { return };
    let queues = match assets("elasticmq") {
        Ok(assets) => assets,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let server = ElasticMq::start(&queues, folder.path(), &["llm"]).await.unwrap();
    let credentials = Credentials::new("test", "test", None, None, "a test");
    let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    let sdk = loader.endpoint_url(&server.address).credentials_provider(credentials).load().await;
    let client = aws_sdk_sqs::Client::new(&sdk);
    let url = server.queue("llm");
    for index in 0..12 {
        client.send_message().queue_url(&url).message_body(index.to_string()).send().await.unwrap();
    }

    let rig = Rig::new(plane, "aws-signals", 8).await;
    for name in ["llama", "admin"] {
        rig.deploy(&Workload::new(name, 1)).await;
    }
    let options = Options {
        namespace: Some(rig.namespace.clone()),
        lease: LeaseOptions::new(&rig.namespace, "forewarm", "a".to_owned()),
        gateways: GatewayOptions::none(),
        hold: std::time::Duration::ZERO,
    };
    let account = Account::with(sdk).unwrap();
    let controller =
        Controller::new(options, rig.client.clone(), Arc::clone(&rig.gateways) as Arc<dyn Connect>)
            .reading(AwsSources::with(account));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.run(shutdown.clone()));

    let signals = |more: serde_json::Value| {
        let mut queue = json!({"queueURL": url});
        for (field, value) in more.as_object().unwrap() {
            queue[field] = value.clone();
        }
        json!({"signals": [{"name": "waiting", "awsSqsQueue": queue}]})
    };
    rig.scale("llama", signals(json!({}))).await;
    rig.until_asked_for("llama", 3).await;
    let note = rig.until_event("llama", "ScaledUp").await;
    assert_eq!(note, "1 → 3 replicas: 12 requests wait, a replica is worth 5 of them");
    let role = "arn:aws:iam::123456789012:role/admin";
    rig.scale("admin", signals(json!({"awsRoleArn": role}))).await;
    let why = rig.until_condition("admin", "Ready", "InvalidSpec").await;
    assert!(why.contains("`awsRoleArn`") && why.contains("the controller asks as itself"), "{why}");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
