//! Go's `strconv.ParseFloat`, where it is not Rust's: digits may be separated by underscores, and a number
//! beyond the largest is an error rather than infinity. Hexadecimal numbers are not read.

/// The number that the text is.
pub(super) fn parse(text: &str) -> Option<f64> {
    let number: f64 = if text.contains('_') {
        separates_digits(text).then(|| text.replace('_', ""))?.parse().ok()?
    } else {
        text.parse().ok()?
    };
    let is_word = text.contains(['i', 'I']);
    (number.is_finite() || number.is_nan() || is_word).then_some(number)
}

/// Whether every underscore stands between two digits.
fn separates_digits(text: &str) -> bool {
    let is_digit = |place: usize| text.as_bytes().get(place).is_some_and(u8::is_ascii_digit);
    text.match_indices('_').all(|(place, _)| place > 0 && is_digit(place - 1) && is_digit(place + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("70", Some(70.0)),
            ("+5", Some(5.0)),
            (".5", Some(0.5)),
            ("1_000", Some(1000.0)),
            ("1_0.2_5", Some(10.25)),
            ("Inf", Some(f64::INFINITY)),
            ("1e400", None),
            ("-1e400", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("1_.5", None),
            (" 1", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text:?}");
        }
    }
}
