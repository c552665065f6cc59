//! Files of policies: what boto3's calls take, as JSON, one or several in a list.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Wanted, application::ApplicationPolicy, application::ScalableTarget, ec2::GroupPolicy};

/// Fields that one API has and the other refuses.
const COOLDOWNS: [&str; 2] = ["ScaleInCooldown", "ScaleOutCooldown"];
const EC2: &str = "TargetTrackingConfiguration";
const APPLICATION: &str = "TargetTrackingScalingPolicyConfiguration";

/// Why a file of policies cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// It is no JSON.
    #[error("{file}: no JSON: {error}")]
    Json {
        /// Which file.
        file: String,
        /// Where and what.
        error: serde_json::Error,
    },
    /// A policy has a wrong or unknown field.
    #[error("{file}: {place}{error}")]
    Field {
        /// Which file.
        file: String,
        /// `item 2: `, where there are several.
        place: String,
        /// Which field, and what would be right.
        error: serde_json::Error,
    },
    /// It is neither API's.
    #[error(
        "{file}: {place}neither a policy of EC2 Auto Scaling (`AutoScalingGroupName`) nor one of Application Auto Scaling \
         (`ServiceNamespace`), as `put_scaling_policy` takes them"
    )]
    Neither {
        /// Which file.
        file: String,
        /// `item 2: `, where there are several.
        place: String,
    },
    /// Fields of Application Auto Scaling in a policy of EC2 Auto Scaling.
    #[error(
        "{file}: {place}{}: EC2 Auto Scaling refuses {}, {} of Application Auto Scaling.\n\
         For the group, `forewarm lint --fix {file}` takes {} out; `EstimatedInstanceWarmup`, the cold start in seconds, is what \
         EC2 Auto Scaling has.\n\
         For a variant of SageMaker or a service of ECS, this file is right for `forewarm aws apply -f`, once the names are:\n{application}",
        named(.fields), it(.fields), fields_of(.fields), it(.fields)
    )]
    Cooldowns {
        /// Which file.
        file: String,
        /// `item 2: `, where there are several.
        place: String,
        /// Which of the two.
        fields: Vec<&'static str>,
        /// The same policy for the other API, as JSON.
        application: String,
    },
}

fn named(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("`{EC2}.{field}`")).collect::<Vec<_>>().join(" and ")
}

fn it(fields: &[&str]) -> &'static str {
    if fields.len() == 1 { "it" } else { "them" }
}

fn fields_of(fields: &[&str]) -> &'static str {
    if fields.len() == 1 { "a field" } else { "fields" }
}

/// Reads what a file wants.
///
/// # Errors
/// The first thing that is wrong, in words that say what would be right.
pub fn read_policies(file: &str, text: &str) -> Result<Vec<Wanted>, PolicyFileError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| PolicyFileError::Json { file: file.to_owned(), error })?;
    let Value::Array(items) = value else { return Ok(vec![read_one(file, String::new(), value)?]) };
    let item = |(index, item)| read_one(file, format!("item {}: ", index + 1), item);
    items.into_iter().enumerate().map(item).collect()
}

fn read_one(file: &str, place: String, value: Value) -> Result<Wanted, PolicyFileError> {
    let neither = || PolicyFileError::Neither { file: file.to_owned(), place: place.clone() };
    let fields = value.as_object().ok_or_else(neither)?;
    let has = |name: &str| fields.contains_key(name);
    if has("AutoScalingGroupName") {
        refuse_cooldowns(file, &place, fields)?;
        return Ok(Wanted::Group(Box::new(typed::<GroupPolicy>(file, place, value)?)));
    }
    if !has("ServiceNamespace") {
        return Err(neither());
    }
    if has("PolicyName") {
        return Ok(Wanted::Application(Box::new(typed::<ApplicationPolicy>(file, place, value)?)));
    }
    Ok(Wanted::Target(typed::<ScalableTarget>(file, place, value)?))
}

fn typed<T: DeserializeOwned>(file: &str, place: String, value: Value) -> Result<T, PolicyFileError> {
    serde_json::from_value(value).map_err(|error| PolicyFileError::Field {
        file: file.to_owned(),
        place,
        error,
    })
}

fn refuse_cooldowns(file: &str, place: &str, fields: &Map<String, Value>) -> Result<(), PolicyFileError> {
    let Some(tracking) = fields.get(EC2).and_then(Value::as_object) else { return Ok(()) };
    let found: Vec<&str> = COOLDOWNS.into_iter().filter(|field| tracking.contains_key(*field)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let application = serde_json::json!({
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/ENDPOINT/variant/VARIANT",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "PolicyName": fields.get("PolicyName"),
        "PolicyType": fields.get("PolicyType"),
        APPLICATION: tracking,
    });
    Err(PolicyFileError::Cooldowns {
        file: file.to_owned(),
        place: place.to_owned(),
        fields: found,
        application: serde_json::to_string_pretty(&application).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = r#"{"AutoScalingGroupName": "g", "PolicyName": "p", "PolicyType": "TargetTrackingScaling",
        "TargetTrackingConfiguration": {"TargetValue": 5.0, "CustomizedMetricSpecification":
        {"MetricName": "LLMQueueDepth", "Namespace": "Custom/LLMMetrics", "Statistic": "Average"}}}"#;

    #[test]
    fn fields_of_the_other_api_are_named_and_the_other_api_is_offered() {
        let both = GROUP.replace(
            r#""TargetValue": 5.0"#,
            r#""TargetValue": 5.0, "ScaleInCooldown": 300, "ScaleOutCooldown": 60"#,
        );
        let error = read_policies("asg.json", &both).expect_err("two fields too many");
        let text = error.to_string();
        for part in [
            "`TargetTrackingConfiguration.ScaleInCooldown` and `TargetTrackingConfiguration.ScaleOutCooldown`",
            "forewarm lint --fix asg.json",
            "EstimatedInstanceWarmup",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let PolicyFileError::Cooldowns { application, .. } = error else { panic!("{text}") };
        let offered = read_policies("offered.json", &application).expect("what is offered is right");
        assert!(matches!(offered[..], [Wanted::Application(_)]), "{application}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("{", "no JSON"),
            ("{}", "neither"),
            ("[1]", "item 1: neither"),
            (&GROUP.replace("TargetValue", "TargetValu"), "unknown field `TargetValu`"),
            (&GROUP.replace("TargetTrackingScaling", "StepScaling"), "unknown variant `StepScaling`"),
            (&GROUP.replace("\"PolicyName\": \"p\",", ""), "missing field `PolicyName`"),
        ] {
            let error = read_policies("f.json", text).expect_err(text).to_string();
            assert!(error.starts_with("f.json: ") && error.contains(message), "{error}");
        }
        assert_eq!(read_policies("f.json", &format!("[{GROUP}, {GROUP}]")).expect("two").len(), 2);
    }
}
