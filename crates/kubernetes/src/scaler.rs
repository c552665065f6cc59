//! One scaler in the table: what is known of it, and its evaluation. No I/O here.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use forewarm_control::{
    Front, PlanAtGateway, observation,
    ports::{Gateway, GatewayError, SignalSet},
};
use forewarm_core::{
    Decision, Evidence, Mode, Observation, Phase, Placement, Reason, ReplicaId, ScalerState, Stage,
    Timestamp, plan,
    pool::{Concurrency, PoolPlan, PoolReport},
};
use forewarm_manifest::KvTokens;

use crate::{
    condition::{self, Says, cut},
    contest::Contest,
    fleet::{Fleet, Orders, Pods, Seen},
    pod::Stages,
    read::ReadScaler,
    resource::{ColdStartStatus, DecisionLine, InferenceScalerStatus, StateStatus, StepLine},
    state,
    target::TargetView,
};

/// Decisions that the status keeps.
const DECISIONS: usize = 5;
/// Of these, how many keep every step.
const WITH_STEPS: usize = 2;
/// Longest text of a decision or a step.
const MAX_TEXT: usize = 512;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// A key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A scaler's place in the table.
pub struct Scaler {
    /// The object.
    pub uid: Box<str>,
    /// The generation that `spec` is of.
    pub generation: i64,
    /// What is asked for, or what is wrong with it.
    pub spec: Result<Arc<ReadScaler>, String>,
    /// Pods of its target.
    pub pods: Pods,
    /// Its gateways, if there are any.
    pub gateway: Option<Arc<dyn Gateway>>,
    /// What the gateways said last.
    pub report: Option<Result<PoolReport, GatewayError>>,
    /// What else is measured.
    pub signals: Vec<Arc<dyn SignalSet>>,
    /// Who else writes.
    pub contest: Contest,
    /// Orders of it are being carried out; it is not evaluated meanwhile.
    pub is_busy: bool,
    /// The state that its object has, until this controller leads.
    stored: Option<Box<str>>,
    fleet: Fleet,
    state: ScalerState,
    plan_at_gateway: Option<PlanAtGateway>,
    decisions: VecDeque<DecisionLine>,
    conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    stages: Option<Stages>,
    /// What the status says of numbers: asked for, ready, wished for.
    numbers: (u32, u32, u32),
    /// The wish that was shown last while somebody else acts.
    shown_wish: Option<u32>,
    /// When its status was written last.
    written: Option<Timestamp>,
    /// A status is due that was not written yet; nothing is done before that.
    owes_status: bool,
    /// What failed when its orders were carried out last.
    error: Option<String>,
    /// What the last decision asked for, if anything. The same once more, because it failed, is no news.
    tried: Option<Placement>,
}

/// What an evaluation asks for.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// What was decided, if it could be looked at all.
    pub decision: Option<Arc<Decision>>,
    /// To be done to the target and its pods.
    pub orders: Orders,
    /// To be told to the gateways.
    pub plan: Option<PoolPlan>,
    /// To be written before anything acts.
    pub status: Option<InferenceScalerStatus>,
    /// To be told to people.
    pub news: Vec<News>,
}

impl Evaluation {
    /// Whether it asks for something.
    pub fn asks(&self) -> bool {
        !self.orders.is_empty() || self.plan.is_some() || self.status.is_some() || !self.news.is_empty()
    }
}

/// An Event of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// A word for machines.
    pub reason: &'static str,
    /// What happened.
    pub note: String,
}

/// What the evaluation is told about the world around the scaler.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The target; else why there is none.
    pub target: Result<&'a TargetView, &'a str>,
    /// Another autoscaler of the same target, by name.
    pub rival: Option<&'a str>,
    /// Longest time that what is learned stays unwritten.
    pub write_every: Duration,
    /// Whether there are hands for what can wait: for what is said, and not done. Otherwise it is said another time.
    pub has_hands: bool,
}

impl Scaler {
    /// A scaler that has just been seen, with what its object's status says.
    pub fn new(
        uid: &str,
        generation: i64,
        spec: Result<Arc<ReadScaler>, String>,
        status: InferenceScalerStatus,
    ) -> Self {
        Self {
            uid: uid.into(),
            generation,
            spec,
            pods: Pods::new(),
            gateway: None,
            report: None,
            signals: Vec::new(),
            contest: Contest::default(),
            is_busy: false,
            stored: status.state.map(|state| state.encoded.into()),
            fleet: Fleet::default(),
            state: ScalerState::default(),
            plan_at_gateway: None,
            decisions: status.decisions.into(),
            conditions: status.conditions,
            stages: None,
            numbers: (0, 0, 0),
            shown_wish: None,
            written: None,
            owes_status: false,
            error: None,
            tried: None,
        }
    }

