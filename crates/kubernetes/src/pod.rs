//! What of a pod matters: where it is in its life, and what it waits for.

use std::collections::BTreeMap;

use forewarm_core::{Phase, Timestamp};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// Says since when a pod drains: it gets no new requests, and goes when it has none.
pub const DRAINING: &str = "forewarm.dev/draining";
/// Says that forewarm keeps a pod from being moved while it loads or drains; with it the two that others obey.
pub const PROTECTED: &str = "forewarm.dev/protected";
/// What Karpenter obeys.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// What the cluster autoscaler obeys.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// What a ReplicaSet obeys when it chooses who goes: the lowest first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The port where vLLM serves, for pods that do not name theirs.
const DEFAULT_PORT: u16 = 8000;
/// Restarts after which a pod that was never ready counts as one that fails.
const RESTARTS: i32 = 1;

/// A pod as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Its identity: a StatefulSet gives the same name again.
    pub uid: Box<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Since when it is being started: made, or not ready any more.
    pub starting_since: Timestamp,
    /// Where it is, but for draining.
    pub phase: Phase,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it ended, for good.
    pub ended: bool,
    /// Its address.
    pub ip: Option<Box<str>>,
    /// The port that it names.
    pub port: u16,
    /// Why it has no node, as the scheduler says.
    pub unschedulable: Option<Box<str>>,
    /// Why it does not start, and how often it was tried.
    pub failing: Option<(i32, Box<str>)>,
    /// Since when it drains.
    pub draining_since: Option<Timestamp>,
    /// Whether it is kept from being moved.
    pub protected: bool,
    /// Whether it is the first to go.
    pub first_to_go: bool,
    /// Its number in a StatefulSet.
    pub ordinal: Option<u32>,
    /// Milliseconds from when it was made until it was scheduled, pulled, started and ready.
    pub stages: Stages,
}

/// When the stages of a start were over, in milliseconds since the pod was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// It has a node.
    pub scheduled: Option<u32>,
    /// Its image is there and its container runs.
    pub pulled: Option<u32>,
    /// Its startup probe passed.
    pub started: Option<u32>,
    /// It serves.
    pub ready: Option<u32>,
}

