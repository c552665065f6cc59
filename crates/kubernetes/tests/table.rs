//! The table in virtual time, around a world that does what Kubernetes does: pods come and go with the number.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forewarm_control::ports::GatewayError;
use forewarm_core::{Phase, Timestamp, pool::PoolReport};
use forewarm_kubernetes::{
    controller::Options,
    fleet::{Mark, Orders},
    pod::{PodView, Stages},
    resource::InferenceScalerStatus,
    scaler::{Evaluation, Key, News},
    table::{Change, Effect, Input, KindRef, PodObject, RivalObject, ScalerObject, Table},
    target::{TargetView, Writer},
};
use forewarm_testkit::FakeGateway;
use kube::core::Selector;
use serde_json::{Value, json};

/// A Deployment with its pods, a gateway, and the table that scales it.
struct World {
    table: Table,
    now: Timestamp,
    desired: u32,
    version: u64,
    uid: &'static str,
    writer: Option<Writer>,
    pods: BTreeMap<String, PodView>,
    made: u32,
    cold_start: Duration,
    unschedulable: bool,
    report: Option<PoolReport>,
    status: InferenceScalerStatus,
    news: Vec<News>,
    /// The API server refuses numbers: somebody else is faster.
    refuses: bool,
    /// It refuses whatever is written about a scaler.
    refuses_status: bool,
    writes: u32,
}

const START: f64 = 1_000_000.0;

/// Free hands: enough.
const HANDS: usize = 64;

fn key() -> Key {
    Key::new("ai", "llama3")
}

fn kind() -> KindRef {
    KindRef { api_version: "apps/v1".into(), kind: "Deployment".into(), replicas_path: None }
}