    /// Another specification; what was learned stays.
    pub fn respecify(&mut self, generation: i64, spec: Result<Arc<ReadScaler>, String>) {
        (self.generation, self.spec) = (generation, spec);
        self.plan_at_gateway = None;
    }

    /// Who leads has written this.
    pub fn is_told(&mut self, status: InferenceScalerStatus) {
        self.stored = status.state.map(|state| state.encoded.into());
        (self.decisions, self.conditions) = (status.decisions.into(), status.conditions);
    }

    /// Takes up what the last controller knew; what this one knew itself, if nobody wrote since. Nothing is taken away
    /// for `hold`, or until one window was seen again.
    pub fn lead(&mut self, now: Timestamp, hold: Duration) {
        match self.stored.take().map(|text| state::decode(&text)) {
            Some(Ok(state)) => self.state = state,
            Some(Err(error)) => {
                tracing::warn!(uid = &*self.uid, %error, "beginning without what was learned");
                self.state = ScalerState::default();
            }
            None => {}
        }
        let window = self
            .spec
            .as_ref()
            .map_or(Duration::ZERO, |spec| spec.checked.spec.behavior.scale_down.stabilization_window);
        self.state.hold_until(now + window.max(hold));
        (self.is_busy, self.plan_at_gateway) = (false, None);
        self.contest = Contest::default();
        self.written = Some(now);
    }

    /// Whether what is learned is to be written down again: once in each span, at a moment that differs from scaler to
    /// scaler, so that all of them together write evenly.
    fn is_late(&self, write_every: Duration, now: Timestamp) -> bool {
        let span = write_every.as_millis() as i64;
        // Random enough: the end of a UUID.
        let turn = self.uid.bytes().rev().take(3).fold(0, |sum, byte| sum * 31 + i64::from(byte)) % 1_000;
        let round = |at: Timestamp| (at.as_millis() + span * turn / 1_000).div_euclid(span);
        self.written.is_none_or(|at| round(at) < round(now))
    }

    /// Looks, decides, and says what is to be done.
    pub fn evaluate(&mut self, around: Around<'_>, now: Timestamp) -> Evaluation {
        let read = match &self.spec {
            Ok(read) => Arc::clone(read),
            Err(_) if !around.has_hands => return Evaluation::default(),
            Err(_) => return self.unreadable(now),
        };
        let target = match around.target {
            Ok(target) => target,
            Err(_) if !around.has_hands => return Evaluation::default(),
            Err(why) => return self.without_target(why, now),
        };
        let port = read.target.port;
        let seen = self.fleet.observe(target, &self.pods, port, now);
        self.signals.iter().for_each(|signals| signals.replicas(&seen.serving));
        let signals = self.signals.iter().flat_map(|signals| signals.latest()).collect();
        let report = self.gateway.is_some().then(|| match &self.report {
            Some(report) => report.as_ref(),
            None => Err(&*NOT_ASKED),
        });
        let observed = observation(now, Ok(&seen.view), report, signals);
        self.contest.sees(target, now);
        let spec = &read.checked.spec;
        let stands_by = around.rival.is_some() || self.contest.standing(now).is_some();
        let decision = if stands_by && spec.mode == Mode::Act {
            let watching = forewarm_core::ScalerSpec { mode: Mode::Shadow, ..spec.clone() };
            plan(&watching, &mut self.state, &observed)
        } else {
            plan(spec, &mut self.state, &observed)
        };
        let acts_alone = spec.mode == Mode::Act && !stands_by;
        let orders = match acts_alone {
            true => self.fleet.orders(target, &self.pods, &decision, |id| in_flight(&observed, id)),
            false => Orders::default(),
        };
        let decision = Arc::new(decision);
        self.learn_stages();
        self.numbers = (target.desired, observed.count(Phase::Ready), decision.to.0);
        let mut evaluation = Evaluation { orders, ..Evaluation::default() };
        if self.is_news(&decision, acts_alone) {
            self.remember(&decision);
            evaluation.news.push(news(&decision, acts_alone));
        }
        if !around.has_hands && evaluation.news.is_empty() && evaluation.orders.can_wait() {
            return Evaluation { decision: Some(decision), ..Evaluation::default() };
        }
        let says = self.says(&read, &decision, &observed, &seen, around);
        let changed = condition::set(&mut self.conditions, says, self.generation, now);
        evaluation.news.extend(changed.iter().filter_map(warning));
        let late = self.is_late(around.write_every, now);
        self.owes_status |= !evaluation.news.is_empty() || !changed.is_empty() || late;
        if self.owes_status {
            evaluation.status = Some(self.status(&read, target, now));
        }
        evaluation.plan = self.plan_for_gateway(&read, &decision, &observed, &seen);
        evaluation.decision = Some(decision);
        evaluation
    }

