//! Virtual time: the live controller's core over a modelled fleet.
//!
//! [`simulate`] replays requests against modelled replicas, and lets [`forewarm_core::plan`] decide exactly as
//! the live controller does. Requests are the unit of the event loop: no event per token.
//!
//! The same requests, the same [`World`] and the same seed give the same [`Report`], to the last bit.

mod account;
mod bound;
mod clairvoyant;
mod cold_start;
pub mod compare;
mod decider;
pub mod engine;
mod fleet;
mod knobs;
mod line;
mod objective;
pub mod parallel;
pub mod routing;
mod run;
mod time;
mod timeline;
mod together;
pub mod tune;
mod world;

pub use account::{Latency, Report};
pub use bound::lower_bound;
pub use clairvoyant::{Clairvoyant, clairvoyant};
pub use cold_start::{ColdStartLaw, StageLaw};
pub use decider::{Decider, Looks, Step};
pub use knobs::knobs;
pub use line::QueueOrder;
pub use objective::Objective;
pub use run::{simulate, warm_up};
pub use time::Micros;
pub use timeline::{Arrivals, Course, Moment, Timeline};
pub use together::{Model, Together, simulate_together};
pub use world::{DataPlane, World};