fn spec(change: Value) -> Value {
    let mut spec = json!({
        "target": {"kubernetes": {"kind": "Deployment", "name": "llama3"}},
        "replicas": {"min": 1, "max": 8},
        "coldStart": {"expected": "60s", "deadline": "5m"},
        "policy": {"queueDepth": {"perReplica": 5}},
    });
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

impl World {
    fn new(replicas: u32, change: Value) -> Self {
        let mut world = Self {
            table: Table::default(),
            now: Timestamp::from_seconds(START),
            desired: replicas,
            version: 1,
            uid: "deployment-1",
            writer: None,
            pods: BTreeMap::new(),
            made: 0,
            cold_start: Duration::from_secs(60),
            unschedulable: false,
            report: Some(PoolReport::default()),
            status: InferenceScalerStatus::default(),
            news: Vec::new(),
            refuses: false,
            refuses_status: false,
            writes: 0,
        };
        world.replica_set();
        world.pods.values_mut().for_each(|pod| pod.phase = Phase::Ready);
        world.start(1, spec(change));
        world
    }

    /// A controller that knows nothing but what the API server says.
    fn start(&mut self, generation: i64, spec: Value) {
        self.table = Table::new(Options::HOLD);
        let uid = "scaler-1".to_owned();
        let object = ScalerObject { uid, generation, spec, status: self.status.clone() };
        let effects = self.table.take(Input::Scaler(Change::Apply(key(), object)), self.now);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Watch(watched) if *watched == kind())));
        self.table.take(Input::Scaler(Change::Listed(BTreeSet::from([key()]))), self.now);
        self.show_target();
        let listed = Change::Listed(BTreeSet::from([key()]));
        let effects = self.table.take(Input::Target(kind(), listed), self.now);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::WatchPods)));
        self.show_pods();
        let there = self.pods.keys().map(|name| Key::new("ai", name)).collect();
        self.table.take(Input::Pod(Change::Listed(there)), self.now);
        self.table.lead(true, self.now);
        let decided = self.table.evaluate_in_turn(1.0, HANDS, self.now);
        assert!(decided.count == 0, "who else scales is not known yet");
        self.table.take(Input::Rival(Change::Listed(BTreeSet::new())), self.now);
        self.table.get_mut(&key()).unwrap().gateway = Some(Arc::new(FakeGateway::default()));
    }

    fn show_target(&mut self) {
        let view = TargetView {
            uid: self.uid.into(),
            resource_version: self.version.to_string().into(),
            desired: self.desired,
            selector: Some(Selector::from_iter([("app", "llama3")])),
            writer: self.writer.clone(),
            failure: None,
        };
        self.table.take(Input::Target(kind(), Change::Apply(key(), Some(view))), self.now);
    }

    fn show_pods(&mut self) {
        for (name, view) in &self.pods {
            let labels = BTreeMap::from([("app".to_owned(), "llama3".to_owned())]);
            let pod = PodObject { view: view.clone(), labels, is_started: false };
            self.table.take(Input::Pod(Change::Apply(Key::new("ai", name), pod)), self.now);
        }
    }

    /// Makes and takes away pods as a ReplicaSet does: those that are not ready first, then by their cost.
    fn replica_set(&mut self) {
        while self.pods.len() < self.desired as usize {
            self.made += 1;
            let pod = PodView {
                uid: format!("pod-{}", self.made).into(),
                created: self.now,
                starting_since: self.now,
                phase: Phase::Provisioning,
                terminating: false,
                ended: false,
                ip: Some(format!("10.0.0.{}", self.made).into()),
                port: 8000,
                unschedulable: None,
                failing: None,
                draining_since: None,
                protected: false,
                first_to_go: false,
                ordinal: None,
                stages: Stages::default(),
            };
            self.pods.insert(format!("llama3-{}", self.made), pod);
        }
        while self.pods.len() > self.desired as usize {
            let goes =
                self.pods.iter().min_by_key(|(name, pod)| (pod.phase, !pod.first_to_go, (*name).clone()));
            let name = goes.unwrap().0.clone();
            self.pods.remove(&name);
            self.table.take(Input::Pod(Change::Delete(Key::new("ai", &name))), self.now);
        }
        for pod in self.pods.values_mut() {
            if self.unschedulable && pod.phase == Phase::Provisioning {
                pod.unschedulable = Some("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.".into());
            } else if self.now.since(pod.created) >= self.cold_start {
                pod.unschedulable = None;
                pod.phase = Phase::Ready;
            }
        }
    }

    /// Lets time pass, a look each second.
    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.replica_set();
            self.show_target();
            self.show_pods();
            if let Some(report) = &self.report {
                self.table.take(Input::Report(key(), Ok(report.clone())), self.now);
            } else {
                let silent = Err(GatewayError("nobody answers".to_owned()));
                self.table.take(Input::Report(key(), silent), self.now);
            }
            for (_, evaluation) in self.table.evaluate_in_turn(1.0, HANDS, self.now).asking {
                self.carry_out(evaluation);
            }
        }
    }

    fn carry_out(&mut self, evaluation: Evaluation) {
        let Evaluation { decision, orders, plan, status, news } = evaluation;
        self.news.extend(news);
        let before = TargetView {
            uid: self.uid.into(),
            resource_version: "".into(),
            desired: self.desired,
            selector: None,
            writer: None,
            failure: None,
        };
        if let Some(status) = status {
            if self.refuses_status {
                let why = "cannot write the status: the API server refuses".to_owned();
                return self.table.get_mut(&key()).unwrap().done(Some(why));
            }
            self.status = status;
            self.writes += 1;
            self.table.get_mut(&key()).unwrap().wrote_status(self.now);
        }
        let Orders { replicas, marks, delete } = orders;
        for (pod, mark) in marks {
            let Some(pod) = self.pods.get_mut(&pod) else { continue };
            match mark {
                Mark::Protect => pod.protected = true,
                Mark::Release => pod.protected = false,
                Mark::Drain(since) => (pod.protected, pod.draining_since) = (true, Some(since)),
                Mark::Serve => (pod.protected, pod.draining_since, pod.first_to_go) = (false, None, false),
                Mark::FirstToGo { cost } => {
                    assert!(cost < 0);
                    pod.first_to_go = true;
                }
            }
        }
        for name in delete.into_iter().filter(|_| !self.refuses) {
            self.pods.remove(&name);
            self.table.take(Input::Pod(Change::Delete(Key::new("ai", &name))), self.now);
        }
        let scaler = self.table.get_mut(&key()).unwrap();
        if let Some(plan) = plan {
            scaler.has_plan(plan, self.now);
        }
        if let (Some(replicas), false) = (replicas, self.refuses) {
            scaler.has_number(&before, replicas, &decision.unwrap());
            (self.desired, self.version) = (replicas, self.version + 1);
        }
        scaler.done(self.refuses.then(|| "cannot scale: the API server refuses".to_owned()));
    }

    fn queued(&mut self, queued: u64) {
        self.report.get_or_insert_default().queued = queued;
    }

    fn works(&mut self, on: &[(&str, u32)]) {
        let in_flight = on.iter().map(|&(pod, count)| (pod.into(), count)).collect();
        self.report.get_or_insert_default().in_flight = in_flight;
    }

    fn condition(&self, kind: &str) -> (String, String, String) {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }
}

