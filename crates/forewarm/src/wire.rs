//! Puts the parts together: a scaler's fleet, gateway and signals around one controller.

use std::{path::Path, sync::Arc};

use forewarm_control::{
    Clock, Command, Controller, Snapshot, Store, StoreError,
    ports::{Fleet, Gateway, GatewayError, SignalSet},
};
use forewarm_core::{
    Decision, ScalerId, ScalerSpec,
    pool::{Concurrency, PoolPlan, PoolReport, QueueLimits, Routing},
};
use forewarm_gateway::{GatewayHandle, RemoteGateway};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Decisions that a slow reader may be behind; then it reads the journal.
const DECISIONS: usize = 256;
/// Commands that may wait.
const COMMANDS: usize = 16;

/// The gateway of this process, as the controller of one scaler sees it.
pub(crate) struct LocalGateway {
    pub(crate) handle: GatewayHandle,
    pub(crate) scaler: ScalerId,
}

impl Gateway for LocalGateway {
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>> {
        let applied = self.handle.apply(plan);
        let full = || GatewayError("it serves as many scalers as it can".to_owned());
        std::future::ready(applied.then_some(()).ok_or_else(full)).boxed()
    }

    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>> {
        let report = self.handle.report(&self.scaler).map_err(|error| GatewayError(error.to_string()));
        std::future::ready(report).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.handle.changed(&self.scaler).boxed()
    }
}

/// A gateway in another process.
pub(crate) struct OtherGateway(pub(crate) RemoteGateway);

impl Gateway for OtherGateway {
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>> {
        self.0.apply(plan).map(|result| result.map_err(|error| GatewayError(error.to_string()))).boxed()
    }

    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>> {
        self.0.report().map(|result| result.map_err(|error| GatewayError(error.to_string()))).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.0.changed().boxed()
    }
}

/// What a controller is made of.
pub(crate) struct Parts {
    pub(crate) spec: ScalerSpec,
    pub(crate) models: Vec<String>,
    pub(crate) queue: QueueLimits,
    pub(crate) routing: Routing,
    pub(crate) concurrency: Concurrency,
    pub(crate) kv_tokens: Option<u64>,
    pub(crate) speaks_tls: bool,
    pub(crate) fleet: Arc<dyn Fleet>,
    /// `None`: no request comes to it through a gateway.
    pub(crate) gateway: Option<Arc<dyn Gateway>>,
    pub(crate) signals: Vec<Arc<dyn SignalSet>>,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Clock,
}

/// A controller that runs.
pub(crate) struct Running {
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(crate) decisions: broadcast::Receiver<Arc<Decision>>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) task: JoinHandle<Result<(), StoreError>>,
}

/// Starts a controller.
pub(crate) async fn start(parts: Parts, shutdown: CancellationToken) -> Running {
    let (snapshots, snapshots_rx) = watch::channel(None);
    let (decisions, decisions_rx) = broadcast::channel(DECISIONS);
    let (commands, commands_rx) = mpsc::channel(COMMANDS);
    let Parts {
        spec,
        models,
        queue,
        routing,
        concurrency,
        kv_tokens,
        speaks_tls,
        fleet,
        gateway,
        signals,
        store,
        clock,
    } = parts;
    // An empty plan first: a gateway that has one holds requests while the controller looks around.
    let plan = PoolPlan {
        scaler: spec.scaler.clone(),
        models: models.clone(),
        endpoints: Vec::new(),
        ready_in_seconds: None,
        queue: queue.clone(),
        concurrency,
        routing: routing.clone(),
    };
    if let Some(gateway) = &gateway
        && gateway.report().await.is_err()
        && let Err(error) = gateway.apply(&plan).await
    {
        tracing::warn!(%error, "the gateway has no plan yet");
    }
    let controller = Controller {
        spec,
        models,
        queue,
        routing,
        concurrency,
        kv_tokens,
        speaks_tls,
        fleet,
        gateway,
        signals,
        store,
        clock,
        snapshots,
        decisions,
    };
    let task = tokio::spawn(controller.run(commands_rx, shutdown));
    Running { snapshots: snapshots_rx, decisions: decisions_rx, commands, task }
}

/// Opens the state in a directory.
pub(crate) fn store(directory: &Path) -> Result<Arc<Store>, StoreError> {
    Store::open(directory).map(Arc::new)
}
