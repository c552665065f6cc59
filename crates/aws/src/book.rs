//! What is known of a group's instances as replicas. No I/O: looks go in, a view comes out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use forewarm_control::ports::{EndedReplica, FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, ReplicaId};
use tokio::time::Instant;

use crate::{
    ec2::InstanceFacts,
    group::{Group, Instance, Stage},
    hooks::Wait,
    probe::Health,
};

/// Notices that wait for an `observe`.
const NOTICES_KEPT: usize = 256;

/// The instances of one group as replicas.
#[derive(Debug, Default)]
pub(crate) struct Book {
    group: Option<Arc<Group>>,
    instances: BTreeMap<String, Known>,
    /// Replicas that were asked for and that no instance stands for yet, oldest first.
    requests: VecDeque<(ReplicaId, Instant)>,
    requested_so_far: u64,
    draining: BTreeSet<String>,
    /// Instances that were told to stop.
    stopping: BTreeSet<String>,
    /// Instances that somebody announced the end of, and how.
    announced: BTreeMap<String, String>,
    failed: VecDeque<FailedStart>,
    ended: VecDeque<EndedReplica>,
    /// The desired capacity as we left it.
    expected: Option<u32>,
    /// The desired capacity of the last view.
    shown: Option<u32>,
    change: Change,
    /// When the last look that saw the group began, or we changed it.
    seen_at: Option<Instant>,
}

/// An instance that counts.
#[derive(Debug)]
struct Known {
    requested: Instant,
    /// Whether it was there when we came: then its launch says how old it is.
    adopted: bool,
    address: Option<String>,
    health: Health,
    /// When it ran.
    running: Option<Instant>,
    /// When its engine served first.
    served: Option<Instant>,
}

/// Instances with their phases and whether they have an address, requests, and what is to be told.
pub(crate) type News = (Vec<(String, Phase, bool)>, usize, usize);

/// What looks changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The desired capacity before and after, when somebody else changed it.
    pub(crate) foreign: Option<(u32, u32)>,
    /// Whether an instance ended that nobody here had told to stop.
    pub(crate) lost: bool,
}

impl Book {
    /// Takes in the group as a look that began at `began` saw it.
    pub(crate) fn take(&mut self, group: Arc<Group>, began: Instant, now: Instant) {
        // What was taken in already, or began before we changed something, says nothing new.
        if self.seen_at.is_some_and(|at| began <= at) {
            return;
        }
        self.seen_at = Some(began);
        if let Some(expected) = self.expected.filter(|expected| *expected != group.desired) {
            self.change.foreign = Some((expected, group.desired));
        }
        self.expected = Some(group.desired);
        let first = self.group.is_none();
        let there = |instance: &&Instance| !matches!(instance.stage, Stage::Gone | Stage::Aside);
        for instance in group.instances.iter().filter(there) {
            if !self.instances.contains_key(&instance.id) {
                let request = self.requests.pop_front();
                let known = Known::new(request.map(|(_, at)| at), now, first);
                self.instances.insert(instance.id.clone(), known);
            }
            if let Some(known) = self.instances.get_mut(&instance.id)
                && instance.stage != Stage::Pending
            {
                known.running.get_or_insert(now);
            }
        }
        let gone: Vec<String> = self
            .instances
            .keys()
            .filter(|id| !group.instance(id).is_some_and(|instance| there(&instance)))
            .cloned()
            .collect();
        for id in gone {
            let lost = self.lose(&id);
            self.change.lost |= lost;
        }
        let missing = group.missing() as usize;
        self.requests.truncate(missing);
        while self.requests.len() < missing {
            self.requested_so_far += 1;
            self.requests.push_back((format!("requested-{}", self.requested_so_far).into(), now));
        }
        self.group = Some(group);
    }

    /// What looks changed since the last call.
    pub(crate) fn changes(&mut self) -> Change {
        std::mem::take(&mut self.change)
    }

    /// What the loop should hear of when it changes.
    pub(crate) fn news(&self) -> News {
        let phase = |(id, known): (&String, &Known)| {
            let instance = self.group.as_ref()?.instance(id)?;
            Some((id.clone(), self.phase(instance, known), known.address.is_some()))
        };
        let told = self.failed.len() + self.ended.len();
        (self.instances.iter().filter_map(phase).collect(), self.requests.len(), told)
    }

    /// Takes in the group as we have just made it.
    pub(crate) fn acted(&mut self, group: Group, now: Instant) {
        self.expected = Some(group.desired);
        self.shown = Some(group.desired);
        self.seen_at = None;
        self.take(Arc::new(group), now, now);
    }

