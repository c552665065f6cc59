//! Virtual time: the same core over a modelled fleet.
//!
//! [`simulate`] replays requests against replicas of the simple engine (a number of slots each, one shared
//! queue, late binding) and lets [`forewarm_core::plan`] decide, exactly as the live controller does. It is
//! the skeleton of what `forewarm simulate` will be: no batching engine, no peers, no clairvoyant yet.

mod account;
mod fleet;
mod run;

pub use account::{Objective, Report};
pub use run::{Request, Simulation, simulate};
