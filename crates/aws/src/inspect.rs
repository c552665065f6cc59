//! What a group is, for people who are about to let forewarm scale it.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance, MixedInstancesPolicy};

use crate::{Account, CallError, group::Group, hooks};

/// Lines that tell what a group has and what stands in forewarm's way; `None` where there is no such group.
///
/// # Errors
/// When AWS does not answer.
pub async fn inspect(account: &Account, name: &str) -> Result<Option<Vec<String>>, CallError> {
    let call = account.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(name);
    let answer = call.send().await;
    let answer = answer.map_err(|error| CallError::of("autoscaling:DescribeAutoScalingGroups", &error))?;
    let Some((sdk, group)) =
        answer.auto_scaling_groups().first().and_then(|sdk| Some((sdk, Group::of(sdk)?)))
    else {
        return Ok(None);
    };
    let Group { min, max, desired, .. } = &group;
    let mut lines =
        vec![format!("group {name} in {}: {desired} wanted, {min} to {max} allowed", account.region())];
    lines.extend(states("instances", sdk.instances()));
    lines.extend(sdk.mixed_instances_policy().map(mixed));
    lines.extend(warm_pool(account, name, sdk).await?);
    lines.extend(lifecycle_hooks(account, name).await?);
    lines.extend(policies(account, name).await?);
    if !group.protects_new {
        lines.push(
            "new instances are unprotected for some seconds: `--new-instances-protected-from-scale-in` on the group \
             closes the gap"
                .to_owned(),
        );
    }
    lines.extend(group.concerns(*min, *max));
    Ok(Some(lines))
}

fn states(what: &str, instances: &[Instance]) -> Option<String> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances {
        *states.entry(instance.lifecycle_state().map_or("unknown", |state| state.as_str())).or_default() += 1;
    }
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    (!states.is_empty()).then(|| format!("{what}: {}", states.join(", ")))
}

fn mixed(policy: &MixedInstancesPolicy) -> String {
    let overrides = policy.launch_template().map(|template| template.overrides()).unwrap_or_default();
    let types: Vec<&str> = overrides.iter().filter_map(|kind| kind.instance_type()).collect();
    let types = if types.is_empty() { "types by their attributes".to_owned() } else { types.join(", ") };
    let Some(distribution) = policy.instances_distribution() else {
        return format!("mixed instances: {types}");
    };
    format!(
        "mixed instances: {types}; the first {} on demand, then {} %, the rest spot ({})",
        distribution.on_demand_base_capacity().unwrap_or(0),
        distribution.on_demand_percentage_above_base_capacity().unwrap_or(100),
        distribution.spot_allocation_strategy().unwrap_or("lowest-price"),
    )
}

async fn warm_pool(
    account: &Account,
    name: &str,
    group: &AutoScalingGroup,
) -> Result<Option<String>, CallError> {
    let Some(pool) = group.warm_pool_configuration() else { return Ok(None) };
    let answer = account.autoscaling.describe_warm_pool().auto_scaling_group_name(name).send().await;
    let answer = answer.map_err(|error| CallError::of("autoscaling:DescribeWarmPool", &error))?;
    let state = pool.pool_state().map_or("Stopped", |state| state.as_str());
    let title = format!("warm pool, {state}, at least {}", pool.min_size().unwrap_or(0));
    Ok(Some(states(&title, answer.instances()).unwrap_or(format!("{title}: empty"))))
}

async fn lifecycle_hooks(account: &Account, name: &str) -> Result<Vec<String>, CallError> {
    let answer = account.autoscaling.describe_lifecycle_hooks().auto_scaling_group_name(name).send().await;
    let answer = answer.map_err(|error| CallError::of("autoscaling:DescribeLifecycleHooks", &error))?;
    let line = |hook: &aws_sdk_autoscaling::types::LifecycleHook| {
        let hook_name = hook.lifecycle_hook_name().unwrap_or_default();
        let whose = if hook_name.starts_with(hooks::PREFIX) { "forewarm's" } else { "somebody else's" };
        let transition = hook.lifecycle_transition().unwrap_or_default();
        let seconds = hook.heartbeat_timeout().unwrap_or_default();
        format!("hook {hook_name}, {whose}: {transition}, {seconds} s")
    };
    Ok(answer.lifecycle_hooks().iter().map(line).collect())
}

async fn policies(account: &Account, name: &str) -> Result<Vec<String>, CallError> {
    let answer = account.autoscaling.describe_policies().auto_scaling_group_name(name).send().await;
    let answer = answer.map_err(|error| CallError::of("autoscaling:DescribePolicies", &error))?;
    let enabled = answer.scaling_policies().iter().filter(|policy| policy.enabled().unwrap_or(true));
    let line = |policy: &aws_sdk_autoscaling::types::ScalingPolicy| {
        let (policy_name, kind) =
            (policy.policy_name().unwrap_or_default(), policy.policy_type().unwrap_or_default());
        format!("policy {policy_name} ({kind}) scales the group as well: two controllers are one too many")
    };
    Ok(enabled.map(line).collect())
}