#[test]
fn a_queue_asks_for_replicas_and_a_quiet_time_gives_them_back_the_idle_one_first() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.run(1);
    assert_eq!(world.desired, 4);
    assert_eq!(world.news[0].reason, "ScaledUp");
    world.run(1);
    assert_eq!(world.desired, 4, "pods that are not there yet are not asked for again");
    assert_eq!(world.condition("Ready").1, "Starting");
    assert!(world.pods["llama3-3"].protected, "nobody moves a pod that loads");
    world.run(61);
    assert_eq!(world.condition("Ready").1, "AsDesired");
    assert!(!world.pods["llama3-3"].protected);
    assert_eq!(world.status.cold_start.as_ref().unwrap().samples, 2);

    world.queued(0);
    world.works(&[("llama3-1", 3), ("llama3-2", 5), ("llama3-3", 1), ("llama3-4", 5)]);
    world.run(301);
    let draining: Vec<&str> = world
        .pods
        .iter()
        .filter(|(_, pod)| pod.draining_since.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!((world.desired, draining), (4, vec!["llama3-1", "llama3-3", "llama3-4"]), "it drains first");
    world.works(&[("llama3-1", 0), ("llama3-2", 5), ("llama3-3", 1), ("llama3-4", 5)]);
    world.run(3);
    let names: Vec<&String> = world.pods.keys().collect();
    assert_eq!(names, ["llama3-2", "llama3-3", "llama3-4"], "what has drained goes, and no other");
}

#[test]
fn what_drains_serves_again_when_it_is_wanted() {
    let mut world = World::new(2, json!({}));
    world.works(&[("llama3-1", 4), ("llama3-2", 1)]);
    world.run(302);
    assert!(world.pods["llama3-2"].draining_since.is_some());
    world.queued(10);
    world.run(2);
    assert_eq!((world.desired, world.pods["llama3-2"].draining_since), (2, None));
}

#[test]
fn metrics_that_are_gone_for_an_hour_take_nothing_away() {
    let mut world = World::new(4, json!({}));
    world.queued(20);
    world.run(400);
    world.report = None;
    world.run(3600);
    assert_eq!(world.desired, 4);
    assert_eq!(world.condition("SignalsKnown").1, "SignalsMissing");
    world.queued(20);
    world.run(2);
    assert_eq!((world.desired, world.condition("SignalsKnown").0.as_str()), (4, "True"));
}

