//! How long an engine takes to become ready, and whether it does: stages with a distribution each, drawn from a seed.
//!
//! Drawing is pure; waiting is the server's business.

use std::fmt;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::config::ConfigProblem;

/// The standard normal distribution's 99th percentile.
const Z_99: f64 = 2.326_347_874;

/// Longest allowed stage in seconds (a week).
const MAX_STAGE_SECONDS: f64 = 604_800.0;

/// Most samples in an empirical distribution: enough for any percentile that matters, small enough for a file.
const MAX_SAMPLES: usize = 100_000;

/// A part of a cold start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Getting a machine with a GPU.
    Provision,
    /// Pulling the container image.
    Pull,
    /// Loading the weights.
    Load,
    /// Compiling, capturing graphs, profiling memory.
    WarmUp,
}

impl Stage {
    /// Returns the stage's name as used in files and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Pull => "pull",
            Self::Load => "load",
            Self::WarmUp => "warm-up",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A distribution of durations, in modelled seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecondsDistribution {
    /// Always the same.
    Constant(f64),
    /// Log-normal, by its median and its 99th percentile.
    #[serde(rename_all = "camelCase")]
    LogNormal {
        /// Half of all draws are below this.
        median: f64,
        /// 99 % of all draws are below this; at least the median.
        p99: f64,
    },
    /// Log-normal, by its mean and standard deviation.
    #[serde(rename_all = "camelCase")]
    LogNormalMoments {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        sd: f64,
    },
    /// One of these measured values, each as likely as any other.
    Empirical(Vec<f64>),
}

impl SecondsDistribution {
    /// Returns the mean in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(seconds) => *seconds,
            Self::LogNormal { median, p99 } => {
                let sigma = (p99 / median).ln() / Z_99;
                median * (sigma * sigma / 2.0).exp()
            }
            Self::LogNormalMoments { mean, .. } => *mean,
            Self::Empirical(samples) => samples.iter().sum::<f64>() / samples.len() as f64,
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Constant(seconds) => *seconds,
            Self::LogNormal { median, p99 } => log_normal(median.ln(), (p99 / median).ln() / Z_99, rng),
            Self::LogNormalMoments { mean, sd } => {
                let variance = (1.0 + (sd / mean).powi(2)).ln();
                log_normal(mean.ln() - variance / 2.0, variance.sqrt(), rng)
            }
            Self::Empirical(samples) => samples[rng.random_range(0..samples.len())],
        }
    }

    fn check(&self, field: &str, problems: &mut Vec<ConfigProblem>) {
        let mut within = |name: &str, value: f64, least: f64| {
            if !(least..=MAX_STAGE_SECONDS).contains(&value) {
                let wanted = format!("{least} to {MAX_STAGE_SECONDS} seconds");
                problems.push(ConfigProblem::new(format!("{field}{name}"), value, wanted));
            }
        };
        match self {
            Self::Constant(seconds) => within(".constant", *seconds, 0.0),
            Self::LogNormal { median, p99 } => {
                within(".logNormal.median", *median, 1e-6);
                within(".logNormal.p99", *p99, median.max(1e-6));
            }
            Self::LogNormalMoments { mean, sd } => {
                within(".logNormalMoments.mean", *mean, 1e-6);
                within(".logNormalMoments.sd", *sd, 0.0);
            }
            Self::Empirical(samples) => {
                for (position, value) in samples.iter().enumerate() {
                    within(&format!(".empirical[{position}]"), *value, 0.0);
                }
                if !(1..=MAX_SAMPLES).contains(&samples.len()) {
                    let found = format!("{} values", samples.len());
                    let wanted = format!("1 to {MAX_SAMPLES} values");
                    problems.push(ConfigProblem::new(format!("{field}.empirical"), found, wanted));
                }
            }
        }
    }
}

fn log_normal(mu: f64, sigma: f64, rng: &mut ChaCha8Rng) -> f64 {
    let standard: f64 = StandardNormal.sample(rng);
    (mu + sigma * standard).exp()
}

/// One stage of a cold start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColdStartStage {
    /// Which.
    pub stage: Stage,
    /// How long it takes.
    pub seconds: SecondsDistribution,
    /// Probability that the start fails at the end of this stage, 0 to 1.
    #[serde(default)]
    pub failure_probability: f64,
}

