//! The loop of a run: arrivals, work that ends, replicas that become ready, looks of the controller.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use forewarm_core::{Observation, Reading, Reason, Signal, SignalName};
use forewarm_workload::Request;

use crate::{
    DataPlane, Decider, Looks, Moment, Report, Timeline, World,
    account::Account,
    engine::{Batching, Engine, EngineModel, Progress, Slots},
    fleet::{Fleet, Index},
    line::Line,
    time::{Micros, micros, seconds, timestamp},
};

/// The controller looks so long after its last look when nothing happens: HPA's sync period. Moments of the timeline
/// are as far apart.
const TICK: Micros = 15_000_000;
/// Changes of direction closer than this are flapping.
const FLAP: Micros = 600_000_000;

/// Runs the requests, which must be in the order of their arrival, until the last one has ended.
///
/// `record_timeline` keeps the course of the run for charts; it costs memory, not exactness.
pub fn simulate(world: &World, decider: &Decider, requests: &[Request], record_timeline: bool) -> Report {
    let mut run = begin(world, decider, requests, record_timeline);
    while run.next_at().is_some() {
        run.step();
    }
    run.close().0
}

/// A run, event by event.
pub(crate) trait Running {
    /// When something happens next; `None` when the last request has ended.
    fn next_at(&self) -> Option<Micros>;
    /// Lets it happen.
    fn step(&mut self);
    /// Replicas that exist.
    fn replicas(&self) -> u32;
    /// No more replicas than this may exist from now on, apart from those that do.
    fn limit(&mut self, replicas: u32);
    /// What came of it, and the account of its requests.
    fn close(self: Box<Self>) -> (Report, Account);
}

/// A run at its beginning.
pub(crate) fn begin<'a>(
    world: &'a World,
    decider: &Decider,
    requests: &'a [Request],
    record_timeline: bool,
) -> Box<dyn Running + 'a> {
    match &world.engine {
        EngineModel::Slots(model) => {
            Box::new(Run::new(world, decider, requests, record_timeline, || Slots::new(*model)))
        }
        EngineModel::Batching(model) => {
            Box::new(Run::new(world, decider, requests, record_timeline, || Batching::new(model)))
        }
    }
}

/// Runs the requests of the first `length`, and returns what decided with the memory of it, for a run that
/// comes after. Only the core has a memory.
pub fn warm_up(world: &World, decider: &Decider, requests: &[Request], length: Duration) -> Decider {
    let before = requests.partition_point(|request| request.arrival < length);
    let requests = &requests[..before];
    match &world.engine {
        EngineModel::Slots(model) => {
            Run::new(world, decider, requests, false, || Slots::new(*model)).remember(length)
        }
        EngineModel::Batching(model) => {
            Run::new(world, decider, requests, false, || Batching::new(model)).remember(length)
        }
    }
}

/// What happens next. The order of the numbers breaks ties: capacity first, then the controller's look.
const ADVANCE: u64 = 0;
const SETTLED: u64 = 1;
const LOOK: u64 = 2;
const TICKS: u64 = 3;
const MOMENT: u64 = 4;

struct Run<'a, E, F> {
    world: &'a World,
    decider: Decider,
    requests: &'a [Request],
    new_engine: F,
    fleet: Fleet<E>,
    /// A replica that nobody uses, to tell how long a request takes alone.
    idle: E,
    /// Waiting at the gateway.
    queue: Line,
    /// Waiting in the engines, by replica; only in the data plane [`DataPlane::Engine`].
    engine_queues: BTreeMap<Index, VecDeque<u32>>,
    last_turn: Index,
    /// By time, then by kind and number, so that a run repeats to the last event.
    agenda: BinaryHeap<Reverse<(Micros, u64, u32)>>,
    in_flight: u32,
    waiting: u32,
    arrived: u64,
    looked_at: Micros,
    wake_at: Option<Micros>,
    /// When events that came too soon after a look are looked at.
    event_at: Option<Micros>,
    next_arrival: usize,
    now: Micros,
    next_step: usize,
    target: u32,
    last_change: Option<(Micros, bool)>,
    anticipated: Option<[f64; 2]>,
    /// Request-microseconds in flight so far, up to `counted_at`.
    busy: u128,
    completed: u64,
    counted_at: Micros,
    /// When the first token of each request came, by its index; a list is faster than a map here.
    first_token_at: Vec<Micros>,
    account: Account,
    timeline: Option<Timeline>,
    report: Report,
    progress: Progress,
}