    /// Forgets an instance that ended; whether nobody had told it to.
    fn lose(&mut self, id: &str) -> bool {
        let Some(known) = self.instances.remove(id) else { return false };
        self.draining.remove(id);
        let announced = self.announced.remove(id);
        if self.stopping.remove(id) {
            return false;
        }
        let reason = announced.unwrap_or_else(|| "the group terminated it".to_owned());
        let id = ReplicaId::from(id);
        if known.health.was_ready {
            keep(&mut self.ended, EndedReplica { id, reason });
        } else {
            let phase = if known.running.is_some() { Phase::Loading } else { Phase::Provisioning };
            keep(&mut self.failed, FailedStart { id, phase, error: reason });
        }
        true
    }

    /// Remembers a launch that failed, for the next view.
    pub(crate) fn launch_failed(&mut self, attempt: &str, error: String) {
        let id = self.requests.front().map_or_else(|| attempt.into(), |(id, _)| id.clone());
        keep(&mut self.failed, FailedStart { id, phase: Phase::Requested, error });
    }

    /// Whether the last look that saw the group is older than this.
    pub(crate) fn is_stale(&self, seconds: f64) -> bool {
        self.seen_at.is_none_or(|at| at.elapsed().as_secs_f64() > seconds)
    }

    /// The group as it was seen last.
    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// The desired capacity that the last view was about.
    pub(crate) fn shown(&self) -> Option<u32> {
        self.shown
    }

    /// The view, with each notice for the first and last time. Times are `speed` times as long.
    pub(crate) fn view(&mut self, now: Instant, speed: f64) -> FleetView {
        self.shown = self.group.as_ref().map(|group| group.desired);
        let modelled = |since: Instant| now.saturating_duration_since(since).mul_f64(speed);
        let mut replicas = Vec::new();
        for (id, known) in &self.instances {
            let Some(instance) = self.group.as_ref().and_then(|group| group.instance(id)) else { continue };
            let mut stages_seconds = BTreeMap::new();
            let mut stage = |name: &str, from: Instant, to: Option<Instant>| {
                if let Some(to) = to {
                    let span = to.saturating_duration_since(from).mul_f64(speed);
                    stages_seconds.insert(name.to_owned(), span.as_secs_f64());
                }
            };
            if !known.adopted {
                stage("provision", known.requested, known.running);
                stage("load", known.running.unwrap_or(known.requested), known.served);
            }
            replicas.push(FleetReplica {
                id: ReplicaId::from(id.as_str()),
                phase: self.phase(instance, known),
                age: modelled(known.requested),
                address: known.address.clone(),
                stages_seconds,
                ordinal: None,
            });
        }
        replicas.extend(self.requests.iter().map(|(id, at)| FleetReplica {
            id: id.clone(),
            phase: Phase::Requested,
            age: modelled(*at),
            address: None,
            stages_seconds: BTreeMap::new(),
            ordinal: None,
        }));
        FleetView {
            replicas,
            failed_starts: std::mem::take(&mut self.failed).into(),
            ended: std::mem::take(&mut self.ended).into(),
        }
    }

    fn phase(&self, instance: &Instance, known: &Known) -> Phase {
        let id = &instance.id;
        let told = self.stopping.contains(id) || self.draining.contains(id);
        match instance.stage {
            Stage::Terminating | Stage::TerminatingWait | Stage::Gone | Stage::Aside => Phase::Leaving,
            _ if self.announced.contains_key(id) || !instance.healthy => Phase::Leaving,
            _ if told => Phase::Draining,
            Stage::Pending => Phase::Provisioning,
            Stage::PendingWait | Stage::PendingProceed => Phase::Loading,
            Stage::InService if known.health.ready => Phase::Ready,
            Stage::InService => Phase::Loading,
        }
    }

    pub(crate) fn drain(&mut self, ids: &[ReplicaId]) {
        self.draining.extend(ids.iter().map(|id| id.as_str().to_owned()));
    }

    pub(crate) fn revive(&mut self, ids: &[ReplicaId]) {
        for id in ids {
            self.draining.remove(id.as_str());
        }
    }

    pub(crate) fn stop(&mut self, id: &str) {
        self.stopping.insert(id.to_owned());
    }

    /// It could not be told to stop after all.
    pub(crate) fn unstop(&mut self, id: &str) {
        self.stopping.remove(id);
    }

    /// How many of these are only asked for.
    pub(crate) fn requested(&self, ids: &[ReplicaId]) -> u32 {
        let asked = ids.iter().filter(|id| self.requests.iter().any(|(request, _)| request == *id)).count();
        u32::try_from(asked).unwrap_or(u32::MAX)
    }

