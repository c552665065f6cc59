//! One task for each replica: watches it from its start to its end.

use std::{sync::Arc, time::Duration};

use forewarm_core::{FailedStart, Phase, ReplicaId};
use rustix::process::Signal;
use tokio::{net::TcpStream, process::Child, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{fleet::Shared, log::Log, process, registry::Identity};

/// Shortest time on the wall between two looks, however compressed the time is.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait on the wall for an answer to a look.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Looks that fail in a row before a ready replica counts as loading again: health may be slow under load.
const MAX_FAILED_PROBES: u32 = 5;
/// Time on the wall between two looks at a process that is not our child.
const ADOPTED_INTERVAL: Duration = Duration::from_millis(50);

/// What is watched.
pub(crate) struct Supervised {
    pub(crate) id: ReplicaId,
    pub(crate) port: u16,
    pub(crate) identity: Identity,
    /// `None` for a process that an earlier controller started.
    pub(crate) child: Option<Child>,
    pub(crate) log: Log,
    pub(crate) phase: Phase,
    pub(crate) was_ready: bool,
    /// Cancelled when it is to be stopped.
    pub(crate) stop: CancellationToken,
}

impl Supervised {
    /// Watches until the process has ended, and reports what came of it.
    pub(crate) async fn run(mut self, shared: Arc<Shared>) {
        let interval = shared.config.probe_interval.div_f64(shared.config.speed).max(MIN_PROBE_INTERVAL);
        let mut failed_probes = 0;
        let ended = loop {
            tokio::select! {
                ended = ended(&mut self.child, self.identity) => break ended,
                () = self.stop.cancelled() => break self.terminate(&shared).await,
                () = tokio::time::sleep(interval) => {}
            }
            let seen = probe(&shared, self.port).await;
            self.log.follow();
            shared.set_stages(&self.id, &self.log.stages);
            failed_probes = if seen == Seen::Serving { 0 } else { failed_probes + 1 };
            let phase = match (self.phase, seen) {
                (_, Seen::Serving) => Phase::Ready,
                (Phase::Ready, _) if failed_probes < MAX_FAILED_PROBES => Phase::Ready,
                (Phase::Ready | Phase::Loading, _) | (_, Seen::Listening) => Phase::Loading,
                (phase, Seen::Nothing) => phase,
            };
            if phase != self.phase {
                self.phase = phase;
                self.was_ready |= phase == Phase::Ready;
                shared.set_phase(&self.id, phase);
            }
        };
        // A server's worker may outlive it for a moment, or for ever.
        process::sweep_group(self.identity);
        self.log.follow();
        let asked = self.stop.is_cancelled();
        let failed = (!asked && !self.was_ready).then(|| FailedStart {
            id: self.id.clone(),
            phase: self.phase,
            error: format!("{ended}; {}", self.log.tail()),
        });
        if !asked && self.was_ready {
            tracing::warn!(replica = self.id.as_str(), ended, "a replica ended by itself");
        }
        shared.ended(&self.id, failed);
    }

    /// SIGTERM to the group, then SIGKILL when the grace is over.
    async fn terminate(&mut self, shared: &Shared) -> String {
        process::signal(self.identity, Signal::TERM);
        let grace = shared.config.termination_grace.div_f64(shared.config.speed);
        let deadline = Instant::now() + grace;
        tokio::select! {
            ended = ended(&mut self.child, self.identity) => return ended,
            () = tokio::time::sleep_until(deadline) => {}
        }
        tracing::warn!(replica = self.id.as_str(), "did not end within its grace and is killed");
        process::signal(self.identity, Signal::KILL);
        ended(&mut self.child, self.identity).await
    }
}

/// Waits for the end of a process, and says how it ended.
async fn ended(child: &mut Option<Child>, identity: Identity) -> String {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("it could not be waited for: {error}"),
        },
        None => {
            while process::lives(identity) {
                tokio::time::sleep(ADOPTED_INTERVAL).await;
            }
            "it ended".to_owned()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Listening,
    Serving,
}

async fn probe(shared: &Shared, port: u16) -> Seen {
    // Connecting first tells an engine that loads from one that is not there, and costs a refused port nothing.
    let connecting = TcpStream::connect(("127.0.0.1", port));
    if !matches!(tokio::time::timeout(PROBE_TIMEOUT, connecting).await, Ok(Ok(_))) {
        return Seen::Nothing;
    }
    let url = format!("http://127.0.0.1:{port}{}", shared.config.health_path);
    match shared.http.get(url).timeout(PROBE_TIMEOUT).send().await {
        Ok(response) if response.status().is_success() => Seen::Serving,
        Ok(_) | Err(_) => Seen::Listening,
    }
}
