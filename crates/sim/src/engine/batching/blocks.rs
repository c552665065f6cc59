//! KV memory in blocks, and how fast decoding uses it up.

use super::KV_BLOCK_TOKENS;

const BLOCK: u64 = KV_BLOCK_TOKENS as u64;

/// Blocks that so many tokens take.
pub(super) fn blocks_for(tokens: u64) -> u64 {
    tokens.div_ceil(BLOCK)
}

/// The free blocks, and where in their last blocks the decoding requests are.
///
/// All decoding requests grow by one token a step. So a request's tokens minus the steps so far stay the same,
/// and requests with the same remainder of that need their next block in the same step.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) free: u64,
    /// Decode steps so far.
    pub(super) steps: u64,
    decoding: u64,
    /// Decoding requests by (tokens − steps) modulo the block's size.
    classes: [u32; BLOCK as usize],
}

impl Blocks {
    pub(super) fn new(free: u64) -> Self {
        Self { free, steps: 0, decoding: 0, classes: [0; BLOCK as usize] }
    }

    fn class(&mut self, tokens: u64) -> &mut u32 {
        let class = tokens.wrapping_sub(self.steps) % BLOCK;
        &mut self.classes[class as usize]
    }

    /// A request with this many tokens begins to decode; its blocks have been taken.
    pub(super) fn join(&mut self, tokens: u64) {
        *self.class(tokens) += 1;
        self.decoding += 1;
    }

    /// A request with this many tokens ends or is evicted.
    pub(super) fn leave(&mut self, tokens: u64) {
        *self.class(tokens) -= 1;
        self.decoding -= 1;
        self.free += blocks_for(tokens);
    }

    /// Blocks that this many more steps take.
    pub(super) fn need(&self, steps: u64) -> u64 {
        let rest = steps % BLOCK;
        let begins = |class: &u64| self.room(*class) < rest;
        let begun: u64 = (0..BLOCK).filter(begins).map(|class| u64::from(self.classes[class as usize])).sum();
        steps / BLOCK * self.decoding + begun
    }

    /// Tokens that still fit into the last block of the requests of a class.
    fn room(&self, class: u64) -> u64 {
        (BLOCK - (class + self.steps) % BLOCK) % BLOCK
    }

    /// The most steps up to `limit` that the free blocks allow.
    pub(super) fn longest(&self, limit: u64) -> u64 {
        if self.need(limit) <= self.free {
            return limit;
        }
        let rounds = self.free / self.decoding.max(1);
        let left = self.free % self.decoding.max(1);
        let more = (1..BLOCK).take_while(|&more| self.need(more) <= left).count() as u64;
        rounds * BLOCK + more
    }

    /// Takes what this many steps need.
    pub(super) fn pass(&mut self, steps: u64) {
        self.free -= self.need(steps);
        self.steps += steps;
    }
}
