//! Scaling policies of AWS.

use crate::lint::{
    finding::{Edit, Fix, Sink},
    world::{Kind, Loc, Manifest, World},
};

/// The target tracking part of either API's policy.
fn tracking<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = (&'w Manifest<'a>, Loc<'a>)> {
    world.manifests.iter().filter_map(|manifest| {
        let key = match manifest.kind {
            Kind::Ec2Policy => "TargetTrackingConfiguration",
            Kind::ApplicationPolicy => "TargetTrackingScalingPolicyConfiguration",
            Kind::Hpa
            | Kind::ScaledObject
            | Kind::ScaledJob
            | Kind::Knative
            | Kind::Workload
            | Kind::InferenceScaler
            | Kind::AdapterRules
            | Kind::Other => return None,
        };
        Some((manifest, manifest.root.get(key)?))
    })
}

/// FW050.
pub(in crate::lint) fn cooldowns_of_the_other_api(world: &World<'_>, sink: &mut Sink) {
    for (manifest, tracking) in tracking(world).filter(|(manifest, _)| manifest.kind == Kind::Ec2Policy) {
        for field in ["ScaleInCooldown", "ScaleOutCooldown"] {
            let Some(entry) = tracking.entry(field) else { continue };
            let message = format!(
                "`{field}` belongs to Application Auto Scaling; EC2 Auto Scaling does not take it here"
            );
            let edits = Edit::remove_entry(&manifest.source.text, entry).into_iter().collect();
            let fix = Fix::edit("remove it; `EstimatedInstanceWarmup` is what EC2 Auto Scaling has", edits);
            sink.entry(manifest, (&tracking, entry), message, fix);
        }
    }
}

/// FW051.
pub(in crate::lint) fn whole_queue(world: &World<'_>, sink: &mut Sink) {
    for (manifest, tracking) in tracking(world) {
        let Some(name) = tracking.at(&["CustomizedMetricSpecification", "MetricName"]) else { continue };
        let text = name.node.text().unwrap_or_default().to_ascii_lowercase();
        let queue =
            ["queue", "pending", "waiting", "backlog", "messages"].iter().any(|word| text.contains(word));
        if queue && !text.contains("per") {
            let message = "target tracking needs a metric that falls as capacity rises; the depth of the whole \
                           queue does not: it wants ever more instances until the queue is empty";
            let fix = Fix::words("publish the backlog per instance, and track that");
            sink.at(manifest, &name, message.into(), fix);
        }
    }
}

/// FW052.
pub(in crate::lint) fn not_a_reaction_time(world: &World<'_>, sink: &mut Sink) {
    for (manifest, tracking) in tracking(world) {
        let Some(entry) = tracking.entry("ScaleOutCooldown") else { continue };
        let message = "a scale-out cooldown is no reaction time: the alarm behind target tracking needs several \
                       one-minute points before it fires";
        let fix = Fix::words("set desired capacity directly when minutes matter");
        sink.entry(manifest, (&tracking, entry), message.into(), fix);
    }
}

/// FW053.
pub(in crate::lint) fn no_warm_up(world: &World<'_>, sink: &mut Sink) {
    for (manifest, tracking) in tracking(world).filter(|(manifest, _)| manifest.kind == Kind::Ec2Policy) {
        if manifest.root.get("EstimatedInstanceWarmup").is_none() {
            let message = "no `EstimatedInstanceWarmup`: an instance that still loads its model counts as \
                           capacity, and its numbers count in the average";
            let fix =
                Fix::words("the cold start in seconds, here or as the group's default instance warm-up");
            sink.at(manifest, &tracking, message.into(), fix);
        }
    }
}

/// FW054.
pub(in crate::lint) fn cpu_of_gpu_instances(world: &World<'_>, sink: &mut Sink) {
    for (manifest, tracking) in tracking(world) {
        let keys = ["PredefinedMetricSpecification", "PredefinedMetricType"];
        let Some(metric) = tracking.at(&keys) else { continue };
        if metric.node.text().unwrap_or_default().contains("CPUUtilization") {
            let message = "the CPU of a GPU instance says nothing about its requests";
            sink.at(manifest, &metric, message.into(), Fix::words("track the backlog per instance"));
        }
    }
}
