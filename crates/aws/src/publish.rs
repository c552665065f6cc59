//! Metrics for policies that AWS carries out.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::{
    Client,
    types::{Dimension, MetricDatum, StandardUnit},
};
use forewarm_control::ports::FleetReplica;
use forewarm_core::Phase;

use crate::{
    Account, CallError,
    group::{Group, Stage},
};

/// Added to the metric's name for what each instance has of it.
pub const PER_INSTANCE: &str = "PerInstance";

/// The instances of a group that are in service, with their addresses; `None` where there is no such group.
///
/// # Errors
/// When AWS does not answer.
pub async fn instances_in_service(
    account: &Account,
    group: &str,
    address: &str,
) -> Result<Option<Vec<FleetReplica>>, CallError> {
    const ACTION: &str = "autoscaling:DescribeAutoScalingGroups";
    let call = account.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(group);
    let answer = call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
    let Some(group) = answer.auto_scaling_groups().first().and_then(Group::of) else { return Ok(None) };
    let in_service = group.instances.iter().filter(|instance| instance.stage == Stage::InService);
    let ids: Vec<String> = in_service.map(|instance| instance.id.clone()).collect();
    let facts = if ids.is_empty() { BTreeMap::new() } else { account.ec2.describe(&ids).await? };
    let replica = |id: &String| FleetReplica {
        address: facts.get(id).and_then(|facts| facts.address(address, id)),
        ..FleetReplica::new(id.as_str(), Phase::Ready)
    };
    Ok(Some(ids.iter().map(replica).collect()))
}

/// Puts one metric, whole and per instance, into CloudWatch.
#[derive(Debug)]
pub struct Publisher {
    client: Client,
    namespace: String,
    name: String,
    dimensions: Vec<Dimension>,
}

impl Publisher {
    /// A publisher of `name`, and of `name` with [`PER_INSTANCE`], with these dimensions.
    pub fn new(account: &Account, namespace: &str, name: &str, dimensions: &[(String, String)]) -> Self {
        let dimension =
            |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
        Self {
            client: account.cloudwatch.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dimensions: dimensions.iter().map(dimension).collect(),
        }
    }

    /// Publishes one measurement of all instances together, in one call.
    ///
    /// Target tracking needs a metric that falls as capacity rises: that is the one per instance.
    ///
    /// # Errors
    /// When CloudWatch does not take it.
    pub async fn put(&self, total: f64, instances: usize) -> Result<(), CallError> {
        const ACTION: &str = "cloudwatch:PutMetricData";
        let datum = |name: String, value: f64| {
            let dimensions = Some(self.dimensions.clone());
            let datum = MetricDatum::builder().metric_name(name).value(value).unit(StandardUnit::Count);
            datum.set_dimensions(dimensions).build()
        };
        let mut call = self.client.put_metric_data().namespace(&self.namespace);
        call = call.metric_data(datum(self.name.clone(), total));
        if instances > 0 {
            call = call.metric_data(datum(format!("{}{PER_INSTANCE}", self.name), total / instances as f64));
        }
        call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
        Ok(())
    }
}