#[test]
fn a_controller_that_takes_over_takes_nothing_away_until_a_window_was_seen_and_forgets_nothing() {
    let mut world = World::new(2, json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}));
    world.queued(20);
    world.run(100);
    world.queued(0);
    world.run(1);
    assert_eq!(world.status.decisions.len(), 1);
    assert_eq!(world.desired, 4, "this controller is new, too");
    let samples = world.status.cold_start.clone().unwrap().samples;
    world.start(1, spec(json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}})));
    world.run(299);
    assert_eq!(world.desired, 4);
    assert_eq!(world.status.cold_start.clone().unwrap().samples, samples);
    assert_eq!(world.status.decisions[0].to, 4);
    world.run(5);
    assert!(world.desired < 4);
}

#[test]
fn a_controller_that_leads_again_knows_what_it_knew_unless_somebody_wrote_meanwhile() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.run(100);
    assert_eq!(world.status.cold_start.as_ref().unwrap().samples, 2);
    // The API server was away, and nothing has changed.
    world.table.lead(false, world.now);
    world.table.lead(true, world.now);
    world.run(60);
    assert_eq!(world.status.cold_start.as_ref().unwrap().samples, 2);
    assert_eq!((world.desired, world.status.decisions.len()), (4, 1));

    // Another has led, and tells so by what it wrote.
    world.table.lead(false, world.now);
    let mut status = world.status.clone();
    status.decisions[0].summary = "what the other decided".to_owned();
    let object = ScalerObject { uid: "scaler-1".to_owned(), generation: 1, spec: spec(json!({})), status };
    world.table.take(Input::Scaler(Change::Apply(key(), object)), world.now);
    world.table.lead(true, world.now);
    world.queued(30);
    world.run(1);
    let told: Vec<&str> = world.status.decisions.iter().map(|decision| decision.summary.as_str()).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], "what the other decided");
}

#[test]
fn nothing_is_done_before_it_is_written_down_however_often_that_fails() {
    let mut world = World::new(2, json!({}));
    world.queued(10);
    world.run(2);
    world.refuses_status = true;
    world.queued(20);
    world.run(20);
    assert_eq!((world.desired, world.status.decisions.len()), (2, 0));
    world.refuses_status = false;
    world.run(2);
    assert_eq!((world.desired, world.status.decisions[0].to), (4, 4));
    assert_eq!(world.status.decisions.len(), 1, "one decision, however often it was tried");
}

#[test]
fn a_leader_killed_between_its_word_and_its_deed_leaves_the_deed_to_the_next() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.refuses = true;
    world.run(1);
    assert_eq!((world.desired, world.status.desired_replicas), (2, Some(4)));
    world.queued(0);
    world.refuses = false;
    world.start(1, spec(json!({})));
    world.run(2);
    assert_eq!(world.desired, 4, "the decision stands although the queue is gone");
}

#[test]
fn who_else_writes_is_named_and_left_alone_for_longer_each_time() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.run(1);
    let argo = |world: &mut World| {
        world.desired = 2;
        world.version += 1;
        world.writer =
            Some(Writer { manager: "argocd-controller".into(), by_scale: false, at: Some(world.now) });
    };
    argo(&mut world);
    world.run(1);
    let (status, reason, message) = world.condition("Contested");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "CompetingWriter"));
    assert!(
        message.starts_with("Argo CD (`argocd-controller`) set the number of replicas to 2"),
        "{message}"
    );
    assert!(world.news.iter().any(|news| news.is_warning && news.reason == "CompetingWriter"));
    world.run(58);
    assert_eq!(world.desired, 2, "it stays away for a minute");
    world.run(5);
    assert_eq!(world.desired, 4);
    argo(&mut world);
    world.run(100);
    assert_eq!(world.desired, 2, "then for two");
    world.run(30);
    assert_eq!((world.desired, world.condition("Contested").0.as_str()), (4, "False"));
}

fn keda() -> Input {
    let rival = RivalObject {
        target: ("apps/v1".to_owned(), "Deployment".to_owned(), "llama3".to_owned()),
        shown: "ScaledObject `llama` of KEDA".to_owned(),
    };
    Input::Rival(Change::Apply(Key::new("ai", "keda-hpa-llama"), rival))
}

