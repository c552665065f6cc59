//! The loop: what is watched goes into the table, what the table says is carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forewarm_control::Clock;
use forewarm_core::Behavior;
use forewarm_signals::{OtherSources, Sources};
use kube::{
    Client,
    api::ApiResource,
    core::Selector,
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    act::{Done, Hands, TargetAccess, Work},
    clock::ServerClock,
    gateways::{Connect, Followed, GatewayOptions, discover},
    lease::{Leadership, LeaseOptions, campaign},
    metrics::Metrics,
    read::ReadScaler,
    resource::InferenceScaler,
    scaler::{Evaluation, Key},
    signals::signals,
    table::{Effect, Evaluated, Input, KindRef, Table},
    watch::{self as follow, Inputs},
};

/// Every scaler is evaluated once in it, whatever happens.
const ROUND: Duration = Duration::from_secs(1);
/// A round is cut into so many parts, so that nothing waits for a whole one.
const PARTS: u32 = 20;
/// Shortest time between two looks at what changed. The first change after a quiet time is looked at at once.
const MIN_GAP: Duration = Duration::from_millis(5);
/// Things that happened and wait to be taken in, some kilobytes each; more hold up the watches.
const INPUTS: usize = 256;
/// Scalers whose orders are carried out at a time.
const HANDS: usize = 64;
/// Time until a kind that could not be watched is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace it is for; `None`: all.
    pub namespace: Option<String>,
    /// The lease by which controllers take turns.
    pub lease: LeaseOptions,
    /// Where gateways are.
    pub gateways: GatewayOptions,
    /// Time after taking the lead in which nothing is taken away, and at least each scaler's own window: what was
    /// wished for before is not wholly known.
    pub hold: Duration,
}

impl Options {
    /// As long as a window on the way down usually is.
    pub const HOLD: Duration = Behavior::DEFAULT_SCALE_DOWN_WINDOW;
}

/// A controller.
pub struct Controller {
    options: Options,
    client: Client,
    connect: Arc<dyn Connect>,
    clock: Clock,
    sources: Sources,
    metrics: Metrics,
    leadership: Leadership,
}

/// Why a controller ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A watch ended for good.
    #[error("a part of the controller ended")]
    Ended,
}

/// What is connected for one scaler besides its place in the table.
struct Wired {
    read: Arc<ReadScaler>,
    followed: Option<Followed>,
}

/// What the loop keeps in its hands.
struct Loop {
    table: Table,
    hands: Hands,
    options: Options,
    connect: Arc<dyn Connect>,
    clock: Clock,
    sources: Sources,
    time: ServerClock,
    metrics: Metrics,
    inputs: Inputs,
    wired: BTreeMap<Key, Wired>,
    resources: BTreeMap<KindRef, ApiResource>,
    found: mpsc::Sender<(KindRef, ApiResource)>,
    gateways: watch::Receiver<BTreeSet<String>>,
    slots: Arc<Semaphore>,
    work: JoinSet<(Key, Work, Done)>,
    watches: Vec<AbortHandle>,
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

impl Controller {
    /// A controller that has not begun.
    pub fn new(options: Options, client: Client, connect: Arc<dyn Connect>) -> Self {
        let (clock, metrics, leadership) = (Clock::start(1.0), Metrics::default(), Leadership::default());
        Self { options, client, connect, clock, sources: Sources::new(clock), metrics, leadership }
    }

    /// The same, and signals of kinds that another crate reads.
    #[must_use]
    pub fn reading(mut self, others: impl OtherSources + 'static) -> Self {
        self.sources = self.sources.with(others);
        self
    }