impl<'a, E: Engine, F: Fn() -> E> Run<'a, E, F> {
    fn new(
        world: &'a World,
        decider: &Decider,
        requests: &'a [Request],
        record_timeline: bool,
        new_engine: F,
    ) -> Self {
        let mut fleet = Fleet::new(world.cold_start.draws(world.seed), world.provider_capacity);
        for _ in 0..world.initial_replicas {
            fleet.insert_ready(0, new_engine());
        }
        Self {
            world,
            decider: decider.clone(),
            requests,
            idle: new_engine(),
            new_engine,
            fleet,
            queue: Line::new(world.queue_order),
            engine_queues: BTreeMap::new(),
            last_turn: 0,
            agenda: BinaryHeap::from([(0, MOMENT, 0), (TICK, TICKS, 0), (0, LOOK, 0)].map(Reverse)),
            in_flight: 0,
            waiting: 0,
            arrived: 0,
            looked_at: 0,
            wake_at: None,
            event_at: Some(0),
            next_arrival: 0,
            now: 0,
            next_step: 0,
            target: world.initial_replicas,
            last_change: None,
            anticipated: None,
            busy: 0,
            completed: 0,
            counted_at: 0,
            first_token_at: vec![0; requests.len()],
            account: Account::new(),
            timeline: record_timeline.then(Timeline::default),
            report: Report { max_replicas: world.initial_replicas, ..Report::default() },
            progress: Progress::default(),
        }
    }

    /// Goes on for a time, whether or not requests are left, and keeps what the core remembers. Replicas and
    /// requests are gone: the run that comes after begins with its own.
    fn remember(mut self, length: Duration) -> Decider {
        let end = micros(length);
        while self.arrival().into_iter().chain(self.event()).any(|at| at < end) {
            self.happen_next();
        }
        if let Decider::Core { state, epoch, .. } = &mut self.decider {
            *epoch += length;
            state.target = None;
        }
        self.decider
    }

    fn arrival(&self) -> Option<Micros> {
        self.requests.get(self.next_arrival).map(|request| micros(request.arrival))
    }

    fn event(&self) -> Option<Micros> {
        self.agenda.peek().map(|Reverse((at, _, _))| *at)
    }

    fn happen_next(&mut self) {
        let event = self.event();
        if let Some(at) = self.arrival().filter(|&at| event.is_none_or(|event| at < event)) {
            self.now = at;
            let index = self.next_arrival as u32;
            self.next_arrival += 1;
            self.arrive(at, index);
        } else if let Some(Reverse((at, kind, index))) = self.agenda.pop() {
            self.now = at;
            self.happen(at, kind, index);
        }
    }

    /// Counts request-seconds before the number in flight changes.
    fn count(&mut self, now: Micros) {
        self.busy += u128::from(self.in_flight) * u128::from(now - self.counted_at);
        self.counted_at = now;
    }

    fn arrive(&mut self, now: Micros, index: u32) {
        self.count(now);
        self.arrived += 1;
        match self.world.data_plane {
            DataPlane::Gateway => {
                self.wait(now, index);
                self.dispatch(now);
            }
            DataPlane::Engine => self.take_turns(now, index),
        }
        if !self.queue.is_empty() || self.sees_changes() {
            self.look_soon(now);
        }
    }

