//! AWS: Auto Scaling groups as fleets, CloudWatch and SQS as signals, scaling policies.
//!
//! Start reading at [`GroupFleet`]: [`Groups`] looks at all groups of an account together, a book per group turns
//! what is seen into replicas, a keeper asks engines for their health and completes lifecycle hooks. What is
//! special about AWS stays in this crate; a group of another cloud is another [`Fleet`](forewarm_control::ports::Fleet).

mod account;
mod accounts;
mod activities;
mod apply;
mod book;
mod ec2;
mod error;
mod fleet;
mod fleets;
mod group;
mod groups;
mod hooks;
mod inspect;
mod keeper;
mod notices;
mod permissions;
mod policy;
mod probe;
mod publish;
mod signal;

pub use account::{Account, AccountError};
pub use error::CallError;
pub use fleet::{GroupConfig, GroupFleet};
pub use fleets::GroupFleets;
pub use groups::Groups;
pub use inspect::inspect;
pub use notices::InterruptionQueue;
pub use permissions::{allowed_actions, permissions};
pub use policy::{FieldChange, PolicyError, PolicyFileError, Wanted, read_policies};
pub use publish::{PER_INSTANCE, Publisher, instances_in_service};
pub use signal::AwsSources;
