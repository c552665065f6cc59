//! A cloud for each test, one moto for all, and engines where the cloud's instances are.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use axum::{Router, routing::get};
use forewarm_aws::{Account, GroupConfig, GroupFleet, Groups};
use forewarm_control::{
    Clock, observation,
    ports::{Fleet, FleetReplica, FleetView},
};
use forewarm_core::{
    Behavior, Bounds, Decision, Environment, Phase, Placement, Policy, QueueDepth, Reason, ReplicaId,
    Requests, ScalerSpec, ScalerState, Signal, plan, pool::PoolReport,
};
use forewarm_manifest::CheckedScaler;
use forewarm_signals::measure;
use forewarm_testbed::{Certificates, Cloud, Encrypted, Machine, Moto, assets, free_port};
use tokio::{net::TcpListener, sync::OnceCell, task::JoinHandle};

/// Nothing here takes as long on a machine that works.
const LIMIT: Duration = Duration::from_secs(60);
/// Time is compressed: a settled look is due every 750 ms.
pub(crate) const SPEED: f64 = 20.0;

static MOTO: OnceCell<Option<Moto>> = OnceCell::const_new();

/// A cloud of its own before the moto that all tests share; `None` where it was not fetched.
pub(crate) async fn cloud() -> Option<Cloud> {
    let moto = MOTO.get_or_init(async || {
        let assets = match assets("moto") {
            Ok(assets) => assets,
            Err(error) => {
                skipped(error);
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a folder").keep();
        Some(Moto::start(&assets, &folder).await.expect("moto"))
    });
    let moto = moto.await.as_ref()?;
    Some(Cloud::start(&moto.address).await.expect("a proxy"))
}

/// How a test says that it did not run.
#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
pub(crate) fn skipped(why: impl std::fmt::Display) {
    println!("skipped: {why}");
}

/// What a program with credentials has.
pub(crate) async fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "a test");
    let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    loader.endpoint_url(endpoint).credentials_provider(credentials).load().await
}

/// A fleet over a group of the cloud, and engines on its instances.
pub(crate) struct Stage {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) group: String,
    pub(crate) groups: Arc<Groups>,
    pub(crate) fleet: GroupFleet,
    port: u16,
    max: u32,
    _machines: Machines,
}

impl Stage {
    /// A group of this name, of `min` to `max` instances.
    pub(crate) async fn new(cloud: Cloud, group: &str, min: u32, max: u32) -> Self {
        Self::over(None, cloud, group, min, max).await
    }

    /// The same, with engines that show one of these certificates, and a manifest that says how TLS is spoken with them.
    pub(crate) async fn over(
        tls: Option<(&Certificates, &CheckedScaler)>,
        cloud: Cloud,
        group: &str,
        min: u32,
        max: u32,
    ) -> Self {
        cloud.create_group(group, min, max).await.expect("a group");
        let cloud = Arc::new(cloud);
        let port = free_port().expect("a port");
        let machines = Machines::follow(Arc::clone(&cloud), group, port, tls.map(|(shown, _)| shown.clone()));
        let account = Account::with(sdk(&cloud.url()).await).expect("an account");
        let groups = Groups::start(account, SPEED);
        let tls = tls.and_then(|(_, scaler)| measure::engine_tls(scaler).expect("usable files"));
        let config = GroupConfig { tls, ..config(group, port, min, max) };
        let fleet = GroupFleet::open(Arc::clone(&groups), config).expect("a fleet");
        Self { cloud, group: group.to_owned(), groups, fleet, port, max, _machines: machines }
    }

    /// Forgets everything, as a crash does, and begins again.
    pub(crate) fn restart(self) -> Self {
        let config = config(&self.group, self.port, 0, self.max);
        let fleet = GroupFleet::open(Arc::clone(&self.groups), config).expect("a fleet");
        Self { fleet, ..self }
    }

    /// The first view that is as wanted, of those at every change.
    pub(crate) async fn view(&self, what: &str, wanted: impl Fn(&FleetView) -> bool) -> FleetView {
        let mut last = None;
        let found = tokio::time::timeout(LIMIT, async {
            loop {
                // What cannot be seen now may be seen later.
                if let Ok(view) = self.fleet.observe().await {
                    if wanted(&view) {
                        return view;
                    }
                    last = Some(view);
                }
                self.fleet.changed().await;
            }
        });
        match found.await {
            Ok(view) => view,
            Err(_) => panic!("never seen: {what}; last: {last:#?}"),
        }
    }

    /// Waits until AWS shows it.
    pub(crate) async fn until(&self, what: &str, shown: impl AsyncFn() -> bool) {
        let wait = async {
            while !shown().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "never shown: {what}");
    }

    /// The replicas once this many are ready and no other is there.
    pub(crate) async fn ready(&self, count: usize) -> Vec<FleetReplica> {
        let all_ready = |view: &FleetView| {
            view.replicas.len() == count && view.replicas.iter().all(|r| r.phase == Phase::Ready)
        };
        self.view(&format!("{count} ready"), all_ready).await.replicas
    }

    /// What AWS shows of the group.
    pub(crate) async fn shown(&self, tag: &str) -> Vec<String> {
        let parameters = [("AutoScalingGroupNames.member.1", self.group.as_str())];
        let text =
            self.cloud.ask("autoscaling", "DescribeAutoScalingGroups", &parameters).await.expect("moto");
        let start = format!("<{tag}>");
        let parts = text.split(&start).skip(1).filter_map(|part| part.split('<').next());
        parts.map(str::to_owned).collect()
    }
}

