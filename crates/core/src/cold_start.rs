//! How long a start takes, learned from the starts that were seen: those of new replicas, and apart from them those
//! of replicas that stood by.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::ColdStartSpec;

/// What a start begins with: the more is done already, the less time it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// An instance that runs and stands by.
    Running,
    /// An instance that stands by with its memory on disk.
    Hibernated,
    /// An instance that stands by and is stopped: what it has on disk is there.
    Stopped,
    /// Nothing is there yet.
    #[default]
    Cold,
}

impl Tier {
    /// The name in JSON and in explanations.
    pub const fn label(self) -> &'static str {
        match self {
            Tier::Running => "running",
            Tier::Hibernated => "hibernated",
            Tier::Stopped => "stopped",
            Tier::Cold => "cold",
        }
    }

    pub(crate) fn is_cold(&self) -> bool {
        *self == Tier::Cold
    }
}

/// Instances that stand by to become replicas, by what a start with one begins with.
pub type Standby = BTreeMap<Tier, u32>;

/// Durations of the latest starts of one scaler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColdStarts {
    /// Milliseconds from request to ready, oldest first.
    millis: VecDeque<u64>,
    /// The same, of starts that began with what stood by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    warm: BTreeMap<Tier, VecDeque<u64>>,
}

impl ColdStarts {
    /// Starts that are remembered: enough for a p90, few enough to follow a new image or node type.
    const REMEMBERED: usize = 32;
    /// Starts needed before their quantile replaces the prior.
    const NEEDED: usize = 3;

    /// Remembers a start.
    pub fn observe(&mut self, tier: Tier, duration: Duration) {
        let millis = match tier {
            Tier::Cold => &mut self.millis,
            Tier::Running | Tier::Hibernated | Tier::Stopped => self.warm.entry(tier).or_default(),
        };
        if millis.len() == Self::REMEMBERED {
            millis.pop_front();
        }
        millis.push_back(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    /// How many cold starts are remembered.
    pub fn samples(&self) -> usize {
        self.millis.len()
    }

    /// The tiers beside the cold one of which starts are remembered, and how many.
    pub fn warm_samples(&self) -> impl Iterator<Item = (Tier, usize)> {
        self.warm.iter().map(|(tier, millis)| (*tier, millis.len()))
    }

    /// The `q`-quantile (0 to 1, nearest rank) of the cold starts that were seen; `None` when too few were.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        quantile(&self.millis, q)
    }

    /// The quantile that is reckoned with: a start that takes longer than expected leaves requests waiting.
    pub(crate) const EXPECTED: f64 = 0.9;

    /// How long to expect a cold start to take: its p90 once learned, the prior before.
    pub fn expected(&self, spec: &ColdStartSpec) -> Duration {
        self.quantile(Self::EXPECTED).unwrap_or(spec.expected)
    }

    /// The same for a start from a tier, which counts as a cold one until enough of its own were seen.
    pub fn expected_from(&self, tier: Tier, spec: &ColdStartSpec) -> Duration {
        self.quantile_from(Self::EXPECTED, tier, spec)
    }

    fn quantile_from(&self, q: f64, tier: Tier, spec: &ColdStartSpec) -> Duration {
        let learned = self.warm.get(&tier).and_then(|millis| quantile(millis, q));
        learned.or_else(|| self.quantile(q)).unwrap_or(spec.expected)
    }

    /// A quantile of how long the last of the next `count` starts takes, where `standby` is used up first.
    pub(crate) fn quantile_of_next(
        &self,
        q: f64,
        count: u32,
        standby: &Standby,
        spec: &ColdStartSpec,
    ) -> Duration {
        let longest = next_tiers(count, standby).map(|(tier, _)| self.quantile_from(q, tier, spec)).max();
        longest.unwrap_or_else(|| self.quantile(q).unwrap_or(spec.expected))
    }
}

/// What the next `count` starts begin with, and how many with each: the quickest of what stands by is used up first.
pub(crate) fn next_tiers(count: u32, standby: &Standby) -> impl Iterator<Item = (Tier, u32)> {
    let all = standby.iter().map(|(tier, there)| (*tier, *there)).chain([(Tier::Cold, u32::MAX)]);
    let mut left = count;
    all.filter_map(move |(tier, there)| {
        let taken = there.min(left);
        left -= taken;
        (taken > 0).then_some((tier, taken))
    })
}

fn quantile(millis: &VecDeque<u64>, q: f64) -> Option<Duration> {
    if millis.len() < ColdStarts::NEEDED {
        return None;
    }
    let mut sorted: Vec<u64> = millis.iter().copied().collect();
    sorted.sort_unstable();
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|&millis| Duration::from_millis(millis))
}