#[test]
fn a_shadow_beside_another_autoscaler_is_as_it_should_be() {
    let mut world = World::new(2, json!({"mode": "Shadow"}));
    world.table.take(keda(), world.now);
    world.queued(20);
    world.run(10);
    assert_eq!(world.condition("Ready").1, "Shadow");
    let (status, _, message) = world.condition("Contested");
    let who = "ScaledObject `llama` of KEDA scales the same target; forewarm watches beside it";
    assert_eq!((status.as_str(), message.as_str()), ("False", who));
    assert!(world.news.iter().all(|news| !news.is_warning), "{:?}", world.news);
}

#[test]
fn another_autoscaler_of_the_same_target_is_named_and_watched_only() {
    let mut world = World::new(2, json!({}));
    world.table.take(keda(), world.now);
    world.queued(20);
    world.run(10);
    assert_eq!((world.desired, world.status.desired_replicas), (2, Some(4)), "it decides, and does not act");
    assert!(
        world.condition("Contested").2.starts_with("ScaledObject `llama` of KEDA scales the same target")
    );
    world.table.take(Input::Rival(Change::Delete(Key::new("ai", "keda-hpa-llama"))), world.now);
    world.run(1);
    assert_eq!(world.desired, 4);
}

#[test]
fn a_shadow_decides_and_records_and_does_nothing() {
    let mut world = World::new(2, json!({"mode": "Shadow"}));
    world.queued(20);
    world.run(30);
    assert_eq!((world.desired, world.status.desired_replicas), (2, Some(4)));
    assert_eq!(world.condition("Ready").1, "Shadow");
    let wishes: Vec<&str> = world.news.iter().map(|news| news.reason).collect();
    assert_eq!(wishes, ["WouldScale"], "told once, not at every look");
    assert_eq!(world.status.decisions[0].to, 4);
}

#[test]
fn replicas_without_a_node_are_reported_in_the_schedulers_words_and_expire() {
    let mut world = World::new(1, json!({}));
    world.unschedulable = true;
    world.queued(10);
    world.run(3);
    assert_eq!(world.desired, 2);
    let (status, reason, message) = world.condition("CapacityAvailable");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Unschedulable"));
    assert_eq!(message, "1 pod has no node: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.");
    let first = world.pods.keys().last().unwrap().clone();
    world.run(310);
    assert!(!world.pods.contains_key(&first), "it was given up after its deadline, and made anew");
    assert_eq!(world.desired, 2);
    let told = world.news.iter().find(|news| news.reason == "StartFailed").unwrap();
    assert!(told.is_warning && told.note.contains("llama3-2"), "{}", told.note);
    world.unschedulable = false;
    world.run(70);
    assert_eq!(world.condition("CapacityAvailable").0, "True");
    assert_eq!(world.condition("Ready").1, "AsDesired");
}

#[test]
fn a_start_that_nobody_may_end_is_not_told_of_at_every_try() {
    let mut world = World::new(1, json!({}));
    world.unschedulable = true;
    world.queued(10);
    world.run(3);
    let late = world.pods.keys().last().unwrap().clone();
    world.refuses = true;
    world.run(400);
    assert!(world.pods.contains_key(&late));
    let told: Vec<&str> =
        world.news.iter().filter(|news| news.reason == "StartFailed").map(|news| &*news.note).collect();
    let what = [
        "`llama3-2` is not ready after 300 s and is replaced",
        "`llama3-2` failed while provisioning: given up after 300 s: 0/3 nodes are available: 3 Insufficient \
         nvidia.com/gpu.",
        // After the pause that follows on a failed start.
        "`llama3-2` is not ready after 311 s and is replaced",
    ];
    assert_eq!(told, what);
}

