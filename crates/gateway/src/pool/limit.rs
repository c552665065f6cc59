//! How many requests a replica is given at a time, where that is less than its plan allows.
//!
//! **Slow start.** A new replica begins with a quarter of its concurrency and gets one more with every answer that it
//! begins, which doubles it each time all its slots have answered once. Cold caches and graphs that are yet to be
//! captured then meet few requests instead of all.
//!
//! **Learning.** Nobody has measured how many requests the replica bears, so its time to the first token tells: as
//! long as it is what it was when little was to do, more are given, and when it has more than doubled, fewer. This is
//! the gradient of Netflix' concurrency limits: in each window of answers the limit moves to
//! `limit × gradient + √limit`, where the gradient is [`TOLERANCE`] × best time / time now, from ½ to 1. Of a window
//! the first quartile counts, so that a few long prompts say nothing. The best time follows what is seen while no more
//! than half of the limit is in use, so that a change of the workload is learned; beyond that it only creeps up. The limit
//! begins at the plan's concurrency, which it never exceeds, and never falls below a sixteenth of it; it does not grow
//! while it is not used.
//!
//! No clock: times come with the answers.

use std::time::Duration;

use forewarm_core::pool::Concurrency;

/// Part of the concurrency with which a new replica begins.
const FIRST_PART: u32 = 4;
/// Part of the plan's concurrency that is always given: no engine that batches is that slow with so few.
const FLOOR_PART: u32 = 16;
/// How much longer than the best time a first token may take: batches of a growing number of requests take
/// somewhat longer each, without being too many.
const TOLERANCE: f64 = 2.0;
/// Weight of a window against those before it.
const SMOOTHING: f64 = 0.2;
/// Fewest answers in a window.
const MIN_WINDOW: usize = 16;
/// Most answers in a window.
const MAX_WINDOW: usize = 256;
/// How much the best time grows with each window in which much is to do: twice as long after some 700 of them.
const CREEP: f64 = 1.001;

/// The limit of one replica.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// What the plan allows.
    most: u32,
    /// Slots so far, while it starts slowly.
    starting: Option<u32>,
    learned: Option<Learned>,
}

impl Limit {
    /// Of a replica that is new.
    pub(super) fn new(most: u32, rules: Concurrency) -> Self {
        let starting = rules.slow_start.then_some(most.div_ceil(FIRST_PART));
        let mut limit = Self { most, starting, learned: None };
        limit.set(most, rules);
        limit
    }

    /// Another plan.
    pub(super) fn set(&mut self, most: u32, rules: Concurrency) {
        if !rules.slow_start {
            self.starting = None;
        }
        if !rules.learned {
            self.learned = None;
        } else {
            let most_before = self.most;
            let learned = self.learned.get_or_insert_with(|| Learned::new(most_before));
            learned.rescale(most);
        }
        self.most = most;
    }

    /// Whether it may be less than the plan says.
    pub(super) fn may_be_less(&self) -> bool {
        self.starting.is_some() || self.learned.is_some()
    }

    /// Requests at a time.
    pub(super) fn get(&self) -> u32 {
        let learned = self.learned.as_ref().map_or(self.most, Learned::get);
        self.most.min(self.starting.unwrap_or(self.most)).min(learned)
    }

    /// The replica has begun an answer, after so long where its first token could be seen, while it had so many.
    pub(super) fn answered(&mut self, ttft: Option<Duration>, in_flight: u32) {
        self.starting = self.starting.map(|slots| slots + 1).filter(|&slots| slots < self.most);
        if let (Some(learned), Some(ttft)) = (&mut self.learned, ttft) {
            learned.saw(ttft, in_flight);
        }
    }
}

#[derive(Clone, Debug)]
struct Learned {
    floor: f64,
    most: f64,
    limit: f64,
    /// Seconds to the first token when little is to do.
    best: Option<f64>,
    window: Vec<f64>,
    /// Most requests at a time in this window.
    used: u32,
}

impl Learned {
    fn new(most: u32) -> Self {
        let floor = f64::from(most.div_ceil(FLOOR_PART));
        let most = f64::from(most);
        Self { floor, most, limit: most, best: None, window: Vec::new(), used: 0 }
    }

    /// Another gateway has a part of the slots, or gave it back: what was learned holds for the part.
    fn rescale(&mut self, most: u32) {
        let Self { limit, most: most_before, .. } = *self;
        let Self { floor, most, .. } = Self::new(most);
        let part = if most_before > 0.0 { limit / most_before } else { 1.0 };
        (self.floor, self.most, self.limit) = (floor, most, (most * part).clamp(floor, most));
    }

    fn get(&self) -> u32 {
        // At least the floor, at most the plan's: both whole and within range.
        self.limit as u32
    }

    fn saw(&mut self, ttft: Duration, in_flight: u32) {
        self.window.push(ttft.as_secs_f64());
        self.used = self.used.max(in_flight);
        if self.window.len() < (self.limit as usize).clamp(MIN_WINDOW, MAX_WINDOW) {
            return;
        }
        let middle = self.window.len() / 4;
        let (_, &mut now, _) = self.window.select_nth_unstable_by(middle, f64::total_cmp);
        self.window.clear();
        let unused = f64::from(self.used) <= self.limit / 2.0;
        let best = self.best.map_or(now, |best| match unused {
            true => now.min(best + (now - best) * SMOOTHING),
            false => now.min(best * CREEP),
        });
        self.best = Some(best);
        let gradient = if now > 0.0 { (TOLERANCE * best / now).clamp(0.5, 1.0) } else { 1.0 };
        self.used = 0;
        if gradient >= 1.0 && unused {
            return;
        }
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit = (self.limit + (wanted - self.limit) * SMOOTHING).clamp(self.floor, self.most);
    }
}
