//! The producers' side of the page: the newest view of each scaler and a bounded series of points.
//!
//! Consumers pull: each remembers what it has seen and asks for the rest. Nothing is queued for anybody,
//! so that a slow consumer costs nothing and sees the newest state when it looks again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forewarm_core::ScalerId;
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use crate::view::{ScalerView, SeriesPoint};

/// Where views are published. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Dashboard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    scalers: Mutex<BTreeMap<ScalerId, Entry>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    view: Arc<ScalerView>,
    updated: Instant,
    /// The dashboard's revision at the last change of the view.
    revision: u64,
    points: VecDeque<SeriesPoint>,
    /// Points pushed ever.
    pushed: u64,
}

/// What a consumer has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    revision: u64,
    pushed: BTreeMap<ScalerId, u64>,
}

/// What a consumer has not seen yet.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Update {
    scalers: Vec<Arc<ScalerView>>,
    points: BTreeMap<ScalerId, Vec<SeriesPoint>>,
}

impl Dashboard {
    /// Points kept per scaler: 20 minutes at one a second, drawn at about a pixel each.
    pub const MAX_POINTS: usize = 1_200;
    /// Scalers shown and exported: bounds memory and label values. More are not shown.
    pub const MAX_SCALERS: usize = 256;
    /// Decisions kept in a view: what a person scrolls through; the journal has all.
    pub const MAX_DECISIONS: usize = 30;
    /// Notices kept in a view: more are not read.
    pub const MAX_NOTICES: usize = 20;

    /// A dashboard with nothing on it.
    pub fn new() -> Self {
        let shared = Shared { scalers: Mutex::default(), revision: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Shows `view`; it replaces the scaler's view before. Lists beyond their bounds are cut at the end.
    pub fn update(&self, mut view: ScalerView) {
        view.last_decisions.truncate(Self::MAX_DECISIONS);
        view.notices.truncate(Self::MAX_NOTICES);
        let mut scalers = self.lock();
        let revision = *self.shared.revision.borrow() + 1;
        let known = scalers.len();
        match scalers.get_mut(&view.scaler) {
            Some(entry) => {
                (entry.updated, entry.revision) = (Instant::now(), revision);
                entry.view = Arc::new(view);
            }
            None if known >= Self::MAX_SCALERS => {
                tracing::warn!(scaler = view.scaler.as_str(), max = Self::MAX_SCALERS, "too many to show");
                return;
            }
            None => {
                let entry = Entry {
                    updated: Instant::now(),
                    revision,
                    points: VecDeque::new(),
                    pushed: 0,
                    view: Arc::new(view),
                };
                scalers.insert(entry.view.scaler.clone(), entry);
            }
        }
        self.shared.revision.send_replace(revision);
    }

    /// Adds a point to the charts of a scaler that has a view; the oldest goes when there are
    /// [`Self::MAX_POINTS`].
    pub fn push_point(&self, scaler: &ScalerId, point: SeriesPoint) {
        let mut scalers = self.lock();
        let Some(entry) = scalers.get_mut(scaler) else { return };
        if entry.points.len() == Self::MAX_POINTS {
            entry.points.pop_front();
        }
        entry.points.push_back(point);
        entry.pushed += 1;
        self.shared.revision.send_modify(|revision| *revision += 1);
    }

    /// Every scaler's view, by name.
    pub fn views(&self) -> Vec<Arc<ScalerView>> {
        self.lock().values().map(|entry| Arc::clone(&entry.view)).collect()
    }

    /// One scaler's view.
    pub fn view(&self, scaler: &str) -> Option<Arc<ScalerView>> {
        self.lock().get(scaler).map(|entry| Arc::clone(&entry.view))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// What changed since `seen`, which is brought up to date. At most one view and
    /// [`Self::MAX_POINTS`] points per scaler, however long ago that was.
    pub(crate) fn since(&self, seen: &mut Seen) -> Update {
        let scalers = self.lock();
        let mut update = Update::default();
        for (name, entry) in scalers.iter() {
            if entry.revision > seen.revision {
                update.scalers.push(Arc::clone(&entry.view));
            }
            let before = seen.pushed.insert(name.clone(), entry.pushed).unwrap_or(0);
            let fresh = usize::try_from(entry.pushed - before).unwrap_or(usize::MAX).min(entry.points.len());
            if fresh > 0 {
                let points = entry.points.range(entry.points.len() - fresh..).copied().collect();
                update.points.insert(name.clone(), points);
            }
        }
        seen.revision = *self.shared.revision.borrow();
        update
    }

    /// Seconds on the wall since each scaler's last update.
    pub(crate) fn silence_seconds(&self) -> BTreeMap<ScalerId, f64> {
        self.lock()
            .iter()
            .map(|(name, entry)| (name.clone(), entry.updated.elapsed().as_secs_f64()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ScalerId, Entry>> {
        // Every critical section leaves the map whole.
        self.shared.scalers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Dashboard {
    fn default() -> Self {
        Self::new()
    }
}
