//! Pods as replicas, and a placement as orders to the API server.
//!
//! The number that the target is asked for is what counts: pods that are missing from it are replicas that were
//! requested, pods beyond it are on their way in or out (a rolling update's surge, or what was told to go) and are
//! neither. So a rolling update changes nothing, and nothing is asked for twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forewarm_control::ports::{FleetReplica, FleetView};
use forewarm_core::{Decision, FailedStart, Phase, Reason, ReplicaId, Timestamp};

use crate::{pod::PodView, target::TargetView};

/// The pods of a target by name.
pub type Pods = BTreeMap<Box<str>, PodView>;

/// Those of them that are not on their way out.
type Living<'a> = Vec<(&'a str, &'a PodView)>;

/// A pod that was told to go and is still there after this time was not taken: another was.
const GOES_WITHIN: Duration = Duration::from_secs(60);
/// What names of replicas that no pod exists for begin with. No pod's name has a colon.
const REQUESTED: &str = "requested:";
/// A pod's deletion cost while it is to go: far below what people set, and above it by its work in flight.
const LOWEST_COST: i64 = -1_000_000;

/// What is remembered of a target's replicas from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Since when pods that were told to go have been told.
    leaving: BTreeMap<Box<str>, Timestamp>,
    /// Since when replicas are missing that were asked for, oldest first.
    missing: Vec<Timestamp>,
    /// Restarts that were reported as failed starts.
    reported: BTreeMap<Box<str>, i32>,
    /// Starts that were given up, to be reported at the next look.
    given_up: Vec<FailedStart>,
    /// Those of them that are still there: each is reported once, however long it takes to be rid of it.
    expired: BTreeSet<Box<str>>,
}

/// A target's replicas as they are now.
#[derive(Debug, Default)]
pub struct Seen {
    /// Those that count, as the core is told.
    pub view: FleetView,
    /// Every pod that serves or finishes requests, as a gateway is told.
    pub serving: Vec<FleetReplica>,
    /// Why a replica that is to start has no node, or cannot be made.
    pub no_capacity: Option<String>,
}

/// What is to be done to the target and its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders {
    /// The number of replicas to ask for, if it is another one.
    pub replicas: Option<u32>,
    /// Annotations of pods.
    pub marks: BTreeMap<String, Mark>,
    /// Pods to delete: starts that are given up and made anew, so that the number stays.
    pub delete: Vec<String>,
}

/// What is written on a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// It loads: nobody should move it.
    Protect,
    /// It serves: it may be moved as any other.
    Release,
    /// It drains since then.
    Drain(Timestamp),
    /// It serves again.
    Serve,
    /// It goes when the number falls.
    FirstToGo {
        /// Its deletion cost.
        cost: i64,
    },
}