    /// The status was written.
    pub fn wrote_status(&mut self, now: Timestamp) {
        (self.written, self.owes_status) = (Some(now), false);
    }

    /// The gateways have this plan.
    pub fn has_plan(&mut self, plan: PoolPlan, at: Timestamp) {
        self.plan_at_gateway = Some(PlanAtGateway { plan, at });
    }

    /// The gateways may have forgotten their plan.
    pub fn forget_plan(&mut self) {
        self.plan_at_gateway = None;
    }

    /// The target has its new number.
    pub fn has_number(&mut self, target: &TargetView, replicas: u32, decision: &Decision) {
        self.contest.wrote(target, replicas);
        self.fleet.told_to_go(decision.placement.stop.iter(), decision.at);
    }

    /// What came of carrying out the orders.
    pub fn done(&mut self, error: Option<String>) {
        (self.is_busy, self.error) = (false, error);
    }

    fn unreadable(&mut self, now: Timestamp) -> Evaluation {
        let message = self.spec.as_ref().err().cloned().unwrap_or_default();
        self.only(Says { kind: "Ready", is_so: Some(false), reason: "InvalidSpec", message }, now)
    }

    /// Nothing is decided on a target that is not there; what is remembered stays for when it is there again.
    fn without_target(&mut self, why: &str, now: Timestamp) -> Evaluation {
        let message = why.to_owned();
        self.only(Says { kind: "Ready", is_so: Some(false), reason: "TargetNotFound", message }, now)
    }

    fn only(&mut self, says: Says, now: Timestamp) -> Evaluation {
        let changed = condition::set(&mut self.conditions, vec![says], self.generation, now);
        let news: Vec<News> = changed.iter().filter_map(warning).collect();
        self.owes_status |= !changed.is_empty();
        let status = self.owes_status.then(|| self.status_line(now));
        Evaluation { news, status, ..Evaluation::default() }
    }

    /// Whether people should hear of it. A wish that nobody acts on is news when it is another one.
    fn is_news(&mut self, decision: &Decision, acts: bool) -> bool {
        if acts {
            self.shown_wish = None;
            let tries = decision.acts().then(|| decision.placement.clone());
            let before = std::mem::replace(&mut self.tried, tries);
            let tries_again = self.error.is_some() && before.is_some() && before == self.tried;
            return decision.is_news() && !tries_again;
        }
        let before = self.shown_wish.replace(decision.to.0);
        before != Some(decision.to.0) && (before.is_some() || decision.from != decision.to)
    }

    fn remember(&mut self, decision: &Decision) {
        let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
        let step = |step: &forewarm_core::Step| StepLine {
            stage: step.stage.label().to_owned(),
            replicas: count(step.replicas.0),
            reason: cut(&step.reason.to_string(), MAX_TEXT),
        };
        self.decisions.push_front(DecisionLine {
            at: condition::time(decision.at).0.to_string(),
            from: count(decision.from.0),
            to: count(decision.to.0),
            summary: cut(&decision.summary(), MAX_TEXT),
            steps: decision.steps.iter().map(step).collect(),
        });
        self.decisions.truncate(DECISIONS);
        self.decisions.iter_mut().skip(WITH_STEPS).for_each(|line| line.steps.clear());
    }

    fn learn_stages(&mut self) {
        let newest =
            self.pods.values().filter(|pod| pod.stages.ready.is_some()).max_by_key(|pod| pod.created);
        self.stages = newest.map(|pod| pod.stages).or(self.stages);
    }