impl PodView {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let created = meta.creation_timestamp.as_ref().map_or(Timestamp::default(), timestamp);
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let ready = condition("Ready");
        let scheduled = condition("PodScheduled");
        let container = status
            .and_then(|status| status.container_statuses.as_deref())
            .and_then(<[ContainerStatus]>::first);
        let running_since = container
            .and_then(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref())
            .map(timestamp);
        let is_ready = ready.is_some_and(is_true);
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let phase = match (is_ready, running_since) {
            (true, _) => Phase::Ready,
            (false, Some(_)) => Phase::Loading,
            (false, None)
                if has_node && status.is_some_and(|status| status.phase.as_deref() == Some("Running")) =>
            {
                Phase::Loading
            }
            (false, None) => Phase::Provisioning,
        };
        let lost = ready.filter(|_| !is_ready).and_then(since);
        // A pod is not ready from its beginning; later than its container it is not ready any more.
        let lost = lost.filter(|lost| running_since.is_some_and(|running| *lost > running));
        let after = |at: Option<Timestamp>| {
            at.map(|at| u32::try_from(at.since(created).as_millis()).unwrap_or(u32::MAX))
        };
        let is_started = container.is_some_and(|container| container.started == Some(true));
        let probe = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.startup_probe.as_ref());
        Self {
            uid: meta.uid.clone().unwrap_or_default().into(),
            created,
            starting_since: lost.unwrap_or(created),
            phase,
            terminating: meta.deletion_timestamp.is_some(),
            ended: status
                .and_then(|status| status.phase.as_deref())
                .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed")),
            ip: status.and_then(|status| status.pod_ip.as_deref()).map(Into::into),
            port: port(pod),
            unschedulable: scheduled
                .filter(|scheduled| !is_true(scheduled) && !has_node)
                .and_then(|scheduled| scheduled.message.as_deref().or(scheduled.reason.as_deref()))
                .map(Into::into),
            failing: container.filter(|_| !is_ready).and_then(failing),
            draining_since: annotation(DRAINING)
                .and_then(|since| since.parse::<jiff::Timestamp>().ok())
                .map(|since| Timestamp::from_millis(since.as_millisecond())),
            protected: annotation(PROTECTED).is_some(),
            first_to_go: annotation(DELETION_COST).is_some_and(|cost| cost.starts_with('-')),
            ordinal: meta
                .labels
                .as_ref()
                .and_then(|labels| labels.get("apps.kubernetes.io/pod-index"))
                .and_then(|index| index.parse().ok()),
            stages: Stages {
                scheduled: after(scheduled.filter(|scheduled| is_true(scheduled)).and_then(since)),
                pulled: after(running_since),
                // Without a startup probe a container is started when it runs.
                started: after(running_since.filter(|_| is_started && probe.is_none())),
                ready: after(ready.filter(|ready| is_true(ready)).and_then(since)),
            },
        }
    }

    /// What is remembered of the same pod: a stage that has no time of its own in the object is timed when it is seen.
    pub fn follows(&mut self, before: Option<&PodView>, is_started: bool, now: Timestamp) {
        let known = before.filter(|before| before.uid == self.uid).and_then(|before| before.stages.started);
        let seen_now = || {
            let seen = before.is_some() && is_started;
            seen.then(|| u32::try_from(now.since(self.created).as_millis()).unwrap_or(u32::MAX))
        };
        self.stages.started = self.stages.started.or(known).or_else(seen_now);
    }

    /// Whether it exists as a replica: not about to go.
    pub fn lives(&self) -> bool {
        !self.terminating && !self.ended
    }

    /// Its address for requests.
    pub fn address(&self, port: Option<u16>) -> Option<String> {
        let ip = self.ip.as_ref()?;
        let port = port.unwrap_or(self.port);
        // An IPv6 address has colons of its own.
        Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
    }
}

impl Stages {
    /// The stages that are over, in seconds, by name.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        let all = [
            ("scheduled", self.scheduled),
            ("pulled", self.pulled),
            ("started", self.started),
            ("ready", self.ready),
        ];
        all.into_iter()
            .filter_map(|(name, millis)| Some((name.to_owned(), f64::from(millis?) / 1000.0)))
            .collect()
    }
}

/// Whether the first container passed its startup probe.
pub fn is_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|statuses| statuses.first()).is_some_and(|container| container.started == Some(true))
}

pub(crate) fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

fn is_true(condition: &PodCondition) -> bool {
    condition.status == "True"
}

fn since(condition: &PodCondition) -> Option<Timestamp> {
    condition.last_transition_time.as_ref().map(timestamp)
}

fn failing(container: &ContainerStatus) -> Option<(i32, Box<str>)> {
    let waiting = container.state.as_ref()?.waiting.as_ref();
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let fails = container.restart_count >= RESTARTS && ended.is_some()
        || matches!(
            reason,
            "ImagePullBackOff" | "ErrImagePull" | "CreateContainerConfigError" | "InvalidImageName"
        );
    if !fails {
        return None;
    }
    let text = match (ended, waiting.and_then(|waiting| waiting.message.as_deref())) {
        (Some(ended), _) => {
            let why = ended.reason.as_deref().unwrap_or("ended");
            format!("{why}: exit code {}, {} restarts", ended.exit_code, container.restart_count)
        }
        (None, Some(message)) => format!("{reason}: {message}"),
        (None, None) => reason.to_owned(),
    };
    Some((container.restart_count, text.into()))
}

fn port(pod: &Pod) -> u16 {
    let ports = || {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.flat_map(|container| container.ports.iter().flatten())
    };
    let named = ports().find(|port| port.name.as_deref() == Some("http"));
    let port = named.or_else(|| ports().next()).and_then(|port| u16::try_from(port.container_port).ok());
    port.unwrap_or(DEFAULT_PORT)
}
