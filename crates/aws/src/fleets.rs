//! Opens fleets from their manifests, which share what can be shared.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_manifest::{AwsAutoScalingGroup, CheckedScaler};

use crate::{Account, AccountError, GroupConfig, GroupFleet, Groups, InterruptionQueue};

/// An account is asked about all its groups together, and a queue has one reader.
#[derive(Debug, Default)]
pub struct GroupFleets {
    /// By region and role.
    groups: BTreeMap<(Option<String>, Option<String>), Arc<Groups>>,
    /// By region, role and URL.
    queues: BTreeMap<(Option<String>, Option<String>, String), Arc<InterruptionQueue>>,
}

impl GroupFleets {
    /// Opens the fleet of a scaler, in time that runs `speed` times as fast. AWS is not asked yet.
    ///
    /// # Errors
    /// When no region is known.
    pub async fn open(
        &mut self,
        target: &AwsAutoScalingGroup,
        scaler: &CheckedScaler,
        speed: f64,
    ) -> Result<GroupFleet, AccountError> {
        let (region, role) = (target.region.clone(), target.role_arn.clone());
        let groups = match self.groups.get(&(region.clone(), role.clone())) {
            Some(groups) => Arc::clone(groups),
            None => {
                let account = Account::open(region.as_deref(), role.as_deref()).await?;
                let groups = Groups::start(account, speed);
                self.groups.insert((region.clone(), role.clone()), Arc::clone(&groups));
                groups
            }
        };
        let config = GroupConfig {
            name: target.name.clone(),
            address: target.address.clone(),
            health_path: scaler.engine.health_path.clone(),
            min_replicas: scaler.spec.replicas.min.0,
            max_replicas: scaler.spec.replicas.max.0,
        };
        let mut fleet = GroupFleet::open(Arc::clone(&groups), config)?;
        if let Some(url) = &target.interruption_queue {
            let start = || InterruptionQueue::start(groups.account(), url);
            let queue = self.queues.entry((region, role, url.clone())).or_insert_with(start);
            fleet.hear(Arc::clone(queue));
        }
        Ok(fleet)
    }
}
