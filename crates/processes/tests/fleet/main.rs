//! The fleet with real processes: this test's own program plays the engine, and the controller that is killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

mod engine;
mod life;
mod restart;
mod watched;
mod worker;
