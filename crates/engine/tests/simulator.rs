//! The live engine and the simulator model the same thing.

use std::collections::HashMap;
use std::time::Duration;

use forewarm_engine::EngineProfile;
use forewarm_engine::profile::TimingModel;
use forewarm_engine::scheduler::{Event, NewRequest, Scheduler};
use forewarm_sim::engine::BatchingModel;
use forewarm_workload::Request;

fn timing(profile: &EngineProfile) -> serde_json::Value {
    let TimingModel::Batching(model) = &profile.timing else { panic!("{profile} does not batch") };
    serde_json::to_value(model).expect("a profile is data")
}

#[test]
fn the_presets_of_both_are_the_same_and_a_profile_is_readable_by_both() {
    for name in EngineProfile::names().filter(|name| *name != "simple") {
        let profile = EngineProfile::named(name).expect("it names itself");
        let read: BatchingModel = serde_json::from_value(timing(&profile)).expect("the simulator reads it");
        assert_eq!(BatchingModel::named(name), Ok(read), "{name}");
    }
}

/// Requests at irregular times, so that none comes within a rounding error of the end of a step.
fn requests() -> Vec<Request> {
    let mut arrival = Duration::ZERO;
    (0..600_u64)
        .map(|index| {
            arrival += Duration::from_micros(60_017 + index * index * 7_919 % 400_009);
            let [input_tokens, output_tokens] =
                [100 + index * 7_907 % 3_001, 1 + index * 6_007 % 251].map(|tokens| tokens as u32);
            Request { arrival, input_tokens, output_tokens, cached_tokens: 0 }
        })
        .collect()
}

#[test]
fn both_serve_requests_at_the_same_moments() {
    let mut profile = EngineProfile::named("llama2-70b-h100-tp8").expect("it is a preset");
    if let TimingModel::Batching(model) = &mut profile.timing {
        // So little that prompts are read in chunks and memory runs out.
        model.max_num_batched_tokens = 512;
        model.kv_blocks = 1_200;
    }
    let model: BatchingModel = serde_json::from_value(timing(&profile)).expect("the simulator reads it");
    let requests = requests();

    let mut scheduler = Scheduler::new(&profile);
    let mut indices = HashMap::new();
    let mut events = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        scheduler.advance(request.arrival, &mut events);
        let size = NewRequest { prompt_tokens: request.input_tokens, output_tokens: request.output_tokens };
        indices.insert(scheduler.add(request.arrival, size), index);
    }
    while let Some(at) = scheduler.next_event() {
        scheduler.advance(at, &mut events);
    }

    let simulated = model.replay(&requests);
    let (mut finished, mut preempted) = (0, 0);
    for event in events {
        match event {
            Event::Finished { id, timeline } => {
                finished += 1;
                let served = simulated[indices[&id]];
                // The live engine rounds each of some thousand steps to the nanosecond.
                let near =
                    |live: Duration, micros: u64| live.abs_diff(Duration::from_micros(micros)) < ROUNDING;
                assert!(near(timeline.first_token, served.first_token), "{timeline:?} {served:?}");
                assert!(near(timeline.finished, served.finished), "{timeline:?} {served:?}");
            }
            Event::Preempted { .. } => preempted += 1,
            Event::FirstToken { .. } | Event::Tokens { .. } | Event::Step { .. } => {}
        }
    }
    assert_eq!(finished, requests.len());
    assert!(preempted > 0, "memory never ran out: the test tests less than it says");
}

const ROUNDING: Duration = Duration::from_micros(10);