    /// A request waits at the gateway from now on.
    fn wait(&mut self, now: Micros, index: u32) {
        let alone = self.requests.get(index as usize).map_or(0, |request| self.idle.ttft_alone(request));
        self.queue.push(now, index, self.world.objective.bound(alone) - alone);
    }

    fn sees_changes(&self) -> bool {
        matches!(self.decider.looks(), Looks::OnChanges { .. })
    }

    /// Something happened: looks at once, or when the gap after the last look ends.
    fn look_soon(&mut self, now: Micros) {
        let Some(gap) = self.decider.looks().gap() else { return };
        let at = self.looked_at + gap;
        if at <= now {
            self.look(now);
        } else if self.event_at.is_none() {
            self.event_at = Some(at);
            self.agenda.push(Reverse((at, LOOK, 0)));
        }
    }

    fn happen(&mut self, now: Micros, kind: u64, index: u32) {
        match kind {
            ADVANCE => self.advance(now, index),
            SETTLED => {
                if self.fleet.settle(index, now) {
                    self.fill(now, index);
                }
                if self.decider.looks() != Looks::OnTicks {
                    self.look(now);
                }
            }
            LOOK => {
                if self.wake_at == Some(now) || self.event_at == Some(now) {
                    self.look(now);
                }
            }
            TICKS => {
                if self.looked_at + TICK <= now {
                    self.look(now);
                }
                self.agenda.push(Reverse((self.looked_at + TICK, TICKS, 0)));
            }
            _ => {
                self.record(now);
                self.agenda.push(Reverse((now + TICK, MOMENT, 0)));
            }
        }
    }

    fn advance(&mut self, now: Micros, replica: Index) {
        let Some(engine) = self.fleet.engine(replica) else { return };
        self.progress.clear();
        engine.advance(now, &mut self.progress);
        let finished = !self.progress.finished.is_empty();
        self.take_progress(now, replica);
        // What waits in an engine is worked on before the engine counts as drained.
        if self.world.data_plane == DataPlane::Engine {
            self.fill(now, replica);
        }
        self.fleet.note(replica, now);
        if self.world.data_plane == DataPlane::Gateway {
            self.fill(now, replica);
        }
        if finished && self.sees_changes() {
            self.look_soon(now);
        }
    }

    /// Gives a replica with room what waits.
    fn fill(&mut self, now: Micros, replica: Index) {
        match self.world.data_plane {
            DataPlane::Gateway => self.dispatch(now),
            DataPlane::Engine => {
                while self.fleet.engine(replica).is_some_and(|engine| engine.has_room())
                    && let Some(index) = self.engine_queues.get_mut(&replica).and_then(VecDeque::pop_front)
                {
                    self.count(now);
                    self.waiting -= 1;
                    self.admit(now, replica, index);
                }
                while self.fleet.in_turn(self.last_turn).is_some()
                    && let Some(index) = self.queue.pop(now)
                {
                    self.count(now);
                    self.take_turns(now, index);
                }
            }
        }
    }

    /// Late binding: the oldest waiting request goes to the replica with room that has the least to do.
    fn dispatch(&mut self, now: Micros) {
        while !self.queue.is_empty() {
            let Some(replica) = self.fleet.with_room() else { return };
            let Some(index) = self.queue.pop(now) else { return };
            self.admit(now, replica, index);
        }
    }

    fn take_turns(&mut self, now: Micros, index: u32) {
        let Some(replica) = self.fleet.in_turn(self.last_turn) else {
            self.wait(now, index);
            return;
        };
        self.last_turn = replica;
        let queue = self.engine_queues.entry(replica).or_default();
        if queue.is_empty() && self.fleet.engine(replica).is_some_and(|engine| engine.has_room()) {
            self.admit(now, replica, index);
        } else {
            queue.push_back(index);
            self.waiting += 1;
        }
    }

