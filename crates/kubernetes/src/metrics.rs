//! What the controller counts, in Prometheus' text format.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of one controller. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    scalers: AtomicU64,
    evaluations: AtomicU64,
    decisions: AtomicU64,
    scales: AtomicU64,
    errors: AtomicU64,
}

impl Metrics {
    pub(crate) fn scalers(&self, count: usize) {
        self.0.scalers.store(count as u64, Relaxed);
    }

    pub(crate) fn evaluated(&self, count: usize) {
        self.0.evaluations.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn decided(&self) {
        self.0.decisions.fetch_add(1, Relaxed);
    }

    pub(crate) fn carried_out(&self, scaled: bool, failed: bool) {
        self.0.scales.fetch_add(u64::from(scaled && !failed), Relaxed);
        self.0.errors.fetch_add(u64::from(failed), Relaxed);
    }

    /// How many evaluations there were.
    pub fn evaluations(&self) -> u64 {
        self.0.evaluations.load(Relaxed)
    }

    /// The page.
    pub fn page(&self) -> String {
        let Counts { scalers, evaluations, decisions, scales, errors } = &*self.0;
        let families = [
            ("forewarm_kube_scalers", "gauge", "InferenceScalers that are watched", scalers),
            ("forewarm_kube_evaluations_total", "counter", "Evaluations of scalers", evaluations),
            (
                "forewarm_kube_decisions_total",
                "counter",
                "Decisions that changed or did something",
                decisions,
            ),
            ("forewarm_kube_scales_total", "counter", "Numbers of replicas that were written", scales),
            ("forewarm_kube_errors_total", "counter", "Orders that could not be carried out", errors),
        ];
        let mut page = String::new();
        for (name, kind, help, value) in families {
            page.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n",
                value.load(Relaxed)
            ));
        }
        page
    }
}
