//! KEDA's `ScaledObject`, as of KEDA 2.21.
//!
//! KEDA itself only takes a target from zero (or idle) to one (or its minimum) and back: [`plan`] and
//! [`settle`] are that loop. In between, the HPA that it creates decides: [`generated_hpa`] is that HPA,
//! [`serve`] what KEDA answers its queries with when a trigger fails, and [`Formula`] what it computes
//! from several triggers.

mod executor;
mod fallback;
mod formula;
mod generated;
mod job;
mod spec;

pub use executor::{
    ExecutorObservation, ExecutorOutcome, ExecutorPlan, ExecutorReason, ExecutorState, KedaCondition, plan,
    settle,
};
pub use fallback::{FallbackInput, FallbackState, Health, Served, serve};
pub use formula::{Formula, FormulaError, Value};
pub use generated::{GenerateError, composite_value, generated_hpa};
pub use job::{JobCounts, JobStrategy, jobs_to_create};
pub use spec::{
    Advanced, Annotations, AuthenticationRef, Fallback, FallbackBehavior, HpaConfig, InvalidBounds,
    ScaleTarget, ScaledObjectSpec, ScalingModifiers, Trigger,
};
