//! Application Auto Scaling: variants of SageMaker, services of ECS, and whatever else it scales.

use aws_sdk_applicationautoscaling::{
    Client,
    types::{
        CustomizedMetricSpecification, MetricDimension, MetricStatistic, MetricType, PolicyType,
        PredefinedMetricSpecification, ScalableDimension, ServiceNamespace,
        TargetTrackingScalingPolicyConfiguration,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    PolicyError, Wanted,
    ec2::{Dimension, Metric, Predefined, TargetTracking, unbuilt},
};
use crate::{Account, CallError};

/// The arguments of `register_scalable_target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ScalableTarget {
    service_namespace: String,
    resource_id: String,
    scalable_dimension: String,
    min_capacity: i32,
    max_capacity: i32,
}

/// The arguments of `put_scaling_policy` of Application Auto Scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ApplicationPolicy {
    service_namespace: String,
    resource_id: String,
    scalable_dimension: String,
    policy_name: String,
    policy_type: TargetTracking,
    target_tracking_scaling_policy_configuration: Configuration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Configuration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customized_metric_specification: Option<Metric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predefined_metric_specification: Option<Predefined>,
    target_value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale_in_cooldown: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale_out_cooldown: Option<i32>,
    #[serde(default)]
    disable_scale_in: bool,
}

impl ScalableTarget {
    pub(super) fn title(&self) -> String {
        format!("scalable target {} {}", self.service_namespace, self.resource_id)
    }

    pub(super) async fn there(&self, account: &Account) -> Result<Option<Self>, PolicyError> {
        registered(account, &self.service_namespace, &self.resource_id, &self.scalable_dimension).await
    }

    pub(super) async fn put(&self, account: &Account) -> Result<(), PolicyError> {
        const ACTION: &str = "application-autoscaling:RegisterScalableTarget";
        let call = client(account).register_scalable_target();
        let call = call
            .service_namespace(namespace(&self.service_namespace)?)
            .resource_id(&self.resource_id)
            .scalable_dimension(ScalableDimension::from(self.scalable_dimension.as_str()))
            .min_capacity(self.min_capacity)
            .max_capacity(self.max_capacity);
        call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
        Ok(())
    }

    fn is_of(&self, policy: &ApplicationPolicy) -> bool {
        (&self.service_namespace, &self.resource_id, &self.scalable_dimension)
            == (&policy.service_namespace, &policy.resource_id, &policy.scalable_dimension)
    }
}

impl ApplicationPolicy {
    pub(super) fn title(&self) -> String {
        format!("policy {} of {} {}", self.policy_name, self.service_namespace, self.resource_id)
    }

    /// Policies are taken of registered targets only: here at once, at AWS, or by the same file.
    pub(super) async fn check_target(&self, account: &Account, all: &[Wanted]) -> Result<(), PolicyError> {
        if all.iter().any(|wanted| matches!(wanted, Wanted::Target(target) if target.is_of(self))) {
            return Ok(());
        }
        let there =
            registered(account, &self.service_namespace, &self.resource_id, &self.scalable_dimension).await?;
        if there.is_some() {
            return Ok(());
        }
        let example = ScalableTarget {
            service_namespace: self.service_namespace.clone(),
            resource_id: self.resource_id.clone(),
            scalable_dimension: self.scalable_dimension.clone(),
            min_capacity: 1,
            max_capacity: 8,
        };
        let example = serde_json::to_string_pretty(&example).unwrap_or_default();
        Err(PolicyError::NotRegistered { resource: self.resource_id.clone(), example })
    }

    pub(super) async fn there(&self, account: &Account) -> Result<Option<Self>, PolicyError> {
        const ACTION: &str = "application-autoscaling:DescribeScalingPolicies";
        let call = client(account).describe_scaling_policies();
        let call = call
            .service_namespace(namespace(&self.service_namespace)?)
            .resource_id(&self.resource_id)
            .scalable_dimension(ScalableDimension::from(self.scalable_dimension.as_str()))
            .policy_names(&self.policy_name);
        let answer = call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
        let named = answer.scaling_policies().iter().find(|policy| policy.policy_name() == self.policy_name);
        let Some(configuration) =
            named.and_then(|policy| policy.target_tracking_scaling_policy_configuration())
        else {
            return Ok(None);
        };
        let target_tracking_scaling_policy_configuration = Configuration::of(configuration);
        Ok(Some(Self { target_tracking_scaling_policy_configuration, ..self.clone() }))
    }