/// The law of an engine's cold start. The default has no stages: ready at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ColdStart {
    /// In the order they run.
    pub stages: Vec<ColdStartStage>,
    /// The same seed draws the same start.
    pub seed: u64,
}

/// One drawn start.
#[derive(Clone, Debug, PartialEq)]
pub struct ColdStartDraw {
    /// The stages that run, with their modelled durations. The last one is where it fails, if it does.
    pub stages: Vec<(Stage, Duration)>,
    /// The stage at whose end the start fails.
    pub fails_at: Option<Stage>,
}

impl ColdStart {
    /// Returns a typical start on a fresh node, 430 s in the mean: node 35 s, image 320 s, weights and engine 75 s, as
    /// in a published scale-from-zero measurement; each log-normal with p99 at 2.3 × the median, the spread of
    /// measured production model loads. `PROFILES.md` names the sources.
    #[must_use]
    pub fn typical() -> Self {
        let shape =
            [(Stage::Provision, 35.0), (Stage::Pull, 320.0), (Stage::Load, 50.0), (Stage::WarmUp, 25.0)];
        let sigma = 2.3_f64.ln() / Z_99;
        let stages = shape.map(|(stage, mean)| {
            let median = mean / (sigma * sigma / 2.0).exp();
            let seconds = SecondsDistribution::LogNormal { median, p99: median * 2.3 };
            ColdStartStage { stage, seconds, failure_probability: 0.0 }
        });
        Self { stages: stages.into(), seed: 0 }
    }

    /// Returns a start that always takes the same time: one stage, `load`.
    #[must_use]
    pub fn constant(total: Duration) -> Self {
        let seconds = SecondsDistribution::Constant(total.as_secs_f64());
        Self {
            stages: vec![ColdStartStage { stage: Stage::Load, seconds, failure_probability: 0.0 }],
            seed: 0,
        }
    }

    /// Returns the same law with every stage stretched so that the mean of the total is `mean`. A law without stages
    /// or of length 0 becomes [`constant`](Self::constant).
    #[must_use]
    pub fn scaled_to_mean(mut self, mean: Duration) -> Self {
        let present = self.mean_seconds();
        if present <= 0.0 {
            return Self { seed: self.seed, ..Self::constant(mean) };
        }
        let factor = mean.as_secs_f64() / present;
        for stage in &mut self.stages {
            match &mut stage.seconds {
                SecondsDistribution::Constant(seconds) => *seconds *= factor,
                SecondsDistribution::LogNormal { median, p99 } => {
                    *median *= factor;
                    *p99 *= factor;
                }
                SecondsDistribution::LogNormalMoments { mean, sd } => {
                    *mean *= factor;
                    *sd *= factor;
                }
                SecondsDistribution::Empirical(samples) => samples.iter_mut().for_each(|s| *s *= factor),
            }
        }
        self
    }

    /// Returns the same law with another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Returns the mean of the total in seconds.
    #[must_use]
    pub fn mean_seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.seconds.mean()).sum()
    }

    /// Draws one start.
    #[must_use]
    pub fn draw(&self) -> ColdStartDraw {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut stages = Vec::with_capacity(self.stages.len());
        for ColdStartStage { stage, seconds, failure_probability } in &self.stages {
            let seconds = seconds.draw(&mut rng).clamp(0.0, MAX_STAGE_SECONDS);
            stages.push((*stage, Duration::from_secs_f64(seconds)));
            if rng.random::<f64>() < *failure_probability {
                return ColdStartDraw { stages, fails_at: Some(*stage) };
            }
        }
        ColdStartDraw { stages, fails_at: None }
    }

    pub(crate) fn check(&self, problems: &mut Vec<ConfigProblem>) {
        for (position, stage) in self.stages.iter().enumerate() {
            let field = format!("coldStart.stages[{position}]");
            stage.seconds.check(&format!("{field}.seconds"), problems);
            if !(0.0..=1.0).contains(&stage.failure_probability) {
                let field = format!("{field}.failureProbability");
                problems.push(ConfigProblem::new(field, stage.failure_probability, "0 to 1"));
            }
            if self.stages[..position].iter().any(|earlier| earlier.stage == stage.stage) {
                let wanted = "each stage at most once";
                problems.push(ConfigProblem::new(format!("{field}.stage"), stage.stage, wanted));
            }
        }
    }
}
