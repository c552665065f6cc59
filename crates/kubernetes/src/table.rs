//! Every scaler with its target and pods, in one table: what happened goes in, what is to be done comes out.
//!
//! One task owns it, and nothing in it waits. A scaler costs a place in the table and no task, no timer and no file of
//! its own, so that ten thousand of them are looked at every second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forewarm_control::ports::GatewayError;
use forewarm_core::{Timestamp, pool::PoolReport};
use kube::core::{Selector, SelectorExt as _};
use serde_json::Value;

use crate::{
    pod::PodView,
    read::{ReadScaler, read},
    resource::InferenceScalerStatus,
    scaler::{Around, Evaluation, Key, Scaler},
    target::TargetView,
};

/// What is learned is written this often at most…
const WRITE_EVERY: Duration = Duration::from_secs(30);
/// …and so that all scalers together write no more than twenty times a second.
const WRITE_GAP: Duration = Duration::from_millis(50);

/// A kind of targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindRef {
    /// Its group and version, such as `apps/v1`.
    pub api_version: Arc<str>,
    /// Such as `Deployment`.
    pub kind: Arc<str>,
    /// Where its objects have their number, if a scaler says so.
    pub replicas_path: Option<Arc<str>>,
}

/// A change of what is watched.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// There is this now.
    Apply(Key, T),
    /// It is gone.
    Delete(Key),
    /// The watch begins anew: these and no others are there.
    Listed(BTreeSet<Key>),
}

/// An `InferenceScaler` as the API server has it.
#[derive(Clone, Debug)]
pub struct ScalerObject {
    /// Its identity.
    pub uid: String,
    /// The generation of its specification.
    pub generation: i64,
    /// What is asked for.
    pub spec: Value,
    /// What was written about it last.
    pub status: InferenceScalerStatus,
}

/// A pod as the API server has it.
#[derive(Clone, Debug)]
pub struct PodObject {
    /// What matters.
    pub view: PodView,
    /// Its labels, by which it is found to belong to a target.
    pub labels: BTreeMap<String, String>,
    /// Whether it passed its startup probe.
    pub is_started: bool,
}

/// Another autoscaler.
#[derive(Clone, Debug)]
pub struct RivalObject {
    /// The group and version, kind and name of what it scales.
    pub target: (String, String, String),
    /// What people know it by.
    pub shown: String,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A scaler.
    Scaler(Change<ScalerObject>),
    /// A target.
    Target(KindRef, Change<Option<TargetView>>),
    /// A kind that cannot be watched, and why.
    NoKind(KindRef, String),
    /// A pod.
    Pod(Change<PodObject>),
    /// Pods of one scaler, which was there before its target.
    PodsOf(Key, Vec<(Key, PodObject)>),
    /// Another autoscaler.
    Rival(Change<RivalObject>),
    /// What a scaler's gateways say.
    Report(Key, Result<PoolReport, GatewayError>),
}

/// What is to be arranged for the table.
#[derive(Debug)]
pub enum Effect {
    /// Watch this kind.
    Watch(KindRef),
    /// Find the pods of this scaler: it came after them.
    FindPods(Key, Selector),
    /// Measure for this scaler, and find its gateways.
    Wire(Key, Arc<ReadScaler>),
    /// Stop that.
    Unwire(Key),
    /// All scalers and their targets are known: their pods can be looked at.
    WatchPods,
}

/// What came of some evaluations.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// How many there were.
    pub count: usize,
    /// Those that ask for something.
    pub asking: Vec<(Key, Evaluation)>,
}

/// Who wants pods with a label of this value.
type ByLabel = BTreeMap<(String, String), Vec<Key>>;

/// Every scaler, and what is known of the world around them.
#[derive(Default)]
pub struct Table {
    hold: Duration,
    /// Boxed: keys come in order, and leave the nodes of the tree half empty.
    scalers: BTreeMap<Key, Box<Scaler>>,
    places: BTreeMap<Key, Place>,
    kinds: BTreeMap<KindRef, Kind>,
    /// Who scales a target.
    by_target: BTreeMap<(KindRef, Key), BTreeSet<Key>>,
    /// By namespace and label: who wants pods with it.
    index: BTreeMap<Arc<str>, ByLabel>,
    rivals: BTreeMap<Key, RivalObject>,
    rivals_listed: bool,
    scalers_listed: bool,
    watches_pods: bool,
    pods_listed: bool,
    is_leading: bool,
    /// The last one that was evaluated in turn.
    turn: Option<Key>,
    /// Those to evaluate at once.
    dirty: BTreeSet<Key>,
}

