//! Cron expressions: one that is read comes again and again, forwards and backwards, in zones with odd clocks.
#![no_main]

use forewarm_core::calendar::Schedule;
use jiff::{Timestamp, tz::TimeZone};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(schedule) = text.parse::<Schedule>() else { return };
    for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe"] {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let mut at = Timestamp::constant(1_770_000_000, 0);
        for _ in 0..3 {
            let next = schedule.next(&zone, at).unwrap_or_else(|| panic!("{text:?} never comes after {at}"));
            assert!(next > at, "{text:?} after {at}");
            assert_eq!(schedule.last(&zone, next), Some(next), "{text:?}");
            at = next;
        }
    }
});
