//! What an identity has to be allowed, and nothing more.

use serde_json::{Value, json};

/// Purpose, actions, and on what. The describe calls of groups and instances cannot be limited to single ones.
const STATEMENTS: [(&str, &[&str], &str); 7] = [
    (
        "LookAtGroups",
        &[
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeLifecycleHooks",
            "autoscaling:DescribePolicies",
            "autoscaling:DescribeScalingActivities",
            "autoscaling:DescribeWarmPool",
            "ec2:DescribeInstances",
        ],
        "*",
    ),
    (
        "ScaleTheGroup",
        &[
            "autoscaling:CompleteLifecycleAction",
            "autoscaling:RecordLifecycleActionHeartbeat",
            "autoscaling:SetDesiredCapacity",
            "autoscaling:SetInstanceProtection",
            "autoscaling:TerminateInstanceInAutoScalingGroup",
        ],
        "arn:aws:autoscaling:REGION:ACCOUNT:autoScalingGroup:*:autoScalingGroupName/GROUP",
    ),
    (
        "HearOfInterruptions",
        &["sqs:DeleteMessage", "sqs:ReceiveMessage"],
        "arn:aws:sqs:REGION:ACCOUNT:INTERRUPTIONS",
    ),
    ("ReadQueues", &["sqs:GetQueueAttributes"], "arn:aws:sqs:REGION:ACCOUNT:QUEUE"),
    ("ReadMetrics", &["cloudwatch:GetMetricData"], "*"),
    ("PublishMetrics", &["cloudwatch:PutMetricData"], "*"),
    (
        "PutPolicies",
        &[
            "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
            "application-autoscaling:PutScalingPolicy",
            "application-autoscaling:RegisterScalableTarget",
            "autoscaling:PutScalingPolicy",
        ],
        "*",
    ),
];

/// A policy of IAM that allows every call that forewarm makes, a statement for each purpose.
pub fn permissions() -> Value {
    let statement = |(purpose, actions, resource): &(&str, &[&str], &str)| {
        let mut statement =
            json!({"Sid": purpose, "Effect": "Allow", "Action": actions, "Resource": resource});
        if *purpose == "PublishMetrics" {
            statement["Condition"] = json!({"StringEquals": {"cloudwatch:namespace": "Custom/LLMMetrics"}});
        }
        statement
    };
    json!({"Version": "2012-10-17", "Statement": STATEMENTS.iter().map(statement).collect::<Vec<_>>()})
}

/// The actions that [`permissions`] allows.
pub fn allowed_actions() -> impl Iterator<Item = &'static str> {
    STATEMENTS.iter().flat_map(|(_, actions, _)| actions.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_policy_is_this_one() {
        let page = include_str!("../../../docs/aws.md");
        let policy = serde_json::to_string_pretty(&permissions()).expect("JSON");
        assert!(
            page.contains(&policy),
            "docs/aws.md should have what `forewarm aws permissions` prints:\n{policy}"
        );
    }
}
