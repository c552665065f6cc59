//! The loop of one scaler: observe, decide, record, act.

use std::{sync::Arc, time::Duration};

use forewarm_core::{
    ColdStarts, Decision, Observation, Pause, ScalerSpec, ScalerState, Timestamp, plan,
    pool::{Concurrency, PoolReport, QueueLimits, Routing},
};
use futures_util::future::{BoxFuture, FutureExt, select_all};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Store, StoreError,
    front::{Front, PlanAtGateway},
    observe::{chain, observation},
    ports::{Fleet, FleetReplica, FleetView, Gateway, SignalSet},
};

/// One scaler and everything that its decisions touch.
pub struct Controller {
    /// What was asked for.
    pub spec: ScalerSpec,
    /// Values of a request's `model` field that belong to it.
    pub models: Vec<String>,
    /// Limits of its queue at the gateway.
    pub queue: QueueLimits,
    /// How the gateway tells requests apart.
    pub routing: Routing,
    /// What makes a replica's concurrency less than the specification's.
    pub concurrency: Concurrency,
    /// Tokens that a replica's KV cache holds; `None`: what the signal [`KV_TOKENS`](crate::KV_TOKENS) says of it, if there is one.
    pub kv_tokens: Option<u64>,
    /// Whether its replicas speak TLS.
    pub speaks_tls: bool,
    /// Its replicas.
    pub fleet: Arc<dyn Fleet>,
    /// Its front door, if it has one.
    pub gateway: Option<Arc<dyn Gateway>>,
    /// What else is measured.
    pub signals: Vec<Arc<dyn SignalSet>>,
    /// Where decisions are written down.
    pub store: Arc<Store>,
    /// Modelled time.
    pub clock: Clock,
    /// Where every evaluation is shown; the newest wins.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// Where every decision that changes or does something is announced, none left out.
    pub decisions: broadcast::Sender<Arc<Decision>>,
}

/// What one evaluation saw and decided.
#[derive(Debug)]
pub struct Snapshot {
    /// What was asked for.
    pub spec: ScalerSpec,
    /// What was seen.
    pub observation: Observation,
    /// Addresses and stages of the replicas.
    pub replicas: Vec<FleetReplica>,
    /// What the gateway saw, if there is one and it answered.
    pub report: Option<PoolReport>,
    /// What was decided.
    pub decision: Arc<Decision>,
    /// How long starts took so far.
    pub cold_starts: ColdStarts,
    /// What went wrong when acting, if so.
    pub error: Option<String>,
    /// Time on the wall from the first look to the decision on disk.
    pub evaluation: Duration,
}

/// A request by a person. The reply says why it was not done.
#[derive(Debug)]
pub enum Command {
    /// Hold this number of replicas.
    Pause(Pause, oneshot::Sender<Result<(), CommandError>>),
    /// Let the policy decide again.
    Resume(oneshot::Sender<Result<(), CommandError>>),
}

/// Why a command was not done. It changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// More than the upper bound.
    #[error("`replicas` is {wanted}: at most {max} are allowed by `spec.replicas.max`")]
    AboveMax {
        /// What was asked for.
        wanted: u32,
        /// The bound.
        max: u32,
    },
    /// Zero where zero is guarded.
    #[error(
        "`replicas` is 0: production goes to zero only with `replicas.min: 0` and `allowScaleToZero: true`"
    )]
    ZeroInProduction,
    /// Already over.
    #[error("`until` is in the past")]
    Expired,
    /// It could not be written down.
    #[error("cannot write it down")]
    Store(#[source] StoreError),
}

/// Evaluation period when nothing happens: HPA's sync period.
const TICK: Duration = Duration::from_secs(15);
/// Shortest time on the wall between two evaluations. The first event after a quiet time is acted on at
/// once; a storm of them is taken together.
const MIN_GAP: Duration = Duration::from_millis(20);

