//! Policies that AWS carries out: what boto3 puts and what we put are the same to the API server.

use std::path::PathBuf;

use forewarm_aws::{Account, Wanted, inspect, read_policies};
use forewarm_testbed::{Cloud, assets};
use serde_json::{Value, json};

use crate::support::{cloud, only_allowed, sdk, skipped};

/// Puts a policy with boto3, when there is one, and prints what the server has.
const BOTO3: &str = r#"
import boto3, json, sys
endpoint, service, put, describe = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
client = boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
if put:
    client.put_scaling_policy(**put)
answer = client.describe_policies(**describe) if service == "autoscaling" else client.describe_scaling_policies(**describe)
answer.pop("ResponseMetadata")
print(json.dumps(answer, default=lambda value: None))
"#;

fn boto3(cloud: &Cloud, service: &str, put: &Value, describe: &Value) -> Value {
    let python = assets("moto").expect("fetched").join("venv/bin/python");
    let mut command = std::process::Command::new(python);
    command.args(["-c", BOTO3, &cloud.url(), service, &put.to_string(), &describe.to_string()]);
    let output = command.output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What the seed's users have; `None` where it is not there.
fn seed() -> Option<Value> {
    let shared = std::env::var_os("FOREWARM_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("seed/asg.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("JSON")),
        Err(error) => {
            skipped(format!("{}: {error}", path.display()));
            None
        }
    }
}

async fn apply(account: &Account, text: &str) -> Vec<usize> {
    let wanted = read_policies("asg.json", text).expect("policies");
    let mut changes = Vec::new();
    for one in &wanted {
        let diff = one.diff(account, &wanted).await.expect("a diff");
        changes.push(diff.len());
        if !diff.is_empty() {
            one.put(account).await.expect("taken");
        }
    }
    changes
}

/// Without what differs by name, and the times.
fn alike(answer: &Value, name: &str) -> String {
    let mut text = answer.to_string().replace(name, "NAME");
    // Random ids in ARNs.
    while let Some(at) = text.find("arn:aws:") {
        let end = text[at..].find('"').map_or(text.len(), |end| at + end);
        text.replace_range(at..end, "ARN");
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_policy_is_what_boto3_would_put() {
    let (Some(cloud), Some(seed)) = (cloud().await, seed()) else { return };
    let account = Account::with(sdk(&cloud.url()).await).expect("an account");
    let error = read_policies("asg.json", &seed.to_string()).expect_err("cooldowns").to_string();
    assert!(error.contains("ScaleInCooldown") && error.contains("ScaleOutCooldown"), "{error}");

    let mut without = seed.clone();
    let tracking = without["TargetTrackingConfiguration"].as_object_mut().expect("a configuration");
    tracking.retain(|field, _| !field.contains("Cooldown"));
    let describe = |group: &str| json!({"AutoScalingGroupName": group});
    let of_group = |group: &str| {
        let mut policy = without.clone();
        policy["AutoScalingGroupName"] = json!(group);
        policy
    };
    for group in ["policy-of-boto3", "policy-of-ours"] {
        cloud.create_group(group, 0, 5).await.expect("a group");
    }
    let theirs = boto3(&cloud, "autoscaling", &of_group("policy-of-boto3"), &describe("policy-of-boto3"));
    let text = of_group("policy-of-ours").to_string();
    assert!(apply(&account, &text).await[0] > 0);
    assert_eq!(apply(&account, &text).await, [0], "nothing is left to change");
    let ours = boto3(&cloud, "autoscaling", &Value::Null, &describe("policy-of-ours"));
    assert_eq!(alike(&ours, "policy-of-ours"), alike(&theirs, "policy-of-boto3"));

    let changed = text.replace("\"TargetValue\":5.0", "\"TargetValue\":7.0");
    let wanted = read_policies("asg.json", &changed).expect("a policy");
    let diff = wanted[0].diff(&account, &wanted).await.expect("a diff");
    assert_eq!(diff.len(), 1, "{diff:?}");
    assert_eq!(diff[0].field, "TargetTrackingConfiguration.TargetValue");
    assert_eq!((diff[0].before.clone(), diff[0].after.clone()), (Some(json!(5.0)), Some(json!(7.0))));

    // Whoever is about to let forewarm scale the group sees who scales it already.
    let lines = inspect(&account, "policy-of-ours").await.expect("an answer").expect("a group").join("\n");
    for part in ["0 wanted, 0 to 5 allowed", "g5.xlarge, g6.xlarge", "policy scale-on-queue-depth"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    only_allowed(&cloud, &[]);

    let nowhere = text.replace("policy-of-ours", "no-such-group");
    let wanted = read_policies("asg.json", &nowhere).expect("a policy");
    let error = wanted[0].diff(&account, &wanted).await.expect_err("no group").to_string();
    assert!(error.contains("no-such-group") && error.contains("us-east-1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cooldowns_go_to_application_auto_scaling() {
    let (Some(cloud), Some(seed)) = (cloud().await, seed()) else { return };
    let account = Account::with(sdk(&cloud.url()).await).expect("an account");
    let target = |variant: &str| {
        json!({
            "ServiceNamespace": "sagemaker",
            "ResourceId": format!("endpoint/llm/variant/{variant}"),
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        })
    };
    let policy = |variant: &str| {
        let mut policy = target(variant);
        policy["PolicyName"] = seed["PolicyName"].clone();
        policy["PolicyType"] = seed["PolicyType"].clone();
        policy["TargetTrackingScalingPolicyConfiguration"] = seed["TargetTrackingConfiguration"].clone();
        policy
    };
    let registered = |variant: &str| {
        let mut target = target(variant);
        target["MinCapacity"] = json!(1);
        target["MaxCapacity"] = json!(8);
        target
    };
    let wanted = read_policies("f.json", &policy("ours").to_string()).expect("a policy");
    let error = wanted[0].diff(&account, &wanted).await.expect_err("no target").to_string();
    assert!(error.contains("MinCapacity") && error.contains("endpoint/llm/variant/ours"), "{error}");

    let both = json!([registered("ours"), policy("ours")]).to_string();
    assert!(apply(&account, &both).await.iter().all(|changes| *changes > 0));
    assert_eq!(apply(&account, &both).await, [0, 0]);
    assert_eq!(apply(&account, &registered("boto3").to_string()).await.len(), 1);
    let describe = |variant: &str| {
        let target = target(variant);
        json!({"ServiceNamespace": target["ServiceNamespace"], "ResourceId": target["ResourceId"]})
    };
    let theirs = boto3(&cloud, "application-autoscaling", &policy("boto3"), &describe("boto3"));
    let ours = boto3(&cloud, "application-autoscaling", &Value::Null, &describe("ours"));
    assert!(
        ours.to_string().contains("\"ScaleInCooldown\": 300")
            || ours.to_string().contains("\"ScaleInCooldown\":300")
    );
    assert_eq!(alike(&ours, "variant/ours"), alike(&theirs, "variant/boto3"));
    assert!(wanted.iter().all(|one| matches!(one, Wanted::Application(_))));
}
