//! What a target tracking policy of AWS means.

use forewarm_core::QueueDepth;
use serde_json::json;

use super::{
    intent::{Intent, Target, positive},
    ledger::Ledger,
};
use crate::{lint::world::Kind, problem::Collector};

/// The bounds belong to the group, not to the policy.
const ASSUMED_BOUNDS: (u32, u32) = (1, 8);

pub(super) fn read(kind: Kind, ledger: &mut Ledger<'_>, out: &Collector) -> Option<Intent> {
    let (group, tracking) = if kind == Kind::Ec2Policy {
        ("AutoScalingGroupName", "TargetTrackingConfiguration")
    } else {
        ("ResourceId", "TargetTrackingScalingPolicyConfiguration")
    };
    let Some(group_name) = ledger.take(&[group]).and_then(|group| group.node.text()) else {
        out.add(group, ledger.root().node.span, "nothing", "the group that is scaled");
        return None;
    };
    let Some(value) = ledger.take(&[tracking, "TargetValue"]) else {
        let message = "only target tracking policies can be converted";
        out.add(tracking, ledger.root().node.span, "no TargetValue", message);
        return None;
    };
    ledger.carry(&value);
    let name = ledger.take(&["PolicyName"]).and_then(|name| name.node.text()).unwrap_or(group_name);
    let per_replica = positive(&value).unwrap_or(QueueDepth::DEFAULT_PER_REPLICA);
    let (min, max) = ASSUMED_BOUNDS;
    ledger.assume(
        "spec.replicas",
        format!("the policy does not say; the group's bounds do: {min} to {max} is a guess"),
    );
    let warm_up = ledger.take(&["EstimatedInstanceWarmup"]);
    let scale_down = ledger.take(&[tracking, "ScaleInCooldown"]).and_then(|cooldown| cooldown.node.integer());
    let disabled = ledger.take(&[tracking, "DisableScaleIn"]).and_then(|disabled| disabled.node.bool());
    if let Some(kind) = ledger.root().get("PolicyType") {
        ledger.carry(&kind);
    }
    ledger.drop_at(
        &[tracking, "ScaleOutCooldown"],
        "a pause between two steps; the new manifest limits rates in `behavior`",
    );
    ledger.drop_at(
        &[tracking, "CustomizedMetricSpecification"],
        "the new manifest names the queue in its own way",
    );
    let mut rules = json!({});
    if let Some(seconds) = scale_down {
        rules["stabilizationWindowSeconds"] = json!(seconds);
    }
    if disabled == Some(true) {
        rules["selectPolicy"] = json!("Disabled");
    }
    let behavior =
        rules.as_object().is_some_and(|rules| !rules.is_empty()).then(|| json!({"scaleDown": rules}));
    Some(Intent {
        name: name.to_owned(),
        metadata: json!({"name": name.to_ascii_lowercase()}),
        target: Target::AwsAutoScalingGroup { name: group_name.to_owned() },
        min,
        max,
        per_replica,
        pre_warm: None,
        queries: Vec::new(),
        behavior,
        max_concurrency: None,
        cold_start_seconds: warm_up.as_ref().and_then(positive),
        rules: None,
    })
}
