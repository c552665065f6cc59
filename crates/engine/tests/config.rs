//! What an engine refuses to be told, and what a cold start draws.

use std::time::Duration;

use forewarm_engine::cold_start::{ColdStart, ColdStartStage, SecondsDistribution, Stage};
use forewarm_engine::{EngineConfig, EngineProfile};

#[test]
fn all_problems_are_named_at_once() {
    let config = EngineConfig {
        model: String::new(),
        profile: EngineProfile::simple(0),
        speed: f64::NAN,
        max_num_queued_reqs: Some(0),
        shutdown_timeout_seconds: -1.0,
        cold_start: ColdStart {
            stages: vec![ColdStartStage {
                stage: Stage::Load,
                seconds: SecondsDistribution::LogNormal { median: 10.0, p99: 5.0 },
                failure_probability: 1.5,
            }],
            seed: 0,
        },
        ..EngineConfig::default()
    };
    let error = config.validate().unwrap_err();
    let fields: Vec<&str> = error.problems.iter().map(|problem| problem.field.as_str()).collect();
    let expected = [
        "model",
        "profile.timing.slots.slots",
        "speed",
        "coldStart.stages[0].seconds.logNormal.p99",
        "coldStart.stages[0].failureProbability",
        "maxNumQueuedReqs",
        "shutdownTimeoutSeconds",
    ];
    assert_eq!(fields, expected);
    assert!(error.to_string().contains("speed: found NaN, wanted 0.001 to 10000"), "{error}");
}

#[test]
fn every_named_profile_is_valid_and_a_wrong_name_lists_them() {
    for name in EngineProfile::names() {
        let profile: EngineProfile = name.parse().unwrap();
        let config = EngineConfig { profile, ..EngineConfig::default() };
        assert_eq!(config.validate(), Ok(()), "{name}");
    }
    let error = "h200".parse::<EngineProfile>().unwrap_err().to_string();
    for name in EngineProfile::names() {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn the_default_configuration_survives_json() {
    let config = EngineConfig { cold_start: ColdStart::typical(), ..EngineConfig::default() };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<EngineConfig>(&text).unwrap(), config);
    let error = serde_json::from_str::<EngineConfig>(r#"{"sped": 2}"#).unwrap_err().to_string();
    assert!(error.contains("sped"), "{error}");
}

#[test]
fn draws_repeat_by_seed_and_differ_between_seeds() {
    let law = ColdStart::typical();
    assert_eq!(law.clone().with_seed(7).draw(), law.clone().with_seed(7).draw());
    assert_ne!(law.clone().with_seed(7).draw(), law.with_seed(8).draw());
}

#[test]
fn scaled_laws_have_the_mean_asked_for() {
    let empirical = SecondsDistribution::Empirical(vec![1.0, 2.0, 9.0]);
    let moments = SecondsDistribution::LogNormalMoments { mean: 20.0, sd: 10.0 };
    let stage = |stage, seconds| ColdStartStage { stage, seconds, failure_probability: 0.0 };
    let mixed =
        ColdStart { stages: vec![stage(Stage::Pull, empirical), stage(Stage::Load, moments)], seed: 0 };
    for law in [ColdStart::typical(), mixed, ColdStart::default()] {
        let law = law.scaled_to_mean(Duration::from_secs(240));
        assert!((law.mean_seconds() - 240.0).abs() < 1e-6, "{law:?}");
        let draws = 4000_u64;
        let total: f64 = (0..draws)
            .flat_map(|seed| law.clone().with_seed(seed).draw().stages)
            .map(|(_, duration)| duration.as_secs_f64())
            .sum();
        let mean = total / draws as f64;
        assert!((mean / 240.0 - 1.0).abs() < 0.05, "{law:?} draws {mean} s in the mean");
    }
}

#[test]
fn a_drawn_failure_ends_the_start_at_its_stage() {
    let stage = |stage, failure_probability| ColdStartStage {
        stage,
        seconds: SecondsDistribution::Constant(1.0),
        failure_probability,
    };
    let law = ColdStart {
        stages: vec![stage(Stage::Provision, 0.0), stage(Stage::Pull, 0.3), stage(Stage::Load, 0.0)],
        seed: 0,
    };
    let mut failed = 0;
    for seed in 0..1000 {
        let draw = law.clone().with_seed(seed).draw();
        match draw.fails_at {
            Some(at) => {
                failed += 1;
                assert_eq!(at, Stage::Pull);
                assert_eq!(draw.stages.len(), 2);
            }
            None => assert_eq!(draw.stages.len(), 3),
        }
    }
    assert!((230..370).contains(&failed), "{failed} of 1000 failed");
}
