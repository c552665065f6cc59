//! Observe, decide, act, record: the loop around the pure core, its ports and its journal.
//!
//! Start reading at [`Controller::run`]. No rule about scaling lives here: what to do is decided by
//! [`forewarm_core::plan`], what was decided is in the [`Store`] before anything acts on it.

pub mod clock;
mod controller;
mod front;
mod gateways;
pub mod journal;
mod observe;
pub mod ports;
mod replay;
mod shares;
mod store;
mod what_if;

pub use clock::Clock;
pub use controller::{Command, CommandError, Controller, Snapshot};
pub use front::{Front, KV_TOKENS, PlanAtGateway};
pub use gateways::Several;
pub use observe::{chain, observation};
pub use replay::{Mismatch, Replayed, replay};
pub use store::{Store, StoreError};
pub use what_if::{Turn, WhatIf, what_if};
