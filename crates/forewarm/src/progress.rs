//! What a person sees in the terminal while a demo runs.

use std::sync::Mutex;

use forewarm_control::Snapshot;
use forewarm_core::{Decision, Phase};
use forewarm_load::LoadProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar that moves with the requests, and a line for each decision above it.
pub(crate) struct Progress {
    bar: ProgressBar,
    headless: bool,
    started: Mutex<Option<forewarm_core::Timestamp>>,
}

impl Progress {
    /// Nothing is drawn when headless, or when nobody looks at a terminal.
    pub(crate) fn start(headless: bool, requests: usize, page: Option<String>) -> Self {
        let bar = if headless { ProgressBar::hidden() } else { ProgressBar::new(requests as u64) };
        let template = "{bar:24} {pos}/{len} requests  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if let Some(url) = page {
            bar.println(format!("The live page: {url}"));
        }
        Self { bar, headless, started: Mutex::new(None) }
    }

    /// Shows where things are.
    pub(crate) fn show(&self, snapshot: &Snapshot, load: &LoadProgress) {
        let mut started = self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        started.get_or_insert(snapshot.observation.at);
        if self.headless {
            return;
        }
        let queued = snapshot.report.as_ref().map_or(0, |report| report.queued);
        let coming = snapshot.observation.count_where(Phase::is_coming);
        let ready = snapshot.observation.count(Phase::Ready);
        self.bar.set_position(load.account.ended());
        self.bar.set_message(format!(
            "{queued} wait  {ready} ready + {coming} starting of {}  TTFT p99 {:.1} s  lost {}",
            snapshot.decision.to.0, load.ttft.p99, load.account.lost
        ));
    }

    /// Tells a decision that changed or did something.
    pub(crate) fn tell(&self, decision: &Decision) {
        if self.headless || decision.from == decision.to {
            return;
        }
        let started = *self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let since = started.map_or(0.0, |started| decision.at.since(started).as_secs_f64());
        self.bar.println(format!("{:>5.0} s  {}", since, decision.summary()));
    }

    /// Clears the bar.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