    /// The same by another clock, as that of a machine that is set wrong.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What it counts.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Whether it leads.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Runs until `shutdown`; then the lease is given back.
    ///
    /// # Errors
    /// When a part of it ended for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ControllerError> {
        let Self { options, client, connect, clock, sources, metrics, leadership } = self;
        let time = ServerClock::new(clock);
        let (inputs, mut happened) = mpsc::channel(INPUTS);
        let (found, mut resources) = mpsc::channel(16);
        let (gateways_tx, gateways) = watch::channel(BTreeSet::new());
        let mut leads = leadership.subscribe();
        let held = campaign(
            client.clone(),
            options.lease.clone(),
            leadership.clone(),
            time.clone(),
            shutdown.clone(),
        );
        // Dropped with this future: a controller that is gone must not hold the lease.
        let mut campaign = AbortOnDropHandle::new(tokio::spawn(held));
        let reporter =
            Reporter { controller: "forewarm".to_owned(), instance: Some(options.lease.identity.clone()) };
        let scalers = ApiResource::erase::<InferenceScaler>(&());
        let recorder = Recorder::new(client.clone(), reporter);
        let hands = Hands { client: client.clone(), leadership, scalers: scalers.clone(), recorder };
        let namespace = options.namespace.clone();
        let watches = vec![
            tokio::spawn(follow::scalers(client.clone(), namespace.clone(), scalers, inputs.clone()))
                .abort_handle(),
            tokio::spawn(follow::rivals(client.clone(), namespace, inputs.clone())).abort_handle(),
            tokio::spawn(discover(client, options.gateways.clone(), gateways_tx)).abort_handle(),
        ];
        let mut run = Loop {
            table: Table::new(options.hold),
            hands,
            options,
            connect,
            clock,
            sources,
            time,
            metrics,
            inputs,
            wired: BTreeMap::new(),
            resources: BTreeMap::new(),
            found,
            gateways,
            slots: Arc::new(Semaphore::new(HANDS)),
            work: JoinSet::new(),
            watches,
        };
        let mut parts = tokio::time::interval(ROUND / PARTS);
        parts.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                count = happened.recv_many(&mut batch, INPUTS) => {
                    if count == 0 { return Err(ControllerError::Ended) }
                    run.take(batch.drain(..));
                }
                Some(done) = run.work.join_next(), if !run.work.is_empty() => {
                    if let Ok((key, work, done)) = done { run.done(&key, work, done) }
                }
                Some((kind, resource)) = resources.recv() => { run.resources.insert(kind, resource); }
                Ok(()) = run.gateways.changed() => run.rewire(),
                Ok(()) = leads.changed() => {
                    let leads = *leads.borrow_and_update();
                    tracing::info!(leads, "leadership");
                    run.table.lead(leads, run.time.now());
                }
                _ = parts.tick() => run.in_turn(),
                () = tokio::time::sleep_until(look_at), if run.table.has_dirty() => {}
            }
            if run.table.has_dirty() && Instant::now() >= look_at {
                run.look();
                look_at = Instant::now() + MIN_GAP;
            }
        }
        // What is under way is finished; what is not begun is the next controller's.
        while run.work.join_next().await.is_some() {}
        // The campaign gives the lease back on the same signal.
        drop((&mut campaign).await);
        Ok(())
    }
}

impl Loop {
    fn take(&mut self, happened: impl Iterator<Item = Input>) {
        let now = self.time.now();
        for input in happened {
            for effect in self.table.take(input, now) {
                self.arrange(effect);
            }
        }
        self.metrics.scalers(self.table.len());
    }

    fn arrange(&mut self, effect: Effect) {
        match effect {
            Effect::Watch(kind) => self.watch(kind),
            Effect::FindPods(key, selector) => self.find_pods(key, selector),
            Effect::Wire(key, read) => self.wire(key, read),
            Effect::Unwire(key) => {
                self.wired.remove(&key);
                if let Some(scaler) = self.table.get_mut(&key) {
                    (scaler.signals, scaler.gateway, scaler.report) = (Vec::new(), None, None);
                }
            }
            Effect::WatchPods => {
                let pods = follow::pods(
                    self.hands.client.clone(),
                    self.options.namespace.clone(),
                    self.inputs.clone(),
                );
                self.watches.push(tokio::spawn(pods).abort_handle());
            }
        }
    }

