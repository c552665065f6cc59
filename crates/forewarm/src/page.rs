//! The admin port of this process: what the page shows is put together here, from what the controllers say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use forewarm_admin::{
    Action, Admin, AdminConfig, BindError, Command as PageCommand, CommandError, Dashboard, Metrics,
    PauseEnd, Readiness,
    view::{
        ColdStartView, DecisionView, LatencyView, LoadView, PauseView, PercentilesView, ReplicaView,
        ScalerView, SeriesPoint, SignalView, WarmStartView,
    },
};
use forewarm_control::{Clock, Command, Snapshot};
use forewarm_core::{Decision, Evidence, Pause, Phase, ScalerId, Stage, Tier, Timestamp};
use forewarm_gateway::GatewayMetrics;
use forewarm_load::{LoadProgress, Quantiles};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Commands by people that may wait.
const COMMANDS: usize = 16;
/// Shortest time on the wall between two points of the charts.
const POINT_EVERY: Duration = Duration::from_millis(250);
/// Time on the wall over which arrivals are counted.
const RATE_OVER: Duration = Duration::from_secs(2);
/// Decisions on the page.
const DECISIONS: usize = 30;

/// The admin port, listening.
pub(crate) struct Page {
    dashboard: Dashboard,
    metrics: Metrics,
    readiness: Readiness,
    address: SocketAddr,
    shutdown: CancellationToken,
}

/// What the page follows of one scaler.
pub(crate) struct Followed {
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(crate) decisions: broadcast::Receiver<Arc<Decision>>,
    pub(crate) load: Option<watch::Receiver<LoadProgress>>,
    pub(crate) speed: f64,
}

impl Page {
    /// Listens and serves at once; the page says that there is nothing yet. `controllers` takes commands, and the
    /// metrics of a gateway in this process are shown beside the others.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub(crate) async fn bind(
        address: SocketAddr,
        flag: &'static str,
        token: Option<String>,
        controllers: BTreeMap<ScalerId, mpsc::Sender<Command>>,
        gateway: Option<GatewayMetrics>,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let dashboard = Dashboard::new();
        let mut metrics = Metrics::new(dashboard.clone());
        if let Some(gateway) = gateway {
            metrics = metrics.beside(move || gateway.page());
        }
        let readiness = Readiness::new();
        let (commands, asked) = mpsc::channel(COMMANDS);
        let admin = Admin::bind(AdminConfig {
            address,
            flag,
            token,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            commands: Some(commands),
            ..AdminConfig::new(dashboard.clone())
        })
        .await?;
        let address = admin.local_addr();
        let shutdown = CancellationToken::new();
        tokio::spawn(admin.run(shutdown.clone()));
        tokio::spawn(pass_on(asked, controllers, clock));
        Ok(Self { dashboard, metrics, readiness, address, shutdown })
    }

    /// Where a browser finds it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What `/readyz` waits for.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Shows a scaler from now on.
    pub(crate) fn show(&self, followed: Followed) {
        let (dashboard, metrics) = (self.dashboard.clone(), self.metrics.clone());
        tokio::spawn(follow(dashboard, metrics, followed));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Hands commands of the page to the controller they are for.
async fn pass_on(
    mut asked: mpsc::Receiver<PageCommand>,
    controllers: BTreeMap<ScalerId, mpsc::Sender<Command>>,
    clock: Clock,
) {
    while let Some(PageCommand { scaler, action, reply }) = asked.recv().await {
        let result = match controllers.get(&scaler) {
            Some(controller) => obey(controller, action, clock).await,
            None => Err(CommandError::Refused(format!("there is no scaler `{scaler}`"))),
        };
        // Whoever asked may have gone.
        drop(reply.send(result));
    }
}

async fn obey(controller: &mpsc::Sender<Command>, action: Action, clock: Clock) -> Result<(), CommandError> {
    let (reply, answer) = oneshot::channel();
    let command = match action {
        Action::Pause { replicas, end } => {
            let until = match end {
                PauseEnd::At(at) => at,
                PauseEnd::After(span) => clock.now() + span,
            };
            Command::Pause(Pause { replicas, until }, reply)
        }
        Action::Resume => Command::Resume(reply),
    };
    let gone = || CommandError::Failed("the controller has stopped".to_owned());
    controller.send(command).await.map_err(|_| gone())?;
    match answer.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ forewarm_control::CommandError::Store(_))) => {
            Err(CommandError::Failed(error.to_string()))
        }
        Ok(Err(error)) => Err(CommandError::Refused(error.to_string())),
        Err(_) => Err(gone()),
    }
}

