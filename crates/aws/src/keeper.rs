//! What goes on between two placements: addresses, health, protection, hooks, news.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    CallError,
    activities::{Activities, Latest},
    book::News,
    fleet::Shared,
    groups::{Look, MOVING, SETTLED},
    hooks::Hooks,
    probe,
};

/// Time between two questions to engines while one of them starts…
const STARTING: Duration = Duration::from_secs(1);
/// …and when all serve.
const SERVING: Duration = Duration::from_secs(5);
/// Shortest time on the wall, however compressed the time is.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest wait after calls that failed.
const LONGEST: Duration = Duration::from_secs(60);
/// Instances that one call protects.
const PER_CALL: usize = 50;

/// One task for each group.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    hooks: Hooks,
    activities: Activities,
    failures: u32,
    /// No calls before: the last one failed.
    silent_until: Option<Instant>,
    activities_at: Option<Instant>,
    /// Instances that had no address when it was asked for, and when that was.
    addressed: Option<(Vec<String>, Instant)>,
    /// Instances with which TLS came to nothing when they were last asked.
    without_tls: BTreeSet<String>,
    concerns: Vec<String>,
    /// Whether AWS answered, and what it said.
    news: Option<(bool, News)>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            hooks: Hooks::default(),
            activities: Activities::default(),
            failures: 0,
            silent_until: None,
            activities_at: None,
            addressed: None,
            without_tls: BTreeSet::new(),
            concerns: Vec::new(),
            news: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut looks = self.shared.groups.watch(&self.shared.config.name);
        loop {
            let starting = self.shared.peek(|book| book.is_starting());
            let pause = if starting { STARTING } else { SERVING };
            let pause = pause.div_f64(self.shared.groups.speed).max(SHORTEST);
            tokio::select! {
                changed = looks.changed() => if changed.is_err() { return },
                () = self.shared.nudge.notified() => {}
                () = sleep(pause) => {}
            }
            let look = looks.borrow_and_update().clone();
            self.step(&look).await;
        }
    }

    async fn step(&mut self, look: &Look) {
        self.shared.take(look);
        self.tell_concerns();
        if self.silent_until.is_none_or(|until| Instant::now() >= until) {
            let change = self.shared.peek(|book| book.changes());
            let done = self.call(change.foreign, change.lost).await;
            match done {
                Ok(()) => (self.failures, self.silent_until) = (0, None),
                Err(error) => {
                    tracing::warn!(group = self.shared.config.name, %error, "a call failed; it is made again");
                    self.failures = self.failures.saturating_add(1);
                    let wait =
                        MOVING.saturating_mul(2_u32.saturating_pow(self.failures.min(10))).min(LONGEST);
                    self.silent_until = Some(Instant::now() + wait.div_f64(self.shared.groups.speed));
                }
            }
        }
        self.probe().await;
        let news = (look.seen.is_ok(), self.shared.peek(|book| book.news()));
        if self.news.as_ref() != Some(&news) {
            self.news = Some(news);
            self.shared.with_book(|_| ());
        }
    }

    /// Warns once of what does not go together.
    fn tell_concerns(&mut self) {
        let config = &self.shared.config;
        let concerns = self.shared.peek(|book| {
            let group = book.group();
            group.map(|group| group.concerns(config.min_replicas, config.max_replicas)).unwrap_or_default()
        });
        for concern in concerns.iter().filter(|concern| !self.concerns.contains(concern)) {
            tracing::warn!(group = config.name, "{concern}");
        }
        self.concerns = concerns;
    }

    /// The calls that are due. Each looks at what there is, so that one that failed is simply due again.
    async fn call(&mut self, foreign: Option<(u32, u32)>, lost: bool) -> Result<(), CallError> {
        let latest = self.activities(foreign.is_some() || lost).await;
        if let Some((before, after)) = foreign {
            let group = &self.shared.config.name;
            let who = latest.as_ref().ok().and_then(|latest| latest.who_changed(before, after));
            tracing::warn!(group, before, after, who, "somebody else changed the desired capacity");
            if let Some(who) = who {
                self.shared.with_book(|book| book.name_contester(who));
            }
        }
        latest?;
        self.addresses().await?;
        self.protect().await?;
        self.hooks().await
    }

    /// Reads the group's activities while it lacks instances or when something happened.
    async fn activities(&mut self, happened: bool) -> Result<Latest, CallError> {
        let lacks = self.shared.peek(|book| book.group().is_some_and(|group| group.missing() > 0));
        let wait = MOVING.div_f64(self.shared.groups.speed);
        let due = self.activities_at.is_none_or(|at| lacks && at.elapsed() >= wait);
        if !happened && !due {
            return Ok(Latest::default());
        }
        let client = &self.shared.groups.account().autoscaling;
        let latest = self.activities.latest(client, &self.shared.config.name).await?;
        self.activities_at = Some(Instant::now());
        for attempt in latest.failed.iter().rev() {
            self.shared.peek(|book| book.launch_failed(&attempt.id, attempt.failure.clone()));
        }
        Ok(latest)
    }

    /// Asks for the addresses of new instances at once, and again for those that have none yet.
    async fn addresses(&mut self) -> Result<(), CallError> {
        let unknown = self.shared.peek(|book| book.unaddressed());
        let wait = SETTLED.div_f64(self.shared.groups.speed);
        let again = self.addressed.as_ref().is_some_and(|(ids, at)| *ids == unknown && at.elapsed() < wait);
        if unknown.is_empty() || again {
            return Ok(());
        }
        let facts = self.shared.groups.account().ec2.describe(&unknown).await?;
        let (group, template) = (&self.shared.config.name, &self.shared.config.address);
        for (id, facts) in &facts {
            if !self.shared.peek(|book| book.learn(id, facts, template, Instant::now())) {
                tracing::warn!(group, instance = id, template, "EC2 knows no such address of the instance");
            }
        }
        let left = self.shared.peek(|book| book.unaddressed());
        self.addressed = Some((left, Instant::now()));
        Ok(())
    }

    async fn protect(&self) -> Result<(), CallError> {
        const ACTION: &str = "autoscaling:SetInstanceProtection";
        let open = self.shared.peek(|book| book.unprotected());
        for ids in open.chunks(PER_CALL) {
            let call = self.shared.groups.account().autoscaling.set_instance_protection();
            let call = call.auto_scaling_group_name(&self.shared.config.name).protected_from_scale_in(true);
            let answer = call.set_instance_ids(Some(ids.to_vec())).send().await;
            answer.map_err(|error| CallError::of(ACTION, &error))?;
            self.shared.peek(|book| book.protected(ids));
        }
        Ok(())
    }

    async fn hooks(&mut self) -> Result<(), CallError> {
        let waits = self.shared.peek(|book| book.waits());
        self.hooks.retain(|id| waits.iter().any(|(waiting, _, _)| waiting == id));
        if waits.is_empty() {
            return Ok(());
        }
        let (client, group) = (&self.shared.groups.account().autoscaling, &self.shared.config.name);
        self.hooks.refresh(client, group).await?;
        for (id, wait, may_go) in waits {
            if may_go {
                self.hooks.complete(client, group, &id, wait).await?;
                self.shared.groups.hurry();
            } else {
                self.hooks.prolong(client, group, &id, wait).await?;
            }
        }
        Ok(())
    }

    async fn probe(&mut self) {
        let (shared, path) = (&self.shared, &self.shared.config.health_path);
        let scheme = if shared.config.tls.is_some() { "https" } else { "http" };
        let ask = async |(id, address): (String, String)| {
            (id, probe::serves(&shared.http, format!("{scheme}://{address}{path}")).await)
        };
        let answers = join_all(shared.peek(|book| book.to_probe()).into_iter().map(ask)).await;
        shared.peek(|book| {
            for (id, answer) in &answers {
                book.probed(id, *answer.as_ref().unwrap_or(&false), Instant::now());
            }
        });
        let refusing = answers.into_iter().filter_map(|(instance, answer)| Some((instance, answer.err()?)));
        let told = std::mem::take(&mut self.without_tls);
        for (instance, why) in refusing {
            if !told.contains(&instance) {
                let group = &shared.config.name;
                tracing::warn!(group, instance, why, "TLS with the engine comes to nothing: it is not ready");
            }
            self.without_tls.insert(instance);
        }
    }
}
