//! Scaling policies that AWS carries out: read as boto3's arguments, compared with what is there, and put.
//!
//! Each field goes to the API that takes it. EC2 Auto Scaling scales groups and has no cooldowns in target
//! tracking; Application Auto Scaling scales variants of SageMaker and services of ECS, and has them.

mod application;
mod ec2;
mod file;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use file::{PolicyFileError, read_policies};

use crate::{Account, CallError};

/// What is to be at AWS.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A target tracking policy of an Auto Scaling group.
    Group(Box<ec2::GroupPolicy>),
    /// A target that Application Auto Scaling may scale, and its bounds.
    Target(application::ScalableTarget),
    /// A target tracking policy of such a target.
    Application(Box<application::ApplicationPolicy>),
}

/// Why a policy cannot be compared or put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no such group.
    #[error("there is no Auto Scaling group `{name}` in {region}")]
    NoGroup {
        /// What was asked for.
        name: String,
        /// Where.
        region: String,
    },
    /// The API takes policies only of targets that are registered.
    #[error(
        "`{resource}` is no scalable target yet: put this into the file as well, with the bounds that are right\n{example}"
    )]
    NotRegistered {
        /// Which.
        resource: String,
        /// What registers it.
        example: String,
    },
    /// A field has a value that the API does not know.
    #[error("`{field}` is {found}; the API knows {known}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        known: String,
    },
}

/// A field that is to change: its path, what is there, what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// Such as `TargetTrackingConfiguration.TargetValue`.
    pub field: String,
    /// `None`: not there.
    pub before: Option<Value>,
    /// `None`: to be taken away.
    pub after: Option<Value>,
}

impl Wanted {
    /// What it is, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Group(policy) => policy.title(),
            Self::Target(target) => target.title(),
            Self::Application(policy) => policy.title(),
        }
    }

    /// What would change at AWS; nothing where it is as wanted.
    ///
    /// # Errors
    /// When AWS does not answer, or the policy has no place there.
    pub async fn diff(&self, account: &Account, all: &[Wanted]) -> Result<Vec<FieldChange>, PolicyError> {
        match self {
            Self::Group(policy) => Ok(changes(policy.there(account).await?.as_ref(), &**policy)),
            Self::Target(target) => Ok(changes(target.there(account).await?.as_ref(), target)),
            Self::Application(policy) => {
                policy.check_target(account, all).await?;
                Ok(changes(policy.there(account).await?.as_ref(), &**policy))
            }
        }
    }

    /// Puts it. Doing it twice is harmless.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn put(&self, account: &Account) -> Result<(), PolicyError> {
        match self {
            Self::Group(policy) => policy.put(account).await,
            Self::Target(target) => target.put(account).await,
            Self::Application(policy) => policy.put(account).await,
        }
    }
}

fn changes<T: Serialize>(before: Option<&T>, after: &T) -> Vec<FieldChange> {
    let before = before.map(leaves).unwrap_or_default();
    let after = leaves(after);
    let fields: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |field: &String| FieldChange {
        field: field.clone(),
        before: before.get(field).cloned(),
        after: after.get(field).cloned(),
    };
    let changed = |change: &FieldChange| change.before != change.after;
    fields.into_iter().map(change).filter(changed).collect()
}

/// Every value with its path.
fn leaves<T: Serialize>(value: &T) -> BTreeMap<String, Value> {
    fn walk(path: String, value: Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    walk(path, value, out);
                }
            }
            Value::Null => {}
            value @ (Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                out.insert(path, value);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(String::new(), serde_json::to_value(value).unwrap_or_default(), &mut out);
    out
}
