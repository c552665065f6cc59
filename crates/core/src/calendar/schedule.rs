//! Cron expressions of five fields, as Kubernetes' CronJob and KEDA take them.

use std::str::FromStr;

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// Days that are searched for the next time: 29 February comes on a given day of the week every 28 years, and in 40 where
/// a century is no leap year.
const HORIZON_DAYS: i32 = 40 * 366;

/// Times of day on days: minute, hour, day of month, month, day of week.
///
/// A time that a zone skips when its clocks go forward comes as much later as they go; one that comes twice when they
/// go back, comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of month and of week are both named: either will do.
    either_day: bool,
}

/// Why something is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// Not five.
    #[error(
        "{0:?} has {1} fields, and five are needed (minute, hour, day of month, month, day of week): `0 8 * * 1-5`"
    )]
    Fields(String, usize),
    /// A field with something else.
    #[error("{field} is {found:?}: {wanted}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may.
        wanted: String,
    },
    /// Such as `@every`.
    #[error("{0:?} is not known; @hourly, @daily, @weekly, @monthly and @yearly are")]
    Descriptor(String),
    /// Such as 30 February.
    #[error("{0:?} names a day that never comes")]
    Never(String),
}

/// One field: its name, what it may hold, and words for its values.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "the minute", min: 0, max: 59, words: &[] },
    Field { name: "the hour", min: 0, max: 23, words: &[] },
    Field { name: "the day of month", min: 1, max: 31, words: &[] },
    Field {
        name: "the month",
        min: 1,
        max: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    // 7 is Sunday, too.
    Field {
        name: "the day of week",
        min: 0,
        max: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let expanded = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other if other.starts_with('@') => return Err(InvalidSchedule::Descriptor(other.to_owned())),
            other => other,
        };
        let parts: Vec<&str> = expanded.split_whitespace().collect();
        let &[minutes, hours, days, months, weekdays] = parts.as_slice() else {
            return Err(InvalidSchedule::Fields(text.to_owned(), parts.len()));
        };
        let [minute, hour, day, month, weekday] = &FIELDS;
        let mut on_weekdays = weekday.read(weekdays)?;
        if on_weekdays & (1 << 7) != 0 {
            on_weekdays = (on_weekdays | 1) & !(1 << 7);
        }
        let schedule = Self {
            minutes: minute.read(minutes)?,
            hours: hour.read(hours)?,
            days: day.read(days)?,
            months: month.read(months)?,
            weekdays: on_weekdays,
            either_day: !is_any(days) && !is_any(weekdays),
        };
        let from = Date::constant(2024, 1, 1);
        let comes = (0..HORIZON_DAYS).any(|days| later(from, days).is_some_and(|day| schedule.is_on(day)));
        if comes { Ok(schedule) } else { Err(InvalidSchedule::Never(text.to_owned())) }
    }
}

/// Whether a field says that it does not restrict.
fn is_any(text: &str) -> bool {
    text.starts_with(['*', '?'])
}

fn later(day: Date, days: i32) -> Option<Date> {
    day.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

impl Field {
    /// The set of values as bits.
    fn read(&self, text: &str) -> Result<u64, InvalidSchedule> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, InvalidSchedule> {
        let wrong =
            |wanted: String| InvalidSchedule::Field { field: self.name, found: text.to_owned(), wanted };
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let step = match step {
            None => 1,
            Some(step) => step
                .parse::<u32>()
                .ok()
                .filter(|step| *step > 0)
                .ok_or_else(|| wrong("a step is a whole number above 0, as in `*/15`".to_owned()))?,
        };
        let value = |text: &str| {
            let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
            let number = word.and_then(|place| u32::try_from(place).ok()).map(|place| place + self.min);
            number.or_else(|| text.parse().ok()).filter(|n| (self.min..=self.max).contains(n)).ok_or_else(
                || wrong(format!("`*`, numbers from {} to {}, ranges and lists of them", self.min, self.max)),
            )
        };
        let (from, to) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => {
                (self.min, self.max.min(if self.max == 7 { 6 } else { self.max }))
            }
            Some((from, to)) => (value(from)?, value(to)?),
            None if text.contains('/') => (value(range)?, self.max),
            None => {
                let only = value(range)?;
                (only, only)
            }
        };
        if from > to {
            return Err(wrong("a range goes upwards, as in `1-5`".to_owned()));
        }
        Ok((from..=to).step_by(step as usize).fold(0, |set, value| set | 1 << value))
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set & (1 << value) != 0)
}

fn values(set: u64) -> impl Iterator<Item = i8> {
    (0..60).filter(move |value| has(set, *value))
}

impl Schedule {
    fn is_on(&self, day: Date) -> bool {
        let in_month = has(self.days, day.day());
        let in_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let fits = if self.either_day { in_month || in_week } else { in_month && in_week };
        has(self.months, day.month()) && fits
    }

    /// The first time after a moment.
    pub fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        // The day before: a time of it may come late.
        let first = zone.to_datetime(after).date().yesterday().ok()?;
        (0..HORIZON_DAYS)
            .map_while(|days| later(first, days))
            .filter(|day| self.is_on(*day))
            .find_map(|day| self.times(zone, day).filter(|time| *time > after).min())
    }

    /// The last time at or before a moment.
    pub fn last(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let first = zone.to_datetime(at).date();
        (0..HORIZON_DAYS)
            .map_while(|days| later(first, -days))
            .filter(|day| self.is_on(*day))
            .find_map(|day| self.times(zone, day).filter(|time| *time <= at).max())
    }

    /// Every time of a day.
    fn times(&self, zone: &TimeZone, day: Date) -> impl Iterator<Item = Timestamp> {
        let of_day =
            move |hour| values(self.minutes).filter_map(move |minute| Time::new(hour, minute, 0, 0).ok());
        values(self.hours).flat_map(of_day).flat_map(move |time| {
            let local = day.to_datetime(time);
            let (first, second) = match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => (offset, None),
                AmbiguousOffset::Gap { before, .. } => (before, None),
                AmbiguousOffset::Fold { before, after } => (before, Some(after)),
            };
            [Some(first), second]
                .into_iter()
                .flatten()
                .filter_map(move |offset| offset.to_timestamp(local).ok())
        })
    }
}
