//! The fleet with real processes: this test's own program plays the engine, and the controller that is killed.

mod engine;
mod life;
mod restart;
mod watched;
