//! Amounts as manifests write them: Go durations, byte sizes, Kubernetes quantities.

use std::time::Duration;

use forewarm_core::quantity::Quantity;

/// Text that is not the amount it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {wanted}")]
pub struct InvalidQuantity {
    /// What it should be, with an example.
    pub wanted: &'static str,
}

const DURATION: InvalidQuantity = InvalidQuantity { wanted: "a duration such as `240s`, `5m` or `1h30m`" };
const BYTES: InvalidQuantity = InvalidQuantity { wanted: "a size in bytes such as `256Mi` or `1G`" };
const QUANTITY: InvalidQuantity = InvalidQuantity { wanted: "a quantity such as `5`, `500m` or `1Ki`" };

/// Longest duration, as Go's: 292 years. Far from where a `Duration` overflows, so that it can be added to.
const MAX_DURATION_NANOS: u128 = i64::MAX as u128;

/// A Go duration (`time.ParseDuration`, without a sign): numbers with a unit of `ns us ms s m h`, or `0`. Digits below
/// a nanosecond are cut off.
///
/// # Errors
/// When the text is none, or it is longer than 292 years.
pub fn duration(text: &str) -> Result<Duration, InvalidQuantity> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(DURATION);
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DURATION)?;
        let (number, behind) = rest.split_at(digits);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        nanos += part_nanos(number, unit).ok_or(DURATION)?;
        if nanos > MAX_DURATION_NANOS {
            return Err(DURATION);
        }
        rest = behind;
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| DURATION)
}

/// One number with its unit, in nanoseconds.
fn part_nanos(number: &str, unit: &str) -> Option<u128> {
    let mut place: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = u128::from(whole) * place;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit - b'0') * place;
    }
    Some(nanos)
}

/// A duration in the form that [`duration`] reads: `1h30m`, `240s`, `1.5s`.
pub fn write_duration(span: Duration) -> String {
    let whole = span.as_secs();
    if span.subsec_nanos() != 0 {
        let exact = format!("{whole}.{:09}", span.subsec_nanos());
        return format!("{}s", exact.trim_end_matches('0'));
    }
    let (hours, minutes, seconds) = (whole / 3600, whole % 3600 / 60, whole % 60);
    // People write `240s` and `90s`, but not `5400s`.
    if whole < 300 || (hours == 0 && seconds != 0) {
        return format!("{whole}s");
    }
    let parts = [(hours, 'h'), (minutes, 'm'), (seconds, 's')];
    parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// A size in bytes: a whole number, or a number with `k M G T` (powers of 1000) or `Ki Mi Gi Ti` (of 1024).
///
/// # Errors
/// When the text is none, or more than a `u64` holds.
pub fn bytes(text: &str) -> Result<u64, InvalidQuantity> {
    let whole = text.parse::<Quantity>().ok().and_then(Quantity::whole);
    whole.and_then(|size| u64::try_from(size).ok()).ok_or(BYTES)
}

/// A size in the form that [`bytes`] reads: `256Mi`.
pub fn write_bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    // Kubernetes caps quantities with a binary suffix at the largest int64.
    let takes_suffix = (1..=i64::MAX as u64).contains(&size);
    for (unit, name) in UNITS {
        if takes_suffix && size.is_multiple_of(unit) {
            return format!("{}{name}", size / unit);
        }
    }
    size.to_string()
}

/// A Kubernetes quantity (`resource.Quantity`) as a number: `5`, `5000m`, `1Ki`, `1e3`.
///
/// # Errors
/// When the text is none.
pub fn quantity(text: &str) -> Result<f64, InvalidQuantity> {
    text.parse().map(Quantity::to_f64).map_err(|_| QUANTITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases: [(&str, Option<f64>); 19] = [
            ("240s", Some(240.0)),
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("1.5h", Some(5400.0)),
            ("300ms", Some(0.3)),
            ("0", Some(0.0)),
            ("1m0.5s", Some(60.5)),
            ("", None),
            ("5", None),
            ("5 m", None),
            ("-5m", None),
            ("5d", None),
            ("m", None),
            (".5s", Some(0.5)),
            (".s", None),
            ("1.2.3s", None),
            ("2562047h", Some(9_223_369_200.0)),
            ("2562048h", None),
            ("99999999999999999999999h", None),
        ];
        for (text, seconds) in cases {
            let got = duration(text).ok().map(|span| span.as_secs_f64());
            assert_eq!(got, seconds, "{text:?}");
        }
    }

    #[test]
    fn sizes_and_quantities_take_every_suffix() {
        let cases: [(&str, Option<f64>); 12] = [
            ("5", Some(5.0)),
            ("5000m", Some(5.0)),
            ("1Ki", Some(1024.0)),
            ("1k", Some(1000.0)),
            ("1e3", Some(1000.0)),
            ("0.5", Some(0.5)),
            ("2E", Some(2e18)),
            ("", None),
            ("Ki", None),
            ("inf", None),
            ("1x", None),
            ("ten", None),
        ];
        for (text, value) in cases {
            assert_eq!(quantity(text).ok(), value, "{text:?}");
        }
        assert_eq!(bytes("256Mi"), Ok(268_435_456));
        assert_eq!(bytes("1.5Ki"), Ok(1536));
        assert_eq!(bytes("9999999999999999999"), Ok(9_999_999_999_999_999_999));
        assert!(bytes("18446744073709551616").is_err());
        assert!(bytes("0.5").is_err());
        assert!(bytes("-1").is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for seconds in [0, 1, 59, 60, 61, 240, 299, 300, 301, 900, 3599, 3600, 3661, 5400, 86_400] {
            let span = Duration::from_secs(seconds);
            assert_eq!(duration(&write_duration(span)), Ok(span), "{}", write_duration(span));
        }
        for nanos in [1, 1_500_000_000, 100_000_000, 9_223_372_036_854_775_807] {
            let span = Duration::from_nanos(nanos);
            assert_eq!(duration(&write_duration(span)), Ok(span), "{}", write_duration(span));
        }
        for size in [0, 1, 1023, 1024, 268_435_456, 1 << 40, 10_000_000_000_000_000_000, u64::MAX] {
            assert_eq!(bytes(&write_bytes(size)), Ok(size));
        }
    }
}