    fn says(
        &self,
        read: &ReadScaler,
        decision: &Decision,
        observed: &Observation,
        seen: &Seen,
        around: Around<'_>,
    ) -> Vec<Says> {
        let now = decision.at;
        let mut says = vec![self.ready(read, decision, observed, around)];
        let is_shadow = read.checked.spec.mode == Mode::Shadow;
        says.push(match (around.rival, self.contest.standing(now)) {
            (Some(_), _) | (None, Some(_)) if is_shadow => Says {
                kind: "Contested",
                is_so: Some(false),
                reason: "Shadow",
                message: match around.rival {
                    Some(rival) => format!("{rival} scales the same target; forewarm watches beside it"),
                    None => "Somebody else scales the target; forewarm watches beside them".to_owned(),
                },
            },
            (Some(rival), _) => Says {
                kind: "Contested",
                is_so: Some(true),
                reason: "Rival",
                message: format!(
                    "{rival} scales the same target: forewarm only watches. Delete it, or set `mode: Shadow`"
                ),
            },
            (None, Some((who, until))) => Says {
                kind: "Contested",
                is_so: Some(true),
                reason: "CompetingWriter",
                message: format!("{who}; forewarm stays away until {}", condition::time(until).0),
            },
            (None, None) => Says {
                kind: "Contested",
                is_so: Some(false),
                reason: "Alone",
                message: "Nobody else writes the number of replicas".to_owned(),
            },
        });
        says.push(match &seen.no_capacity {
            Some(why) => Says {
                kind: "CapacityAvailable",
                is_so: Some(false),
                reason: "Unschedulable",
                message: why.clone(),
            },
            None => Says {
                kind: "CapacityAvailable",
                is_so: Some(true),
                reason: "Scheduled",
                message: "Every replica has a place".to_owned(),
            },
        });
        says.push(signals_known(read, observed));
        says
    }

    fn ready(
        &self,
        read: &ReadScaler,
        decision: &Decision,
        observed: &Observation,
        around: Around<'_>,
    ) -> Says {
        let ready = observed.count(Phase::Ready);
        let say =
            |is_so, reason, message: String| Says { kind: "Ready", is_so: Some(is_so), reason, message };
        let is_paused = decision.steps.iter().any(|step| matches!(step.reason, Reason::Paused { .. }));
        if let Some(error) = &self.error {
            return say(false, "CannotAct", error.clone());
        }
        if read.checked.spec.mode == Mode::Shadow {
            return say(true, "Shadow", format!("{} would be wanted", decision.to));
        }
        if around.rival.is_some() || self.contest.standing(decision.at).is_some() {
            return say(false, "Contested", "somebody else scales the target".to_owned());
        }
        if is_paused {
            return say(true, "Paused", format!("{} are held by hand", decision.to));
        }
        if observed.replicas.iter().any(|replica| replica.phase == Phase::Draining) {
            return say(
                true,
                "Draining",
                format!("{} are wanted; others finish their requests", decision.to),
            );
        }
        if ready < decision.to.0 {
            return say(true, "Starting", format!("{ready} of {} serve", decision.to));
        }
        say(true, "AsDesired", format!("{} serve", decision.to))
    }

