//! Properties of the pure scheduler, whatever the requests and whenever it is asked.

use std::time::Duration;

use forewarm_engine::profile::{
    BatchingModel, EngineProfile, KV_BLOCK_TOKENS, SlotModel, StepTime, TimingModel,
};
use forewarm_engine::scheduler::{Event, NewRequest, RequestId, Scheduler, Timeline};
use proptest::prelude::*;

const STEP: StepTime = StepTime {
    decode_base_ms: 10.0,
    decode_per_request_ms: 0.5,
    decode_per_context_token_ms: 0.001,
    prefill_base_ms: 5.0,
    prefill_per_token_ms: 0.1,
};

fn batching(max_num_seqs: u32, max_num_batched_tokens: u32, kv_blocks: u32) -> EngineProfile {
    let model = BatchingModel { max_num_seqs, max_num_batched_tokens, kv_blocks, step_time: STEP };
    let max_model_len = kv_blocks * KV_BLOCK_TOKENS;
    EngineProfile { name: "test".into(), max_model_len, timing: TimingModel::Batching(model) }
}

/// A request and how many milliseconds after the one before it comes.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    gap_ms: u64,
    size: NewRequest,
}

fn arrivals(max_prompt: u32, max_output: u32) -> impl Strategy<Value = Vec<Arrival>> {
    let one =
        (0_u64..200, 1..=max_prompt, 1..=max_output).prop_map(|(gap_ms, prompt_tokens, output_tokens)| {
            Arrival { gap_ms, size: NewRequest { prompt_tokens, output_tokens } }
        });
    prop::collection::vec(one, 1..40)
}

/// What a whole run gave.
#[derive(Debug, Default, PartialEq)]
struct Run {
    ids: Vec<RequestId>,
    timelines: Vec<(RequestId, Timeline)>,
    events: Vec<Event>,
    preemptions: usize,
    max_running: usize,
    max_kv_usage: f64,
    idle_while_waiting: bool,
}

impl Run {
    fn watch(&mut self, scheduler: &Scheduler, fresh: Vec<Event>) {
        let occupancy = scheduler.occupancy();
        self.max_running = self.max_running.max(occupancy.running);
        self.max_kv_usage = self.max_kv_usage.max(occupancy.kv_usage);
        self.idle_while_waiting |= occupancy.waiting > 0 && scheduler.next_event().is_none();
        for event in &fresh {
            match event {
                Event::Finished { id, timeline } => self.timelines.push((*id, *timeline)),
                Event::Preempted { .. } => self.preemptions += 1,
                Event::FirstToken { .. } | Event::Tokens { .. } | Event::Step { .. } => {}
            }
        }
        self.events.extend(fresh);
    }
}

