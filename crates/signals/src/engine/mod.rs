//! What inference engines say about themselves on `/metrics`, under names that are the same for all.
//!
//! [`EngineReading`] turns one page into canonical numbers, [`EngineScraper`] asks every replica and adds
//! them up. No engine's own metric name is known outside [`names`](self).

pub(crate) mod client;
mod combine;
mod names;
mod reading;
mod scraper;
mod signal;

pub use client::{EngineAccess, EngineClient, MAX_BODY_BYTES, ScrapeError};
pub use names::{EngineKind, UnknownEngine};
pub use reading::{EngineMetrics, EngineReading, MAX_MODELS, OTHER_MODELS, ReadingError};
pub use scraper::{EngineReport, EngineScraper, EngineSource, MAX_CONCURRENT_SCRAPES, ScrapeOptions};
pub use signal::{EngineMetric, EngineSignal, UnknownEngineSignal};