    fn admit(&mut self, now: Micros, replica: Index, index: u32) {
        let (Some(request), Some(engine)) = (self.requests.get(index as usize), self.fleet.engine(replica))
        else {
            return;
        };
        self.progress.clear();
        engine.admit(now, index, request, &mut self.progress);
        self.count(now);
        self.in_flight += 1;
        self.take_progress(now, replica);
        self.fleet.note(replica, now);
    }

    fn take_progress(&mut self, now: Micros, replica: Index) {
        let mut progress = std::mem::take(&mut self.progress);
        for &(index, at) in &progress.first_tokens {
            let (Some(request), Some(engine)) =
                (self.requests.get(index as usize), self.fleet.engine(replica))
            else {
                continue;
            };
            let bound = self.world.objective.bound(engine.ttft_alone(request));
            let arrival = micros(request.arrival);
            let missed = self.account.first_token(arrival, at, bound);
            if let Some(timeline) = &mut self.timeline {
                timeline.count((arrival / TICK) as usize, missed);
            }
            if let Some(first_token) = self.first_token_at.get_mut(index as usize) {
                *first_token = at;
            }
        }
        if !progress.finished.is_empty() {
            self.count(now);
        }
        for &(index, at) in &progress.finished {
            self.in_flight -= 1;
            self.completed += 1;
            let Some(request) = self.requests.get(index as usize) else { continue };
            let first_token = self.first_token_at.get(index as usize).copied().unwrap_or(at);
            self.account.finished(micros(request.arrival), first_token, at, request.output_tokens);
        }
        if let Some(at) = progress.wake_at {
            self.agenda.push(Reverse((at, ADVANCE, replica)));
        }
        progress.clear();
        self.progress = progress;
    }

    /// The controller looks, decides, and what it decides is done.
    fn look(&mut self, now: Micros) {
        self.count(now);
        self.event_at = None;
        let before = self.target;
        let starts = match &self.decider {
            Decider::Timetable(steps) => {
                let upto = steps.iter().skip(self.next_step).take_while(|step| step.at <= now).count();
                self.next_step += upto;
                if let Some(step) = self.next_step.checked_sub(1).and_then(|last| steps.get(last)) {
                    self.target = step.replicas;
                }
                self.wake_at = steps.get(self.next_step).map(|step| step.at);
                if let Some(at) = self.wake_at {
                    self.agenda.push(Reverse((at, LOOK, 0)));
                }
                self.fleet.shrink_to(self.target, now)
            }
            Decider::Core { .. } => self.plan(now),
        };
        for _ in 0..starts {
            let engine = (self.new_engine)();
            if let Some((index, at)) = self.fleet.start(now, engine) {
                self.agenda.push(Reverse((at, SETTLED, index)));
            }
        }
        self.looked_at = now;
        self.report.max_replicas = self.report.max_replicas.max(self.fleet.len());
        if self.target != before {
            self.report.changes += 1;
            let up = self.target > before;
            if self.last_change.is_some_and(|(at, was_up)| was_up != up && now - at < FLAP) {
                self.report.flaps += 1;
            }
            self.last_change = Some((now, up));
        }
    }

    fn plan(&mut self, now: Micros) -> u32 {
        let observation = self.observe(now);
        let epoch = self.decider.epoch();
        let Some(decision) = self.decider.decide(&observation) else { return 0 };
        if let Some(timeline) = &mut self.timeline
            && decision.from != decision.to
        {
            timeline.decisions.push((now as f64 / 1e6, decision.summary()));
        }
        self.anticipated = decision.steps.iter().find_map(|step| {
            let Reason::Anticipated { recent, load, .. } = &step.reason else { return None };
            Some([recent.get(), load.get()])
        });
        self.target = decision.to.0;
        let wake_at = decision.wake_at.and_then(|at| u64::try_from((at - epoch).as_millis()).ok());
        // Rounded up to the controller's millisecond, and never in the past.
        self.wake_at = wake_at.map(|at| (at * 1_000).max(now + 1_000));
        if let Some(at) = self.wake_at.filter(|&at| at < now + TICK) {
            self.agenda.push(Reverse((at, LOOK, 0)));
        }
        for revived in self.fleet.apply(&decision.placement, now) {
            self.fill(now, revived);
        }
        decision.placement.start
    }

