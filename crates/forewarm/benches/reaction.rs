//! From a burst at the gateway to the decision on disk: on events, beside the same controller on a tick.
//!
//! Prints one JSON row a line, for `cargo xtask bench core`. Both run in the same process on the same store;
//! the tick is the 15 s that HPA syncs at, in time compressed a hundred times, so that its row says modelled
//! seconds.

use std::{io::Write, sync::Arc, time::Duration};

use forewarm_control::{
    Clock, Controller, Store,
    ports::{Gateway, GatewayError},
};
use forewarm_core::{
    Bounds, Environment, Policy, QueueDepth, Requests, ScalerSpec,
    pool::{Concurrency, PoolPlan, PoolReport, QueueLimits, Tenants},
};
use forewarm_testkit::{FakeFleet, FakeGateway};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A gateway whose changes nobody tells: the controller finds them at its tick.
struct Silent(Arc<FakeGateway>);

impl Gateway for Silent {
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>> {
        self.0.apply(plan)
    }

    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>> {
        self.0.report()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

/// Bursts of each kind.
const BURSTS: u32 = 30;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut on_events = runtime.block_on(measure(1.0, false));
    let mut on_ticks = runtime.block_on(measure(100.0, true));
    for q in [0.5, 0.99] {
        let (event, tick) = (quantile(&mut on_events, q), quantile(&mut on_ticks, q));
        let percent = q * 100.0;
        let row = serde_json::json!({"name": format!("burst to decision on disk, on events, p{percent}"),
                "figure": event * 1e3, "unit": "ms", "peer": "the same on a 15 s tick",
                "peer_figure": tick * 1e3, "ratio": event / tick});
        writeln!(std::io::stdout(), "{row}").expect("somebody reads the rows");
    }
}

fn quantile(seconds: &mut [f64], q: f64) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[((q * seconds.len() as f64).ceil() as usize).clamp(1, seconds.len()) - 1]
}

/// Modelled seconds from each burst to the decision it causes.
async fn measure(speed: f64, silent: bool) -> Vec<f64> {
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = Arc::new(FakeGateway::default());
    let per_replica = Requests::new(5.0).expect("a number of requests");
    let policy = Policy::QueueDepth(QueueDepth { per_replica, pre_warm: None });
    let bounds = Bounds::new(0, 10_000).expect("bounds");
    let mut spec = ScalerSpec { environment: Environment::Dev, ..ScalerSpec::new("bench", bounds, policy) };
    spec.max_changes_per_minute = u32::MAX;
    let (snapshots, _seen) = watch::channel(None);
    let (decisions, mut decided) = broadcast::channel(1_024);
    let (_commands, commands) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let controller = Controller {
        spec,
        models: Vec::new(),
        routing: Default::default(),
        queue: QueueLimits {
            max_requests: 100_000,
            max_bytes: 1 << 30,
            timeout: Duration::from_secs(60),
            cold_start_timeout: Duration::from_secs(600),
            ttft_objective: None,
            tenants: Tenants::default(),
        },
        concurrency: Concurrency::default(),
        kv_tokens: None,
        speaks_tls: false,
        fleet: Arc::new(FakeFleet::default()),
        gateway: Some(if silent {
            Arc::new(Silent(Arc::clone(&gateway)))
        } else {
            Arc::clone(&gateway) as Arc<dyn Gateway>
        }),
        signals: Vec::new(),
        store: Arc::new(Store::open(directory.path()).expect("a store")),
        clock: Clock::start(speed),
        snapshots,
        decisions,
    };
    let running = tokio::spawn(controller.run(commands, shutdown.clone()));
    let mut seconds = Vec::new();
    for burst in 1..=BURSTS {
        // At another phase of the tick each time, and after a quiet moment.
        tokio::time::sleep(Duration::from_millis(60 + u64::from(burst * 37 % 150))).await;
        let wanted = burst * 2;
        let started = Instant::now();
        gateway.set_report(|report| report.queued = u64::from(wanted) * 5);
        loop {
            let decision = decided.recv().await.expect("the controller runs");
            if decision.to.0 >= wanted {
                break;
            }
        }
        seconds.push(started.elapsed().as_secs_f64() * speed);
    }
    shutdown.cancel();
    running.await.expect("no panic").expect("no error");
    seconds
}
