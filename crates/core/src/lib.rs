//! What forewarm decides, and why.
//!
//! Everything here is a pure function of observations and time: no I/O, no clock, no async, no global
//! state.

mod decision;
mod fleet;
mod id;
mod observation;
pub mod pool;
mod time;
mod units;

pub use decision::Placement;
pub use fleet::{FailedStart, Phase, Replica};
pub use id::{ReplicaId, ScalerId, SignalName};
pub use observation::{Evidence, Missing, Observation, Reading, Signal};
pub use time::Timestamp;
pub use units::{InvalidUnit, Replicas, Requests};
