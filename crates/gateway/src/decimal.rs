//! Numbers in headers: to format them as usual takes ten times as long, and each answer has some.

use std::fmt;

/// Twenty digits, a zero before the point, the point, and a unit; or minutes of eighteen digits, and seconds.
const ROOM: usize = 24;

/// A number as it is written, or two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal {
    text: [u8; ROOM],
    start: usize,
}

impl Decimal {
    /// A number with so many decimals, at most nine, of which `number` counts the last one; and a unit of at most two letters.
    pub(crate) fn new(number: u64, decimals: usize, unit: &'static str) -> Self {
        Self { text: [0; ROOM], start: ROOM }.before(number, decimals, unit)
    }

    /// Writes a number and its unit in front of what is there.
    fn before(mut self, number: u64, decimals: usize, unit: &'static str) -> Self {
        let Self { text, start } = &mut self;
        let end = *start;
        *start -= unit.len();
        text[*start..end].copy_from_slice(unit.as_bytes());
        let mut rest = number;
        let mut write = |byte| {
            *start -= 1;
            text[*start] = byte;
        };
        if decimals > 0 {
            for _ in 0..decimals {
                write(b'0' + (rest % 10) as u8);
                rest /= 10;
            }
            write(b'.');
        }
        loop {
            write(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self
    }

    /// A number without any.
    pub(crate) fn whole(number: u64) -> Self {
        Self::new(number, 0, "")
    }

    /// Seconds, to the microsecond.
    pub(crate) fn seconds(span: f64) -> Self {
        Self::new((span * 1e6).round() as u64, 6, "")
    }

    /// Minutes and seconds: `6m0s`.
    pub(crate) fn minutes(seconds: u64) -> Self {
        Self::new(seconds % 60, 0, "s").before(seconds / 60, 0, "m")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_usual() {
        let cases = [
            (0, 0, "", "0"),
            (17, 0, "ms", "17ms"),
            (8_500, 3, "s", "8.500s"),
            (5, 1, "s", "0.5s"),
            (1, 6, "", "0.000001"),
            (u64::MAX, 0, "ms", "18446744073709551615ms"),
            (u64::MAX, 9, "ms", "18446744073.709551615ms"),
        ];
        for (number, decimals, unit, expected) in cases {
            assert_eq!(Decimal::new(number, decimals, unit).as_bytes(), expected.as_bytes());
        }
        for (seconds, expected) in [(60, "1m0s"), (90, "1m30s"), (u64::MAX, "307445734561825860m15s")] {
            assert_eq!(Decimal::minutes(seconds).to_string(), expected);
        }
        let spans = [
            (0.0, "0.000000"),
            (1.5, "1.500000"),
            (0.000_000_4, "0.000000"),
            (12.345_678_9, "12.345679"),
            (-1.0, "0.000000"),
            (f64::INFINITY, "18446744073709.551615"),
        ];
        for (span, expected) in spans {
            assert_eq!(Decimal::seconds(span).as_bytes(), expected.as_bytes(), "{span}");
        }
    }
}