#[test]
fn a_rolling_updates_surge_is_no_surplus_and_its_gap_no_loss() {
    let mut world = World::new(3, json!({}));
    world.queued(15);
    world.run(2);
    // A pod of the next revision beside the three.
    world.desired = 4;
    world.replica_set();
    world.desired = 3;
    world.show_pods();
    world.show_target();
    let evaluations = world.table.evaluate_dirty(HANDS, world.now).asking;
    assert_eq!(evaluations[0].1.decision.as_ref().unwrap().to.0, 3);
    assert!(evaluations[0].1.orders.replicas.is_none() && evaluations[0].1.orders.delete.is_empty());
    let marked: Vec<&String> = evaluations[0].1.orders.marks.keys().collect();
    assert_eq!(marked, ["llama3-4"], "it loads, and is kept from being moved");
}

#[test]
fn a_target_that_is_deleted_and_made_again_gets_its_number_back() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.run(100);
    assert_eq!(world.desired, 4);
    world.table.take(Input::Target(kind(), Change::Delete(key())), world.now);
    let evaluations = world.table.evaluate_dirty(HANDS, world.now).asking;
    assert!(evaluations[0].1.orders.is_empty());
    world.carry_out(evaluations.into_iter().next().unwrap().1);
    assert_eq!(world.condition("Ready").1, "TargetNotFound");
    world.queued(0);
    (world.uid, world.desired, world.version) = ("deployment-2", 1, 900);
    world.run(2);
    assert_eq!(world.desired, 4, "nothing was seen that would justify fewer");
    assert_eq!(world.condition("Contested").0, "False", "who made it anew is no competing writer");
}

#[test]
fn what_is_wrong_with_a_specification_is_said_in_the_words_of_lint() {
    let mut world = World::new(2, json!({}));
    let wrong = ScalerObject {
        uid: "scaler-1".to_owned(),
        generation: 2,
        spec: spec(json!({"policy": {"queueDepth": {"perReplica": 0}}})),
        status: InferenceScalerStatus::default(),
    };
    world.table.take(Input::Scaler(Change::Apply(key(), wrong)), world.now);
    world.queued(20);
    world.run(2);
    assert_eq!(world.desired, 2);
    let (_, reason, message) = world.condition("Ready");
    assert_eq!(reason, "InvalidSpec");
    assert_eq!(message, "spec.policy.queueDepth.perReplica: found 0, wanted a quantity above zero");
}

#[test]
fn two_scalers_of_one_target_do_not_fight() {
    let mut world = World::new(2, json!({}));
    let other = Key::new("ai", "zephyr");
    let object = ScalerObject {
        uid: "scaler-2".to_owned(),
        generation: 1,
        spec: spec(json!({})),
        status: InferenceScalerStatus::default(),
    };
    world.table.take(Input::Scaler(Change::Apply(other.clone(), object)), world.now);
    world.queued(20);
    let evaluations = world.table.evaluate_dirty(HANDS, world.now).asking;
    let (_, evaluation) = evaluations.iter().find(|(key, _)| *key == other).unwrap();
    assert!(evaluation.orders.is_empty());
    assert!(
        evaluation.news.iter().any(|news| news.note.contains("InferenceScaler `llama3` scales the same"))
    );
}

#[test]
fn when_nothing_changes_the_status_is_written_twice_a_minute_and_no_more() {
    let mut world = World::new(2, json!({}));
    world.queued(10);
    world.run(120);
    let before = world.writes;
    world.run(600);
    assert!(world.writes - before <= 20, "{}", world.writes - before);
}