/// Runs all arrivals to their end, event by event.
fn run(profile: &EngineProfile, arrivals: &[Arrival]) -> Run {
    let mut scheduler = Scheduler::new(profile);
    let mut run = Run::default();
    let mut now = Duration::ZERO;
    for arrival in arrivals {
        now += Duration::from_millis(arrival.gap_ms);
        while let Some(next) = scheduler.next_event().filter(|next| *next <= now) {
            let mut fresh = Vec::new();
            scheduler.advance(next, &mut fresh);
            run.watch(&scheduler, fresh);
        }
        let mut fresh = Vec::new();
        scheduler.advance(now, &mut fresh);
        run.ids.push(scheduler.add(now, arrival.size));
        run.watch(&scheduler, fresh);
    }
    let mut events = 0;
    while let Some(next) = scheduler.next_event() {
        let mut fresh = Vec::new();
        scheduler.advance(next, &mut fresh);
        run.watch(&scheduler, fresh);
        events += 1;
        assert!(events < 1_000_000, "the scheduler doesn't come to an end");
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_batch_keeps_its_limits_and_every_request_ends(
        arrivals in arrivals(120, 60),
        max_num_seqs in 1_u32..12,
        max_num_batched_tokens in 1_u32..200,
        kv_blocks in 12_u32..60,
    ) {
        let run = run(&batching(max_num_seqs, max_num_batched_tokens, kv_blocks), &arrivals);
        prop_assert!(run.max_running <= max_num_seqs as usize);
        prop_assert!(run.max_kv_usage <= 1.0);
        prop_assert!(!run.idle_while_waiting, "requests waited while the engine did nothing");
        prop_assert_eq!(run.timelines.len(), arrivals.len());
        let steps_in_budget = run.events.iter().all(|event| match event {
            Event::Step { tokens } => *tokens <= max_num_batched_tokens,
            Event::FirstToken { .. } | Event::Tokens { .. } | Event::Finished { .. } | Event::Preempted { .. } => true,
        });
        prop_assert!(steps_in_budget);
        let tokens: u32 = run.events.iter().map(|event| match event {
            Event::FirstToken { .. } => 1,
            Event::Tokens { tokens, .. } => *tokens,
            Event::Finished { .. } | Event::Preempted { .. } | Event::Step { .. } => 0,
        }).sum();
        prop_assert_eq!(tokens, arrivals.iter().map(|arrival| arrival.size.output_tokens).sum::<u32>());
        for (_, timeline) in &run.timelines {
            prop_assert!(timeline.arrived <= timeline.scheduled);
            prop_assert!(timeline.scheduled < timeline.first_token);
            prop_assert!(timeline.first_token <= timeline.finished);
        }
    }

    #[test]
    fn requests_start_in_the_order_they_came(arrivals in arrivals(120, 60), slots in 1_u32..6) {
        for profile in [batching(slots, 64, 40), EngineProfile::simple(slots)] {
            let mut timelines = run(&profile, &arrivals).timelines;
            timelines.sort_by_key(|(_, timeline)| (timeline.scheduled, timeline.arrived));
            let arrived: Vec<Duration> = timelines.iter().map(|(_, timeline)| timeline.arrived).collect();
            prop_assert!(arrived.is_sorted(), "{profile}: {arrived:?}");
        }
    }

    #[test]
    fn slots_keep_to_the_formula(arrivals in arrivals(20_000, 300), slots in 1_u32..6) {
        let run = run(&EngineProfile::simple(slots), &arrivals);
        prop_assert_eq!(run.timelines.len(), arrivals.len());
        prop_assert!(run.max_running <= slots as usize);
        for (_, timeline) in &run.timelines {
            let prefill = Duration::from_secs_f64(f64::from(timeline.prompt_tokens) / 5_000.0);
            prop_assert_eq!(timeline.first_token - timeline.scheduled, prefill);
            let decode = Duration::from_millis(30) * timeline.output_tokens;
            prop_assert_eq!(timeline.finished - timeline.first_token, decode);
        }
    }

    /// A driver that wakes rarely sees the same history as one that wakes for every event.
    #[test]
    fn asking_late_changes_nothing(arrivals in arrivals(120, 60), slots in 1_u32..6) {
        for profile in [batching(slots, 64, 40), EngineProfile::simple(slots)] {
            let punctual = run(&profile, &arrivals);
            let mut scheduler = Scheduler::new(&profile);
            let mut events = Vec::new();
            let mut now = Duration::ZERO;
            for arrival in &arrivals {
                now += Duration::from_millis(arrival.gap_ms);
                scheduler.advance(now, &mut events);
                scheduler.add(now, arrival.size);
            }
            scheduler.advance(now + Duration::from_secs(100_000), &mut events);
            let mut late: Vec<Timeline> = events.iter().filter_map(|event| match event {
                Event::Finished { timeline, .. } => Some(*timeline),
                Event::FirstToken { .. } | Event::Tokens { .. } | Event::Preempted { .. } | Event::Step { .. } => None,
            }).collect();
            let mut expected: Vec<Timeline> = punctual.timelines.iter().map(|(_, timeline)| *timeline).collect();
            let key = |timeline: &Timeline| (timeline.finished, timeline.arrived, timeline.output_tokens);
            late.sort_by_key(key);
            expected.sort_by_key(key);
            prop_assert_eq!(late, expected, "{}", profile);
        }
    }

    #[test]
    fn cancelling_frees_everything(
        arrivals in arrivals(120, 60),
        keep in prop::collection::vec(any::<bool>(), 40),
        slots in 1_u32..6,
    ) {
        for profile in [batching(slots, 64, 40), EngineProfile::simple(slots)] {
            let mut scheduler = Scheduler::new(&profile);
            let mut events = Vec::new();
            let mut now = Duration::ZERO;
            let mut kept = 0;
            for (arrival, keep) in arrivals.iter().zip(&keep) {
                now += Duration::from_millis(arrival.gap_ms);
                scheduler.advance(now, &mut events);
                let id = scheduler.add(now, arrival.size);
                if *keep {
                    kept += 1;
                } else {
                    now += Duration::from_millis(3);
                    scheduler.advance(now, &mut events);
                    let finished = events.iter().any(|e| matches!(e, Event::Finished { id: done, .. } if *done == id));
                    prop_assert_eq!(scheduler.cancel(now, id), !finished);
                    prop_assert!(!scheduler.cancel(now, id), "a cancelled request can't be cancelled again");
                    kept += usize::from(finished);
                }
            }
            scheduler.advance(now + Duration::from_secs(100_000), &mut events);
            let finished = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
            prop_assert_eq!(finished, kept, "{}", profile);
            let occupancy = scheduler.occupancy();
            prop_assert_eq!((occupancy.running, occupancy.waiting), (0, 0));
            prop_assert!(occupancy.kv_usage == 0.0, "{} of KV memory is still in use", occupancy.kv_usage);
        }
    }
}

#[test]
fn one_request_alone_takes_exactly_its_steps() {
    let profile = batching(4, 100, 40);
    let size = NewRequest { prompt_tokens: 250, output_tokens: 3 };
    let run = run(&profile, &[Arrival { gap_ms: 0, size }]);
    let (_, timeline) = run.timelines[0];
    // Three chunks of 100, 100 and 50 tokens, then two decode steps with contexts of 251 and 252 tokens.
    let prefill_ms = 3.0 * 5.0 + 250.0 * 0.1;
    let decode_ms = 2.0 * (10.0 + 0.5) + (251.0 + 252.0) * 0.001;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    assert!((ms(timeline.first_token) - prefill_ms).abs() < 1e-4, "{:?}", timeline.first_token);
    assert!((ms(timeline.finished) - prefill_ms - decode_ms).abs() < 1e-4, "{:?}", timeline.finished);
}

#[test]
fn scarce_memory_preempts_the_last_and_recomputes_it() {
    let profile = batching(4, 1000, 10);
    let size = NewRequest { prompt_tokens: 64, output_tokens: 60 };
    let run = run(&profile, &[Arrival { gap_ms: 0, size }, Arrival { gap_ms: 1, size }]);
    assert!(run.preemptions > 0);
    assert_eq!(run.timelines.len(), 2);
    let (first, second) = (&run.timelines[0].1, &run.timelines[1].1);
    assert_eq!(first.preemptions, 0, "the request that came first was evicted");
    assert!(second.preemptions > 0);
    assert!(first.finished < second.finished);
}

#[test]
fn a_slow_slot_engine_paces_tokens_evenly() {
    let model = SlotModel { slots: 1, prefill_tokens_per_second: 1000.0, seconds_per_output_token: 0.5 };
    let profile =
        EngineProfile { name: "slow".into(), max_model_len: 1000, timing: TimingModel::Slots(model) };
    let mut scheduler = Scheduler::new(&profile);
    scheduler.add(Duration::ZERO, NewRequest { prompt_tokens: 1000, output_tokens: 4 });
    let mut wakes = Vec::new();
    let mut events = Vec::new();
    while let Some(next) = scheduler.next_event() {
        wakes.push(next.as_millis());
        scheduler.advance(next, &mut events);
    }
    assert_eq!(wakes, [1000, 1500, 2000, 2500, 3000], "tokens at 1.0 to 2.5 s, the end at 3 s");
}