    fn watch(&mut self, kind: KindRef) {
        let (client, inputs, found) = (self.hands.client.clone(), self.inputs.clone(), self.found.clone());
        let namespace = self.options.namespace.clone();
        let task = async move {
            loop {
                match follow::resource_of(&client, &kind).await {
                    Ok((resource, paths)) => {
                        // The loop outlives its watches.
                        found.send((kind.clone(), resource.clone())).await.ok();
                        return follow::targets(client, namespace, resource, kind, paths, inputs).await;
                    }
                    Err(why) => {
                        if inputs.send(Input::NoKind(kind.clone(), why)).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        self.watches.push(tokio::spawn(task).abort_handle());
    }

    fn find_pods(&self, key: Key, selector: Selector) {
        let (client, inputs, slots) =
            (self.hands.client.clone(), self.inputs.clone(), Arc::clone(&self.slots));
        tokio::spawn(async move {
            let _slot = slots.acquire_owned().await.ok();
            match follow::pods_of(client, &key, &selector).await {
                // Nobody listens when the controller ends.
                Ok(pods) => drop(inputs.send(Input::PodsOf(key, pods)).await),
                Err(error) => tracing::warn!(%error, scaler = %key, "its pods cannot be listed"),
            }
        });
    }

    fn wire(&mut self, key: Key, read: Arc<ReadScaler>) {
        let measured = signals(&read.checked, &self.sources, self.clock);
        let addresses = self.gateways.borrow().clone();
        let before = self.wired.get(&key).and_then(|wired| wired.followed.as_ref());
        let id = &read.checked.spec.scaler;
        let followed = Followed::new(&key, id, &addresses, before, &*self.connect, self.inputs.clone());
        if let Some(scaler) = self.table.get_mut(&key) {
            match measured {
                Ok(signals) => scaler.signals = signals,
                Err(why) => scaler.spec = Err(why.to_string()),
            }
            scaler.gateway = followed.as_ref().map(Followed::gateway);
            scaler.forget_plan();
        }
        self.wired.insert(key, Wired { read, followed });
    }

    /// The gateways are others than before.
    fn rewire(&mut self) {
        let addresses = self.gateways.borrow_and_update().clone();
        tracing::info!(gateways = addresses.len(), "gateways");
        for (key, wired) in &mut self.wired {
            let id = &wired.read.checked.spec.scaler;
            let inputs = self.inputs.clone();
            let followed =
                Followed::new(key, id, &addresses, wired.followed.as_ref(), &*self.connect, inputs);
            wired.followed = followed;
            if let Some(scaler) = self.table.get_mut(key) {
                scaler.gateway = wired.followed.as_ref().map(Followed::gateway);
                scaler.report = None;
                scaler.forget_plan();
            }
            self.table.touch(key);
        }
    }

    fn look(&mut self) {
        let now = self.time.now();
        let evaluated = self.table.evaluate_dirty(self.free_hands(), now);
        self.dispatch(evaluated);
    }

    fn in_turn(&mut self) {
        if !self.hands.leadership.is_held() {
            return;
        }
        let now = self.time.now();
        let evaluated = self.table.evaluate_in_turn(1.0 / f64::from(PARTS), self.free_hands(), now);
        self.dispatch(evaluated);
    }

    /// As many wait for a hand at most as there are hands: so that none rests, and nothing piles up when ten thousand
    /// scalers have something to say at once.
    fn free_hands(&self) -> usize {
        (2 * HANDS).saturating_sub(self.work.len())
    }

    fn dispatch(&mut self, evaluated: Evaluated) {
        self.metrics.evaluated(evaluated.count);
        for (key, evaluation) in evaluated.asking {
            let Evaluation { decision, orders, plan, status, news } = evaluation;
            if let Some(decision) = decision.as_ref().filter(|decision| decision.acts()) {
                self.metrics.decided();
                tracing::info!(scaler = %key, why = decision.summary(), "decision");
            }
            let target = self.table.target_of(&key).and_then(|(kind, name, view)| {
                Some(TargetAccess {
                    resource: self.resources.get(kind)?.clone(),
                    replicas_path: kind.replicas_path.clone(),
                    name: name.clone(),
                    view: view.clone(),
                })
            });
            let Some(scaler) = self.table.get_mut(&key) else { continue };
            scaler.is_busy = true;
            let work = Work {
                key: key.clone(),
                uid: scaler.uid.clone(),
                decision,
                orders,
                target,
                plan,
                gateway: scaler.gateway.clone(),
                status,
                news,
            };
            let (hands, slots) = (self.hands.clone(), Arc::clone(&self.slots));
            self.work.spawn(async move {
                let _slot = slots.acquire_owned().await.ok();
                let done = hands.carry_out(&work).await;
                (key, work, done)
            });
        }
    }

    fn done(&mut self, key: &Key, work: Work, done: Done) {
        let now = self.time.now();
        self.metrics.carried_out(work.orders.replicas.is_some(), done.error.is_some());
        if let Some((desired, version)) = &done.number {
            self.table.target_has(key, *desired, version);
        }
        let Some(scaler) = self.table.get_mut(key).filter(|scaler| scaler.uid == work.uid) else { return };
        if done.wrote_status {
            scaler.wrote_status(now);
        }
        if let Some((plan, report)) = done.plan {
            let at = work.decision.as_ref().map_or(now, |decision| decision.at);
            scaler.has_plan(plan, at);
            if let Some(report) = report {
                scaler.report = Some(Ok(report));
            }
        }
        if let (true, Some(decision), Some(target)) = (done.is_ours, &work.decision, &work.target) {
            let replicas = work.orders.replicas.unwrap_or(target.view.desired);
            scaler.has_number(&target.view, replicas, decision);
        }
        if let Some(error) = &done.error {
            tracing::warn!(scaler = %key, error, "not done; it is tried again");
        }
        let failed = done.error.is_some();
        scaler.done(done.error);
        // What failed is tried again in its turn, not at once.
        if !failed {
            self.table.touch(key);
        }
    }
}
