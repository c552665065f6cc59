//! What a forecaster could know at most that was fitted to the very trace, in hindsight: a quantile forest.
//!
//! It predicts the law of the load one lead time ahead from what is seen of the load until now, in ratios. Each leaf of a
//! tree holds the changes that followed in like situations, and the law is the mean over the trees.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::steps::SLOTS;

/// Trees, the fewest situations in a leaf, and the features that are tried for a split.
const TREES: u64 = 30;
const LEAF: usize = 20;
const TRIED: usize = 5;
/// Parts of the trace, and the steps around each that its own forest does not learn from: an hour.
const PARTS: usize = 8;
const AROUND: usize = 240;
/// A decision at the end of a step is served by after so many steps: a cold start of 240 s.
pub(crate) const LAG: usize = 17;
/// Steps in ten minutes.
const WINDOW: usize = 40;

const FEATURES: usize = 13;
/// The probabilities of more load for which the law is kept: 0.7, 0.5, … 0.0003.
const LAW: usize = 24;
const FIRST: f64 = 0.7;
const NEXT: f64 = 0.714;

/// What is seen at each step, and what followed.
pub(crate) struct Course {
    seen: Vec<[f32; FEATURES]>,
    /// The logarithm of the load a lead time later to the level; of the last steps nobody knows.
    change: Vec<f32>,
    /// The level is the mean of five minutes, and an offset of one request and a quarter of the mean of a day.
    level: Vec<f64>,
    offset: Vec<f64>,
}

/// The law of the load a lead time later, for each step.
pub(crate) struct Laws<'a> {
    course: &'a Course,
    /// By step: the change that is exceeded with each probability.
    exceeded: Vec<[f32; LAW]>,
}

impl Course {
    pub(crate) fn of(load: &[f64]) -> Self {
        let sums = running_sums(load);
        let mean = |end: usize, steps: usize| mean(&sums, end, steps);
        let offset: Vec<f64> = (1..=load.len()).map(|end| 1.0 + 0.25 * mean(end, 5_760)).collect();
        let level: Vec<f64> = offset.iter().zip(1..).map(|(offset, end)| mean(end, 20) + offset).collect();
        let after = |step: usize| load.get(step + LAG).map(|load| ((load + offset[step]) / level[step]).ln());
        let errors: Vec<f64> =
            (0..load.len()).map(|step| step.checked_sub(LAG).and_then(after).map_or(0.0, f64::abs)).collect();
        let errors = running_sums(&errors);
        let minutes: Vec<f64> = (1..=load.len()).map(|end| mean(end, 4)).collect();
        let seen = (0..load.len())
            .map(|step| {
                let end = step + 1;
                let ratio = |load: f64| ((load + offset[step]) / level[step]).ln() as f32;
                let most = |steps: usize| {
                    ratio(minutes[end.saturating_sub(steps)..end].iter().copied().fold(0.0, f64::max))
                };
                let error = |steps| (self::mean(&errors, end, steps) + 0.01).ln() as f32;
                let phase = step % WINDOW + 1;
                let [a, b, c, d, e, f] = [1, 4, 80, 320, 1_440, 5_760].map(|steps| ratio(mean(end, steps)));
                let [g, h, i] = [20, 240, 1_440].map(most);
                let [j, k] = [40, 720].map(error);
                [a, b, c, d, e, f, g, h, i, j, k, ratio(mean(end, phase)), phase as f32]
            })
            .collect();
        let change = (0..load.len()).map_while(after).map(|change| change as f32).collect();
        Self { seen, change, level, offset }
    }

