//! A law of token lengths known by some of its quantiles.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Token lengths through given quantiles.
///
/// Between two quantiles the length grows linearly; in the last stretch (p99 to the maximum) geometrically,
/// because a straight line there would overstate the mean of a heavy tail several times.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QuantileLaw {
    /// Probability and tokens, both ascending, from probability 0 to 1.
    points: Vec<(f64, f64)>,
}

impl QuantileLaw {
    /// The law through these points; `None` unless probabilities rise strictly from 0 to 1, and lengths are
    /// finite, at least one token, and never fall.
    pub(crate) fn new(points: Vec<(f64, f64)>) -> Option<Self> {
        let ends = points.first().is_some_and(|p| p.0 == 0.0) && points.last().is_some_and(|p| p.0 == 1.0);
        let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let sane = points.iter().all(|p| p.1.is_finite() && p.1 >= 1.0);
        (points.len() >= 2 && ends && rising && sane).then_some(Self { points })
    }

    /// The length below which a share `probability` of requests lies, in tokens.
    pub(crate) fn at(&self, probability: f64) -> u32 {
        let last = self.points.len() - 2;
        let index = self.points.partition_point(|p| p.0 <= probability).saturating_sub(1).min(last);
        let ((p0, low), (p1, high)) = (self.points[index], self.points[index + 1]);
        let share = ((probability - p0) / (p1 - p0)).clamp(0.0, 1.0);
        let tokens = if index == last { low * (high / low).powf(share) } else { low + (high - low) * share };
        tokens.round() as u32
    }

    /// The mean length, in tokens, in closed form.
    pub(crate) fn mean(&self) -> f64 {
        let last = self.points.len() - 2;
        let stretch = |(index, pair): (usize, &[(f64, f64)])| {
            let ((p0, low), (p1, high)) = (pair[0], pair[1]);
            // The mean of a geometric stretch is the logarithmic mean of its ends.
            let geometric = index == last && high > low * (1.0 + 1e-9);
            let mean = if geometric { (high - low) / (high / low).ln() } else { f64::midpoint(low, high) };
            (p1 - p0) * mean
        };
        self.points.windows(2).enumerate().map(stretch).sum()
    }

    pub(crate) fn sample(&self, rng: &mut ChaCha8Rng) -> u32 {
        self.at(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn quantiles_come_back_and_the_mean_is_that_of_the_samples() {
        let points = vec![(0.0, 10.0), (0.5, 129.0), (0.9, 424.0), (0.99, 601.0), (1.0, 5_000.0)];
        let law = QuantileLaw::new(points.clone()).expect("valid");
        for (probability, tokens) in points {
            assert_eq!(f64::from(law.at(probability)), tokens, "p{probability}");
        }
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mean = (0..200_000).map(|_| f64::from(law.sample(&mut rng))).sum::<f64>() / 200_000.0;
        assert!((mean / law.mean() - 1.0).abs() < 0.02, "sampled {mean}, computed {}", law.mean());
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        let cases: [(&str, Vec<(f64, f64)>); 6] = [
            ("no points", vec![]),
            ("does not start at 0", vec![(0.1, 1.0), (1.0, 2.0)]),
            ("does not end at 1", vec![(0.0, 1.0), (0.9, 2.0)]),
            ("lengths fall", vec![(0.0, 5.0), (1.0, 2.0)]),
            ("no tokens", vec![(0.0, 0.0), (1.0, 2.0)]),
            ("no number", vec![(0.0, 1.0), (1.0, f64::NAN)]),
        ];
        for (name, points) in cases {
            assert_eq!(QuantileLaw::new(points), None, "{name}");
        }
    }
}