impl Controller {
    /// Runs until cancelled, obeying `commands` in between. State and decisions are on disk whenever it stops, also when it is killed.
    ///
    /// # Errors
    /// When the state cannot be read or written: without memory nothing is decided.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let mut state = self.resume()?;
        let mut plan_at_gateway: Option<PlanAtGateway> = None;
        loop {
            let started = tokio::time::Instant::now();
            let wake_at = self.evaluate(&mut state, &mut plan_at_gateway, started).await?;
            let gap = started + MIN_GAP;
            let next_tick = self.clock.now() + TICK;
            let wake_at = wake_at.map_or(next_tick, |at| at.min(next_tick));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.clock.sleep_until(wake_at) => {}
                () = self.changed() => {}
                Some(command) = commands.recv() => self.obey(command, &state),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(gap) => {}
            }
        }
    }

    /// Takes up where the last controller stopped. A pause made by hand outlives the restart.
    fn resume(&mut self) -> Result<ScalerState, StoreError> {
        let state = match self.store.load(&self.spec.scaler)? {
            Some((spec, state)) => {
                if self.spec.pause.is_none() {
                    self.spec.pause = spec.pause.filter(|pause| self.clock.now() < pause.until);
                }
                state
            }
            None => ScalerState::default(),
        };
        self.store.checkpoint(&self.spec, &state)?;
        Ok(state)
    }

    async fn changed(&self) {
        let mut events: Vec<BoxFuture<'_, ()>> = vec![self.fleet.changed()];
        events.extend(self.gateway.iter().map(|gateway| gateway.changed()));
        events.extend(self.signals.iter().map(|signals| signals.changed()));
        select_all(events).map(|_| ()).await;
    }

    /// One evaluation; returns when the decision wants the next one at the latest.
    async fn evaluate(
        &self,
        state: &mut ScalerState,
        plan_at_gateway: &mut Option<PlanAtGateway>,
        started: tokio::time::Instant,
    ) -> Result<Option<Timestamp>, StoreError> {
        let report = match &self.gateway {
            Some(gateway) => Some(gateway.report().await),
            None => None,
        };
        if matches!(report, Some(Err(_))) {
            // It may have been restarted, and then has no plan.
            *plan_at_gateway = None;
        }
        let fleet = self.fleet.observe().await;
        if let Ok(view) = &fleet {
            self.signals.iter().for_each(|signals| signals.replicas(&view.replicas));
        }
        let signals = self.signals.iter().flat_map(|signals| signals.latest()).collect();
        let now = self.clock.now();
        let seen = observation(now, fleet.as_ref(), report.as_ref().map(Result::as_ref), signals);
        let decision = Arc::new(plan(&self.spec, state, &seen));
        self.store.decided(&self.spec, state, &seen, &decision)?;
        let evaluation = started.elapsed();
        let error = self.act(&decision, &seen, fleet.as_ref().ok(), plan_at_gateway).await;
        if decision.acts() {
            self.store.outcome(&self.spec.scaler, error.clone())?;
        }
        if decision.is_news() {
            announce(&decision, error.as_deref());
            // Nobody listening is fine: the journal has it.
            drop(self.decisions.send(Arc::clone(&decision)));
        }
        self.snapshots.send_replace(Some(Arc::new(Snapshot {
            spec: self.spec.clone(),
            observation: seen,
            replicas: fleet.unwrap_or_default().replicas,
            report: report.and_then(Result::ok),
            decision: Arc::clone(&decision),
            cold_starts: state.cold_starts.clone(),
            error,
            evaluation,
        })));
        Ok(decision.wake_at)
    }

    /// Makes the world follow the decision; says what went wrong. Everything here is level-triggered:
    /// what fails is tried again at the next evaluation.
    async fn act(
        &self,
        decision: &Decision,
        seen: &Observation,
        view: Option<&FleetView>,
        plan_at_gateway: &mut Option<PlanAtGateway>,
    ) -> Option<String> {
        // The gateway first: a replica gets no request any more when the fleet is told to drain or stop it.
        // Where the fleet could not be seen, the gateway keeps the plan it has.
        if let (Some(gateway), Some(view)) = (&self.gateway, view) {
            let plan = self.front().plan(decision, seen, &view.replicas);
            if !plan_at_gateway.as_ref().is_some_and(|there| there.says(&plan, decision.at)) {
                if let Err(error) = gateway.apply(&plan).await {
                    return Some(chain(&error));
                }
                *plan_at_gateway = Some(PlanAtGateway { plan, at: decision.at });
            }
        }
        if decision.placement.is_empty() {
            return None;
        }
        self.fleet.apply(&decision.placement).await.err().map(|error| chain(&error))
    }

    fn front(&self) -> Front<'_> {
        Front {
            spec: &self.spec,
            models: &self.models,
            queue: &self.queue,
            routing: &self.routing,
            concurrency: self.concurrency,
            kv_tokens: self.kv_tokens,
            speaks_tls: self.speaks_tls,
        }
    }

    fn obey(&mut self, command: Command, state: &ScalerState) {
        let (reply, pause) = match command {
            Command::Pause(pause, reply) => match self.check(&pause) {
                Ok(()) => (reply, Some(pause)),
                Err(error) => {
                    // Whoever asked may have gone.
                    drop(reply.send(Err(error)));
                    return;
                }
            },
            Command::Resume(reply) => (reply, None),
        };
        let before = std::mem::replace(&mut self.spec.pause, pause);
        let written = self.store.checkpoint(&self.spec, state);
        if written.is_err() {
            self.spec.pause = before;
        }
        drop(reply.send(written.map_err(CommandError::Store)));
    }

    fn check(&self, pause: &Pause) -> Result<(), CommandError> {
        let max = self.spec.replicas.max.0;
        if pause.replicas.0 > max {
            return Err(CommandError::AboveMax { wanted: pause.replicas.0, max });
        }
        if pause.replicas.0 == 0 && !self.spec.may_reach_zero() {
            return Err(CommandError::ZeroInProduction);
        }
        if pause.until <= self.clock.now() {
            return Err(CommandError::Expired);
        }
        Ok(())
    }
}

fn announce(decision: &Decision, error: Option<&str>) {
    for step in &decision.steps {
        tracing::debug!(
            stage = step.stage.label(),
            reason = step.reason.label(),
            replicas = step.replicas.0,
            "step"
        );
    }
    tracing::info!(
        scaler = decision.scaler.as_str(),
        from = decision.from.0,
        to = decision.to.0,
        why = decision.summary(),
        start = decision.placement.start,
        revive = decision.placement.revive.len(),
        drain = decision.placement.drain.len(),
        stop = decision.placement.stop.len(),
        error,
        "decision"
    );
}
