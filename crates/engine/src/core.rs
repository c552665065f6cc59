//! The running engine: the pure scheduler behind one lock, the loop that moves it along with the wall clock, and the
//! tickets by which connections follow their requests.
//!
//! A token costs a counter and, once per wake-up and stream, one task wake: there are no channels and no per-request
//! timers. A slow client simply finds more tokens due at its next write.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Context;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::ModelClock;
use crate::config::EngineConfig;
use crate::lag::LagMeter;
use crate::metrics::{EngineMetrics, FinishReason, Snapshot};
use crate::profile::EngineProfile;
use crate::scheduler::{Event, NewRequest, RequestId, Scheduler};

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The admission limit is reached.
    Busy,
    /// The engine is finishing what it has, and takes nothing new.
    Draining,
    /// The engine was killed; the server merely hasn't gone yet.
    Dead,
}

/// Whether the engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    Draining,
    Dead,
}

/// One serving engine.
pub(crate) struct EngineCore {
    clock: ModelClock,
    max_in_flight: Option<usize>,
    model: String,
    profile: EngineProfile,
    /// Unix seconds.
    started: f64,
    state: Mutex<State>,
    /// Tells the loop that the next event may have come nearer, or that there will be none.
    changed: Notify,
    /// Tells a drain that nothing is in flight any more.
    idle: Notify,
}

struct State {
    life: Life,
    scheduler: Scheduler,
    /// By the request's place in the scheduler.
    deliveries: Vec<Option<Delivery>>,
    /// Places whose streams have something new.
    fresh: Vec<usize>,
    events: Vec<Event>,
    metrics: EngineMetrics,
    lag: LagMeter,
    /// What the loop sleeps until.
    planned: Option<Duration>,
}

struct Delivery {
    progress: Arc<Progress>,
    finish_reason: FinishReason,
    tokens: u32,
    finished: bool,
    is_fresh: bool,
}

/// How far a request is: written by the engine, read by the request's connection.
#[derive(Default)]
struct Progress {
    tokens: AtomicU32,
    finished: AtomicBool,
    waker: AtomicWaker,
}

impl EngineCore {
    /// Starts modelled time.
    pub(crate) fn new(config: &EngineConfig) -> Arc<Self> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Arc::new(Self {
            clock: ModelClock::start(config.speed),
            max_in_flight: config.max_num_queued_reqs.map(|limit| limit as usize),
            model: config.model.clone(),
            profile: config.profile.clone(),
            started,
            state: Mutex::new(State {
                life: Life::Serving,
                scheduler: Scheduler::new(&config.profile),
                deliveries: Vec::new(),
                fresh: Vec::new(),
                events: Vec::new(),
                metrics: EngineMetrics::new(config.profile.max_model_len),
                lag: LagMeter::new(Instant::now()),
                planned: None,
            }),
            changed: Notify::new(),
            idle: Notify::new(),
        })
    }

    /// Moves the model along with the wall clock until the engine is killed. Dropping the future stops it.
    pub(crate) async fn drive(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                if state.life == Life::Dead {
                    return;
                }
                self.catch_up(&mut state);
                state.planned = state.scheduler.next_event();
                state.planned
            };
            let Some(at) = next else {
                self.changed.notified().await;
                continue;
            };
            let due = self.clock.wall(at);
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    let now = Instant::now();
                    self.lock().lag.record(now, now.saturating_duration_since(due));
                }
                () = self.changed.notified() => {}
            }
        }
    }

    /// Adds a request, or says why not. The request leaves the engine when the ticket is dropped.
    pub(crate) fn submit(
        self: &Arc<Self>,
        size: NewRequest,
        finish_reason: FinishReason,
        streamed: bool,
    ) -> Result<Ticket, Refusal> {
        let mut state = self.lock();
        match state.life {
            Life::Serving => {}
            Life::Draining => return Err(Refusal::Draining),
            Life::Dead => return Err(Refusal::Dead),
        }
        let now = self.catch_up(&mut state);
        let occupancy = state.scheduler.occupancy();
        if self.max_in_flight.is_some_and(|limit| occupancy.running + occupancy.waiting >= limit) {
            state.metrics.record_rejection();
            return Err(Refusal::Busy);
        }
        let id = state.scheduler.add(now, size);
        let progress = Arc::new(Progress::default());
        let delivery = Delivery {
            progress: Arc::clone(&progress),
            finish_reason,
            tokens: 0,
            finished: false,
            is_fresh: false,
        };
        if state.deliveries.len() <= id.index() {
            state.deliveries.resize_with(id.index() + 1, || None);
        }
        state.deliveries[id.index()] = Some(delivery);
        self.replan(&state);
        Ok(Ticket { core: Arc::clone(self), id, progress, streamed })
    }

    /// Stops taking requests; those in flight go on.
    pub(crate) fn start_draining(&self) {
        let mut state = self.lock();
        if state.life == Life::Serving {
            state.life = Life::Draining;
        }
    }

    /// Stops the engine where it is: requests in flight stay as they are, for ever.
    pub(crate) fn kill(&self) {
        self.lock().life = Life::Dead;
        self.changed.notify_one();
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight(&self.lock()) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Notes an answered HTTP request; `seconds` is wall time.
    pub(crate) fn record_http(&self, handler: &'static str, method: &'static str, status: u16, seconds: f64) {
        self.lock().metrics.record_http(handler, method, status, seconds);
    }

    /// Returns the `/metrics` page.
    pub(crate) fn metrics_page(&self) -> String {
        let snapshot = {
            let mut state = self.lock();
            self.catch_up(&mut state);
            let now = Instant::now();
            Snapshot {
                model: &self.model,
                profile: &self.profile,
                metrics: state.metrics.clone(),
                occupancy: state.scheduler.occupancy(),
                started: self.started,
                lag_worst: state.lag.worst(now).as_secs_f64(),
                lag_p99: state.lag.p99(now).as_secs_f64(),
            }
        };
        snapshot.render()
    }

    /// A poisoned lock is taken all the same: the state is only ever changed in whole steps.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn in_flight(&self, state: &State) -> usize {
        let occupancy = state.scheduler.occupancy();
        occupancy.running + occupancy.waiting
    }

    /// Lets happen what is due and hands it to the streams. Returns the modelled time.
    fn catch_up(&self, state: &mut State) -> Duration {
        let now = self.clock.now();
        if state.life == Life::Dead {
            return now;
        }
        state.scheduler.advance(now, &mut state.events);
        self.deliver(state);
        now
    }

    fn deliver(&self, state: &mut State) {
        let State { events, deliveries, fresh, metrics, .. } = state;
        let mut any_finished = false;
        for event in events.drain(..) {
            let (id, tokens, finished) = match event {
                Event::FirstToken { id, .. } => (id, 1, false),
                Event::Tokens { id, tokens, .. } => (id, tokens, false),
                Event::Finished { id, .. } => (id, 0, true),
                Event::Preempted { .. } | Event::Step { .. } => {
                    metrics.record(&event, || FinishReason::Stop);
                    continue;
                }
            };
            let Some(Some(delivery)) = deliveries.get_mut(id.index()) else { continue };
            metrics.record(&event, || delivery.finish_reason);
            delivery.tokens += tokens;
            delivery.finished = finished;
            any_finished |= finished;
            if !delivery.is_fresh {
                delivery.is_fresh = true;
                fresh.push(id.index());
            }
            if finished {
                // Its place may be taken by another request within this batch of events.
                if let Some(delivery) = deliveries[id.index()].take() {
                    delivery.publish();
                }
            }
        }
        for index in fresh.drain(..) {
            if let Some(Some(delivery)) = deliveries.get_mut(index) {
                delivery.publish();
                delivery.is_fresh = false;
            }
        }
        if any_finished && self.in_flight(state) == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Wakes the loop if something will happen before it would wake by itself.
    fn replan(&self, state: &State) {
        let next = state.scheduler.next_event();
        if next.is_some_and(|next| state.planned.is_none_or(|planned| next < planned)) {
            self.changed.notify_one();
        }
    }

    fn leave(&self, ticket: &Ticket) {
        let mut state = self.lock();
        let now = self.catch_up(&mut state);
        if !state.scheduler.cancel(now, ticket.id) {
            return;
        }
        state.deliveries[ticket.id.index()] = None;
        // vLLM counts an abort for streams only.
        if ticket.streamed {
            state.metrics.record_abort();
        }
        self.replan(&state);
        if self.in_flight(&state) == 0 {
            self.idle.notify_waiters();
        }
    }
}

