//! Watches one replica from its spawn, or its adoption, to its end. Never decides that it should end.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_control::ports::EndedReplica;
use forewarm_core::{FailedStart, Phase, ReplicaId};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Work,
    fleet::Shared,
    health::{self, Answer},
    live::Live,
    log::{self, LogTail},
    process::{self, Process},
    procfs,
};

/// A worker that has run for so long was started well: most that cannot start say so sooner.
const SETTLED: Duration = Duration::from_secs(1);
/// Rounds of looking for what a replica left behind: a process may start another while it is killed.
const STRAY_ROUNDS: usize = 5;

/// The keeper of one replica.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    id: ReplicaId,
    process: Process,
    log: Arc<Mutex<LogTail>>,
    port: u16,
    since: Instant,
    drain: CancellationToken,
    told_to_drain: bool,
    told_of_tls: bool,
    stop: CancellationToken,
    was_ready: bool,
    failures: u32,
    reported_stages: BTreeMap<String, f64>,
    derived_stages: BTreeMap<String, f64>,
}

/// How a replica ended that nobody stopped.
pub(crate) struct End {
    /// Such as an exit status.
    pub(crate) how: String,
    /// Whether it had been ready.
    pub(crate) was_ready: bool,
    /// The phase in which it ended.
    pub(crate) phase: Phase,
}

impl End {
    /// Leaves the notice for the next look, with the end of the log and where the rest is.
    pub(crate) fn announce(self, live: &mut Live, id: &ReplicaId, log: &Path) {
        let quoted = log::last_lines(log);
        let output = if quoted.is_empty() {
            "no output".to_owned()
        } else {
            format!("its output ends with\n{quoted}")
        };
        let text = format!("{}; {output}\n(log: {})", self.how, log.display());
        tracing::warn!(replica = %id, phase = self.phase.label(), how = self.how, log = %log.display(), "replica ended");
        if self.was_ready {
            live.ended(EndedReplica { id: id.clone(), reason: text });
        } else {
            live.failed(FailedStart { id: id.clone(), phase: self.phase, error: text });
        }
    }
}

impl Supervisor {
    /// The keeper of a replica that is in view already.
    pub(crate) fn new(shared: &Arc<Shared>, id: ReplicaId, process: Process, was_ready: bool) -> Self {
        let (port, drain, stop, stages) = shared.with_live(|live| {
            live.replicas.get(&id).map_or_else(
                || (0, CancellationToken::new(), CancellationToken::new(), BTreeMap::new()),
                |replica| {
                    let (drain, stop) = (replica.drain.clone(), replica.stop.clone());
                    (replica.port, drain, stop, replica.stages_seconds.clone())
                },
            )
        });
        let log = LogTail::new(shared.log_path(&id), shared.config.log_bytes);
        Self {
            shared: Arc::clone(shared),
            id,
            process,
            log: Arc::new(Mutex::new(log)),
            port,
            since: Instant::now(),
            drain,
            told_to_drain: false,
            told_of_tls: false,
            stop,
            was_ready,
            failures: 0,
            reported_stages: BTreeMap::new(),
            derived_stages: stages,
        }
    }

    /// Starts the keeping as a task of the fleet.
    pub(crate) fn start(self) {
        let tasks = self.shared.tasks.clone();
        tasks.spawn(self.run());
    }

