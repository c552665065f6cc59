//! Numbers in headers: to format them as usual takes ten times as long, and each answer has some.

use http::HeaderValue;

/// A number with so many decimals, at most nine, of which `number` counts the last one; and a unit of at most two letters.
pub(crate) fn decimal(number: u64, decimals: usize, unit: &'static str) -> HeaderValue {
    // Twenty digits, a zero before the point, the point, and the unit.
    let mut text = [0; 24];
    let mut start = text.len() - unit.len();
    text[start..].copy_from_slice(unit.as_bytes());
    let (mut rest, mut written) = (number, 0);
    while rest > 0 || written <= decimals {
        if written == decimals && decimals > 0 {
            start -= 1;
            text[start] = b'.';
        }
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        (rest, written) = (rest / 10, written + 1);
    }
    HeaderValue::from_bytes(&text[start..]).unwrap_or(HeaderValue::from_static("0"))
}

/// Seconds, to the microsecond.
pub(crate) fn seconds(span: f64) -> HeaderValue {
    decimal((span * 1e6).round() as u64, 6, "")
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
            assert_eq!(decimal(number, decimals, unit), expected);
        }
        let spans = [
            (0.0, "0.000000"),
            (1.5, "1.500000"),
            (0.000_000_4, "0.000000"),
            (12.345_678_9, "12.345679"),
            (-1.0, "0.000000"),
        ];
        for (span, expected) in spans {
            assert_eq!(seconds(span), expected, "{span}");
        }
        assert_eq!(seconds(f64::INFINITY), "18446744073709.551615");
    }
}