impl Delivery {
    fn publish(&self) {
        self.progress.tokens.store(self.tokens, Ordering::Relaxed);
        // Pairs with the acquire in `Ticket::poll`: who sees the end sees all tokens.
        self.progress.finished.store(self.finished, Ordering::Release);
        self.progress.waker.wake();
    }
}

/// A request's place in the engine. Dropping it takes the request out at once.
pub(crate) struct Ticket {
    core: Arc<EngineCore>,
    id: RequestId,
    progress: Arc<Progress>,
    streamed: bool,
}

/// What a ticket has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Tokens generated.
    pub(crate) tokens: u32,
    /// Whether the request is done.
    pub(crate) finished: bool,
}

impl Ticket {
    /// Returns the engine that the request is in.
    pub(crate) fn core(&self) -> &EngineCore {
        &self.core
    }

    /// Returns how far the request is, and has the task woken when it gets further.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Reached {
        self.progress.waker.register(cx.waker());
        let finished = self.progress.finished.load(Ordering::Acquire);
        Reached { tokens: self.progress.tokens.load(Ordering::Relaxed), finished }
    }

    /// Waits until the request is done.
    pub(crate) async fn finished(&self) {
        std::future::poll_fn(|cx| {
            if self.poll(cx).finished { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.core.leave(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: NewRequest = NewRequest { prompt_tokens: 5_000, output_tokens: 10 };

    fn submit(core: &Arc<EngineCore>) -> Result<Ticket, Refusal> {
        core.submit(SIZE, FinishReason::Length, true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_engine_refuses_and_its_requests_never_end() {
        let core = EngineCore::new(&EngineConfig::default());
        let ticket = submit(&core).unwrap();
        core.kill();
        assert_eq!(submit(&core).err(), Some(Refusal::Dead));
        core.drive().await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(
            core.metrics_page()
                .contains("vllm:num_requests_running{engine=\"0\",model_name=\"forewarm\"} 1.0")
        );
        let reached = std::future::poll_fn(|cx| std::task::Poll::Ready(ticket.poll(cx))).await;
        assert_eq!(reached, Reached { tokens: 0, finished: false });
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_engine_refuses_and_finishes_what_it_has() {
        let core = EngineCore::new(&EngineConfig { speed: 2.0, ..EngineConfig::default() });
        let ticket = submit(&core).unwrap();
        core.start_draining();
        assert_eq!(submit(&core).err(), Some(Refusal::Draining));
        let since = Instant::now();
        tokio::select! {
            () = core.drive() => {}
            () = core.wait_until_idle() => {}
        }
        ticket.finished().await;
        // 1 s of prefill and 0.3 s of decode at twice the speed, and the timer's resolution.
        let wall = since.elapsed();
        assert!((650..=652).contains(&wall.as_millis()), "{wall:?}");
    }
}
