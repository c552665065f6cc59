//! The Kubernetes Horizontal Pod Autoscaler, `autoscaling/v2`, as of Kubernetes 1.37.2 with default
//! feature gates (scale to zero and configurable tolerance on).
//!
//! [`evaluate`] is one reconcile of `pkg/controller/podautoscaler/horizontal.go`; [`plan`] and [`settle`]
//! are its halves, for callers that write the scale in between.

mod calculator;
mod conditions;
mod defaults;
mod metrics;
mod normalize;
mod observation;
mod pods;
mod rate;
mod reason;
mod reconcile;
mod spec;
mod state;

pub use conditions::{Condition, ConditionType, Conditions};
pub use observation::{
    ConditionStatus, Container, ControllerConfig, HpaObservation, MetricAnswer, Pod, PodPhase, PodSample,
    Readiness, Scale,
};
pub use reason::{Arithmetic, HpaReason, Kept, Measure, Observed, PodCounts};
pub use reconcile::{HpaOutcome, HpaPlan, evaluate, plan, settle};
pub use spec::{
    Behavior, ContainerResourceMetric, ExternalMetric, HpaSpec, LabelRequirement, LabelSelector,
    MetricIdentifier, MetricSourceType, MetricSpec, MetricTarget, MetricTargetType, ObjectMetric,
    ObjectReference, PodsMetric, ResourceMetric, ScalingPolicy, ScalingPolicyType, ScalingRules,
    SelectPolicy,
};
pub use state::{HpaState, HpaStatus};