    fn status(&self, read: &ReadScaler, target: &TargetView, now: Timestamp) -> InferenceScalerStatus {
        let spec = &read.checked.spec;
        let encoded = state::encode(&self.state);
        if let Err(error) = &encoded {
            tracing::error!(%error, "a state cannot be written");
        }
        let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
        let expected = self.state.cold_starts.expected(&spec.cold_start).as_secs();
        InferenceScalerStatus {
            replicas: Some(count(self.numbers.0)),
            ready_replicas: Some(count(self.numbers.1)),
            desired_replicas: Some(count(self.numbers.2)),
            selector: target.selector.as_ref().map(ToString::to_string),
            cold_start: Some(ColdStartStatus {
                expected_seconds: i64::try_from(expected).unwrap_or(i64::MAX),
                samples: i32::try_from(self.state.cold_starts.samples()).unwrap_or(i32::MAX),
                stages: self
                    .stages
                    .map(|stages| stages.seconds())
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, seconds)| (name, seconds.round() as i64))
                    .collect(),
            }),
            state: encoded
                .ok()
                .map(|encoded| StateStatus { at: condition::time(now).0.to_string(), encoded }),
            ..self.status_line(now)
        }
    }

    /// What there is to say without a target. What was learned is kept.
    fn status_line(&self, now: Timestamp) -> InferenceScalerStatus {
        let state = state::encode(&self.state).ok();
        InferenceScalerStatus {
            observed_generation: Some(self.generation),
            decisions: self.decisions.iter().cloned().collect(),
            conditions: self.conditions.clone(),
            state: state.map(|encoded| StateStatus { at: condition::time(now).0.to_string(), encoded }),
            ..InferenceScalerStatus::default()
        }
    }

    fn plan_for_gateway(
        &self,
        read: &ReadScaler,
        decision: &Decision,
        observed: &Observation,
        seen: &Seen,
    ) -> Option<PoolPlan> {
        self.gateway.as_ref()?;
        let checked = &read.checked;
        let front = Front {
            spec: &checked.spec,
            models: &checked.models,
            queue: &checked.queue,
            routing: &checked.routing,
            concurrency: Concurrency {
                learned: checked.engine.learns_concurrency,
                slow_start: checked.engine.slow_start,
            },
            kv_tokens: match checked.engine.kv_tokens {
                Some(KvTokens::Tokens(tokens)) => Some(tokens),
                Some(KvTokens::Auto) | None => None,
            },
            speaks_tls: checked.engine.tls.is_some(),
        };
        let plan = front.plan(decision, observed, &seen.serving);
        let is_known = self.plan_at_gateway.as_ref().is_some_and(|there| there.says(&plan, decision.at));
        (!is_known).then_some(plan)
    }
}

static NOT_ASKED: std::sync::LazyLock<GatewayError> =
    std::sync::LazyLock::new(|| GatewayError("it has not answered yet".to_owned()));

fn in_flight(observed: &Observation, id: &ReplicaId) -> Option<u32> {
    observed.replicas.iter().find(|replica| replica.id == *id).and_then(|replica| replica.in_flight)
}

/// Whether what the decision stands on was measured.
fn signals_known(read: &ReadScaler, observed: &Observation) -> Says {
    let age = read.checked.spec.max_signal_age;
    let missing: Vec<String> = observed
        .signals
        .iter()
        .filter_map(|(name, signal)| match signal.evidence(age) {
            Evidence::Unknown(why) => Some(format!("`{name}`: {why}")),
            Evidence::Known(_) | Evidence::AtLeast(_) => None,
        })
        .collect();
    let (is_so, reason, message) = match (observed.signals.is_empty(), missing.is_empty()) {
        (true, _) => {
            (false, "NoSignals", "nothing is measured: there is no gateway and no signal".to_owned())
        }
        (false, false) => (false, "SignalsMissing", missing.join("; ")),
        (false, true) => {
            let message = match observed.signals.len() {
                1 => "The signal is known".to_owned(),
                count => format!("{count} signals are known"),
            };
            (true, "SignalsKnown", message)
        }
    };
    Says { kind: "SignalsKnown", is_so: Some(is_so), reason, message }
}

fn news(decision: &Decision, acts: bool) -> News {
    let reason = match decision.to.cmp(&decision.from) {
        _ if !acts => "WouldScale",
        std::cmp::Ordering::Greater => "ScaledUp",
        std::cmp::Ordering::Less => "ScaledDown",
        std::cmp::Ordering::Equal if !decision.placement.stop.is_empty() => "ReplicaStopped",
        std::cmp::Ordering::Equal => "Adjusted",
    };
    let failed = decision.steps.iter().find(|step| {
        step.stage == Stage::Allocate
            && matches!(step.reason, Reason::StartFailed { .. } | Reason::StartExpired { .. })
    });
    match failed {
        Some(step) => {
            News { is_warning: true, reason: "StartFailed", note: cut(&step.reason.to_string(), 1000) }
        }
        None => News { is_warning: false, reason, note: cut(&decision.summary(), 1000) },
    }
}

/// The Event of a condition that became one somebody should look at.
fn warning(says: &Says) -> Option<News> {
    let is_bad = match says.kind {
        "Contested" => says.is_so == Some(true),
        "SignalsKnown" => false,
        _ => says.is_so == Some(false) && says.reason != "Contested",
    };
    is_bad.then(|| News { is_warning: true, reason: says.reason, note: cut(&says.message, 1000) })
}