    /// Laws by a forest that has learned from all steps, or, if `apart`, from all but the hours around each.
    pub(crate) fn laws(&self, apart: bool) -> Laws<'_> {
        let mut exceeded = Vec::with_capacity(self.seen.len());
        let parts = if apart { PARTS } else { 1 };
        let edge = |part: usize| part * self.seen.len() / parts;
        for part in 0..parts {
            let (from, to) = (edge(part), edge(part + 1));
            let near = from.saturating_sub(AROUND)..to + AROUND;
            // How a trace begins says nothing about how it goes on.
            let rows: Vec<usize> =
                (LAG..self.change.len()).filter(|row| !(apart && near.contains(row))).collect();
            let forest: Vec<Node> = (0..TREES)
                .map(|seed| {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let drawn = (0..rows.len()).map(|_| rows[rng.random_range(0..rows.len())]);
                    self.grow(&mut drawn.collect::<Vec<_>>(), &mut rng)
                })
                .collect();
            exceeded.extend(self.seen[from..to].iter().map(|seen| law(&forest, seen)));
        }
        Laws { course: self, exceeded }
    }

    /// A tree over these steps: each split is the one of the features tried that leaves the least variance.
    fn grow(&self, rows: &mut [usize], rng: &mut ChaCha8Rng) -> Node {
        let change = |row: usize| f64::from(self.change[row]);
        let mut best: Option<(f64, usize, f32)> = None;
        for _ in 0..TRIED {
            let feature = rng.random_range(0..FEATURES);
            rows.sort_unstable_by(|&left, &right| {
                self.seen[left][feature].total_cmp(&self.seen[right][feature])
            });
            let all: f64 = rows.iter().map(|&row| change(row)).sum();
            let mut below = 0.0;
            for count in 1..rows.len() {
                below += change(rows[count - 1]);
                let (left, right) = (self.seen[rows[count - 1]][feature], self.seen[rows[count]][feature]);
                if count < LEAF || rows.len() - count < LEAF || left >= right {
                    continue;
                }
                let gain = below.powi(2) / count as f64 + (all - below).powi(2) / (rows.len() - count) as f64;
                if best.is_none_or(|best| gain > best.0) {
                    best = Some((gain, feature, right));
                }
            }
        }
        let Some((_, feature, at)) = best else {
            return Node::Leaf(rows.iter().map(|&row| self.change[row]).collect());
        };
        rows.sort_unstable_by(|&left, &right| self.seen[left][feature].total_cmp(&self.seen[right][feature]));
        let (below, above) = rows.split_at_mut(rows.partition_point(|&row| self.seen[row][feature] < at));
        Node::Split { feature, at, below: self.grow(below, rng).into(), above: self.grow(above, rng).into() }
    }
}

enum Node {
    Split { feature: usize, at: f32, below: Box<Node>, above: Box<Node> },
    Leaf(Vec<f32>),
}

impl Node {
    fn leaf(&self, seen: &[f32; FEATURES]) -> &[f32] {
        match self {
            Node::Leaf(changes) => changes,
            Node::Split { feature, at, below, above } => {
                if seen[*feature] < *at {
                    below.leaf(seen)
                } else {
                    above.leaf(seen)
                }
            }
        }
    }
}

fn law(forest: &[Node], seen: &[f32; FEATURES]) -> [f32; LAW] {
    let leaves = forest.iter().map(|tree| tree.leaf(seen));
    let weighted = leaves
        .flat_map(|leaf| leaf.iter().map(move |&change| (change, 1.0 / (leaf.len() * forest.len()) as f64)));
    let mut changes: Vec<(f32, f64)> = weighted.collect();
    changes.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    std::array::from_fn(|index| exceeded(&changes, FIRST * NEXT.powi(index as i32)))
}

/// The change that is exceeded with this probability, of changes from the largest on with their weights.
fn exceeded(changes: &[(f32, f64)], probability: f64) -> f32 {
    let mut above = 0.0;
    for &(change, weight) in changes {
        above += weight;
        if above > probability {
            return change;
        }
    }
    changes.last().map_or(0.0, |change| change.0)
}

impl Laws<'_> {
    /// The load a lead time after a step that is exceeded with this probability.
    pub(crate) fn load(&self, step: usize, probability: f64) -> f64 {
        let place = ((probability / FIRST).ln() / NEXT.ln()).clamp(0.0, (LAW - 1) as f64);
        let (index, part) = (place as usize, place.fract());
        let law = &self.exceeded[step];
        let (less, more) = (f64::from(law[index]), f64::from(law[(index + 1).min(LAW - 1)]));
        let Course { level, offset, .. } = self.course;
        (level[step] * (less + (more - less) * part).exp() - offset[step]).max(0.0)
    }

    /// Replicas by the policy's rule: one is kept while the load exceeds what the others carry with this probability, and
    /// started at 1.7 times the odds. What is seen of a step is known at its end, so that the first one has one replica.
    pub(crate) fn replicas(&self, probability: f64) -> Vec<u32> {
        let to_start = 1.7 * probability / (1.0 + 0.7 * probability);
        let mut kept_for = 0.0_f64;
        let replicas = (0..self.exceeded.len()).map(|step| {
            kept_for = kept_for.max(self.load(step, to_start)).min(self.load(step, probability));
            (kept_for / f64::from(SLOTS)) as u32 + 1
        });
        std::iter::once(1).chain(replicas).collect()
    }
}

/// Before each step, and after the last one.
fn running_sums(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let sums = values.iter().map(|value| {
        sum += value;
        sum
    });
    std::iter::once(0.0).chain(sums).collect()
}

/// The mean of so many steps before `end`, or of all there are.
fn mean(sums: &[f64], end: usize, steps: usize) -> f64 {
    let begin = end.saturating_sub(steps);
    (sums[end] - sums[begin]) / (end - begin).max(1) as f64
}