    pub(super) async fn put(&self, account: &Account) -> Result<(), PolicyError> {
        const ACTION: &str = "application-autoscaling:PutScalingPolicy";
        let call = client(account).put_scaling_policy();
        let call = call
            .service_namespace(namespace(&self.service_namespace)?)
            .resource_id(&self.resource_id)
            .scalable_dimension(ScalableDimension::from(self.scalable_dimension.as_str()))
            .policy_name(&self.policy_name)
            .policy_type(PolicyType::TargetTrackingScaling)
            .target_tracking_scaling_policy_configuration(
                self.target_tracking_scaling_policy_configuration.to_sdk()?,
            );
        call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
        Ok(())
    }
}

impl Configuration {
    fn of(configuration: &TargetTrackingScalingPolicyConfiguration) -> Self {
        let customized = configuration.customized_metric_specification().map(|metric| Metric {
            metric_name: metric.metric_name().unwrap_or_default().to_owned(),
            namespace: metric.namespace().unwrap_or_default().to_owned(),
            statistic: metric.statistic().map_or_else(String::new, |name| name.as_str().to_owned()),
            dimensions: metric
                .dimensions()
                .iter()
                .map(|dimension| Dimension {
                    name: dimension.name().to_owned(),
                    value: dimension.value().to_owned(),
                })
                .collect(),
            unit: metric.unit().map(str::to_owned),
        });
        let predefined = configuration.predefined_metric_specification().map(|metric| Predefined {
            predefined_metric_type: metric.predefined_metric_type().as_str().to_owned(),
            resource_label: metric.resource_label().map(str::to_owned),
        });
        Self {
            customized_metric_specification: customized,
            predefined_metric_specification: predefined,
            target_value: configuration.target_value(),
            scale_in_cooldown: configuration.scale_in_cooldown(),
            scale_out_cooldown: configuration.scale_out_cooldown(),
            disable_scale_in: configuration.disable_scale_in().unwrap_or(false),
        }
    }

    fn to_sdk(&self) -> Result<TargetTrackingScalingPolicyConfiguration, PolicyError> {
        let mut builder = TargetTrackingScalingPolicyConfiguration::builder()
            .target_value(self.target_value)
            .set_scale_in_cooldown(self.scale_in_cooldown)
            .set_scale_out_cooldown(self.scale_out_cooldown)
            .disable_scale_in(self.disable_scale_in);
        if let Some(metric) = &self.customized_metric_specification {
            let mut specification = CustomizedMetricSpecification::builder()
                .metric_name(&metric.metric_name)
                .namespace(&metric.namespace)
                .statistic(MetricStatistic::from(metric.statistic.as_str()))
                .set_unit(metric.unit.clone());
            for Dimension { name, value } in &metric.dimensions {
                let dimension = MetricDimension::builder().name(name).value(value).build();
                specification = specification.dimensions(dimension.map_err(|error| unbuilt(&error))?);
            }
            builder = builder.customized_metric_specification(specification.build());
        }
        if let Some(metric) = &self.predefined_metric_specification {
            let specification = PredefinedMetricSpecification::builder()
                .predefined_metric_type(MetricType::from(metric.predefined_metric_type.as_str()))
                .set_resource_label(metric.resource_label.clone())
                .build();
            builder =
                builder.predefined_metric_specification(specification.map_err(|error| unbuilt(&error))?);
        }
        builder.build().map_err(|error| unbuilt(&error))
    }
}

fn client(account: &Account) -> Client {
    Client::new(account.sdk())
}

fn namespace(name: &str) -> Result<ServiceNamespace, PolicyError> {
    ServiceNamespace::try_parse(name).map_err(|_| PolicyError::Unknown {
        field: "ServiceNamespace",
        found: name.to_owned(),
        known: ServiceNamespace::values().join(", "),
    })
}

async fn registered(
    account: &Account,
    service: &str,
    resource: &str,
    dimension: &str,
) -> Result<Option<ScalableTarget>, PolicyError> {
    const ACTION: &str = "application-autoscaling:DescribeScalableTargets";
    let call = client(account).describe_scalable_targets();
    let call = call
        .service_namespace(namespace(service)?)
        .resource_ids(resource)
        .scalable_dimension(ScalableDimension::from(dimension));
    let answer = call.send().await.map_err(|error| CallError::of(ACTION, &error))?;
    let found = answer.scalable_targets().iter().find(|target| target.resource_id() == resource);
    Ok(found.map(|target| ScalableTarget {
        service_namespace: service.to_owned(),
        resource_id: resource.to_owned(),
        scalable_dimension: dimension.to_owned(),
        min_capacity: target.min_capacity(),
        max_capacity: target.max_capacity(),
    }))
}
