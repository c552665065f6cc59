//! Several gateways side by side, as one to the controller: it adds up what they report, and divides the replicas'
//! slots among them.

use std::{sync::Arc, time::Duration};

use forewarm_core::pool::{ClassReport, Endpoint, PoolPlan, PoolReport};
use futures_util::future::{BoxFuture, FutureExt, join_all, select_all};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    ports::{Gateway, GatewayError},
    shares::{Claim, divide},
};

/// Shortest time between two new divisions of the slots, on the wall.
const DIVIDE_EVERY: Duration = Duration::from_millis(50);

/// Longest wait for a gateway that did not answer the last time: it must not hold up what the others need.
const SILENT_TIMEOUT: Duration = Duration::from_millis(100);

/// Gateways that share the replicas of one scaler.
///
/// As a [`Gateway`] it answers when at least one of them does, and all have answered once. A silent one counts with what
/// it said last for [`Several::HOLD`]; after that with its totals only. As long as it counts, a plan that takes a replica
/// or slots from it has failed when it cannot be told.
pub struct Several {
    members: Vec<(String, Arc<dyn Gateway>)>,
    state: Mutex<State>,
}

struct State {
    /// The whole plan, before it is divided.
    plan: Option<PoolPlan>,
    seen: Vec<Seen>,
    divided_at: Option<Instant>,
    /// The slots want to be divided, but were a moment ago.
    is_due: bool,
}

/// What is known of one gateway.
struct Seen {
    last: Option<PoolReport>,
    /// When it answered last; before that, when it was first asked.
    at: Instant,
    /// Totals of its lives before: they begin at 0 when it is started anew.
    before: PoolReport,
    /// The plan that it has.
    plan: Option<PoolPlan>,
    /// It did not answer the last time.
    is_silent: bool,
    /// It has not answered for so long that what it had counts no longer.
    is_gone: bool,
}

impl Several {
    /// How long what a silent gateway had said last still counts, on the wall. Its requests may go on; and if it is
    /// gone, its clients need a moment to come again to another.
    pub const HOLD: Duration = Duration::from_secs(10);

    /// Gateways by their addresses; at least one.
    pub fn new(members: Vec<(String, Arc<dyn Gateway>)>) -> Self {
        let at = Instant::now();
        let seen = members.iter().map(|_| Seen {
            last: None,
            at,
            before: PoolReport::default(),
            plan: None,
            is_silent: false,
            is_gone: false,
        });
        let state = State { plan: None, seen: seen.collect(), divided_at: None, is_due: false };
        Self { members, state: Mutex::new(state) }
    }

    async fn apply_all(&self, plan: &PoolPlan) -> Result<(), GatewayError> {
        let mut state = self.state.lock().await;
        state.plan = Some(plan.clone());
        self.tell(&mut state).await
    }