    async fn run(mut self) {
        let grace = self.shared.config.grace();
        let mut kill_at: Option<Instant> = None;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = self.shared.detach.cancelled() => return,
                () = self.process.exited() => break,
                () = self.drain.cancelled(), if self.takes_work() && !self.told_to_drain && kill_at.is_none() => {
                    self.told_to_drain = true;
                    self.tell_to_drain();
                }
                () = self.stop.cancelled(), if kill_at.is_none() => {
                    self.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + grace);
                }
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    tracing::warn!(replica = %self.id, ?grace, "still runs after SIGTERM and its grace: killed");
                    self.signal(Signal::KILL);
                    kill_at = Some(Instant::now() + grace);
                }
                answer = self.probe(wait), if kill_at.is_none() => {
                    wait = self.shared.config.probe_interval();
                    self.read_log().await;
                    self.note(answer).await;
                }
            }
        }
        self.end().await;
    }

    async fn probe(&self, wait: Duration) -> Answer {
        sleep(wait).await;
        if self.takes_work() {
            return if self.since.elapsed() >= SETTLED { Answer::Ready } else { Answer::NotYet };
        }
        health::ask(&self.shared.http, &self.shared.config, self.port).await
    }

    fn takes_work(&self) -> bool {
        self.shared.config.work != Work::Sent
    }

    fn tell_to_drain(&self) {
        if let Err(error) = self.process.signal(Signal::TERM) {
            tracing::error!(replica = %self.id, %error, "cannot tell it to take no more work");
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = self.process.signal_group(signal) {
            tracing::error!(replica = %self.id, %error, ?signal, "cannot signal the process group");
        }
    }

    /// Moves the replica to the phase that the answer shows.
    async fn note(&mut self, answer: Answer) {
        if let Answer::NoTls(why) = &answer
            && !std::mem::replace(&mut self.told_of_tls, true)
        {
            tracing::warn!(replica = %self.id, why, "TLS with the engine comes to nothing: it is not ready");
        }
        match (answer, self.was_ready) {
            (Answer::Refused, false) => {}
            (Answer::NotYet | Answer::NoTls(_), false) => self.set(Phase::Loading, None),
            (Answer::Ready, _) => {
                self.failures = 0;
                self.set(Phase::Ready, None);
                if !self.was_ready {
                    self.was_ready = true;
                    self.remember_ready().await;
                }
            }
            (Answer::Refused | Answer::NotYet | Answer::NoTls(_), true) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == self.shared.config.health.unready_after.get() {
                    tracing::warn!(replica = %self.id, failures = self.failures, "does not answer any more");
                    self.set(Phase::Loading, Some(Instant::now()));
                }
            }
        }
    }

    fn set(&mut self, phase: Phase, unready_since: Option<Instant>) {
        let shared = Arc::clone(&self.shared);
        let first_ready = phase == Phase::Ready && !self.was_ready;
        let unchanged =
            shared.peek_live(|live| live.replicas.get(&self.id).is_none_or(|replica| replica.phase == phase));
        if unchanged && !first_ready {
            return;
        }
        shared.with_live(|live| {
            let Some(replica) = live.replicas.get_mut(&self.id) else { return };
            let age = shared.config.modelled(replica.age()).as_secs_f64();
            if !self.was_ready {
                self.derive_stage(phase, age);
            }
            replica.phase = phase;
            replica.unready_since = unready_since;
            replica.stages_seconds = self.stages();
        });
    }

    /// Up to the first sign of a listener is `provision`, from there to readiness `load`. An engine that
    /// listens only once it is ready leaves no sign between; then all of it is `provision`.
    fn derive_stage(&mut self, phase: Phase, age_seconds: f64) {
        let before: f64 = self.derived_stages.values().sum();
        let stage = if self.derived_stages.is_empty() { "provision" } else { "load" };
        if matches!(phase, Phase::Loading | Phase::Ready) {
            self.derived_stages.insert(stage.to_owned(), (age_seconds - before).max(0.0));
        }
    }

    fn stages(&self) -> BTreeMap<String, f64> {
        if self.reported_stages.is_empty() { &self.derived_stages } else { &self.reported_stages }.clone()
    }

    async fn remember_ready(&self) {
        let (shared, id, stages_seconds) = (Arc::clone(&self.shared), self.id.clone(), self.stages());
        self.shared
            .blocking("remember that a replica is ready", move || {
                shared.lock_registry().update(|book| {
                    if let Some(entry) = book.replicas.get_mut(&id) {
                        entry.was_ready = true;
                        entry.stages_seconds = stages_seconds;
                    }
                })
            })
            .await;
    }

    async fn read_log(&mut self) {
        let log = Arc::clone(&self.log);
        let read = move || log.lock().unwrap_or_else(PoisonError::into_inner).read();
        let stages = self.shared.blocking("read a replica's log", read).await.unwrap_or_default();
        if stages.is_empty() {
            return;
        }
        self.reported_stages.extend(stages);
        let stages = self.stages();
        self.shared.with_live(|live| {
            if let Some(replica) = live.replicas.get_mut(&self.id) {
                replica.stages_seconds = stages;
            }
        });
    }

    /// Clears away what is left of it, then lets go of its name and port.
    async fn end(mut self) {
        // While a child is not reaped, its number and so its group's cannot be another's.
        self.signal(Signal::KILL);
        let status = self.process.reap();
        self.kill_strays().await;
        self.read_log().await;
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        self.shared
            .blocking("forget a replica", move || {
                let mut registry = shared.lock_registry();
                registry.update(|book| drop(book.replicas.remove(&id)))?;
                log::remove_old(&shared.logs, |name| registry.book().replicas.contains_key(name))
            })
            .await;
        let how = describe(status);
        let was_ready = self.was_ready;
        // A job that is done is as it should be.
        let is_done = self.shared.config.work == Work::Job && status.is_some_and(|status| status.success());
        let stopped = self.stop.is_cancelled() || self.told_to_drain || is_done;
        let has_failed = self.takes_work() && status.is_some_and(|status| !status.success());
        let path = self.log.lock().unwrap_or_else(PoisonError::into_inner).path().to_owned();
        self.shared.with_live(|live| {
            let phase = live.replicas.remove(&self.id).map_or(Phase::Provisioning, |replica| replica.phase);
            if stopped {
                tracing::info!(replica = %self.id, how, "replica stopped");
            } else {
                // A worker that fails again and again is to be started ever more slowly, ready or not.
                End { how, was_ready: was_ready && !has_failed, phase }.announce(live, &self.id, &path);
            }
        });
    }

    /// Kills processes of this replica that left the group or outlived its leader, as vLLM's worker does.
    async fn kill_strays(&self) {
        for _ in 0..STRAY_ROUNDS {
            let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
            let find = move || -> io::Result<_> {
                let mut found = procfs::find(&shared.fleet, &shared.logs)?;
                found.retain(|found| found.replica == id);
                Ok(found)
            };
            let strays = self.shared.blocking("look for stray processes", find).await.unwrap_or_default();
            if strays.is_empty() {
                return;
            }
            if let Err(error) = process::kill(strays).await {
                tracing::error!(replica = %self.id, %error, "cannot kill a stray process");
            }
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "ended, exit status unknown".to_owned(), |status| format!("ended with {status}"))
}