/// What a scaler's place in the table says about its target.
#[derive(Debug)]
struct Place {
    kind: KindRef,
    target: Key,
    selector: Option<Selector>,
}

#[derive(Debug, Default)]
struct Kind {
    targets: BTreeMap<Key, TargetView>,
    is_listed: bool,
    /// Why it cannot be watched.
    failure: Option<String>,
}

impl Table {
    /// An empty one. For `hold` after taking the lead no scaler takes anything away.
    pub fn new(hold: Duration) -> Self {
        Self { hold, ..Self::default() }
    }

    /// Takes in what happened.
    pub fn take(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Scaler(Change::Apply(key, object)) => self.scaler(key, object, now, &mut effects),
            Input::Scaler(Change::Delete(key)) => self.forget(&key, &mut effects),
            Input::Scaler(Change::Listed(there)) => {
                let gone: Vec<Key> =
                    self.scalers.keys().filter(|key| !there.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| self.forget(key, &mut effects));
                self.scalers_listed = true;
            }
            Input::Target(kind, change) => self.target(&kind, change, &mut effects),
            Input::NoKind(kind, why) => {
                let known = self.kinds.entry(kind).or_default();
                (known.failure, known.is_listed) = (Some(why), true);
                self.touch_all();
            }
            Input::Pod(change) => self.pod(change, now),
            Input::PodsOf(key, pods) => self.pods_of(&key, pods, now),
            Input::Rival(change) => self.rival(change),
            Input::Report(key, report) => {
                if let Some(scaler) = self.scalers.get_mut(&key) {
                    // Thousands that are idle say the same each second: their turn is soon enough.
                    let is_known =
                        matches!((&scaler.report, &report), (Some(Ok(known)), Ok(said)) if known == said);
                    scaler.report = Some(report);
                    if !is_known {
                        self.dirty.insert(key);
                    }
                }
            }
        }
        if !self.watches_pods && self.scalers_listed && self.kinds.values().all(|kind| kind.is_listed) {
            self.watches_pods = true;
            effects.push(Effect::WatchPods);
        }
        effects
    }

    /// Leads from now on, or no more.
    pub fn lead(&mut self, leads: bool, now: Timestamp) {
        if leads && !self.is_leading {
            let hold = self.hold;
            self.scalers.values_mut().for_each(|scaler| scaler.lead(now, hold));
            self.touch_all();
        }
        self.is_leading = leads;
    }

    /// Whether everything is known that decisions need.
    pub fn is_settled(&self) -> bool {
        self.pods_listed && self.rivals_listed
    }

    /// How many scalers there are.
    pub fn len(&self) -> usize {
        self.scalers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scalers.is_empty()
    }

    /// A scaler.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Scaler> {
        self.scalers.get_mut(key).map(Box::as_mut)
    }

    /// A scaler's target.
    pub fn target_of(&self, key: &Key) -> Option<(&KindRef, &Key, &TargetView)> {
        let place = self.places.get(key)?;
        let target = self.kinds.get(&place.kind)?.targets.get(&place.target)?;
        Some((&place.kind, &place.target, target))
    }

    /// The target has this number, as the API server answered a write.
    pub fn target_has(&mut self, key: &Key, desired: u32, resource_version: &str) {
        let Some(place) = self.places.get(key) else { return };
        let target = self.kinds.get_mut(&place.kind).and_then(|kind| kind.targets.get_mut(&place.target));
        if let Some(target) = target {
            (target.desired, target.resource_version) = (desired, resource_version.into());
        }
    }

    /// Whether something happened that was not looked at.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() && self.is_leading && self.is_settled()
    }

    /// Evaluates a scaler at the next look.
    pub fn touch(&mut self, key: &Key) {
        self.dirty.insert(key.clone());
    }

    /// Evaluates those to which something happened, with so many free hands.
    pub fn evaluate_dirty(&mut self, hands: usize, now: Timestamp) -> Evaluated {
        // One that is busy is looked at when that is done.
        let dirty = std::mem::take(&mut self.dirty);
        self.evaluate_all(dirty, hands, now)
    }

    fn evaluate_all(
        &mut self,
        keys: impl IntoIterator<Item = Key>,
        hands: usize,
        now: Timestamp,
    ) -> Evaluated {
        let mut evaluated = Evaluated::default();
        for key in keys {
            let has_hands = evaluated.asking.len() < hands;
            let Some(evaluation) = self.evaluate(&key, has_hands, now) else { continue };
            evaluated.count += 1;
            if evaluation.asks() {
                evaluated.asking.push((key, evaluation));
            }
        }
        evaluated
    }

    /// Evaluates the next `share` of all in turn, with so many free hands.
    pub fn evaluate_in_turn(&mut self, share: f64, hands: usize, now: Timestamp) -> Evaluated {
        let count = (self.scalers.len() as f64 * share).ceil() as usize;
        let after = self.turn.take();
        let later = match &after {
            Some(after) => self.scalers.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)),
            None => self.scalers.range::<Key, _>(..),
        };
        let mut keys: Vec<Key> = later.take(count).map(|(key, _)| key.clone()).collect();
        if keys.len() < count {
            let rest = count - keys.len();
            keys.extend(self.scalers.keys().take(rest).cloned());
        }
        self.turn = keys.last().cloned();
        self.evaluate_all(keys, hands, now)
    }

    fn write_every(&self) -> Duration {
        WRITE_EVERY.max(WRITE_GAP * u32::try_from(self.scalers.len()).unwrap_or(u32::MAX))
    }

    fn is_idle(&self, key: &Key) -> bool {
        self.scalers.get(key).is_some_and(|scaler| !scaler.is_busy)
    }

    fn evaluate(&mut self, key: &Key, has_hands: bool, now: Timestamp) -> Option<Evaluation> {
        if !self.is_leading || !self.is_settled() || !self.is_idle(key) {
            return None;
        }
        let rival = self.rival_of(key);
        let write_every = self.write_every();
        let why;
        let target = match self.places.get(key) {
            None => Err(""),
            Some(place) => match self.kinds.get(&place.kind).filter(|kind| kind.is_listed) {
                // It is being listed.
                None => return None,
                Some(kind) => match (kind.targets.get(&place.target), &kind.failure) {
                    (Some(target), _) => Ok(target),
                    (None, Some(failure)) => Err(failure.as_str()),
                    (None, None) => {
                        why = format!(
                            "spec.target.kubernetes: there is no {} `{}` in the namespace `{}`",
                            place.kind.kind, place.target.name, place.target.namespace
                        );
                        Err(why.as_str())
                    }
                },
            },
        };
        let around = Around { target, rival: rival.as_deref(), write_every, has_hands };
        self.scalers.get_mut(key).map(|scaler| scaler.evaluate(around, now))
    }

    fn rival_of(&self, key: &Key) -> Option<String> {
        let place = self.places.get(key)?;
        // Of several scalers of one target the first by name acts.
        let rivals = self.by_target.get(&(place.kind.clone(), place.target.clone()));
        if let Some(first) = rivals.and_then(|keys| keys.first()).filter(|first| *first != key) {
            return Some(format!("InferenceScaler `{}`", first.name));
        }
        let group = |api_version: &str| {
            api_version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned())
        };
        self.rivals
            .range(Key::new(&key.namespace, "")..)
            .take_while(|(rival, _)| rival.namespace == key.namespace)
            .find(|(_, rival)| {
                let (api_version, kind, name) = &rival.target;
                *kind == *place.kind.kind
                    && *name == *place.target.name
                    && group(api_version) == group(&place.kind.api_version)
            })
            .map(|(_, rival)| rival.shown.clone())
    }

    fn scaler(&mut self, key: Key, object: ScalerObject, now: Timestamp, effects: &mut Vec<Effect>) {
        let ScalerObject { uid, generation, spec, status } = object;
        if let Some(known) = self.scalers.get_mut(&key).filter(|known| *known.uid == *uid) {
            if !self.is_leading {
                known.is_told(status);
            }
            if known.generation == generation {
                return;
            }
            let read = read(&key.namespace, &key.name, &spec).map(Arc::new);
            known.respecify(generation, read.clone());
            self.place(&key, read, effects);
            return;
        }
        self.forget(&key, effects);
        let read = read(&key.namespace, &key.name, &spec).map(Arc::new);
        let mut scaler = Scaler::new(&uid, generation, read.clone(), status);
        if self.is_leading {
            scaler.lead(now, self.hold);
        }
        self.scalers.insert(key.clone(), Box::new(scaler));
        self.place(&key, read, effects);
    }

    /// Finds a scaler's target.
    fn place(&mut self, key: &Key, read: Result<Arc<ReadScaler>, String>, effects: &mut Vec<Effect>) {
        self.dirty.insert(key.clone());
        self.displace(key);
        effects.push(Effect::Unwire(key.clone()));
        let Ok(read) = read else { return };
        let target = &read.target;
        let kind = KindRef {
            api_version: target.api_version.as_str().into(),
            kind: target.kind.as_str().into(),
            replicas_path: target.replicas_path.as_deref().map(Into::into),
        };
        if !self.kinds.contains_key(&kind) {
            self.kinds.insert(kind.clone(), Kind::default());
            effects.push(Effect::Watch(kind.clone()));
        }
        let target = Key::new(&key.namespace, &target.name);
        self.by_target.entry((kind.clone(), target.clone())).or_default().insert(key.clone());
        self.places.insert(key.clone(), Place { kind, target, selector: None });
        effects.push(Effect::Wire(key.clone(), read));
        self.select(key, effects);
    }

    /// Learns which pods are a scaler's, when that is known or has changed.
    fn select(&mut self, key: &Key, effects: &mut Vec<Effect>) {
        let (Some(place), Some(scaler)) = (self.places.get(key), self.scalers.get(key)) else { return };
        let own = scaler.spec.as_ref().ok().map(|read| &read.target.selector).filter(|own| !own.is_empty());
        let selector = match own {
            Some(own) => Some(Selector::from_iter(own.clone())),
            None => {
                let target = self.kinds.get(&place.kind).and_then(|kind| kind.targets.get(&place.target));
                target.and_then(|target| target.selector.clone())
            }
        };
        let Some(selector) = selector else { return };
        if place.selector.as_ref() == Some(&selector) {
            return;
        }
        self.unindex(key);
        let label = label_of(&selector);
        self.index.entry(Arc::clone(&key.namespace)).or_default().entry(label).or_default().push(key.clone());
        if let Some(place) = self.places.get_mut(key) {
            place.selector = Some(selector.clone());
        }
        if self.watches_pods {
            effects.push(Effect::FindPods(key.clone(), selector));
        }
    }

    fn unindex(&mut self, key: &Key) {
        let selector = self.places.get_mut(key).and_then(|place| place.selector.take());
        let Some(selector) = selector else { return };
        if let Some(labels) = self.index.get_mut(&key.namespace) {
            if let Some(keys) = labels.get_mut(&label_of(&selector)) {
                keys.retain(|other| other != key);
            }
            labels.retain(|_, keys| !keys.is_empty());
        }
        if let Some(scaler) = self.scalers.get_mut(key) {
            scaler.pods.clear();
        }
    }

    fn displace(&mut self, key: &Key) {
        self.unindex(key);
        let Some(place) = self.places.remove(key) else { return };
        let target = (place.kind, place.target);
        if let Some(keys) = self.by_target.get_mut(&target) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_target.remove(&target);
            }
        }
    }

    fn forget(&mut self, key: &Key, effects: &mut Vec<Effect>) {
        self.displace(key);
        self.dirty.remove(key);
        if self.scalers.remove(key).is_some() {
            effects.push(Effect::Unwire(key.clone()));
        }
    }

    fn target(&mut self, kind: &KindRef, change: Change<Option<TargetView>>, effects: &mut Vec<Effect>) {
        let known = self.kinds.entry(kind.clone()).or_default();
        known.failure = None;
        let touched: Vec<Key> = match change {
            Change::Apply(key, view) => {
                match view {
                    // An answer to a write may be newer than the watch.
                    Some(view) if known.targets.get(&key).is_some_and(|there| view.is_older_than(there)) => {
                        return;
                    }
                    Some(view) => known.targets.insert(key.clone(), view),
                    None => known.targets.remove(&key),
                };
                vec![key]
            }
            Change::Delete(key) => {
                known.targets.remove(&key);
                vec![key]
            }
            Change::Listed(there) => {
                known.targets.retain(|key, _| there.contains(key));
                known.is_listed = true;
                let places = self.places.iter().filter(|(_, place)| place.kind == *kind);
                places.map(|(_, place)| place.target.clone()).collect()
            }
        };
        for target in touched {
            let keys = self.by_target.get(&(kind.clone(), target)).cloned().unwrap_or_default();
            for key in keys {
                self.select(&key, effects);
                self.dirty.insert(key);
            }
        }
    }

    fn pod(&mut self, change: Change<PodObject>, now: Timestamp) {
        match change {
            Change::Apply(key, pod) => {
                for owner in self.owners(&key.namespace, &pod.labels) {
                    self.pod_of(&owner, &key.name, pod.clone(), now);
                }
            }
            Change::Delete(key) => {
                let in_namespace = self.scalers.range_mut(Key::new(&key.namespace, "")..);
                for (owner, scaler) in in_namespace.take_while(|(owner, _)| owner.namespace == key.namespace)
                {
                    if scaler.pods.remove(&*key.name).is_some() {
                        self.dirty.insert(owner.clone());
                    }
                }
            }
            Change::Listed(there) => {
                for (owner, scaler) in &mut self.scalers {
                    let before = scaler.pods.len();
                    scaler.pods.retain(|name, _| there.contains(&Key::new(&owner.namespace, name)));
                    if scaler.pods.len() != before {
                        self.dirty.insert(owner.clone());
                    }
                }
                if !self.pods_listed {
                    self.pods_listed = true;
                    self.touch_all();
                }
            }
        }
    }

    fn pods_of(&mut self, key: &Key, pods: Vec<(Key, PodObject)>, now: Timestamp) {
        for (pod_key, pod) in pods {
            if self.owners(&pod_key.namespace, &pod.labels).contains(key) {
                self.pod_of(key, &pod_key.name, pod, now);
            }
        }
        self.dirty.insert(key.clone());
    }

    fn pod_of(&mut self, owner: &Key, name: &str, pod: PodObject, now: Timestamp) {
        let Some(scaler) = self.scalers.get_mut(owner) else { return };
        let PodObject { mut view, is_started, .. } = pod;
        let before = scaler.pods.get(name);
        view.follows(before, is_started, now);
        if before != Some(&view) {
            scaler.pods.insert(name.into(), view);
            self.dirty.insert(owner.clone());
        }
    }

    fn owners(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Key> {
        let Some(index) = self.index.get(namespace) else { return Vec::new() };
        let any = (String::new(), String::new());
        let candidates = labels.iter().map(|(key, value)| (key.clone(), value.clone())).chain([any]);
        let keys = candidates.filter_map(|label| index.get(&label)).flatten();
        keys.filter(|key| {
            let selector = self.places.get(*key).and_then(|place| place.selector.as_ref());
            selector.is_some_and(|selector| selector.matches(labels))
        })
        .cloned()
        .collect()
    }

    fn rival(&mut self, change: Change<RivalObject>) {
        match change {
            Change::Apply(key, rival) => {
                self.rivals.insert(key, rival);
            }
            Change::Delete(key) => {
                self.rivals.remove(&key);
            }
            Change::Listed(there) => {
                self.rivals.retain(|key, _| there.contains(key));
                self.rivals_listed = true;
            }
        }
    }

    fn touch_all(&mut self) {
        self.dirty.extend(self.scalers.keys().cloned());
    }
}

/// A label that every pod of a selector has; empty texts when it names none.
fn label_of(selector: &Selector) -> (String, String) {
    let text = selector.to_string();
    let pair = text.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let is_plain = !key.ends_with('!') && !key.contains([' ', '(']) && !value.contains([' ', ')']);
        is_plain.then(|| (key.to_owned(), value.trim_start_matches('=').to_owned()))
    });
    pair.unwrap_or_default()
}
