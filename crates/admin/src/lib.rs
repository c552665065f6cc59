//! The admin port: live page, JSON views, metrics, health and readiness.
//!
//! Start reading at [`Admin`]: it serves what a [`Dashboard`] was told, what [`Metrics`] counted and
//! what a [`Readiness`] knows, and hands commands of people to whoever controls the scalers. Nothing is
//! computed here: a number on the page is a field of a [`view`].

mod api;
mod assets;
mod command;
mod dashboard;
mod events;
mod guard;
mod health;
mod metrics;
mod server;
pub mod view;

pub use command::{Action, Command, CommandError, PauseEnd};
pub use dashboard::Dashboard;
pub use health::{Readiness, ReadyToken};
pub use metrics::{Direction, Metrics};
pub use server::{Admin, AdminConfig, BindError};
