//! The fleet as it is seen now: what [`observe`](forewarm_control::ports::Fleet::observe) answers from.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use forewarm_control::ports::{EndedReplica, FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, ReplicaId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{ProcessFleetConfig, registry::Entry};

/// Notices that wait for an `observe`: more than one loop can miss, few enough to hold if nobody looks.
const NOTICES_KEPT: usize = 256;

/// Every replica, and what ended since the last look.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) replicas: BTreeMap<ReplicaId, LiveReplica>,
    failed: VecDeque<FailedStart>,
    ended: VecDeque<EndedReplica>,
}

/// One replica.
#[derive(Debug)]
pub(crate) struct LiveReplica {
    /// Where it is in its life, not counting that it leaves.
    pub(crate) phase: Phase,
    /// Whether it drains or is being stopped.
    pub(crate) leaving: bool,
    /// Where it serves.
    pub(crate) port: u16,
    /// How long its stages took, in modelled seconds.
    pub(crate) stages_seconds: BTreeMap<String, f64>,
    /// When it stopped answering, if it had been ready and does not answer.
    pub(crate) unready_since: Option<Instant>,
    /// Tells its supervisor to have it take no more work.
    pub(crate) drain: CancellationToken,
    /// Tells its supervisor to stop it.
    pub(crate) stop: CancellationToken,
    age_when_seen: Duration,
    seen_at: Instant,
}

impl LiveReplica {
    /// A replica as the registry knows it.
    pub(crate) fn new(entry: &Entry, phase: Phase) -> Self {
        let age_when_seen = Duration::from_millis(now_millis().saturating_sub(entry.requested_at_millis));
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        if entry.draining {
            drain.cancel();
        }
        if entry.stopping {
            stop.cancel();
        }
        Self {
            phase,
            leaving: entry.draining || entry.stopping,
            port: entry.port,
            stages_seconds: entry.stages_seconds.clone(),
            unready_since: None,
            drain,
            stop,
            age_when_seen,
            seen_at: Instant::now(),
        }
    }

    /// Wall time since it was requested.
    pub(crate) fn age(&self) -> Duration {
        self.age_when_seen.saturating_add(self.seen_at.elapsed())
    }

    fn phase_shown(&self) -> Phase {
        if self.leaving { Phase::Draining } else { self.phase }
    }
}

impl Live {
    /// Remembers a failed start for the next look.
    pub(crate) fn failed(&mut self, failed: FailedStart) {
        if self.failed.len() == NOTICES_KEPT {
            self.failed.pop_front();
        }
        self.failed.push_back(failed);
    }

    /// Remembers the end of a replica that had been ready for the next look.
    pub(crate) fn ended(&mut self, ended: EndedReplica) {
        if self.ended.len() == NOTICES_KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }

    /// The view, with each notice for the first and last time.
    ///
    /// A replica that was ready and does not answer any more has the age since then, so that it gets as
    /// long to come back as a new one gets to start.
    pub(crate) fn view(&mut self, config: &ProcessFleetConfig) -> FleetView {
        let replicas = self.replicas.iter().map(|(id, replica)| FleetReplica {
            age: config
                .modelled(replica.unready_since.map_or_else(|| replica.age(), |since| since.elapsed())),
            address: Some(format!("127.0.0.1:{}", replica.port)),
            stages_seconds: replica.stages_seconds.clone(),
            ..FleetReplica::new(id.clone(), replica.phase_shown())
        });
        FleetView {
            replicas: replicas.collect(),
            failed_starts: std::mem::take(&mut self.failed).into(),
            ended: std::mem::take(&mut self.ended).into(),
            ..FleetView::default()
        }
    }
}

/// Now, in milliseconds since 1970: the only time that survives a restart.
pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
