//! How many requests asked for each model: adapters and aliases of one scaler are told apart.

use std::collections::BTreeMap;

/// Names beyond those of the plan that are told apart; the rest is counted together, so that clients who make names
/// up cannot fill the memory.
const MOST_OTHERS: usize = 100;
/// Bytes of a name that is kept.
const MOST_BYTES: usize = 256;
/// What the rest is counted as.
pub(crate) const OTHER: &str = "(other)";

/// Requests by the `model` that they ask for.
#[derive(Debug, Default)]
pub(crate) struct Served {
    counts: BTreeMap<String, u64>,
    others: usize,
}

impl Served {
    /// A request came for this model, which is one of the plan's names or not.
    pub(crate) fn count(&mut self, model: Option<&str>, is_planned: bool) {
        let model = model.unwrap_or("");
        if let Some(count) = self.counts.get_mut(model) {
            *count += 1;
            return;
        }
        let fits = is_planned || self.others < MOST_OTHERS && model.len() <= MOST_BYTES;
        self.others += usize::from(fits && !is_planned);
        let name = if fits { model } else { OTHER };
        *self.counts.entry(name.to_owned()).or_insert(0) += 1;
    }

    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_make_up_are_bounded() {
        let mut served = Served::default();
        for number in 0..1_000 {
            served.count(Some(&format!("made-up-{number}")), false);
        }
        served.count(Some("planned"), true);
        served.count(Some(&"x".repeat(1_000)), false);
        assert_eq!(served.counts().len(), MOST_OTHERS + 2);
        assert_eq!(served.counts()["planned"], 1);
        assert_eq!(served.counts()[OTHER], 901);
    }
}
