//! What is known of each scaler: told by who decides, asked by KEDA.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// What is known of one scaler at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The number of replicas that were decided on; `None`: nothing was decided yet.
    pub desired: Option<u32>,
    /// Requests that wait; `None`: nobody knows.
    pub queued: Option<f64>,
    /// Requests at replicas; `None`: nobody knows.
    pub in_flight: Option<f64>,
    /// When it was so. `None`: as of the last [`Readings::confirm`], from a source that tells changes only.
    pub at: Option<Instant>,
}

/// The latest [`Reading`] of every scaler. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    scalers: RwLock<BTreeMap<String, watch::Sender<Reading>>>,
    /// Told when a scaler comes.
    arrivals: watch::Sender<()>,
    /// When what was told was last known to be so still.
    confirmed: watch::Sender<Option<Instant>>,
}

impl Readings {
    /// Takes what is known of a scaler now. Those who follow it hear of it at once.
    pub fn publish(&self, scaler: &str, reading: Reading) {
        let scalers = self.0.scalers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = scalers.get(scaler) {
            known.send_replace(reading);
            return;
        }
        drop(scalers);
        let mut scalers = self.0.scalers.write().unwrap_or_else(PoisonError::into_inner);
        scalers.insert(scaler.to_owned(), watch::Sender::new(reading));
        drop(scalers);
        self.0.arrivals.send_replace(());
    }

    /// Says that everything that was told without a time is so still, as of now: who decides is alive.
    pub fn confirm(&self) {
        self.0.confirmed.send_replace(Some(Instant::now()));
    }

    /// Forgets a scaler that is no more.
    pub fn remove(&self, scaler: &str) {
        self.0.scalers.write().unwrap_or_else(PoisonError::into_inner).remove(scaler);
    }

    /// The reading of a scaler and all that come after it, until it is removed.
    pub(crate) fn follow(&self, scaler: &str) -> Option<watch::Receiver<Reading>> {
        self.0
            .scalers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(scaler)
            .map(watch::Sender::subscribe)
    }

    pub(crate) fn get(&self, scaler: &str) -> Option<Reading> {
        let scalers = self.0.scalers.read().unwrap_or_else(PoisonError::into_inner);
        scalers.get(scaler).map(|known| known.borrow().clone())
    }

    /// Changes at each [`Readings::confirm`].
    pub(crate) fn confirmed(&self) -> watch::Receiver<Option<Instant>> {
        self.0.confirmed.subscribe()
    }

    /// Time since a reading was so; `None`: nobody ever said so.
    pub(crate) fn age(&self, reading: &Reading) -> Option<Duration> {
        Some(reading.at.or(*self.0.confirmed.borrow())?.elapsed())
    }

    /// Changes whenever a scaler comes.
    pub(crate) fn arrivals(&self) -> watch::Receiver<()> {
        self.0.arrivals.subscribe()
    }
}
