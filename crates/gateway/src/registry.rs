//! The scalers of this gateway, and the handle by which a controller in this process speaks to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{dial::Dialer, scaler::Scaler};

/// Scalers a gateway serves at most: a plan comes from a controller, but even so nothing grows for ever.
const MAX_SCALERS: usize = 16_384;

/// Longest time on the wall between the plans of two scalers that one controller has: it gives them at once.
const MAX_APART: Duration = Duration::from_secs(10);

/// What a controller in the same process holds of a gateway.
///
/// A clone is an observer of its own: what one has seen by [`GatewayHandle::report`] is still news to another.
#[derive(Debug)]
pub struct GatewayHandle {
    shared: Arc<Shared>,
    /// The versions that this handle's last reports showed.
    seen: Mutex<BTreeMap<ScalerId, u64>>,
}

#[derive(Debug)]
struct Shared {
    routes: RwLock<Routes>,
    stopping: CancellationToken,
    speed: f64,
    dialer: Arc<Dialer>,
    /// How many scalers there are.
    planned: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Routes {
    scalers: BTreeMap<ScalerId, Entry>,
    /// Scalers by their models; where two name the same model, the first by name has it.
    by_model: HashMap<String, Arc<Scaler>>,
    /// The first scaler that takes every model.
    catch_all: Option<Arc<Scaler>>,
}

#[derive(Debug)]
struct Entry {
    scaler: Arc<Scaler>,
    names: Names,
}

/// Values of a request's `model` that belong to a scaler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    models: Vec<String>,
    aliases: Vec<String>,
}

impl Names {
    fn of(plan: &PoolPlan) -> Self {
        Self { models: plan.models.clone(), aliases: plan.routing.aliases.keys().cloned().collect() }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.models.iter().chain(&self.aliases)
    }
}

/// No plan was ever given for this scaler.
#[derive(Debug, thiserror::Error)]
#[error("the gateway has no plan for scaler `{0}`")]
pub struct UnknownScaler(pub ScalerId);

impl Clone for GatewayHandle {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: Mutex::default() }
    }
}

impl GatewayHandle {
    pub(crate) fn new(speed: f64, stopping: CancellationToken, dialer: Dialer) -> Self {
        let shared = Shared {
            routes: RwLock::default(),
            stopping,
            speed,
            dialer: Arc::new(dialer),
            planned: watch::channel(0).0,
        };
        Self { shared: Arc::new(shared), seen: Mutex::default() }
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

    /// Returns once there is a plan for each of these scalers. One that nobody plans any more is not waited for long.
    pub(crate) async fn planned(&self, scalers: &[ScalerId]) {
        let mut planned = self.planned_count();
        // The sender lives as long as `self`.
        drop(planned.wait_for(|count| *count > 0).await);
        let all = planned.wait_for(|_| scalers.iter().all(|scaler| self.scaler(scaler).is_some()));
        if tokio::time::timeout(MAX_APART, all).await.is_err() {
            tracing::warn!("not every scaler of the gateway before has a plan here");
        }
    }

    /// How many scalers there are, and when there is another.
    pub(crate) fn planned_count(&self) -> watch::Receiver<usize> {
        self.shared.planned.subscribe()
    }

    fn scaler_or_new(&self, plan: &PoolPlan) -> Option<Arc<Scaler>> {
        let names = Names::of(plan);
        if let Some(entry) = self.routes().scalers.get(&plan.scaler)
            && entry.names == names
        {
            return Some(Arc::clone(&entry.scaler));
        }
        let mut routes = self.shared.routes.write().unwrap_or_else(PoisonError::into_inner);
        let full = routes.scalers.len() >= MAX_SCALERS;
        let scaler = match routes.scalers.get(&plan.scaler) {
            Some(entry) => Arc::clone(&entry.scaler),
            None if full => return None,
            None => {
                let Shared { stopping, speed, dialer, .. } = &*self.shared;
                Arc::new(Scaler::new(plan.clone(), *speed, stopping.child_token(), Arc::clone(dialer)))
            }
        };
        let entry = Entry { scaler: Arc::clone(&scaler), names };
        match routes.scalers.insert(plan.scaler.clone(), entry) {
            None => routes.add(&plan.scaler),
            Some(_) => routes.index(),
        }
        let count = routes.scalers.len();
        drop(routes);
        self.shared.planned.send_replace(count);
        Some(scaler)
    }

    /// What the gateway sees of a scaler now.
    ///
    /// # Errors
    /// When no plan was ever given for it.
    pub fn report(&self, scaler: &ScalerId) -> Result<PoolReport, UnknownScaler> {
        let found = self.scaler(scaler).ok_or_else(|| UnknownScaler(scaler.clone()))?;
        let (report, version) = found.report();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(scaler.clone(), version);
        Ok(report)
    }

    /// Returns when the queue or the work in flight changed since this handle's last report; never for an
    /// unknown scaler. Any number of changes before the next report count as one.
    pub async fn changed(&self, scaler: &ScalerId) {
        let Some(found) = self.scaler(scaler) else {
            return std::future::pending().await;
        };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(scaler).copied();
        found.changed(seen).await;
    }

    fn routes(&self) -> RwLockReadGuard<'_, Routes> {
        self.shared.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scaler(&self, id: &ScalerId) -> Option<Arc<Scaler>> {
        self.routes().scalers.get(id).map(|entry| Arc::clone(&entry.scaler))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Scaler>> {
        self.routes().scalers.values().map(|entry| Arc::clone(&entry.scaler)).collect()
    }

    pub(crate) fn ids(&self) -> Vec<ScalerId> {
        self.routes().scalers.keys().cloned().collect()
    }

    pub(crate) fn models(&self) -> Vec<String> {
        self.routes().scalers.values().flat_map(|entry| entry.names.all().cloned()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes().scalers.is_empty()
    }

    /// The scaler of a model: the one that names it, or one that takes every model; for a request that names
    /// none, also the only one there is.
    pub(crate) fn by_model(&self, model: Option<&str>) -> Option<Arc<Scaler>> {
        let routes = self.routes();
        let named = model.and_then(|model| routes.by_model.get(model));
        let only = || match routes.scalers.len() {
            1 if model.is_none() => routes.scalers.values().next().map(|entry| &entry.scaler),
            _ => None,
        };
        named.or(routes.catch_all.as_ref()).or_else(only).cloned()
    }
}

impl Routes {
    /// Finds anew which models are whose.
    fn index(&mut self) {
        self.by_model.clear();
        self.catch_all = None;
        let all: Vec<ScalerId> = self.scalers.keys().cloned().collect();
        all.iter().for_each(|id| self.add(id));
    }

    /// Makes the models of a scaler its own, but for those that one before it by name has.
    fn add(&mut self, id: &ScalerId) {
        let Some(Entry { scaler, names }) = self.scalers.get(id) else { return };
        if names.models.is_empty() && self.catch_all.as_ref().is_none_or(|first| *id < first.id) {
            self.catch_all = Some(Arc::clone(scaler));
        }
        for model in names.all() {
            let first = self.by_model.entry(model.clone()).or_insert_with(|| Arc::clone(scaler));
            if *id < first.id {
                *first = Arc::clone(scaler);
            }
        }
    }
}
