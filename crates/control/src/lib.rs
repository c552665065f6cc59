//! Observe, decide, act, record: the loop around the pure core, its ports and its journal.

pub mod ports;
