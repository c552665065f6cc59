//! Floors by the clock: at least so many replicas between two times of day, in a time zone.
//!
//! A floor has a start and an end, each a cron expression ([`Schedule`]); it holds while its last start is no earlier
//! than its last end. So it may cross midnight, a weekend or a year's end. Of
//! floors that hold at once, the highest counts. The time zones' rules are those in the program itself, so that a
//! journal replays alike everywhere.

mod schedule;

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

pub use schedule::{InvalidSchedule, Schedule};

use crate::{Replicas, Timestamp};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// At least so many replicas from each start to the next end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "FloorLine", into = "FloorLine")]
pub struct Floor {
    line: FloorLine,
    zone: TimeZone,
    start: Schedule,
    end: Schedule,
}

impl PartialEq for Floor {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

/// The floor as people write it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FloorLine {
    timezone: String,
    start: String,
    end: String,
    replicas: Replicas,
}

/// Why something is no floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFloor {
    /// No such zone.
    #[error("{0:?} is no time zone; one is called like `Europe/Berlin` or `UTC`")]
    Timezone(String),
    /// No such times.
    #[error("`start`: {0}")]
    Start(InvalidSchedule),
    /// No such times.
    #[error("`end`: {0}")]
    End(InvalidSchedule),
    /// It would never hold, or always.
    #[error("`start` and `end` are the same")]
    Empty,
}

/// Whether a floor holds, and until when that stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Whether it holds now.
    pub now: bool,
    /// The next end while it holds, else the next start.
    pub until: Timestamp,
}

impl Floor {
    /// A floor in a zone of the IANA database, by two cron expressions.
    ///
    /// # Errors
    /// When one of them is none, or both are the same.
    pub fn new(timezone: &str, start: &str, end: &str, replicas: Replicas) -> Result<Self, InvalidFloor> {
        let zone = ZONES.get(timezone).map_err(|_| InvalidFloor::Timezone(timezone.to_owned()))?;
        let from: Schedule = start.parse().map_err(InvalidFloor::Start)?;
        let to: Schedule = end.parse().map_err(InvalidFloor::End)?;
        if from == to {
            return Err(InvalidFloor::Empty);
        }
        let line = FloorLine { timezone: timezone.into(), start: start.into(), end: end.into(), replicas };
        Ok(Self { line, zone, start: from, end: to })
    }

    /// The zone's name.
    pub fn timezone(&self) -> &str {
        &self.line.timezone
    }

    /// When it begins, as it was written.
    pub fn start(&self) -> &str {
        &self.line.start
    }

    /// When it ends, as it was written.
    pub fn end(&self) -> &str {
        &self.line.end
    }

    /// The replicas kept while it holds.
    pub fn replicas(&self) -> Replicas {
        self.line.replicas
    }

    /// Whether it holds at `now`. `None` beyond the years that a calendar has.
    pub fn holds(&self, now: Timestamp) -> Option<Holds> {
        let at = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?;
        let is_on = self.start.last(&self.zone, at)? >= self.end.last(&self.zone, at)?;
        let until = if is_on { &self.end } else { &self.start }.next(&self.zone, at)?;
        Some(Holds { now: is_on, until: Timestamp::from_millis(until.as_millisecond()) })
    }
}

impl TryFrom<FloorLine> for Floor {
    type Error = InvalidFloor;

    fn try_from(line: FloorLine) -> Result<Self, InvalidFloor> {
        Self::new(&line.timezone, &line.start, &line.end, line.replicas)
    }
}

impl From<Floor> for FloorLine {
    fn from(floor: Floor) -> Self {
        floor.line
    }
}
