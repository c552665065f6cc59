//! The loop of a run: arrivals, completions, replicas that become ready, ticks of the controller.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use forewarm_core::{Observation, ReplicaId, ScalerSpec, ScalerState, Signal, SignalName, Timestamp, plan};

use crate::{Objective, Report, fleet::ModelledFleet};

/// One request of the workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// When it arrives, from the start of the run.
    pub arrival: Duration,
    /// Prompt tokens.
    pub input_tokens: u32,
    /// Tokens to generate.
    pub output_tokens: u32,
}

/// The world of a run.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// What decides.
    pub spec: ScalerSpec,
    /// Requests a replica works on at a time; each takes as long as if it were alone.
    pub slots: u32,
    /// Time from asking for a replica until it is ready.
    pub cold_start: Duration,
    /// What a request must attain.
    pub objective: Objective,
}

/// Period of the controller when nothing happens.
const TICK: Duration = Duration::from_secs(15);
/// Shortest time between two evaluations on events: a burst is seen at once, a busy second once.
const MIN_GAP: Duration = Duration::from_secs(1);
/// Prompt tokens a replica of the simple engine reads in a second.
const PREFILL_TOKENS_PER_SECOND: f64 = 5_000.0;
/// Time a replica of the simple engine takes for one output token.
const SECONDS_PER_OUTPUT_TOKEN: f64 = 0.03;

/// Runs the requests, which must be in the order of their arrival, to the end of the last one.
pub fn simulate(world: &Simulation, requests: &[Request]) -> Report {
    Run::new(world).play(requests)
}

/// What happens next. The order of the variants breaks ties: capacity first, then the controller's look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Completed(ReplicaId),
    ReplicaReady,
    Evaluate,
}

struct Run<'a> {
    world: &'a Simulation,
    state: ScalerState,
    fleet: ModelledFleet,
    queue: VecDeque<Request>,
    /// By time, then by sequence, so that a run repeats to the last event.
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    sequence: u64,
    in_flight: u32,
    arrived: u64,
    evaluated_at: Timestamp,
    ttft: Vec<Duration>,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(world: &'a Simulation) -> Self {
        let start = Timestamp::default();
        let fleet = ModelledFleet::new(world.slots, world.cold_start, world.spec.replicas.min.0, start);
        Self {
            world,
            state: ScalerState::default(),
            fleet,
            queue: VecDeque::new(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            in_flight: 0,
            arrived: 0,
            evaluated_at: start,
            ttft: Vec::new(),
            report: Report::default(),
        }
    }

    fn play(mut self, requests: &[Request]) -> Report {
        let mut arrivals = requests.iter().copied().peekable();
        self.schedule(Timestamp::default(), Event::Evaluate);
        let mut now = Timestamp::default();
        while arrivals.peek().is_some() || self.in_flight > 0 || !self.queue.is_empty() {
            let arrival = arrivals.peek().map(|request| Timestamp::default() + request.arrival);
            let event = self.agenda.peek().map(|Reverse((at, _, _))| *at);
            match (arrival, event) {
                (Some(at), event) if event.is_none_or(|event| at < event) => {
                    now = at;
                    if let Some(request) = arrivals.next() {
                        self.arrive(now, request);
                    }
                }
                (_, Some(_)) => {
                    let Some(Reverse((at, _, event))) = self.agenda.pop() else { break };
                    now = at;
                    self.happen(now, event);
                }
                (_, None) => break,
            }
        }
        self.close(now)
    }

    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.agenda.push(Reverse((at, self.sequence, event)));
    }

    fn arrive(&mut self, now: Timestamp, request: Request) {
        self.arrived += 1;
        self.queue.push_back(request);
        self.dispatch(now);
        if !self.queue.is_empty() && now.since(self.evaluated_at) >= MIN_GAP {
            self.evaluate(now);
        }
    }

    fn happen(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Completed(replica) => {
                self.in_flight -= 1;
                self.fleet.free_slot(&replica);
                self.dispatch(now);
            }
            Event::ReplicaReady => {
                self.dispatch(now);
                self.evaluate(now);
            }
            Event::Evaluate => {
                self.schedule(now + TICK, Event::Evaluate);
                self.evaluate(now);
            }
        }
    }

    /// Late binding: the oldest waiting request takes the next free slot.
    fn dispatch(&mut self, now: Timestamp) {
        while !self.queue.is_empty() {
            let Some(replica) = self.fleet.take_slot(now) else { return };
            let Some(request) = self.queue.pop_front() else { return };
            let prefill =
                Duration::from_secs_f64(f64::from(request.input_tokens) / PREFILL_TOKENS_PER_SECOND);
            let decode = Duration::from_secs_f64(f64::from(request.output_tokens) * SECONDS_PER_OUTPUT_TOKEN);
            let waited = now.since(Timestamp::default() + request.arrival);
            let ttft = waited + prefill;
            self.report.attained += u64::from(ttft <= self.world.objective.ttft.max(prefill * 2));
            self.ttft.push(ttft);
            self.in_flight += 1;
            self.schedule(now + prefill + decode, Event::Completed(replica));
        }
    }

    fn evaluate(&mut self, now: Timestamp) {
        self.evaluated_at = now;
        let signals = [
            ("queued", self.queue.len() as f64),
            ("in_flight", f64::from(self.in_flight)),
            ("arrivals_total", self.arrived as f64),
        ];
        let observation = Observation {
            at: now,
            replicas: self.fleet.observe(now),
            signals: signals
                .into_iter()
                .map(|(name, value)| (SignalName::from(name), Signal::value(value)))
                .collect(),
            ..Observation::default()
        };
        let decision = plan(&self.world.spec, &mut self.state, &observation);
        self.report.changes += u64::from(decision.from != decision.to);
        if let Some(ready_at) = self.fleet.apply(&decision.placement, now) {
            self.schedule(ready_at, Event::ReplicaReady);
        }
        let replicas = u32::try_from(self.fleet.len()).unwrap_or(u32::MAX);
        self.report.max_replicas = self.report.max_replicas.max(replicas);
    }

    fn close(mut self, now: Timestamp) -> Report {
        self.ttft.sort_unstable();
        let quantile = |q: f64| {
            let rank = (q * self.ttft.len() as f64).ceil() as usize;
            self.ttft.get(rank.saturating_sub(1)).map_or(0.0, Duration::as_secs_f64)
        };
        Report {
            sent: self.arrived,
            replica_hours: self.fleet.billed(now).as_secs_f64() / 3_600.0,
            starts: self.fleet.started() - u64::from(self.world.spec.replicas.min.0),
            ttft_seconds: [quantile(0.5), quantile(0.99)],
            ..self.report
        }
    }
}
