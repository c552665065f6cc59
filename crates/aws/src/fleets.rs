//! Opens fleets from their manifests, which share what can be shared.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_manifest::{AwsAutoScalingGroup, CheckedScaler};
use forewarm_signals::measure;

use crate::{
    AccountError, GroupConfig, GroupFleet, Groups, InterruptionQueue,
    accounts::{Accounts, Place},
};

/// An account is asked about all its groups together, and a queue has one reader.
#[derive(Debug, Default)]
pub struct GroupFleets {
    accounts: Accounts,
    groups: BTreeMap<Place, Arc<Groups>>,
    queues: BTreeMap<(Place, String), Arc<InterruptionQueue>>,
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
        let place = (target.region.clone(), target.role_arn.clone());
        let groups = match self.groups.get(&place) {
            Some(groups) => Arc::clone(groups),
            None => {
                let groups = Groups::start(self.accounts.account(&place).await?, speed);
                self.groups.insert(place.clone(), Arc::clone(&groups));
                groups
            }
        };
        let config = GroupConfig {
            name: target.name.clone(),
            address: target.address.clone(),
            health_path: scaler.engine.health_path.clone(),
            tls: measure::engine_tls(scaler).map_err(|error| AccountError::Client(error.to_string()))?,
            min_replicas: scaler.spec.replicas.min.0,
            max_replicas: scaler.spec.replicas.max.0,
        };
        let mut fleet = GroupFleet::open(Arc::clone(&groups), config)?;
        if let Some(url) = &target.interruption_queue {
            let start = || InterruptionQueue::start(groups.account(), url);
            let queue = self.queues.entry((place, url.clone())).or_insert_with(start);
            fleet.hear(Arc::clone(queue));
        }
        Ok(fleet)
    }
}