    /// Remembers that somebody announced the end of an instance; whether it is one of ours, and news.
    pub(crate) fn announce(&mut self, id: &str, how: &str) -> bool {
        let ours = self.instances.contains_key(id) && !self.announced.contains_key(id);
        if ours {
            self.announced.insert(id.to_owned(), how.to_owned());
        }
        ours
    }

    /// Instances without an address.
    pub(crate) fn unaddressed(&self) -> Vec<String> {
        let without = self.instances.iter().filter(|(_, known)| known.address.is_none());
        without.map(|(id, _)| id.clone()).collect()
    }

    /// Takes in what EC2 knows of an instance.
    pub(crate) fn learn(&mut self, id: &str, facts: &InstanceFacts, template: &str, now: Instant) -> bool {
        let Some(known) = self.instances.get_mut(id) else { return false };
        if known.adopted
            && let Some(launched) = facts.launched
        {
            let age = jiff::Timestamp::now().duration_since(launched);
            let age = Duration::try_from(age).unwrap_or_default();
            known.requested = now.checked_sub(age).unwrap_or(known.requested);
        }
        known.address = facts.address(template, id);
        known.address.is_some()
    }

    /// Instances whose engine is to be asked, and where.
    pub(crate) fn to_probe(&self) -> Vec<(String, String)> {
        let group = self.group.as_ref();
        let runs = |id: &String| {
            let stage = group.and_then(|group| group.instance(id)).map(|instance| instance.stage);
            matches!(stage, Some(Stage::PendingWait | Stage::PendingProceed | Stage::InService))
        };
        let addressed = |(id, known): (&String, &Known)| Some((id.clone(), known.address.clone()?));
        self.instances.iter().filter(|(id, _)| runs(id)).filter_map(addressed).collect()
    }

    /// Takes in an engine's answer; whether anything changed.
    pub(crate) fn probed(&mut self, id: &str, serves: bool, now: Instant) -> bool {
        let Some(known) = self.instances.get_mut(id) else { return false };
        let changed = known.health.take(serves);
        if known.health.ready {
            known.served.get_or_insert(now);
        }
        changed
    }

    /// Whether an engine is expected to serve that does not yet.
    pub(crate) fn is_starting(&self) -> bool {
        !self.requests.is_empty() || self.instances.values().any(|known| !known.health.ready)
    }

    /// Instances in service that AWS might choose when something shrinks the group.
    pub(crate) fn unprotected(&self) -> Vec<String> {
        let Some(group) = &self.group else { return Vec::new() };
        let open = |instance: &&Instance| {
            instance.stage == Stage::InService && !instance.protected && !self.stopping.contains(&instance.id)
        };
        group.instances.iter().filter(open).map(|instance| instance.id.clone()).collect()
    }

    /// Instances were protected.
    pub(crate) fn protected(&mut self, ids: &[String]) {
        if let Some(group) = &mut self.group {
            let group = Arc::make_mut(group);
            for instance in group.instances.iter_mut().filter(|instance| ids.contains(&instance.id)) {
                instance.protected = true;
            }
        }
    }

    /// Instances that wait for hooks, and whether they may go on.
    pub(crate) fn waits(&self) -> Vec<(String, Wait, bool)> {
        let Some(group) = &self.group else { return Vec::new() };
        let wait = |instance: &Instance| {
            let id = instance.id.clone();
            match instance.stage {
                Stage::PendingWait => {
                    let ready = self.instances.get(&id).is_some_and(|known| known.health.ready);
                    let wanted = !self.stopping.contains(&id);
                    Some((id, Wait::Launching, ready && wanted))
                }
                Stage::TerminatingWait => {
                    let told = self.stopping.contains(&id);
                    Some((id, Wait::Terminating, told))
                }
                Stage::Pending
                | Stage::PendingProceed
                | Stage::InService
                | Stage::Terminating
                | Stage::Gone
                | Stage::Aside => None,
            }
        };
        group.instances.iter().filter_map(wait).collect()
    }
}

impl Known {
    fn new(requested: Option<Instant>, now: Instant, first: bool) -> Self {
        Self {
            requested: requested.unwrap_or(now),
            adopted: first && requested.is_none(),
            address: None,
            health: Health::default(),
            running: None,
            served: None,
        }
    }
}

