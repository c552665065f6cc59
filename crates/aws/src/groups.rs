//! Looks at all groups of an account together, again and again.
//!
//! One `DescribeAutoScalingGroups` for up to 50 groups: every 15 s, every 5 s while instances come or go in one of
//! them, and ever more slowly, up to a minute, while it fails. Each wait is up to a tenth shorter or longer, so that
//! many controllers do not ask at once. Each group with a warm pool takes one `DescribeWarmPool` more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use forewarm_core::Tier;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    Account,
    error::CallError,
    group::{Group, prepared},
};

/// Time between two looks while nothing moves.
pub(crate) const SETTLED: Duration = Duration::from_secs(15);
/// Time between two looks while instances come or go.
pub(crate) const MOVING: Duration = Duration::from_secs(5);
/// Longest time between two looks that fail.
const LONGEST: Duration = Duration::from_secs(60);
/// Shortest time between two looks that somebody asks for.
const SHORTEST: Duration = Duration::from_secs(1);
/// Groups that the API describes in one call.
const PER_CALL: usize = 50;

/// A group as it was seen last.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// When it began; `None` before the first look.
    pub(crate) at: Option<Instant>,
    /// What was seen; `None` where there is no such group.
    pub(crate) seen: Result<Option<Arc<Group>>, CallError>,
}

/// The groups of one account and region that somebody is interested in.
#[derive(Debug)]
pub struct Groups {
    pub(crate) account: Account,
    pub(crate) speed: f64,
    watched: Mutex<BTreeMap<String, watch::Sender<Look>>>,
    hurry: Notify,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Groups {
    /// Starts to look. `speed` divides every wait, for tests in compressed time.
    pub fn start(account: Account, speed: f64) -> Arc<Self> {
        let (watched, hurry, task) = (Mutex::default(), Notify::new(), Mutex::default());
        let groups = Arc::new(Self { account, speed, watched, hurry, task });
        let task = tokio::spawn(watch_groups(Arc::downgrade(&groups)));
        *groups.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        groups
    }

    /// The account that is asked.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Follows a group.
    pub(crate) fn watch(&self, name: &str) -> watch::Receiver<Look> {
        let new = || watch::Sender::new(Look { at: None, seen: Ok(None) });
        let receiver = self.watched().entry(name.to_owned()).or_insert_with(new).subscribe();
        self.hurry.notify_one();
        receiver
    }

    /// Looks again soon.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Looks at one group now.
    pub(crate) async fn fresh(&self, name: &str) -> Result<Option<Arc<Group>>, CallError> {
        let began = Instant::now();
        let names = [name.to_owned()];
        let seen = self.describe(&names).await.map(|mut groups| groups.remove(name).map(Arc::new));
        self.tell(name, began, seen.clone());
        seen
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Look>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: &str, began: Instant, seen: Result<Option<Arc<Group>>, CallError>) {
        if let Some(sender) = self.watched().get(name) {
            sender.send_replace(Look { at: Some(began), seen });
        }
    }

    async fn describe(&self, names: &[String]) -> Result<BTreeMap<String, Group>, CallError> {
        const ACTION: &str = "autoscaling:DescribeAutoScalingGroups";
        let mut groups = BTreeMap::new();
        for names in names.chunks(PER_CALL) {
            let call = self.account.autoscaling.describe_auto_scaling_groups();
            let answer = call.set_auto_scaling_group_names(Some(names.to_vec())).send().await;
            let answer = answer.map_err(|error| CallError::of(ACTION, &error))?;
            let read = answer.auto_scaling_groups().iter().filter_map(Group::of);
            groups.extend(read.map(|group| (group.name.clone(), group)));
        }
        for group in groups.values_mut().filter(|group| group.has_pool) {
            // A pool that cannot be seen is as good as none: starts count as cold ones.
            match self.pool(&group.name).await {
                Ok(pool) => group.pool = pool,
                Err(error) => tracing::warn!(group = group.name, %error, "cannot look at the warm pool"),
            }
        }
        Ok(groups)
    }

    /// The prepared instances of a warm pool.
    async fn pool(&self, name: &str) -> Result<Vec<(String, Tier)>, CallError> {
        const ACTION: &str = "autoscaling:DescribeWarmPool";
        let (mut pool, mut next) = (Vec::new(), None);
        loop {
            let call = self.account.autoscaling.describe_warm_pool().auto_scaling_group_name(name);
            let answer = call.set_next_token(next).send().await;
            let answer = answer.map_err(|error| CallError::of(ACTION, &error))?;
            pool.extend(answer.instances().iter().filter_map(prepared));
            next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(pool);
            }
        }
    }

    /// Looks at all groups; whether something moves, or `Err`.
    async fn look(&self) -> Result<bool, CallError> {
        let began = Instant::now();
        let names: Vec<String> = self.watched().keys().cloned().collect();
        match self.describe(&names).await {
            Ok(mut groups) => {
                let moving = groups.values().any(Group::is_moving);
                for name in &names {
                    self.tell(name, began, Ok(groups.remove(name).map(Arc::new)));
                }
                Ok(moving)
            }
            Err(error) => {
                for name in &names {
                    self.tell(name, began, Err(error.clone()));
                }
                Err(error)
            }
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn watch_groups(groups: Weak<Groups>) {
    let mut failures = 0_u32;
    loop {
        let Some(groups) = groups.upgrade() else { return };
        let pause = if groups.watched().is_empty() {
            SETTLED
        } else {
            match groups.look().await {
                Ok(moving) => {
                    failures = 0;
                    if moving { MOVING } else { SETTLED }
                }
                Err(error) => {
                    tracing::warn!(%error, region = groups.account.region(), "cannot look at the groups");
                    failures = failures.saturating_add(1);
                    backoff(failures)
                }
            }
        };
        let pause = jittered(pause).div_f64(groups.speed);
        let shortest = SHORTEST.div_f64(groups.speed);
        if failures > 0 {
            // Nobody may hurry what is throttled or down.
            drop(groups);
            sleep(pause).await;
            continue;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = groups.hurry.notified() => {
                drop(groups);
                sleep(shortest).await;
            }
        }
    }
}

/// Twice as long after each failure.
fn backoff(failures: u32) -> Duration {
    MOVING.saturating_mul(2_u32.saturating_pow(failures.min(10))).min(LONGEST)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}