/// Follows one scaler until its controller ends.
async fn follow(dashboard: Dashboard, metrics: Metrics, mut followed: Followed) {
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            changed = followed.snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                let Some(snapshot) = followed.snapshots.borrow_and_update().clone() else { continue };
                let load = followed.load.as_ref().map(|load| load.borrow().clone());
                metrics.evaluated(snapshot.spec.scaler.as_str(), snapshot.evaluation);
                let view = shown.view(&snapshot, load.as_ref(), followed.speed);
                if let Some(point) = shown.point(&view, load.as_ref(), &snapshot) {
                    dashboard.push_point(&snapshot.spec.scaler, point);
                }
                dashboard.update(view);
            }
            decision = followed.decisions.recv() => match decision {
                Ok(decision) => {
                    metrics.decided(&decision);
                    shown.decisions.insert(0, DecisionView::from(&*decision));
                    shown.decisions.truncate(DECISIONS);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// What has to be remembered between two views.
#[derive(Default)]
struct Shown {
    decisions: Vec<DecisionView>,
    point_at: Option<tokio::time::Instant>,
    arrivals: Vec<(Timestamp, u64)>,
}

impl Shown {
    fn view(&mut self, snapshot: &Snapshot, load: Option<&LoadProgress>, speed: f64) -> ScalerView {
        let now = snapshot.observation.at;
        let report = snapshot.report.as_ref();
        let expected = snapshot.cold_starts.expected(&snapshot.spec.cold_start);
        let replicas = snapshot.observation.replicas.iter().map(|replica| {
            let found = snapshot.replicas.iter().find(|found| found.id == replica.id);
            let coming = replica.phase.is_coming();
            ReplicaView {
                address: found.and_then(|found| found.address.clone()),
                expected_ready_in_seconds: coming.then(|| {
                    let expected =
                        snapshot.cold_starts.expected_from(replica.tier, &snapshot.spec.cold_start);
                    expected.saturating_sub(replica.age).as_secs_f64()
                }),
                ..ReplicaView::from(replica)
            }
        });
        let wish = snapshot.decision.steps.iter().rfind(|step| step.stage <= Stage::PreWarm);
        let quantile = |q| snapshot.cold_starts.quantile(q).map(|span| span.as_secs_f64());
        let failed = report.map(|report| report.failed_total.values().sum());
        ScalerView {
            desired: wish.map(|step| step.replicas),
            replicas: replicas.collect(),
            queued: report.map(|report| report.queued),
            oldest_wait_seconds: report.map(|report| report.oldest_wait_seconds),
            in_flight: report.map(|report| report.in_flight_sum()),
            arrivals_per_second: report.and_then(|report| self.rate(now, report.arrived_total, speed)),
            refused_total: report.map(|report| report.refused_total),
            failed_total: failed,
            succeeded_total: report.map(|report| report.succeeded_total),
            attained_total: report.map(|report| report.attained_total),
            missed_total: report.map(|report| report.missed_total),
            completed_total: report.map(|report| report.completed_total),
            busy_seconds_total: report.map(|report| report.busy_seconds_total),
            mode: snapshot.spec.mode,
            paused: snapshot
                .spec
                .pause
                .filter(|pause| now < pause.until)
                .map(|pause| PauseView { replicas: pause.replicas, until: pause.until }),
            last_decisions: self.decisions.clone(),
            latency: load.map(|load| LatencyView { ttft: Some(percentiles(load.ttft)), e2e: None }),
            cold_start: ColdStartView {
                learned_p50_seconds: quantile(0.5),
                learned_p90_seconds: quantile(0.9),
                expected_seconds: Some(expected.as_secs_f64()),
                samples: snapshot.cold_starts.samples(),
                warm: warm(snapshot),
            },
            load: load.map(|load| LoadView {
                sent: load.account.sent,
                succeeded: load.account.succeeded,
                refused: load.account.refused,
                failed: load.account.failed,
                lost: load.account.lost,
            }),
            speed,
            signals: signals(snapshot),
            notices: notices(snapshot),
            ..ScalerView::new(snapshot.spec.scaler.clone(), now, snapshot.decision.to)
        }
    }

    /// Arrivals a modelled second over the last seconds on the wall.
    fn rate(&mut self, now: Timestamp, total: u64, speed: f64) -> Option<f64> {
        let since = now - RATE_OVER.mul_f64(speed);
        self.arrivals.push((now, total));
        let keep = self.arrivals.iter().rposition(|&(at, _)| at <= since).unwrap_or(0);
        self.arrivals.drain(..keep);
        let &(at, before) = self.arrivals.first()?;
        let span = now.since(at).as_secs_f64();
        (span > 0.0).then(|| total.saturating_sub(before) as f64 / span)
    }

    fn point(
        &mut self,
        view: &ScalerView,
        load: Option<&LoadProgress>,
        snapshot: &Snapshot,
    ) -> Option<SeriesPoint> {
        if self.point_at.is_some_and(|at| at.elapsed() < POINT_EVERY) {
            return None;
        }
        self.point_at = Some(tokio::time::Instant::now());
        let observation = &snapshot.observation;
        let recent = load.and_then(|load| load.recent_ttft);
        Some(SeriesPoint {
            at: view.at,
            queued: view.queued,
            in_flight: view.in_flight,
            arrivals_per_second: view.arrivals_per_second,
            ready: observation.count(Phase::Ready),
            coming: observation.count_where(Phase::is_coming),
            draining: observation.count_where(Phase::drains),
            target: view.target_replicas.0,
            ttft_p50_seconds: recent.map(|ttft| ttft.p50),
            ttft_p99_seconds: recent.map(|ttft| ttft.p99),
        })
    }
}

fn percentiles(quantiles: Quantiles) -> PercentilesView {
    PercentilesView { p50_seconds: quantiles.p50, p95_seconds: quantiles.p95, p99_seconds: quantiles.p99 }
}

/// Starts with what stands by, or stood by before.
fn warm(snapshot: &Snapshot) -> Vec<WarmStartView> {
    let (starts, standby) = (&snapshot.cold_starts, &snapshot.observation.standby);
    let seen: BTreeMap<Tier, usize> = starts.warm_samples().collect();
    let tiers: BTreeSet<Tier> = seen.keys().chain(standby.keys()).copied().collect();
    let view = |tier| WarmStartView {
        tier,
        expected_seconds: starts.expected_from(tier, &snapshot.spec.cold_start).as_secs_f64(),
        samples: seen.get(&tier).copied().unwrap_or(0),
        standby: standby.get(&tier).copied().unwrap_or(0),
    };
    tiers.into_iter().map(view).collect()
}

/// What went wrong, and what others do to the fleet.
fn notices(snapshot: &Snapshot) -> Vec<String> {
    let by_others = snapshot.decision.steps.iter().filter(|step| step.reason.is_by_others());
    snapshot.error.iter().cloned().chain(by_others.map(|step| step.reason.to_string())).collect()
}

fn signals(snapshot: &Snapshot) -> Vec<SignalView> {
    snapshot
        .observation
        .signals
        .iter()
        .map(|(name, signal)| {
            let (value, missing) = match signal.evidence(snapshot.spec.max_signal_age) {
                Evidence::Known(value) => (Some(value), None),
                Evidence::AtLeast(value) => {
                    (Some(value), Some("only a part of the fleet reports".to_owned()))
                }
                Evidence::Unknown(why) => (None, Some(why.to_string())),
            };
            SignalView { name: name.to_string(), value, age_seconds: signal.age.as_secs_f64(), missing }
        })
        .collect()
}
