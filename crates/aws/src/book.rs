//! What is known of a group's instances as replicas. No I/O: looks go in, a view comes out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use forewarm_control::ports::{EndedReplica, FleetReplica, FleetView};
use forewarm_core::{Contested, FailedStart, Notice, Phase, ReplicaId, Standby, Tier};
use tokio::time::Instant;

use crate::{
    ec2::InstanceFacts,
    group::{Group, Instance, Stage},
    hooks::Wait,
    notices::{Announcement, End},
    probe::Health,
};

/// Notices that wait for an `observe`.
const NOTICES_KEPT: usize = 256;
/// How long an instance that left the warm pool may take to show up in the group.
const BETWEEN: Duration = Duration::from_secs(600);
/// How long a change by somebody else is told of, in the group's time.
const CONTESTED: Duration = Duration::from_secs(600);

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
    /// Instances that somebody announced the end of.
    announced: BTreeMap<String, Announcement>,
    /// Instances of the warm pool, and when they were last seen there.
    pool: BTreeMap<String, (Tier, Instant)>,
    failed: VecDeque<FailedStart>,
    ended: VecDeque<EndedReplica>,
    /// The desired capacity as we left it.
    expected: Option<u32>,
    /// The desired capacity of the last view.
    shown: Option<u32>,
    change: Change,
    /// What somebody else changed last, and when it was seen.
    contested: Option<(Contested, Instant)>,
    /// When the last look that saw the group began, or we changed it.
    seen_at: Option<Instant>,
}

/// An instance that counts.
#[derive(Debug)]
struct Known {
    requested: Instant,
    /// What its start began with.
    tier: Tier,
    /// Whether it was there when we came: then its launch says how old it is.
    adopted: bool,
    address: Option<String>,
    health: Health,
    /// When it ran.
    running: Option<Instant>,
    /// When its engine served first.
    served: Option<Instant>,
}

