//! What is expected to come. One method a file; each is updated in constant time and serialises.

mod trend;

pub use trend::Trend;
