//! The fleet: what is asked when, and what becomes of a question that nobody answered.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forewarm_control::{
    Clock,
    ports::{Fleet, FleetError, FleetReplica, FleetView, SignalSet},
};
use forewarm_core::{Placement, ScalerId, Signal, SignalName};
use forewarm_manifest::{ExecTarget, WebhookTarget};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, sleep_until};

use crate::{
    endpoint::{CallError, Endpoint, new_key},
    exec::Exec,
    protocol::{self, Change, Refusal, RefusalCode, Request},
    view::{Memory, View},
    webhook::{Webhook, WebhookError},
};

/// Time on the wall for which an answer is good: the loop may look many times a second.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Time on the wall after which it is asked again while replicas come or leave.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A change that nobody answered for is asked for again, under its key, for so long. After that it is given up: an
/// endpoint that always fails on it must not hold the fleet for ever.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// What is asked about in-flight work is this signal.
const RUNNING: &str = "running";

/// A fleet behind a webhook or a command.
///
/// It is also a set of signals: where replicas say what they work on, that is the signal `running`.
#[derive(Debug)]
pub struct HookFleet {
    scaler: ScalerId,
    endpoint: Endpoint,
    speed: f64,
    /// One question at a time.
    asking: tokio::sync::Mutex<Memory>,
    /// Locked for moments only.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last look, or why it failed.
    look: Option<Look>,
    /// A change whose end is not known.
    unsettled: Option<Unsettled>,
    /// The endpoint does not want to be asked before.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    error: Option<String>,
    /// The last one that was answered.
    view: Option<View>,
}

#[derive(Clone, Debug)]
struct Unsettled {
    key: String,
    change: Change,
    since: Instant,
    starts: bool,
}

/// What came of trying a hook.
#[derive(Debug)]
pub struct Trial {
    /// What it sees.
    pub observed: protocol::Observed,
    /// What it says to starting one replica in a dry run.
    pub dry_run: Result<(), String>,
}

/// Why a question has no good answer.
enum Failure {
    /// Nobody answered; what was asked for may have been done.
    Silence(String),
    /// It was refused, or the answer is none.
    Refused { why: String, code: RefusalCode },
}

impl HookFleet {
    /// A fleet behind a webhook.
    ///
    /// # Errors
    /// When it cannot be called at all.
    pub fn webhook(scaler: ScalerId, target: &WebhookTarget, clock: Clock) -> Result<Self, WebhookError> {
        Ok(Self::new(scaler, Endpoint::Webhook(Webhook::new(target)?), clock))
    }

    /// A fleet behind a command.
    pub fn exec(scaler: ScalerId, target: &ExecTarget, clock: Clock) -> Self {
        Self::new(scaler, Endpoint::Exec(Exec::new(target)), clock)
    }

    fn new(scaler: ScalerId, endpoint: Endpoint, clock: Clock) -> Self {
        Self { scaler, endpoint, speed: clock.speed(), asking: Default::default(), known: Default::default() }
    }

    /// Asks what there is, and in a dry run for one more replica, so that a person sees whether all is well.
    ///
    /// # Errors
    /// Why what there is cannot be seen.
    pub async fn trial(&self) -> Result<Trial, FleetError> {
        let observed = self.ask().await.map_err(unreachable)?;
        let change = match observed.fleet {
            protocol::SeenFleet::Number { desired, .. } => {
                Change::Number { desired: desired.saturating_add(1) }
            }
            protocol::SeenFleet::Replicas(_) => Change::of(&Placement { start: 1, ..Placement::default() }),
        };
        let dry_run = self.request(&new_key(), true, &change).await.map_err(Failure::into_words);
        Ok(Trial { observed, dry_run })
    }

    async fn look(&self) -> Result<FleetView, FleetError> {
        let mut memory = self.asking.lock().await;
        if let Some(known) = self.still_good() {
            return known.map(|()| self.view(memory.take_failed()));
        }
        let outcome = match self.settle(&mut memory).await {
            Err(silence @ Failure::Silence(_)) => Err(silence),
            // Refused is settled, too.
            Ok(()) | Err(Failure::Refused { .. }) => self.ask().await,
        };
        let at = Instant::now();
        let mut known = self.known();
        let (view, error) = match outcome {
            Ok(observed) => (Some(memory.view(observed)), None),
            Err(failure) => (known.look.take().and_then(|look| look.view), Some(failure.into_words())),
        };
        known.look = Some(Look { at, error: error.clone(), view });
        drop(known);
        match error {
            None => Ok(self.view(memory.take_failed())),
            Some(error) => Err(FleetError::Unreachable(error.into())),
        }
    }

    /// The last answer, or failure, while it need not be asked for again.
    fn still_good(&self) -> Option<Result<(), FleetError>> {
        let known = self.known();
        let look = known.look.as_ref().filter(|look| look.at.elapsed() < GOOD_FOR)?;
        match &look.error {
            Some(error) => Some(Err(FleetError::Unreachable(error.clone().into()))),
            None => known.unsettled.is_none().then_some(Ok(())),
        }
    }

    fn view(&self, failed_starts: Vec<forewarm_core::FailedStart>) -> FleetView {
        let known = self.known();
        let view = known.look.as_ref().and_then(|look| look.view.as_ref());
        view.map(|view| view.fleet(failed_starts, self.speed)).unwrap_or_default()
    }

