//! What forewarm decides, and why.
//!
//! Everything here is a pure function of observations and time: no I/O, no clock, no async, no global
//! state. The live controller and the simulator call the same [`plan`] and so decide alike.
//!
//! Start reading at [`plan`]: a [`ScalerSpec`] and an [`Observation`] go in, a [`Decision`] with the
//! reason of every step comes out; memory between calls is the explicit, serialisable [`ScalerState`].

pub mod affinity;
pub mod calendar;
mod cold_start;
mod decision;
mod fleet;
pub mod forecast;
mod id;
mod observation;
pub mod peers;
mod pipeline;
mod policy;
pub mod pool;
pub mod quantity;
mod reason;
mod scaler;
mod state;
mod time;
mod units;

pub use cold_start::{ColdStarts, Standby, Tier};
pub use decision::{Decision, Placement, Stage, Step};
pub use fleet::{FailedStart, Notice, Phase, Replica};
pub use id::{ReplicaId, ScalerId, SignalName};
pub use observation::{Contested, Evidence, Missing, Observation, Reading, Signal};
pub use pipeline::{KNOWN_METRICS, MetricMeaning, metric_meaning, plan, prewarm};
pub use policy::{
    DynamoPolicy, Forewarm, HpaPolicy, KedaPolicy, KpaPolicy, Policy, PreWarm, QueueDepth, QueuePolicy,
    RayServePolicy, SkyServePolicy,
};
pub use reason::{Reason, WarmStarts};
pub use scaler::{
    Behavior, Bounds, Cadence, ColdStartSpec, Environment, InvalidBounds, Mode, Pause, RateLimit, RateUnit,
    ScalerSpec, ScalingRules, SelectPolicy,
};
pub use state::{STATE_VERSION, ScalerState};
pub use time::Timestamp;
pub use units::{InvalidUnit, Replicas, Requests};