/// Decides about a stage as the controller does, with what waits as the only signal. No request is ever at work.
pub(crate) struct Loop {
    pub(crate) spec: ScalerSpec,
    pub(crate) state: ScalerState,
    /// Every reason so far.
    pub(crate) reasons: Vec<Reason>,
    clock: Clock,
}

impl Loop {
    /// Five requests that wait are worth a replica.
    pub(crate) fn new(min: u32, max: u32) -> Self {
        let per_replica = Requests::new(5.0).expect("a number");
        let policy = Policy::QueueDepth(QueueDepth { per_replica, pre_warm: None });
        let mut spec = ScalerSpec::new("llm", Bounds::new(min, max).expect("bounds"), policy);
        spec.environment = Environment::Dev;
        spec.behavior = Behavior::pass_through();
        Self { spec, state: ScalerState::default(), reasons: Vec::new(), clock: Clock::start(SPEED) }
    }

    /// One evaluation. What is refused is tried again at the next one.
    pub(crate) async fn step(&mut self, stage: &Stage, waiting: f64) -> Decision {
        let view = stage.fleet.observe().await;
        let signals = vec![("waiting".into(), Signal::value(waiting))];
        let seen = observation(self.clock.now(), view.as_ref(), Some(Ok(&PoolReport::default())), signals);
        let decision = plan(&self.spec, &mut self.state, &seen);
        self.reasons.extend(decision.steps.iter().map(|step| step.reason.clone()));
        if !decision.placement.is_empty() {
            drop(stage.fleet.apply(&decision.placement).await);
        }
        decision
    }

    /// Evaluates until a view is as wanted.
    pub(crate) async fn until(
        &mut self,
        stage: &Stage,
        waiting: f64,
        what: &str,
        mut wanted: impl FnMut(&FleetView) -> bool,
    ) -> FleetView {
        let found = tokio::time::timeout(LIMIT, async {
            loop {
                drop(self.step(stage, waiting).await);
                if let Ok(view) = stage.fleet.observe().await
                    && wanted(&view)
                {
                    return view;
                }
                // The clock is a reason to look, too.
                drop(tokio::time::timeout(Duration::from_millis(200), stage.fleet.changed()).await);
            }
        });
        match found.await {
            Ok(view) => view,
            Err(_) => panic!(
                "never seen: {what}; reasons: {:#?}",
                self.reasons.iter().rev().take(9).collect::<Vec<_>>()
            ),
        }
    }
}

fn config(group: &str, port: u16, min: u32, max: u32) -> GroupConfig {
    GroupConfig {
        name: group.to_owned(),
        address: format!("{{privateIp}}:{port}"),
        health_path: "/health".to_owned(),
        tls: None,
        min_replicas: min,
        max_replicas: max,
    }
}

pub(crate) fn start(count: u32) -> Placement {
    Placement { start: count, ..Placement::default() }
}

pub(crate) fn drain(id: &ReplicaId) -> Placement {
    Placement { drain: vec![id.clone()], ..Placement::default() }
}

pub(crate) fn stop(id: &ReplicaId) -> Placement {
    Placement { stop: vec![id.clone()], ..Placement::default() }
}

/// A server that answers `/health` on every instance that runs, from when it runs to when it does not.
struct Machines(JoinHandle<()>);

impl Machines {
    fn follow(cloud: Arc<Cloud>, group: &str, port: u16, shown: Option<Certificates>) -> Self {
        let group = group.to_owned();
        Self(tokio::spawn(async move {
            let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
            loop {
                let machines = cloud.machines(&group).await.unwrap_or_default();
                engines.retain(|id, _| machines.iter().any(|machine| &machine.id == id));
                for machine in machines.iter().filter(|machine| runs(machine)) {
                    if !engines.contains_key(&machine.id) {
                        let engine = Engine::start(&machine.address, port, shown.as_ref()).await;
                        engines.insert(machine.id.clone(), engine);
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }))
    }
}

/// Neither on its way nor stopped in a warm pool.
fn runs(machine: &Machine) -> bool {
    machine.state != "Pending" && !machine.state.starts_with("Warmed")
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Engine(JoinHandle<()>);

impl Engine {
    async fn start(address: &str, port: u16, shown: Option<&Certificates>) -> Self {
        let behind = if shown.is_some() { 0 } else { port };
        let listener =
            TcpListener::bind((address, behind)).await.expect("an address of the loopback network");
        let front = match shown {
            Some(Certificates { cert, key, .. }) => {
                let at = SocketAddr::new(address.parse().expect("an address"), port);
                let server = listener.local_addr().expect("an address");
                Some(Encrypted::listen(at, server, cert, key).await.expect("TLS"))
            }
            None => None,
        };
        let router = Router::new().route("/health", get(async || "ok"));
        Self(tokio::spawn(async move {
            let _front = front;
            drop(axum::serve(listener, router).await);
        }))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Nothing was called that the documented permissions do not allow, but for the test's own calls.
pub(crate) fn only_allowed(cloud: &Cloud, own: &[&str]) {
    let mut allowed: Vec<&str> = forewarm_aws::allowed_actions().collect();
    allowed.extend(own);
    let more: Vec<String> =
        cloud.actions().into_iter().filter(|action| !allowed.contains(&action.as_str())).collect();
    assert!(more.is_empty(), "not in `forewarm aws permissions`: {more:?}");
}