/// Instances with their phases and whether they have an address, requests, those that stand by, and what is to be told.
pub(crate) type News = (Vec<(String, Phase, bool)>, usize, Vec<Tier>, usize);

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
            let by = "the group does not say who".to_owned();
            self.contested = Some((Contested { by, from: expected, to: group.desired }, now));
        }
        self.expected = Some(group.desired);
        let first = self.group.is_none();
        let there = |instance: &&Instance| !matches!(instance.stage, Stage::Gone | Stage::Aside);
        for instance in group.instances.iter().filter(there) {
            if !self.instances.contains_key(&instance.id) {
                let request = self.requests.pop_front();
                let tier = self.pool.remove(&instance.id).map_or(Tier::Cold, |(tier, _)| tier);
                let known = Known::new(request.map(|(_, at)| at), tier, now, first);
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
        self.pool.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < BETWEEN);
        self.pool.extend(group.pool.iter().map(|(id, tier)| (id.clone(), (*tier, now))));
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
        (self.instances.iter().filter_map(phase).collect(), self.requests.len(), self.prepared(), told)
    }

    /// Takes in the group as we have just made it.
    pub(crate) fn acted(&mut self, group: Group, now: Instant) {
        self.expected = Some(group.desired);
        self.shown = Some(group.desired);
        self.seen_at = None;
        self.take(Arc::new(group), now, now);
    }

    /// Who made the change that was seen last.
    pub(crate) fn name_contester(&mut self, who: &str) {
        if let Some((contested, _)) = &mut self.contested {
            who.clone_into(&mut contested.by);
        }
    }

    /// Forgets an instance that ended; whether nobody had told it to.
    fn lose(&mut self, id: &str) -> bool {
        let Some(known) = self.instances.remove(id) else { return false };
        self.draining.remove(id);
        let announced = self.announced.remove(id);
        if self.stopping.remove(id) {
            return false;
        }
        let reason = announced.map_or_else(|| "the group terminated it".to_owned(), |it| it.how);
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
            let phase = self.phase(instance, known);
            let notice = || {
                let Announcement { how, end, .. } = self.announced.get(id)?;
                Some(Notice { why: how.clone(), left: left(*end).map(|left| left.mul_f64(speed)) })
            };
            replicas.push(FleetReplica {
                age: modelled(known.requested),
                address: known.address.clone(),
                stages_seconds,
                tier: known.tier,
                notice: if phase == Phase::Ready { notice() } else { None },
                ..FleetReplica::new(id.as_str(), phase)
            });
        }
        // The group takes what it lacks from the pool first.
        let mut prepared = self.prepared().into_iter();
        for (id, at) in &self.requests {
            let tier = prepared.next().unwrap_or_default();
            replicas.push(FleetReplica {
                age: modelled(*at),
                tier,
                ..FleetReplica::new(id.clone(), Phase::Requested)
            });
        }
        let mut standby = Standby::new();
        for tier in prepared {
            *standby.entry(tier).or_default() += 1;
        }
        let lately = self.contested.as_ref().filter(|(_, seen)| modelled(*seen) < CONTESTED);
        FleetView {
            replicas,
            standby,
            contested: lately.map(|(contested, _)| contested.clone()),
            failed_starts: std::mem::take(&mut self.failed).into(),
            ended: std::mem::take(&mut self.ended).into(),
        }
    }

    /// What stands by in the pool, the quickest first.
    fn prepared(&self) -> Vec<Tier> {
        let pool = self.group.iter().flat_map(|group| &group.pool);
        let mut tiers: Vec<Tier> =
            pool.filter(|(id, _)| !self.instances.contains_key(id)).map(|(_, tier)| *tier).collect();
        tiers.sort_unstable();
        tiers
    }

    fn phase(&self, instance: &Instance, known: &Known) -> Phase {
        let id = &instance.id;
        let told = self.stopping.contains(id) || self.draining.contains(id);
        let announced = self.announced.get(id).map(|it| it.end);
        let serves = instance.stage == Stage::InService && known.health.ready && !told;
        match instance.stage {
            Stage::Terminating | Stage::TerminatingWait | Stage::Gone | Stage::Aside => Phase::Leaving,
            _ if !instance.healthy || announced == Some(End::Now) => Phase::Leaving,
            // It serves until the core has another in its place; before that and after that it is of no use.
            _ if announced.is_some() && !serves => Phase::Leaving,
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
    pub(crate) fn announce(&mut self, heard: &Announcement) -> bool {
        let id = &heard.instance;
        let sooner = self.announced.get(id).is_none_or(|before| heard.end < before.end);
        let ours = self.instances.contains_key(id) && sooner;
        if ours {
            self.announced.insert(id.clone(), heard.clone());
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
    fn new(requested: Option<Instant>, tier: Tier, now: Instant, first: bool) -> Self {
        Self {
            requested: requested.unwrap_or(now),
            tier,
            adopted: first && requested.is_none(),
            address: None,
            health: Health::default(),
            running: None,
            served: None,
        }
    }
}

/// Time on the wall until then.
fn left(end: End) -> Option<Duration> {
    match end {
        End::Now => Some(Duration::ZERO),
        End::At(then) => {
            Some(Duration::try_from(then.duration_since(jiff::Timestamp::now())).unwrap_or_default())
        }
        End::Likely => None,
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

    fn announcement(instance: &str, end: End) -> Announcement {
        Announcement { instance: instance.to_owned(), how: "announced".to_owned(), end }
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
        let stopping = announcement("ready", End::Now);
        assert!(book.announce(&stopping) && !book.announce(&stopping));
        assert_eq!(phases(&mut book, now)[1], ("ready".into(), Phase::Leaving));
        book.take(group(3, &[("loading", Stage::Gone)]), now + Duration::from_secs(1), now);
        assert!(book.changes().lost);
        let view = book.view(now, 1.0);
        assert_eq!(view.ended.len(), 1);
        assert_eq!(view.ended[0].reason, "announced");
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
        book.name_contester("a user request");
        let contested = |book: &mut Book, at| book.view(at, 1.0).contested;
        let expected = Contested { by: "a user request".into(), from: 3, to: 5 };
        assert_eq!(contested(&mut book, later), Some(expected));
        assert_eq!(contested(&mut book, later + CONTESTED), None, "it is told of for a while");
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
    fn who_is_announced_to_go_serves_until_it_is_told_to_drain() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.take(group(2, &[("serves", Stage::InService), ("starts", Stage::Pending)]), now, now);
        book.probed("serves", true, now);
        for id in ["serves", "starts"] {
            assert!(book.announce(&announcement(id, End::Likely)));
        }
        let view = book.view(now, 1.0);
        let seen: Vec<_> = view
            .replicas
            .iter()
            .map(|replica| (replica.phase, replica.notice.as_ref().map(|it| it.left)))
            .collect();
        assert_eq!(seen, [(Phase::Ready, Some(None)), (Phase::Leaving, None)]);
        // A date is news, what is later or less certain is none.
        let soon = jiff::Timestamp::now() + Duration::from_secs(100);
        assert!(book.announce(&announcement("serves", End::At(soon))));
        assert!(!book.announce(&announcement("serves", End::Likely)));
        let left = book.view(now, 10.0).replicas[0].notice.clone().and_then(|notice| notice.left);
        let left = left.expect("a date").as_secs_f64();
        assert!((900.0..=1000.0).contains(&left), "modelled time: {left}");
        book.drain(&["serves".into()]);
        assert_eq!(phases(&mut book, now)[0], ("serves".into(), Phase::Leaving));
    }

    #[test]
    fn instances_out_of_the_warm_pool_are_known_and_those_left_stand_by() {
        let (mut book, start) = (Book::default(), Instant::now());
        let with_pool = |desired, instances: &[(&str, Stage)], pool: &[&str]| {
            let mut group = (*group(desired, instances)).clone();
            group.pool = pool.iter().map(|id| ((*id).to_owned(), Tier::Stopped)).collect();
            group
        };
        book.take(Arc::new(with_pool(0, &[], &["w-1"])), start, start);
        let (before, soon) = (book.news(), start + Duration::from_millis(1));
        book.take(Arc::new(with_pool(0, &[], &["w-1", "w-2"])), soon, soon);
        assert_ne!(book.news(), before, "a start is sooner than it was");
        assert_eq!(book.view(start, 1.0).standby, Standby::from([(Tier::Stopped, 2)]));
        // Three are asked for: two stand by for them, the third is a new one, and none is left.
        book.acted(with_pool(3, &[], &["w-1", "w-2"]), start);
        let view = book.view(start, 1.0);
        let tiers = |view: &FleetView| view.replicas.iter().map(|replica| replica.tier).collect::<Vec<_>>();
        assert_eq!((tiers(&view), view.standby.len()), (vec![Tier::Stopped, Tier::Stopped, Tier::Cold], 0));
        // One look sees an instance neither here nor there.
        let [first, second] = [1, 2].map(|seconds| start + Duration::from_secs(seconds));
        book.take(Arc::new(with_pool(3, &[("w-1", Stage::Pending)], &[])), first, first);
        let all = [("w-1", Stage::Pending), ("w-2", Stage::Pending), ("i-1", Stage::Pending)];
        book.take(Arc::new(with_pool(3, &all, &["w-3"])), second, second);
        let view = book.view(second, 1.0);
        let ids: Vec<_> = view.replicas.iter().map(|replica| (replica.id.as_str(), replica.tier)).collect();
        assert_eq!(ids, [("i-1", Tier::Cold), ("w-1", Tier::Stopped), ("w-2", Tier::Stopped)]);
        assert_eq!(view.standby, Standby::from([(Tier::Stopped, 1)]));
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
