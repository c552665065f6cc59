//! Continuous batching: the passing over of steps against every step, and what batching means for requests.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod token_steps;

use std::time::Duration;

use forewarm_core::{Bounds, Policy, QueueDepth, Requests, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, Report, World,
    engine::{BatchingModel, EngineModel, StepTime},
    simulate,
};
use forewarm_workload::Request;
use proptest::prelude::*;
use token_steps::token_steps;

/// Odd numbers, so that no two moments coincide by chance.
const STEP_TIME: StepTime = StepTime {
    decode_base_ms: 29.9,
    decode_per_request_ms: 0.206,
    decode_per_context_token_ms: 1.737e-4,
    prefill_base_ms: 10.4,
    prefill_per_token_ms: 0.0909,
};

fn small() -> BatchingModel {
    BatchingModel { max_num_seqs: 4, max_num_batched_tokens: 64, kv_blocks: 64, step_time: STEP_TIME }
}

fn request(millis: u64, input_tokens: u32, output_tokens: u32) -> Request {
    Request { arrival: Duration::from_millis(millis), input_tokens, output_tokens, cached_tokens: 0 }
}

fn models() -> impl Strategy<Value = BatchingModel> {
    // Whole milliseconds make moments coincide; nothing may depend on that.
    let step_time = prop_oneof![
        Just(STEP_TIME),
        Just(StepTime { decode_per_context_token_ms: 0.7, ..STEP_TIME }),
        Just(StepTime {
            decode_base_ms: 4.0,
            decode_per_request_ms: 1.0,
            decode_per_context_token_ms: 0.0,
            prefill_base_ms: 3.0,
            prefill_per_token_ms: 1.0,
        }),
    ];
    (1_u32..12, 0_u32..60, 1_u32..30, step_time).prop_map(|(max_num_seqs, more, kv_blocks, step_time)| {
        BatchingModel { max_num_seqs, max_num_batched_tokens: max_num_seqs + more, kv_blocks, step_time }
    })
}