fn keep<T>(notices: &mut VecDeque<T>, notice: T) {
    if notices.len() == NOTICES_KEPT {
        notices.pop_front();
    }
    notices.push_back(notice);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(desired: u32, instances: &[(&str, Stage)]) -> Arc<Group> {
        let instance = |(id, stage): &(&str, Stage)| Instance {
            id: (*id).to_owned(),
            stage: *stage,
            healthy: true,
            protected: false,
        };
        let instances = instances.iter().map(instance).collect();
        Arc::new(Group { name: "g".into(), max: 9, desired, instances, ..Group::default() })
    }

    fn phases(book: &mut Book, now: Instant) -> Vec<(String, Phase)> {
        let view = book.view(now, 1.0);
        view.replicas.into_iter().map(|replica| (replica.id.to_string(), replica.phase)).collect()
    }

    #[test]
    fn a_request_becomes_an_instance_and_keeps_its_age() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.take(group(0, &[]), start, start);
        book.acted((*group(1, &[])).clone(), start);
        assert_eq!(phases(&mut book, start), [("requested-1".into(), Phase::Requested)]);
        let later = start + Duration::from_secs(60);
        book.take(group(1, &[("i-1", Stage::Pending)]), later, later);
        let view = book.view(later + Duration::from_secs(1), 1.0);
        assert_eq!((view.replicas.len(), view.replicas[0].phase), (1, Phase::Provisioning));
        assert_eq!(view.replicas[0].age, Duration::from_secs(61));
        book.take(group(1, &[("i-1", Stage::InService)]), later + Duration::from_secs(1), later);
        assert_eq!(phases(&mut book, later), [("i-1".into(), Phase::Loading)]);
        book.probed("i-1", true, later);
        let view = book.view(later, 1.0);
        assert_eq!(view.replicas[0].phase, Phase::Ready);
        assert_eq!(view.replicas[0].stages_seconds["provision"], 60.0);
    }

    #[test]
    fn who_ends_unasked_is_reported_once_as_what_it_was() {
        let (mut book, now) = (Book::default(), Instant::now());
        let three =
            [("ready", Stage::InService), ("loading", Stage::InService), ("stopped", Stage::InService)];
        book.take(group(3, &three), now, now);
        book.probed("ready", true, now);
        book.stop("stopped");
        assert!(book.announce("ready", "spot interruption") && !book.announce("ready", "spot interruption"));
        assert_eq!(phases(&mut book, now)[1], ("ready".into(), Phase::Leaving));
        book.take(group(3, &[("loading", Stage::Gone)]), now + Duration::from_secs(1), now);
        assert!(book.changes().lost);
        let view = book.view(now, 1.0);
        assert_eq!(view.ended.len(), 1);
        assert_eq!(view.ended[0].reason, "spot interruption");
        assert_eq!(view.failed_starts.len(), 1);
        assert_eq!(
            (view.failed_starts[0].id.as_str(), view.failed_starts[0].phase),
            ("loading", Phase::Loading)
        );
        assert_eq!(view.replicas.len(), 3, "the group gets others: {:?}", view.replicas);
        let again = book.view(now, 1.0);
        assert!(again.ended.is_empty() && again.failed_starts.is_empty());
    }

    #[test]
    fn a_look_that_began_before_we_acted_changes_nothing() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.take(group(1, &[]), start, start);
        let acted = start + Duration::from_secs(1);
        book.acted((*group(3, &[])).clone(), acted);
        book.take(group(1, &[]), start, acted);
        assert_eq!((book.changes(), book.view(acted, 1.0).replicas.len()), (Change::default(), 3));
        let later = acted + Duration::from_secs(1);
        book.take(group(5, &[]), later, later);
        assert_eq!(book.changes().foreign, Some((3, 5)));
    }

    #[test]
    fn draining_can_be_taken_back_and_leaving_cannot() {
        let (mut book, now) = (Book::default(), Instant::now());
        let both = [("ours", Stage::InService), ("theirs", Stage::TerminatingWait)];
        book.take(group(1, &both), now, now);
        book.probed("ours", true, now);
        book.drain(&["ours".into(), "theirs".into()]);
        let expected = [("ours".into(), Phase::Draining), ("theirs".into(), Phase::Leaving)];
        assert_eq!(phases(&mut book, now), expected);
        book.revive(&["ours".into(), "theirs".into()]);
        let expected = [("ours".into(), Phase::Ready), ("theirs".into(), Phase::Leaving)];
        assert_eq!(phases(&mut book, now), expected);
    }

    #[test]
    fn hooks_let_go_who_serves_and_who_is_done() {
        let (mut book, now) = (Book::default(), Instant::now());
        let waiting =
            [("loads", Stage::PendingWait), ("serves", Stage::PendingWait), ("ends", Stage::TerminatingWait)];
        book.take(group(2, &waiting), now, now);
        book.probed("serves", true, now);
        let may_go = |book: &Book| {
            let waits = book.waits().into_iter();
            waits.filter(|(_, _, go)| *go).map(|(id, _, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(may_go(&book), ["serves"]);
        book.stop("ends");
        assert_eq!(may_go(&book), ["serves", "ends"]);
    }
}