#[test]
fn scalers_that_began_at_the_same_time_do_not_write_at_the_same_time_for_ever() {
    const SCALERS: usize = 300;
    let mut world = World::new(2, json!({}));
    for number in 0..SCALERS {
        let object = ScalerObject {
            uid: format!("9f3c6a52-{number:03x}"),
            generation: 1,
            spec: spec(json!({})),
            status: InferenceScalerStatus::default(),
        };
        let key = Key::new("ai", &format!("other-{number}"));
        world.table.take(Input::Scaler(Change::Apply(key, object)), world.now);
    }
    let mut written = Vec::new();
    for _ in 0..150 {
        world.now = world.now + Duration::from_secs(1);
        let asking = world.table.evaluate_in_turn(1.0, 2 * SCALERS, world.now).asking;
        let writes = asking.into_iter().filter(|(_, evaluation)| evaluation.status.is_some());
        let keys: Vec<Key> = writes.map(|(key, _)| key).collect();
        keys.iter().for_each(|key| world.table.get_mut(key).unwrap().wrote_status(world.now));
        written.push(keys.len());
    }
    assert!(written[0] > SCALERS, "each says that it began");
    let (most, all) = (written[1..].iter().max().unwrap(), written[30..].iter().sum::<usize>());
    assert!(*most <= SCALERS / 10, "three times as many as if they were even: {written:?}");
    assert_eq!(all, 4 * (SCALERS + 1), "each once in half a minute");
}

#[test]
fn what_is_only_said_waits_for_hands_and_what_is_decided_does_not() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    let report = world.report.clone().unwrap();
    world.table.take(Input::Report(key(), Ok(report)), world.now);
    let evaluated = world.table.evaluate_dirty(0, world.now);
    let (_, evaluation) = &evaluated.asking[0];
    assert_eq!(evaluation.orders.replicas, Some(4));
    assert!(evaluation.status.is_some(), "a decision is written down before anything acts on it");
    let mut world = World::new(2, json!({}));
    world.queued(10);
    let report = world.report.clone().unwrap();
    world.table.take(Input::Report(key(), Ok(report)), world.now);
    let evaluated = world.table.evaluate_dirty(0, world.now);
    assert_eq!((evaluated.count, evaluated.asking.len()), (1, 0), "that it began is said another time");
    let said = world.table.evaluate_in_turn(1.0, HANDS, world.now).asking.remove(0).1;
    assert!(said.status.is_some() && said.orders.is_empty());
}

#[test]
fn a_watch_that_begins_anew_makes_up_for_what_it_missed() {
    let mut world = World::new(4, json!({}));
    world.queued(20);
    world.run(5);
    // Missed: a pod that went, and the number that somebody set meanwhile.
    let gone = world.pods.keys().next().unwrap().clone();
    world.pods.remove(&gone);
    world.show_pods();
    let there: BTreeSet<Key> = world.pods.keys().map(|name| Key::new("ai", name)).collect();
    world.table.take(Input::Pod(Change::Listed(there)), world.now);
    world.show_target();
    world.table.take(Input::Target(kind(), Change::Listed(BTreeSet::from([key()]))), world.now);
    let evaluations = world.table.evaluate_dirty(HANDS, world.now).asking;
    let decision = evaluations[0].1.decision.as_ref().unwrap();
    assert_eq!(
        (decision.to.0, decision.placement.start),
        (4, 0),
        "the pod is missing, and asked for already"
    );
    world.carry_out(evaluations.into_iter().next().unwrap().1);
    world.run(70);
    assert_eq!((world.desired, world.condition("Ready").1.as_str()), (4, "AsDesired"));
    world.table.take(Input::Scaler(Change::Listed(BTreeSet::new())), world.now);
    assert!(world.table.is_empty(), "it was deleted while nobody watched");
}

#[test]
fn an_answer_to_a_write_counts_more_than_an_older_watch() {
    let mut world = World::new(2, json!({}));
    world.queued(20);
    world.run(1);
    assert_eq!(world.desired, 4);
    world.table.target_has(&key(), 4, "50");
    // The watch is late, and tells of the number before.
    (world.desired, world.version) = (2, 40);
    world.show_target();
    let evaluations = world.table.evaluate_dirty(HANDS, world.now).asking;
    assert!(evaluations.iter().all(|(_, evaluation)| evaluation.orders.replicas.is_none()));
    assert_eq!(world.condition("Contested").0, "False");
}
