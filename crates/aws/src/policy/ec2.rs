//! Target tracking of an Auto Scaling group.

use aws_sdk_autoscaling::{
    error::BuildError,
    types::{
        CustomizedMetricSpecification, MetricDimension, MetricStatistic, MetricType,
        PredefinedMetricSpecification, ScalingPolicy, TargetTrackingConfiguration,
    },
};
use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::{Account, CallError};

/// The arguments of `put_scaling_policy` of EC2 Auto Scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct GroupPolicy {
    /// The group.
    pub auto_scaling_group_name: String,
    /// The policy.
    pub policy_name: String,
    policy_type: TargetTracking,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_instance_warmup: Option<i32>,
    #[serde(default = "enabled")]
    enabled: bool,
    target_tracking_configuration: Configuration,
}

/// The one type of policy that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TargetTracking {
    TargetTrackingScaling,
}

const fn enabled() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Configuration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customized_metric_specification: Option<Metric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predefined_metric_specification: Option<Predefined>,
    target_value: f64,
    #[serde(default)]
    disable_scale_in: bool,
}

/// A metric of CloudWatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) metric_name: String,
    pub(super) namespace: String,
    pub(super) statistic: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dimensions: Vec<Dimension>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Dimension {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Predefined {
    pub(super) predefined_metric_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_label: Option<String>,
}

impl GroupPolicy {
    pub(super) fn title(&self) -> String {
        format!("policy {} of Auto Scaling group {}", self.policy_name, self.auto_scaling_group_name)
    }

    /// The policy as it is now.
    pub(super) async fn there(&self, account: &Account) -> Result<Option<Self>, PolicyError> {
        const GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
        const POLICIES: &str = "autoscaling:DescribePolicies";
        let name = &self.auto_scaling_group_name;
        let groups = account.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(name);
        let groups = groups.send().await.map_err(|error| CallError::of(GROUPS, &error))?;
        if groups.auto_scaling_groups().is_empty() {
            return Err(PolicyError::NoGroup { name: name.clone(), region: account.region().to_owned() });
        }
        let call = account.autoscaling.describe_policies().auto_scaling_group_name(name);
        let answer = call.policy_names(&self.policy_name).send().await;
        let answer = answer.map_err(|error| CallError::of(POLICIES, &error))?;
        Ok(answer.scaling_policies().iter().find_map(Self::of))
    }

    fn of(policy: &ScalingPolicy) -> Option<Self> {
        let configuration = policy.target_tracking_configuration()?;
        let customized = configuration.customized_metric_specification().map(|metric| Metric {
            metric_name: metric.metric_name().unwrap_or_default().to_owned(),
            namespace: metric.namespace().unwrap_or_default().to_owned(),
            statistic: metric.statistic().map_or_else(String::new, |name| name.as_str().to_owned()),
            dimensions: metric
                .dimensions()
                .iter()
                .map(|dimension| Dimension {
                    name: dimension.name().unwrap_or_default().to_owned(),
                    value: dimension.value().unwrap_or_default().to_owned(),
                })
                .collect(),
            unit: metric.unit().map(str::to_owned),
        });
        let predefined = configuration.predefined_metric_specification().map(|metric| Predefined {
            predefined_metric_type: metric
                .predefined_metric_type()
                .map_or_else(String::new, |name| name.as_str().to_owned()),
            resource_label: metric.resource_label().map(str::to_owned),
        });
        Some(Self {
            auto_scaling_group_name: policy.auto_scaling_group_name()?.to_owned(),
            policy_name: policy.policy_name()?.to_owned(),
            policy_type: TargetTracking::TargetTrackingScaling,
            estimated_instance_warmup: policy.estimated_instance_warmup(),
            enabled: policy.enabled().unwrap_or(true),
            target_tracking_configuration: Configuration {
                customized_metric_specification: customized,
                predefined_metric_specification: predefined,
                target_value: configuration.target_value().unwrap_or_default(),
                disable_scale_in: configuration.disable_scale_in().unwrap_or(false),
            },
        })
    }

    pub(super) async fn put(&self, account: &Account) -> Result<(), PolicyError> {
        const ACTION: &str = "autoscaling:PutScalingPolicy";
        let configuration = self.target_tracking_configuration.to_sdk().map_err(|error| unbuilt(&error))?;
        let call = account.autoscaling.put_scaling_policy();
        let call = call
            .auto_scaling_group_name(&self.auto_scaling_group_name)
            .policy_name(&self.policy_name)
            .policy_type("TargetTrackingScaling")
            .set_estimated_instance_warmup(self.estimated_instance_warmup)
            .enabled(self.enabled)
            .target_tracking_configuration(configuration);
        call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
        Ok(())
    }
}

impl Configuration {
    fn to_sdk(&self) -> Result<TargetTrackingConfiguration, BuildError> {
        let mut builder = TargetTrackingConfiguration::builder()
            .target_value(self.target_value)
            .disable_scale_in(self.disable_scale_in);
        if let Some(metric) = &self.customized_metric_specification {
            let mut specification = CustomizedMetricSpecification::builder()
                .metric_name(&metric.metric_name)
                .namespace(&metric.namespace)
                .statistic(MetricStatistic::from(metric.statistic.as_str()))
                .set_unit(metric.unit.clone());
            for Dimension { name, value } in &metric.dimensions {
                specification =
                    specification.dimensions(MetricDimension::builder().name(name).value(value).build());
            }
            builder = builder.customized_metric_specification(specification.build());
        }
        if let Some(metric) = &self.predefined_metric_specification {
            let specification = PredefinedMetricSpecification::builder()
                .predefined_metric_type(MetricType::from(metric.predefined_metric_type.as_str()))
                .set_resource_label(metric.resource_label.clone());
            builder = builder.predefined_metric_specification(specification.build());
        }
        Ok(builder.build())
    }
}

/// A request that the SDK itself does not make.
pub(super) fn unbuilt(error: &BuildError) -> PolicyError {
    let (action, reason) = ("autoscaling:PutScalingPolicy", error.to_string());
    PolicyError::Call(CallError::NoAnswer { action, reason })
}