impl Orders {
    /// Whether nobody waits for it: pods that begin or end to be protected, if anything.
    pub fn can_wait(&self) -> bool {
        let waits = |mark: &Mark| matches!(mark, Mark::Protect | Mark::Release);
        self.replicas.is_none() && self.delete.is_empty() && self.marks.values().all(waits)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Fleet {
    /// The replicas that the target's number stands for.
    pub fn observe(&mut self, target: &TargetView, pods: &Pods, port: Option<u16>, now: Timestamp) -> Seen {
        let living: Living<'_> =
            pods.iter().filter(|(_, pod)| pod.lives()).map(|(name, pod)| (&**name, pod)).collect();
        let desired = target.desired as usize;
        self.leaving.retain(|name, told| {
            now.since(*told) < GOES_WITHIN && pods.get(name).is_some_and(PodView::lives)
        });
        let mut surplus = living.len().saturating_sub(desired);
        if surplus < self.leaving.len() {
            // Others went in their place.
            let spared = self.leaving.len() - surplus;
            let names: Vec<Box<str>> = self.leaving.keys().take(spared).cloned().collect();
            names.iter().for_each(|name| {
                self.leaving.remove(name);
            });
        }
        surplus -= self.leaving.len();
        let hidden = hidden(&living, &self.leaving, surplus);
        let missing = desired.saturating_sub(living.len());
        self.missing.resize(missing.min(self.missing.len()), now);
        while self.missing.len() < missing {
            self.missing.push(now);
        }

        let mut seen = Seen::default();
        for &(name, pod) in &living {
            let counts = !self.leaving.contains_key(name) && !hidden.contains(name);
            let drains = pod.draining_since.is_some() || self.leaving.contains_key(name);
            let phase = if drains && pod.phase == Phase::Ready { Phase::Draining } else { pod.phase };
            let replica = replica(name, pod, phase, port, now);
            if matches!(phase, Phase::Ready | Phase::Draining) {
                seen.serving.push(replica.clone());
            }
            if counts {
                seen.view.replicas.push(replica);
            }
        }
        // What is being deleted finishes its requests in its grace period.
        let going = pods.iter().filter(|(_, pod)| pod.terminating && !pod.ended && pod.phase == Phase::Ready);
        seen.serving.extend(going.map(|(name, pod)| replica(name, pod, Phase::Leaving, port, now)));
        for (index, &since) in self.missing.iter().enumerate() {
            seen.view.replicas.push(FleetReplica {
                age: now.since(since),
                ..FleetReplica::new(format!("{REQUESTED}{index}"), Phase::Requested)
            });
        }
        seen.no_capacity = no_capacity(target, &living, missing);
        seen.view.failed_starts = self.failed_starts(&living);
        seen
    }

    fn failed_starts(&mut self, living: &Living<'_>) -> Vec<FailedStart> {
        let mut failed = std::mem::take(&mut self.given_up);
        let is_there = |name: &str| living.iter().any(|(there, _)| *there == name);
        self.reported.retain(|name, _| is_there(name));
        self.expired.retain(|name| is_there(name));
        for (name, pod) in living {
            let Some((restarts, why)) = &pod.failing else { continue };
            if self.reported.insert((*name).into(), *restarts) != Some(*restarts) {
                let id = ReplicaId::from(*name);
                failed.push(FailedStart { id, phase: pod.phase, error: why.to_string() });
            }
        }
        failed
    }

    /// What a decision means for the target and its pods. `in_flight` is a replica's work.
    pub fn orders(
        &mut self,
        target: &TargetView,
        pods: &Pods,
        decision: &Decision,
        in_flight: impl Fn(&ReplicaId) -> Option<u32>,
    ) -> Orders {
        let placement = &decision.placement;
        let mut orders = Orders { marks: protection(pods), ..Orders::default() };
        for id in &placement.drain {
            orders.marks.insert(id.as_str().to_owned(), Mark::Drain(decision.at));
        }
        for id in &placement.revive {
            orders.marks.insert(id.as_str().to_owned(), Mark::Serve);
        }
        let stops = u32::try_from(placement.stop.len()).unwrap_or(u32::MAX);
        let desired = target.desired.saturating_add(placement.start).saturating_sub(stops);
        orders.replicas = (desired != target.desired).then_some(desired);
        // A start in the place of a stop: the number stays, so the pod has to be deleted by name.
        let mut replaced = placement.start.min(stops);
        for id in &placement.stop {
            self.give_up(id, pods, decision);
            if id.as_str().starts_with(REQUESTED) {
                // There is nothing to delete; its time starts anew.
                self.missing.pop();
                replaced = replaced.saturating_sub(1);
                continue;
            }
            let is_starting = pods.get(id.as_str()).is_some_and(|pod| pod.phase.is_coming());
            if replaced > 0 && is_starting {
                replaced -= 1;
                orders.delete.push(id.as_str().to_owned());
                continue;
            }
            if pods.get(id.as_str()).is_some_and(|pod| pod.ordinal.is_none()) {
                let cost = LOWEST_COST + i64::from(in_flight(id).unwrap_or(0));
                orders.marks.insert(id.as_str().to_owned(), Mark::FirstToGo { cost });
            }
        }
        orders
    }

    /// Remembers who was told to go, once the target has its new number.
    pub fn told_to_go<'a>(&mut self, names: impl Iterator<Item = &'a ReplicaId>, now: Timestamp) {
        self.leaving.extend(
            names.filter(|id| !id.as_str().starts_with(REQUESTED)).map(|id| (id.as_str().into(), now)),
        );
    }

    fn give_up(&mut self, id: &ReplicaId, pods: &Pods, decision: &Decision) {
        let expired = decision.steps.iter().find_map(|step| {
            let Reason::StartExpired { replica, age_seconds } = &step.reason else { return None };
            (replica == id).then_some(*age_seconds)
        });
        let (Some(age_seconds), Some(pod)) = (expired, pods.get(id.as_str())) else { return };
        if !self.expired.insert(id.as_str().into()) {
            return;
        }
        let why = match (&pod.unschedulable, &pod.failing) {
            (Some(why), _) => why.to_string(),
            (None, Some((_, why))) => why.to_string(),
            (None, None) => "it is not ready".to_owned(),
        };
        let error = format!("given up after {age_seconds:.0} s: {why}");
        self.given_up.push(FailedStart { id: id.clone(), phase: pod.phase, error });
    }
}

/// Pods beyond the number, which are on their way in or out: starting ones first, the youngest first.
fn hidden<'a>(
    living: &Living<'a>,
    leaving: &BTreeMap<Box<str>, Timestamp>,
    surplus: usize,
) -> BTreeSet<&'a str> {
    if surplus == 0 {
        return BTreeSet::new();
    }
    let mut others: Vec<_> = living.iter().filter(|(name, _)| !leaving.contains_key(*name)).collect();
    others.sort_by_key(|(name, pod)| {
        (pod.phase == Phase::Ready, pod.draining_since.is_none(), std::cmp::Reverse(pod.created), *name)
    });
    others.into_iter().take(surplus).map(|(name, _)| *name).collect()
}

fn replica(name: &str, pod: &PodView, phase: Phase, port: Option<u16>, now: Timestamp) -> FleetReplica {
    FleetReplica {
        age: now.since(pod.starting_since),
        address: pod.address(port),
        ordinal: pod.ordinal,
        ..FleetReplica::new(name, phase)
    }
}

fn no_capacity(target: &TargetView, living: &Living<'_>, missing: usize) -> Option<String> {
    let stuck: Vec<&str> = living.iter().filter_map(|(_, pod)| pod.unschedulable.as_deref()).collect();
    match (stuck.first(), &target.failure) {
        (Some(why), _) if stuck.len() == 1 => Some(format!("1 pod has no node: {why}")),
        (Some(why), _) => Some(format!("{} pods have no node: {why}", stuck.len())),
        (None, Some(why)) if missing > 0 => Some(format!("{missing} pods cannot be made: {why}")),
        (None, _) => None,
    }
}

/// Keeps pods that load from being moved, and lets those that serve go their way.
fn protection(pods: &Pods) -> BTreeMap<String, Mark> {
    let mark = |name: &str, pod: &PodView| {
        let wanted = pod.lives() && (pod.phase.is_coming() || pod.draining_since.is_some());
        match (wanted, pod.protected) {
            (true, false) => Some((name.to_owned(), Mark::Protect)),
            (false, true) if pod.lives() => Some((name.to_owned(), Mark::Release)),
            (true, true) | (false, true | false) => None,
        }
    };
    pods.iter().filter_map(|(name, pod)| mark(name, pod)).collect()
}
