//! A fleet of engine processes on this machine.
//!
//! Any command can be a replica. Replicas outlive the controller: they run in sessions of their own and write
//! to files, and the next controller adopts them. Start reading at [`ProcessFleet`].

mod config;
mod fleet;
mod log;
mod process;
mod registry;
mod supervise;

pub use config::{OpenError, ProcessFleetConfig};
pub use fleet::{OnExit, ProcessFleet};