    fn observe(&mut self, now: Micros) -> Observation {
        let utilisation = self.fleet.utilisation(now, self.looked_at);
        let mut signals = BTreeMap::new();
        let mut add = |name: &str, signal: Signal| signals.insert(SignalName::from(name), signal);
        let per_replica = |values: Vec<_>, total: f64| Signal {
            reading: Reading::Value { total, per_replica: values.into_iter().collect() },
            age: std::time::Duration::ZERO,
        };
        let mean = utilisation.iter().map(|(_, share)| share).sum::<f64>() / utilisation.len().max(1) as f64;
        add("gpu_utilization", per_replica(utilisation, mean));
        let running = self.fleet.loads().map(|(id, load)| (id.clone(), f64::from(load))).collect();
        add("queued", Signal::value(self.queue.len() as f64));
        // Behind a Service nobody but the engines counts: what they work on, and what waits in them.
        let working = if self.world.data_plane == DataPlane::Engine { "running" } else { "in_flight" };
        add(working, per_replica(running, f64::from(self.in_flight)));
        add("arrivals_total", Signal::value(self.arrived as f64));
        if self.world.data_plane == DataPlane::Gateway {
            add("busy_seconds_total", Signal::value(self.busy as f64 / 1e6));
            add("completed_total", Signal::value(self.completed as f64));
            add("attained_total", Signal::value(self.account.attained as f64));
            add("missed_total", Signal::value(self.account.missed as f64));
        } else {
            let queue = |index| self.engine_queues.get(&index).map_or(0, VecDeque::len) as f64;
            let waiting = self.fleet.serving().map(|(index, id)| (id.clone(), queue(index))).collect();
            add("waiting", per_replica(waiting, f64::from(self.waiting)));
        }
        Observation {
            at: timestamp(now) + self.decider.epoch(),
            replicas: self.fleet.observe(now),
            failed_starts: self.fleet.take_failed_starts(),
            signals,
            ..Observation::default()
        }
    }

    fn record(&mut self, now: Micros) {
        let (ready, coming) = self.fleet.counts();
        if let Some(timeline) = &mut self.timeline {
            timeline.moments.push(Moment {
                at_seconds: now as f64 / seconds(1.0) as f64,
                target: self.target,
                ready,
                coming,
                in_flight: self.in_flight,
                queued: self.queue.len() as u32 + self.waiting,
                anticipated: self.anticipated,
            });
        }
    }
}

impl<E: Engine, F: Fn() -> E> Running for Run<'_, E, F> {
    fn next_at(&self) -> Option<Micros> {
        let arrival = self.arrival();
        let over = arrival.is_none() && self.in_flight == 0 && self.waiting == 0 && self.queue.is_empty();
        if over { None } else { arrival.into_iter().chain(self.event()).min() }
    }

    fn step(&mut self) {
        self.happen_next();
    }

    fn replicas(&self) -> u32 {
        self.fleet.len()
    }

    fn limit(&mut self, replicas: u32) {
        self.fleet.limit(replicas);
    }

    fn close(mut self: Box<Self>) -> (Report, Account) {
        let now = self.now;
        let hours = |span: Micros| span as f64 / 3.6e9;
        let (billed, starting) = self.fleet.bill(now);
        self.report.replica_hours = hours(billed);
        self.report.starting_hours = hours(starting);
        self.report.starts = u64::from(self.fleet.started() - self.world.initial_replicas);
        self.report.failed_starts = self.fleet.failed;
        self.report.length_seconds = now as f64 / 1e6;
        self.report.lost = self.requests.len() as u64 - self.account.sent;
        self.report.timeline = self.timeline.take().unwrap_or_default();
        self.account.close(&mut self.report);
        (self.report, self.account)
    }
}
