//! A fleet of engine processes on this machine.
//!
//! Start reading at [`ProcessFleet`]: it implements the port [`Fleet`](forewarm_control::ports::Fleet).
//! Any command serves as an engine, as long as it listens on the port it is given and answers `200` on
//! its health path once it is ready.
//!
//! Each replica is a process group of its own that outlives the controller: its output goes to a file,
//! and what runs is in a registry that is written before anything acts, so that the next controller
//! adopts it. No rule about scaling lives here; in particular this crate never decides to stop a
//! replica, it is told to.
//!
//! Linux only: it relies on `/proc` and on pidfds with `waitid` (Linux 5.4).

mod command;
mod config;
mod fleet;
mod health;
mod launch;
mod live;
mod log;
mod port;
mod process;
mod procfs;
mod registry;
mod supervisor;

pub use config::{ConfigError, Health, ProcessFleetConfig, Work};
pub use fleet::{OpenError, ProcessFleet, Shutdown};
pub use registry::RegistryError;