    /// Gives each gateway its share of the plan, if it has another one. Those that lose something are told first: the
    /// others may use it then.
    async fn tell(&self, state: &mut State) -> Result<(), GatewayError> {
        (state.divided_at, state.is_due) = (Some(Instant::now()), false);
        let Some(shares) = state.shares() else { return Ok(()) };
        let mut errors = Vec::new();
        for losers in [true, false] {
            let told = shares.iter().enumerate().filter(|(index, share)| {
                let has = state.seen[*index].plan.as_ref();
                has != Some(share) && loses(has, share) == losers
            });
            let told = told.map(|(index, share)| {
                let applied = patiently(state.seen[index].is_silent, self.members[index].1.apply(share));
                applied.map(move |applied| (index, applied))
            });
            for (index, applied) in join_all(told).await {
                let seen = &mut state.seen[index];
                match applied {
                    Ok(()) => seen.plan = Some(shares[index].clone()),
                    // One that is gone sends nothing any more; one that lost nothing does no harm. They are told when
                    // they answer again.
                    Err(_) if seen.is_gone || !losers => {}
                    Err(error) => errors.push(format!("{}: {error}", self.members[index].0)),
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(GatewayError(errors.join("; "))) }
    }

    async fn report_all(&self) -> Result<PoolReport, GatewayError> {
        let mut state = self.state.lock().await;
        let asked = self.members.iter().zip(&state.seen);
        let asked = asked.map(|((_, gateway), seen)| patiently(seen.is_silent, gateway.report()));
        let reports = join_all(asked).await;
        let now = Instant::now();
        let (mut errors, mut any, mut came_or_went) = (Vec::new(), false, false);
        for ((seen, report), (address, _)) in state.seen.iter_mut().zip(reports).zip(&self.members) {
            let was_gone = seen.is_gone;
            match report {
                Ok(report) => {
                    any = true;
                    seen.hears(report, now);
                }
                Err(error) => {
                    seen.is_silent = true;
                    seen.is_gone = now.duration_since(seen.at) > Self::HOLD;
                    if seen.last.is_none() && !seen.is_gone {
                        errors.push(format!("{address}: {error}"));
                    }
                }
            }
            if was_gone != seen.is_gone {
                came_or_went = true;
                match seen.is_gone {
                    true => {
                        tracing::warn!(gateway = address, "a gateway is silent: what it had counts no longer")
                    }
                    false => tracing::info!(gateway = address, "a gateway is there again"),
                }
            }
        }
        if !any || !errors.is_empty() {
            // Not all of the load is known: that is no small load.
            errors.push("not every gateway has answered yet, or none does".to_owned());
            return Err(GatewayError(errors.join("; ")));
        }
        let recently = state.divided_at.is_some_and(|at| now.duration_since(at) < DIVIDE_EVERY);
        state.is_due = state.should_divide();
        if came_or_went || (state.is_due && !recently) {
            // Nothing is taken away from the fleet by this; what fails is tried again at the next report.
            drop(self.tell(&mut state).await);
        }
        Ok(state.sum())
    }
}

/// Waits for an answer, and not for long where there was none before.
async fn patiently<T>(
    is_silent: bool,
    asked: impl Future<Output = Result<T, GatewayError>>,
) -> Result<T, GatewayError> {
    if !is_silent {
        return asked.await;
    }
    let answer = tokio::time::timeout(SILENT_TIMEOUT, asked).await;
    answer.unwrap_or_else(|_| Err(GatewayError("it is still silent".to_owned())))
}

impl Gateway for Several {
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>> {
        self.apply_all(plan).boxed()
    }

    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>> {
        self.report_all().boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let changes = select_all(self.members.iter().map(|(_, gateway)| gateway.changed())).map(|_| ());
        // Nobody else may say anything for long, and requests would wait beside free slots.
        let due = async {
            let is_due = self.state.lock().await.is_due;
            if !is_due {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DIVIDE_EVERY).await;
        };
        async move {
            tokio::select! {
                () = changes => {}
                () = due => {}
            }
        }
        .boxed()
    }
}

impl Seen {
    fn hears(&mut self, report: PoolReport, now: Instant) {
        if let Some(last) = &self.last
            && report.arrived_total < last.arrived_total
        {
            self.before = added(std::mem::take(&mut self.before), &totals(last));
        }
        (self.last, self.at) = (Some(report), now);
        (self.is_silent, self.is_gone) = (false, false);
    }
}

impl State {
    /// The plan of each gateway; none before there is one.
    fn shares(&self) -> Option<Vec<PoolPlan>> {
        let plan = self.plan.as_ref()?;
        let mut plans = vec![plan.clone(); self.seen.len()];
        // One that is gone and comes again begins with one slot, until it is counted in.
        for (_, plan) in plans.iter_mut().enumerate().filter(|(index, _)| self.seen[*index].is_gone) {
            plan.endpoints.iter_mut().for_each(|endpoint| give(endpoint, 1));
        }
        let there: Vec<usize> = (0..self.seen.len()).filter(|&index| !self.seen[index].is_gone).collect();
        let report = |index: usize| self.seen[index].last.as_ref();
        let mut waiting: Vec<u64> =
            there.iter().map(|&index| report(index).map_or(0, |report| report.queued)).collect();
        for (turn, endpoint) in plan.endpoints.iter().enumerate().filter(|(_, endpoint)| !endpoint.draining) {
            let in_flight = |index: usize| report(index)?.in_flight.get(&endpoint.replica).copied();
            let claims: Vec<Claim> = there
                .iter()
                .zip(&waiting)
                .map(|(&index, &waiting)| Claim { in_flight: in_flight(index).unwrap_or(0), waiting })
                .collect();
            if claims.is_empty() {
                continue;
            }
            let shares = divide(endpoint.max_concurrency, &claims, turn);
            for (position, (&index, share)) in there.iter().zip(shares).enumerate() {
                give(&mut plans[index].endpoints[turn], share);
                // What it gets here need not be given to it once more.
                let free = u64::from(share.saturating_sub(claims[position].in_flight));
                waiting[position] = waiting[position].saturating_sub(free);
            }
        }
        Some(plans)
    }

    /// Whether a gateway lacks its plan, or one where requests wait would get slots that others do not use.
    fn should_divide(&self) -> bool {
        let Some(shares) = self.shares() else { return false };
        // One that is gone is told when it comes again.
        self.seen.iter().zip(&shares).filter(|(seen, _)| !seen.is_gone).any(|(seen, share)| {
            let Some(has) = &seen.plan else { return true };
            let waits = seen.last.as_ref().is_some_and(|report| report.queued > 0);
            !same_but_for_slots(has, share) || (waits && slots(share) > slots(has))
        })
    }

    /// What all of them see, as one.
    fn sum(&self) -> PoolReport {
        self.seen.iter().fold(PoolReport::default(), |sum, seen| {
            let sum = added(sum, &seen.before);
            match &seen.last {
                Some(last) if seen.is_gone => added(sum, &totals(last)),
                Some(last) => added(sum, last),
                None => sum,
            }
        })
    }
}

/// Leaves so many of a replica's slots, and the tokens that go with them.
fn give(endpoint: &mut Endpoint, share: u32) {
    let of = u128::from(endpoint.max_concurrency.max(1));
    endpoint.kv_tokens = endpoint.kv_tokens.map(|tokens| {
        let part = u128::from(tokens) * u128::from(share) / of;
        u64::try_from(part).unwrap_or(tokens).max(1)
    });
    endpoint.max_concurrency = share;
}

/// Whether a plan takes something from a gateway that has another: a replica, or slots.
fn loses(has: Option<&PoolPlan>, new: &PoolPlan) -> bool {
    has.is_some_and(|has| {
        has.endpoints.iter().filter(|old| !old.draining).any(|old| {
            let new =
                new.endpoints.iter().find(|new| new.replica == old.replica && new.address == old.address);
            new.is_none_or(|new| new.draining || new.max_concurrency < old.max_concurrency)
        })
    })
}

fn slots(plan: &PoolPlan) -> u64 {
    let open = plan.endpoints.iter().filter(|endpoint| !endpoint.draining);
    open.map(|endpoint| u64::from(endpoint.max_concurrency)).sum()
}

fn same_but_for_slots(one: &PoolPlan, other: &PoolPlan) -> bool {
    let bare = |plan: &PoolPlan| {
        let endpoints = plan
            .endpoints
            .iter()
            .map(|endpoint| {
                // Tokens go with the slots.
                let kv_tokens = endpoint.kv_tokens.and(Some(0));
                Endpoint { max_concurrency: 0, kv_tokens, ..endpoint.clone() }
            })
            .collect();
        PoolPlan { endpoints, ..plan.clone() }
    };
    bare(one) == bare(other)
}

/// What only grows, without what is there now.
fn totals(report: &PoolReport) -> PoolReport {
    PoolReport {
        queued: 0,
        queued_bytes: 0,
        oldest_wait_seconds: 0.0,
        in_flight: Default::default(),
        put_aside: Default::default(),
        concurrency: Default::default(),
        tokens_in_flight: Default::default(),
        classes: report
            .classes
            .iter()
            .map(|(&priority, class)| {
                (priority, ClassReport { queued: 0, oldest_wait_seconds: 0.0, ..class.clone() })
            })
            .collect(),
        ..report.clone()
    }
}

fn added(mut sum: PoolReport, more: &PoolReport) -> PoolReport {
    // Named one by one, so that a new one cannot be forgotten.
    let PoolReport {
        queued,
        queued_bytes,
        oldest_wait_seconds,
        in_flight,
        put_aside,
        arrived_total,
        refused_total,
        succeeded_total,
        failed_total,
        retried_total,
        streamed_events_total,
        busy_seconds_total,
        completed_total,
        attained_total,
        missed_total,
        classes,
        concurrency,
        tokens_in_flight,
    } = more;
    sum.queued += queued;
    sum.queued_bytes += queued_bytes;
    sum.oldest_wait_seconds = sum.oldest_wait_seconds.max(*oldest_wait_seconds);
    for (replica, count) in in_flight {
        *sum.in_flight.entry(replica.clone()).or_default() += count;
    }
    for (replica, why) in put_aside {
        sum.put_aside.entry(replica.clone()).or_insert_with(|| why.clone());
    }
    sum.arrived_total += arrived_total;
    sum.refused_total += refused_total;
    sum.succeeded_total += succeeded_total;
    for (cause, count) in failed_total {
        *sum.failed_total.entry(cause.clone()).or_default() += count;
    }
    sum.retried_total += retried_total;
    sum.streamed_events_total += streamed_events_total;
    sum.busy_seconds_total += busy_seconds_total;
    sum.completed_total += completed_total;
    sum.attained_total += attained_total;
    sum.missed_total += missed_total;
    for (&priority, more) in classes {
        let ClassReport {
            queued,
            oldest_wait_seconds,
            arrived_total,
            admitted_total,
            refused_total,
            shed_total,
        } = more;
        let class = sum.classes.entry(priority).or_default();
        class.queued += queued;
        class.oldest_wait_seconds = class.oldest_wait_seconds.max(*oldest_wait_seconds);
        class.arrived_total += arrived_total;
        class.admitted_total += admitted_total;
        class.refused_total += refused_total;
        class.shed_total += shed_total;
    }
    for (replica, limit) in concurrency {
        *sum.concurrency.entry(replica.clone()).or_default() += limit;
    }
    for (replica, tokens) in tokens_in_flight {
        *sum.tokens_in_flight.entry(replica.clone()).or_default() += tokens;
    }
    sum
}