    async fn change(&self, placement: &Placement) -> Result<(), FleetError> {
        let mut memory = self.asking.lock().await;
        self.settle(&mut memory).await.map_err(unreachable)?;
        let change = match &memory.count {
            Some(count) => count.change(placement),
            None => Change::of(placement),
        };
        let (key, since, starts) = (new_key(), Instant::now(), placement.start > 0);
        self.known().unsettled = Some(Unsettled { key, change, since, starts });
        let wanted = placement.start;
        self.settle(&mut memory).await.map_err(|failure| match &failure {
            Failure::Refused { why, code: RefusalCode::OutOfCapacity } => {
                FleetError::OutOfCapacity { wanted, reason: why.clone() }
            }
            Failure::Refused { why, code: RefusalCode::Refused } if starts => {
                FleetError::CannotStart { reason: why.clone() }
            }
            Failure::Refused { why, .. } => FleetError::Refused { reason: why.clone() },
            Failure::Silence(_) => unreachable(failure),
        })
    }

    /// Asks for what is not settled, under the key it had before, until its end is known.
    async fn settle(&self, memory: &mut Memory) -> Result<(), Failure> {
        let Some(open) = self.known().unsettled.clone() else { return Ok(()) };
        let outcome = self.request(&open.key, false, &open.change).await;
        let mut known = self.known();
        if let Err(Failure::Silence(why)) = &outcome
            && open.since.elapsed() < SETTLE_WITHIN
        {
            return Err(Failure::Silence(format!("{why}; asked again for the same change, `{}`", open.key)));
        }
        known.unsettled = None;
        // What was seen before is not what is there now.
        if let Some(look) = &mut known.look {
            look.at = look.at.checked_sub(GOOD_FOR).unwrap_or(look.at);
        }
        drop(known);
        if let Err(failure) = outcome {
            if open.starts {
                memory.start_failed(&open.key, failure.words().to_owned());
            }
            return Err(failure);
        }
        Ok(())
    }

    async fn ask(&self) -> Result<protocol::Observed, Failure> {
        let body = Request::observe(&self.scaler).body().map_err(impossible)?;
        let answer = self.call(&body, None).await?;
        protocol::observed(&answer).map_err(|error| refused(error.to_string()))?.map_err(Failure::from)
    }

    async fn request(&self, key: &str, dry_run: bool, change: &Change) -> Result<(), Failure> {
        let body = Request::apply(&self.scaler, key, dry_run, change).body().map_err(impossible)?;
        let answer = self.call(&body, Some(key)).await?;
        protocol::applied(&answer).map_err(|error| refused(error.to_string()))?.map_err(Failure::from)
    }

    async fn call(&self, body: &[u8], key: Option<&str>) -> Result<Vec<u8>, Failure> {
        if let Some(until) = self.known().not_before
            && let Some(pause) = until.checked_duration_since(Instant::now())
        {
            return Err(Failure::Silence(wants_a_pause(pause)));
        }
        let outcome = self.endpoint.call(body, key).await;
        let mut known = self.known();
        known.not_before = None;
        match outcome {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused { why, body }) => match protocol::refusal(&body) {
                Some(refusal) => Err(refusal.into()),
                None => Err(refused(why)),
            },
            Err(CallError::Silence { why, retry_after }) => {
                known.not_before = retry_after.map(|pause| Instant::now() + pause);
                let pause = retry_after.map(|pause| format!("; {}", wants_a_pause(pause)));
                Err(Failure::Silence(format!("{why}{}", pause.unwrap_or_default())))
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it is worth looking again without being asked.
    fn next_look(&self) -> Option<Instant> {
        let known = self.known();
        let look = known.look.as_ref()?;
        let moves = look.view.as_ref().is_some_and(View::moves) || known.unsettled.is_some();
        let at = look.at + LOOK_AGAIN;
        moves.then(|| known.not_before.map_or(at, |pause| pause.max(at)))
    }
}

impl Fleet for HookFleet {
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>> {
        self.look().boxed()
    }

    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>> {
        self.change(placement).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let next = self.next_look();
        async move {
            match next {
                Some(at) => sleep_until(at).await,
                // The loop's own period is enough.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl SignalSet for HookFleet {
    fn latest(&self) -> Vec<(SignalName, Signal)> {
        let known = self.known();
        let view = known.look.as_ref().and_then(|look| look.view.as_ref());
        let work = view.and_then(|view| view.work(self.speed));
        work.map(|signal| (SignalName::from(RUNNING), signal)).into_iter().collect()
    }

    fn replicas(&self, _replicas: &[FleetReplica]) {}

    fn changed(&self) -> BoxFuture<'_, ()> {
        // It is read together with the fleet.
        std::future::pending().boxed()
    }
}

impl Failure {
    fn words(&self) -> &str {
        match self {
            Failure::Silence(why) | Failure::Refused { why, .. } => why,
        }
    }

    fn into_words(self) -> String {
        match self {
            Failure::Silence(why) | Failure::Refused { why, .. } => why,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused { why: refusal.message, code: refusal.code }
    }
}

fn refused(why: String) -> Failure {
    Failure::Refused { why, code: RefusalCode::Refused }
}

fn wants_a_pause(pause: Duration) -> String {
    format!("it wants to be asked again in {} s", pause.as_secs())
}

/// A request of ours that cannot be written as JSON.
fn impossible(error: serde_json::Error) -> Failure {
    refused(format!("the request cannot be written: {error}"))
}

fn unreachable(failure: Failure) -> FleetError {
    FleetError::Unreachable(failure.into_words().into())
}
