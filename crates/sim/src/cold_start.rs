//! How long a start takes, stage by stage, and how it may fail.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::time::{Micros, seconds};

/// How long one stage takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StageLaw {
    /// Always the same.
    Fixed {
        /// Seconds.
        seconds: f64,
    },
    /// A log-normal law, the shape of measured model loads.
    LogNormal {
        /// Half of the starts take this many seconds at most.
        median_seconds: f64,
        /// 99 % of them take this many at most.
        p99_seconds: f64,
    },
}

/// The 99 % quantile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;

impl StageLaw {
    fn draw(self, rng: &mut ChaCha8Rng) -> Micros {
        match self {
            StageLaw::Fixed { seconds: span } => seconds(span),
            StageLaw::LogNormal { median_seconds, p99_seconds } => {
                let sigma = (p99_seconds / median_seconds).ln() / Z_99;
                let law = LogNormal::new(median_seconds.ln(), sigma);
                seconds(law.map_or(median_seconds, |law| law.sample(rng)))
            }
        }
    }
}

/// The law of a start: hardware is obtained, the model is loaded, and either may go wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct ColdStartLaw {
    /// Until a machine is there: scheduling, boot, image.
    pub provisioning: StageLaw,
    /// From there until ready: weights, compilation, graphs.
    pub loading: StageLaw,
    /// Share of starts that end in an error at the end of loading.
    pub failing: f64,
    /// Share of starts that hang: never ready, until somebody gives them up.
    pub hanging: f64,
}

impl ColdStartLaw {
    /// Every start takes this long: a fifth of it until the machine is there.
    pub fn fixed(span_seconds: f64) -> Self {
        Self {
            provisioning: StageLaw::Fixed { seconds: span_seconds * 0.2 },
            loading: StageLaw::Fixed { seconds: span_seconds * 0.8 },
            failing: 0.0,
            hanging: 0.0,
        }
    }

    /// A heavy tail: log-normal with this median, the 99th percentile at four times of it, and one start in a
    /// hundred that never becomes ready. The shape is that of measured GPU scheduling waits and model loads.
    pub fn heavy_tailed(median_seconds: f64) -> Self {
        let law = |share: f64| StageLaw::LogNormal {
            median_seconds: median_seconds * share,
            p99_seconds: 4.0 * median_seconds * share,
        };
        Self { provisioning: law(0.3), loading: law(0.7), failing: 0.0, hanging: 0.01 }
    }

    /// How long every start takes, if all take the same time and none goes wrong.
    pub(crate) fn always(&self) -> Option<Micros> {
        match (self.provisioning, self.loading) {
            (StageLaw::Fixed { seconds: provisioning }, StageLaw::Fixed { seconds: loading })
                if self.failing <= 0.0 && self.hanging <= 0.0 =>
            {
                Some(seconds(provisioning) + seconds(loading))
            }
            _ => None,
        }
    }

    /// What these shares of the first `sample` starts of a run stay within, of those that become ready.
    pub(crate) fn quantiles(&self, seed: u64, sample: u32, shares: &[f64]) -> Vec<Micros> {
        let mut draws = self.draws(seed);
        let starts = (0..sample).map(|_| draws.next()).filter(|start| start.fate == Fate::Ready);
        let mut spans: Vec<Micros> = starts.map(|start| start.provisioning + start.loading).collect();
        spans.sort_unstable();
        let last = spans.len().saturating_sub(1) as f64;
        shares.iter().filter_map(|share| spans.get((share * last) as usize).copied()).collect()
    }

    pub(crate) fn draws(&self, seed: u64) -> ColdStarts {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        ColdStarts { law: self.clone(), rng }
    }
}

/// The stream of random numbers for starts: what else is drawn in a run does not move them.
const STREAM: u64 = 1;

/// What will become of one start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) provisioning: Micros,
    pub(crate) loading: Micros,
    pub(crate) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ready,
    Fails,
    Hangs,
}

/// The starts of a run, one after the other.
#[derive(Debug)]
pub(crate) struct ColdStarts {
    law: ColdStartLaw,
    rng: ChaCha8Rng,
}

impl ColdStarts {
    pub(crate) fn next(&mut self) -> Start {
        let provisioning = self.law.provisioning.draw(&mut self.rng);
        let loading = self.law.loading.draw(&mut self.rng);
        let luck: f64 = self.rng.random();
        let fate = match luck {
            luck if luck < self.law.failing => Fate::Fails,
            luck if luck < self.law.failing + self.law.hanging => Fate::Hangs,
            _ => Fate::Ready,
        };
        Start { provisioning, loading, fate }
    }
}
