//! The scalers of this gateway, and the handle by which a controller in this process speaks to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};

use crate::scaler::Scaler;

/// Scalers a gateway serves at most: a plan comes from a controller, but even so nothing grows for ever.
const MAX_SCALERS: usize = 1_024;

/// What a controller in the same process holds of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    scalers: Arc<RwLock<BTreeMap<ScalerId, Arc<Scaler>>>>,
    speed: f64,
}

/// No plan was ever given for this scaler.
#[derive(Debug, thiserror::Error)]
#[error("the gateway has no plan for scaler `{0}`")]
pub struct UnknownScaler(pub ScalerId);

impl GatewayHandle {
    pub(crate) fn new(speed: f64) -> Self {
        Self { scalers: Arc::default(), speed }
    }

    /// Serves this plan from now on. When it returns, no request goes to a draining or missing replica.
    ///
    /// Returns `false`, and changes nothing, when the gateway serves as many scalers as it can.
    pub fn apply(&self, plan: &PoolPlan) -> bool {
        self.scaler_or_new(plan).is_some_and(|scaler| {
            scaler.apply(plan);
            true
        })
    }

    fn scaler_or_new(&self, plan: &PoolPlan) -> Option<Arc<Scaler>> {
        let mut scalers = self.scalers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(scaler) = scalers.get(&plan.scaler) {
            return Some(Arc::clone(scaler));
        }
        if scalers.len() >= MAX_SCALERS {
            return None;
        }
        let scaler = Arc::new(Scaler::new(plan.clone(), self.speed));
        scalers.insert(plan.scaler.clone(), Arc::clone(&scaler));
        Some(scaler)
    }

    /// What the gateway sees of a scaler now.
    ///
    /// # Errors
    /// When no plan was ever given for it.
    pub fn report(&self, scaler: &ScalerId) -> Result<PoolReport, UnknownScaler> {
        self.scaler(scaler).map(|scaler| scaler.report()).ok_or_else(|| UnknownScaler(scaler.clone()))
    }

    /// Returns when the queue or the work in flight changed since the last report; never for an unknown scaler.
    pub async fn changed(&self, scaler: &ScalerId) {
        match self.scaler(scaler) {
            Some(scaler) => scaler.changed_since_report().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn scaler(&self, id: &ScalerId) -> Option<Arc<Scaler>> {
        self.scalers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Scaler>> {
        self.scalers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The scaler of a model; one without a list of models takes every model that no other names.
    pub(crate) fn by_model(&self, model: Option<&str>) -> Option<Arc<Scaler>> {
        let scalers = self.scalers.read().unwrap_or_else(PoisonError::into_inner);
        let named = scalers
            .values()
            .find(|scaler| model.is_some_and(|model| scaler.models().iter().any(|name| name == model)));
        let only = || if scalers.len() == 1 && model.is_none() { scalers.values().next() } else { None };
        named.or_else(|| scalers.values().find(|scaler| scaler.models().is_empty())).or_else(only).cloned()
    }
}
