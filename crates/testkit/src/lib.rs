//! Fakes of the ports, for tests: they do what they are told and remember what they were asked.

mod fleet;
mod gateway;

pub use fleet::FakeFleet;
pub use gateway::FakeGateway;