fn workloads() -> impl Strategy<Value = Vec<Request>> {
    let gap = prop_oneof![Just(0_u64), 0_u64..30, 0_u64..2_000];
    let unit = prop_oneof![Just(1_000_u64), Just(1)];
    let one =
        (gap, unit, 0_u32..200, prop_oneof![1_u32..4, 0_u32..150], prop_oneof![Just(0_u32), 0_u32..200]);
    proptest::collection::vec(one, 1..40).prop_map(|drawn| {
        let mut arrival = Duration::ZERO;
        drawn
            .into_iter()
            .map(|(gap, unit, input_tokens, output_tokens, cached_tokens)| {
                arrival += Duration::from_micros(gap * unit);
                Request { arrival, input_tokens, output_tokens, cached_tokens }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn passing_over_steps_gives_the_moments_of_every_step(model in models(), requests in workloads()) {
        prop_assert_eq!(model.replay(&requests), token_steps(&model, &requests));
    }
}

#[test]
fn a_lone_request_takes_the_time_of_the_formula() {
    let model = BatchingModel { max_num_batched_tokens: 1_000, ..small() };
    let served = model.replay(&[request(5, 100, 3)])[0];
    // 10.4 + 0.0909 × 100 ms; then contexts of 101 and 102 tokens.
    assert_eq!(served.first_token, 5_000 + 19_490);
    let decoding = 2.0 * (29.9 + 0.206) + 1.737e-4 * 203.0;
    assert_eq!(served.finished, (24_490.0 + decoding * 1e3_f64).ceil() as u64);
    assert_eq!(model.ttft_alone(&request(0, 100, 3)), 19_490);
}

#[test]
fn a_prompt_above_the_budget_is_read_in_chunks_and_a_cached_prefix_not_at_all() {
    // 150 tokens at 64 a step: three steps.
    let cold = request(0, 150, 1);
    assert_eq!(small().ttft_alone(&cold), 3 * 10_400 + 13_635);
    assert_eq!(small().replay(&[cold])[0].first_token, small().ttft_alone(&cold));
    let warm = Request { cached_tokens: 100, ..cold };
    assert_eq!(small().ttft_alone(&warm), 10_400 + 4_545);
    // The last token of a prompt is read even if all of it is cached.
    assert_eq!(small().ttft_alone(&Request { cached_tokens: 150, ..cold }), 10_400 + 91);
}

#[test]
fn when_memory_runs_out_the_newest_is_computed_again_and_keeps_its_first_token() {
    // 8 blocks of 16 tokens: two requests of 40 + 60 tokens do not fit to their ends.
    let model = BatchingModel { kv_blocks: 8, max_num_batched_tokens: 1_000, ..small() };
    let pair = [request(0, 40, 60), request(1, 40, 60)];
    let served = model.replay(&pair);
    let roomy = BatchingModel { kv_blocks: 100, ..model }.replay(&pair);
    assert!(served[0].finished < roomy[0].finished, "alone at the end, the oldest is faster");
    assert!(served[1].finished > roomy[1].finished, "the newest was computed again");
    assert_eq!(served[1].first_token, roomy[1].first_token);
}

#[test]
fn a_request_that_could_never_run_is_cut_down_instead_of_blocking_the_others() {
    let served = small().replay(&[request(0, 5_000, 5_000), request(1, 10, 2)]);
    assert!(served.iter().all(|served| served.finished > 0), "{served:?}");
}

#[test]
fn a_model_from_a_file_says_what_is_wrong_with_it() {
    let text = r#"{"maxNumSeqs": 8, "maxNumBatchedTokens": 4, "kvBlocks": 10, "stepTime": {"decodeBaseMs": 6.68,
        "decodePerRequestMs": 0.352, "decodePerContextTokenMs": 1.22e-4, "prefillBaseMs": 12.1,
        "prefillPerTokenMs": 0.0618}}"#;
    let model: BatchingModel = serde_json::from_str(text).unwrap();
    let problem = model.check().unwrap_err().to_string();
    assert!(problem.starts_with("maxNumBatchedTokens is 4, wanted at least maxNumSeqs"), "{problem}");
    let slow = StepTime { prefill_base_ms: 0.0, ..model.step_time };
    let problem = BatchingModel { max_num_batched_tokens: 8, step_time: slow, ..model }.check().unwrap_err();
    assert_eq!(problem.to_string(), "stepTime.prefillBaseMs is 0, wanted 0.001 to 1000000 ms");
}

#[test]
fn every_built_in_model_makes_sense_and_an_unknown_name_lists_them() {
    for name in BatchingModel::names() {
        assert_eq!(BatchingModel::named(name).unwrap().check(), Ok(()), "{name}");
    }
    let error = BatchingModel::named("gpt-2-tpu").unwrap_err().to_string();
    assert!(error.contains("gpt-2-tpu") && error.contains("llama2-70b-h100-tp8"), "{error}");
}

fn fleet(replicas: u32, data_plane: DataPlane, requests: &[Request]) -> Report {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    let spec = ScalerSpec::new("sim", Bounds::new(replicas, replicas).unwrap(), policy);
    let world = World {
        engine: EngineModel::Batching(BatchingModel::named("llama2-70b-h100-tp8").unwrap()),
        cold_start: ColdStartLaw::fixed(60.0),
        data_plane,
        queue_order: QueueOrder::Arrival,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas: replicas,
        provider_capacity: None,
        seed: 1,
    };
    simulate(&world, &Decider::core(spec), requests, false)
}

#[test]
fn a_fleet_serves_all_and_repeats_exactly() {
    let requests: Vec<Request> = (0..2_000)
        .map(|index| request(index * 120, 200 + (index as u32 * 37) % 2_000, 1 + (index as u32 * 13) % 300))
        .collect();
    for data_plane in [DataPlane::Gateway, DataPlane::Engine] {
        let report = fleet(3, data_plane, &requests);
        assert_eq!((report.sent, report.lost), (2_000, 0));
        assert_eq!(report, fleet(3, data_plane, &requests));
    }
}

#[test]
fn the_next_request_goes_where_the_fewest_are_as_at_the_gateway() {
    // Counted by requests, the third joins the large one on the first replica; by tokens it would not.
    let large = request(0, 3_000, 1_000);
    let small = [1, 2, 3].map(|millis| request(millis, 100, 900));
    let requests: Vec<Request> = std::iter::once(large).chain(small).collect();
    let (spread, alone) =
        (fleet(2, DataPlane::Gateway, &requests), fleet(1, DataPlane::Gateway, &requests[..1]));
    assert!(spread.e2e_seconds.p99 > alone.e2e_seconds.p99 * 1.005, "{spread:?} {alone:?}");
}

#[test]
fn company_slows_so_requests_are_spread() {
    let pair = [request(0, 1_000, 200), request(1, 1_000, 200)];
    let (one, two) = (fleet(1, DataPlane::Gateway, &pair), fleet(2, DataPlane::Gateway, &pair));
    let alone = fleet(1, DataPlane::Gateway, &pair[..1]);
    assert!(one.e2e_seconds.p50 > two.e2e_seconds.p50, "{one:?} {two:?}");
    assert_eq!(two.itl_seconds, alone.itl_seconds);
}
