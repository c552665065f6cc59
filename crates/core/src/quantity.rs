//! Kubernetes quantities (`5`, `500m`, `0.7`, `4Gi`), read and canonicalised as the API server does.
//!
//! Follows `k8s.io/apimachinery` v0.37 `pkg/api/resource`: a quantity is an integer times a power of
//! ten, never a binary floating point number. Mantissas beyond `i128` are refused, not rounded.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How a quantity was written, and so how it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `500m`, `5`, `2k`.
    DecimalSi,
    /// `4Gi`. The exponent of such a quantity is 0.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// A fixed-point number with a suffix, in canonical form: the exponent is a multiple of three and as
/// large as an integer mantissa allows. Serialises as the API server stores it; reads strings and numbers.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    written: Option<Written>,
}

/// A text that the API server keeps as it is, because its digits already are those of the canonical form:
/// `2.125` is not turned into `2125m`, nor `2E3` into `2e3`.
#[derive(Clone, Copy, Debug)]
struct Written {
    bytes: [u8; Self::LONGEST],
    length: u8,
}

impl Written {
    /// 18 digits, a sign, a point, and an exponent.
    const LONGEST: usize = 31;

    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LONGEST];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

// The value counts, not how it was written.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        (self.mantissa, self.exponent, self.format) == (other.mantissa, other.exponent, other.format)
    }
}

impl Eq for Quantity {}

/// Exponents beyond this are surely typing errors, and their powers of ten leave `i128`. Counted in canonical form,
/// so that what is read is also read as it is written.
const MAX_EXPONENT: i32 = 36;
/// The finest step: quantities are rounded away from zero to whole nano-units.
const NANO: i32 = -9;
/// Kubernetes keeps up to this many digits as a scaled `int64`; more go to arbitrary precision, whose
/// conversions overflow differently.
const FAST_DIGITS: u32 = 18;

impl Quantity {
    /// `milli` thousandths.
    pub fn from_milli(milli: i64) -> Self {
        canonical(i128::from(milli), -3, Format::DecimalSi).unwrap_or(Self::ZERO)
    }

    /// Nothing.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi, written: None };

    /// The value in thousandths, rounded away from zero. Overflows as `Quantity.MilliValue` does: a
    /// scaled `int64` that does not fit gives the wrapped product, or 0 for unusual scales.
    pub fn milli_value(self) -> i64 {
        let scale = self.exponent + 3;
        if self.is_fast() {
            let value = self.mantissa as i64;
            return match scale {
                0 => value,
                3 | 6 | 9 => value.wrapping_mul(10_i64.pow(scale as u32)),
                1.. => (0..scale).try_fold(value, |v, _| v.checked_mul(10)).unwrap_or(0),
                ..0 => div_away_from_zero(self.mantissa, -scale) as i64,
            };
        }
        match scale {
            0.. => (self.mantissa as i64).wrapping_mul(10_i64.wrapping_pow(scale.unsigned_abs())),
            ..0 => {
                let divisor = 10_i128.pow(-scale as u32);
                let rest = self.mantissa % divisor;
                (self.mantissa / divisor) as i64 + i64::from(rest != 0)
            }
        }
    }

    /// The value as Kubernetes computes it for tolerances: mantissa × 10^exponent in floating point, so
    /// that `0.7` is `700 × 0.001 = 0.7000000000000001`.
    pub fn approximate(self) -> f64 {
        if self.exponent == 0 {
            return self.mantissa as f64;
        }
        self.mantissa as f64 * pow10(self.exponent)
    }

    /// The value as the nearest floating point number: `0.7` is 0.7.
    pub fn to_f64(self) -> f64 {
        let power = 10_i128.pow(self.exponent.unsigned_abs()) as f64;
        if self.exponent < 0 { self.mantissa as f64 / power } else { self.mantissa as f64 * power }
    }

    /// The value if it is a whole number.
    pub fn whole(self) -> Option<i128> {
        let power = 10_i128.checked_pow(self.exponent.unsigned_abs())?;
        if self.exponent >= 0 {
            return self.mantissa.checked_mul(power);
        }
        (self.mantissa % power == 0).then_some(self.mantissa / power)
    }

    /// Whether the value is below zero.
    pub fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    /// Whether the value is zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    fn is_fast(self) -> bool {
        self.exponent >= NANO && self.mantissa.unsigned_abs() < 10_u128.pow(FAST_DIGITS)
    }
}

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity: {why}")]
pub struct InvalidQuantity {
    text: String,
    why: &'static str,
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = |why| InvalidQuantity { text: text.to_owned(), why };
        let trimmed = text.trim();
        let (negative, unsigned) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, &trimmed[1..]),
            Some(b'+') => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid("expected a number such as 5, 0.7, 500m or 4Gi"));
        }
        if fraction.contains('.') {
            return Err(invalid("it has two decimal points"));
        }
        let (base, exponent, format) = suffix_of(suffix).ok_or_else(|| {
            invalid("its suffix is none of n u m k M G T P E Ki Mi Gi Ti Pi Ei or an exponent")
        })?;
        let too_large = || invalid("it has more digits than can be kept exactly");
        let mut mantissa: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(i128::from(digit - b'0')))
                .ok_or_else(too_large)?;
        }
        let mut scale = i32::try_from(fraction.len()).map_err(|_| too_large())?.saturating_neg();
        if base == 10 {
            scale = scale.saturating_add(exponent);
        } else {
            mantissa = mantissa.checked_mul(1_i128 << exponent).ok_or_else(too_large)?;
        }
        let written = is_kept(whole, fraction, base, exponent).then(|| Written::new(trimmed)).flatten();
        if scale.abs() > MAX_EXPONENT && mantissa != 0 {
            return Err(too_large());
        }
        if scale < NANO {
            mantissa = div_away_from_zero(mantissa, NANO - scale);
            scale = NANO;
        }
        let format = if format == Format::BinarySi {
            // Binary quantities are capped at the largest int64, and written as decimals below one.
            let one = 10_i128.pow(scale.unsigned_abs());
            mantissa = mantissa.min(i128::from(i64::MAX).saturating_mul(one));
            if mantissa % one == 0 {
                mantissa /= one;
                scale = 0;
                Format::BinarySi
            } else {
                Format::DecimalSi
            }
        } else {
            format
        };
        let quantity =
            canonical(if negative { -mantissa } else { mantissa }, scale, format).ok_or_else(too_large)?;
        Ok(Self { written, ..quantity })
    }
}

/// Whether the API server keeps a text as it was written.
fn is_kept(whole: &str, fraction: &str, base: i32, exponent: i32) -> bool {
    let whole = whole.trim_start_matches('0');
    let digits = whole.len() + fraction.len();
    if base == 2 {
        // Few enough digits for an int64, and an odd multiple of less than eight.
        let precision = 14 - (exponent * 3 / 10) - digits as i32;
        let odd = whole.parse::<i64>().is_ok_and(|value| value & 7 != 0);
        return fraction.is_empty() && precision >= 0 && odd;
    }
    let Some(scale) = i32::try_from(fraction.len()).ok().and_then(|places| exponent.checked_sub(places))
    else {
        return false;
    };
    let ends_in_thousands = format!("{whole}{fraction}").ends_with("000");
    !whole.is_empty()
        && digits <= FAST_DIGITS as usize
        && scale >= NANO
        && scale % 3 == 0
        && !ends_in_thousands
}

/// Base, exponent and format of a suffix.
fn suffix_of(suffix: &str) -> Option<(i32, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            Some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// Moves factors of ten into the exponent, then makes it a multiple of three again.
fn canonical(mut mantissa: i128, mut exponent: i32, format: Format) -> Option<Quantity> {
    if mantissa == 0 {
        return Some(Quantity::ZERO);
    }
    if format == Format::BinarySi {
        return Some(Quantity { mantissa, exponent, format, written: None });
    }
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    while exponent % 3 != 0 {
        mantissa = mantissa.checked_mul(10)?;
        exponent -= 1;
    }
    (exponent <= MAX_EXPONENT).then_some(Quantity { mantissa, exponent, format, written: None })
}

/// `value / 10^places`, rounded away from zero.
fn div_away_from_zero(value: i128, places: i32) -> i128 {
    let Some(divisor) = 10_i128.checked_pow(places.unsigned_abs()) else { return value.signum() };
    let rest = value % divisor;
    value / divisor + if rest == 0 { 0 } else { value.signum() }
}

/// Powers of ten, correctly rounded as Go's `math.Pow10` has them: exponents are between -9 and 36 here.
fn pow10(exponent: i32) -> f64 {
    let power = 10_i128.pow(exponent.unsigned_abs()) as f64;
    if exponent < 0 { 1.0 / power } else { power }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            return f.write_str(written.as_str());
        }
        match self.format {
            Format::BinarySi => {
                // Below 1024 the suffix would make it less readable: written as a plain number.
                if self.mantissa.unsigned_abs() < 1024 {
                    return write_decimal(f, self.mantissa, 0);
                }
                let (mut mantissa, mut step) = (self.mantissa, 0);
                while mantissa % 1024 == 0 && step < 6 {
                    mantissa /= 1024;
                    step += 1;
                }
                write!(f, "{mantissa}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step])
            }
            Format::DecimalSi => write_decimal(f, self.mantissa, self.exponent),
            Format::DecimalExponent if self.exponent == 0 => write!(f, "{}", self.mantissa),
            Format::DecimalExponent => write!(f, "{}e{}", self.mantissa, self.exponent),
        }
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mut mantissa: i128, mut exponent: i32) -> fmt::Result {
    while mantissa != 0 && mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    let suffix = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    };
    if exponent > 18 {
        return write!(f, "{mantissa}e{exponent}");
    }
    write!(f, "{mantissa}{suffix}")
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl de::Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as 5, 0.7, \"500m\" or \"4Gi\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
        // A whole number in JSON comes as a float only when it is too large for an integer, with digits lost.
        if value.abs() >= u64::MAX as f64 {
            return Err(E::custom(format!(
                "{value:e} is too large for a number: write the quantity in quotes"
            )));
        }
        self.visit_str(&value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().expect(text)
    }

    #[test]
    fn canonical_form_is_the_api_servers() {
        for (written, canonical) in [
            ("0.7", "700m"),
            ("5", "5"),
            ("5.0", "5"),
            ("1500m", "1500m"),
            ("1000m", "1"),
            ("0.05", "50m"),
            ("1000", "1k"),
            ("12e6", "12e6"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("0.5Ki", "512"),
            ("100n", "100n"),
            ("0.1n", "1n"),
            ("-2.5", "-2500m"),
            (".5", "500m"),
            ("0", "0"),
            ("1E", "1E"),
            ("10000000000000000000000000000000000", "10e33"),
            ("100e34", "1e36"),
            ("2E4", "20e3"),
            ("2.000", "2"),
            ("8Ki", "8Ki"),
        ] {
            assert_eq!(quantity(written).to_string(), canonical, "{written}");
        }
    }

    #[test]
    fn what_is_canonical_but_for_its_looks_is_kept() {
        for written in
            ["2.125", "2.500", "-1.234567", "7E0", "2E3", "12e-3", "+3", "1.", "007", "+5Ki", "7Ki"]
        {
            assert_eq!(quantity(written).to_string(), written);
        }
        assert_eq!(quantity("2.500"), quantity("2.5"));
        for (written, stored) in [("0.125", "125m"), ("1.25", "1250m"), ("+8Ki", "8Ki"), ("1.5Ki", "1536")] {
            assert_eq!(quantity(written).to_string(), stored);
        }
    }

    #[test]
    fn thousandths_are_rounded_up() {
        for (written, milli) in [
            ("5", 5000),
            ("0.7", 700),
            ("1n", 1),
            ("1.0001", 1001),
            ("4Gi", 4_294_967_296_000),
            ("2k", 2_000_000),
        ] {
            assert_eq!(quantity(written).milli_value(), milli, "{written}");
        }
    }

    #[test]
    fn thousandths_overflow_as_in_kubernetes() {
        // Answers of k8s.io/apimachinery v0.37.2.
        for (written, milli) in [
            ("932054T", 0),
            ("10P", 0),
            ("827463988331544722e3", -1_610_582_844_634_838_912),
            ("42428585709029353872E", -1_838_286_766_860_140_544),
            ("34173692744015922145m", -2_719_795_403_403_181_087),
        ] {
            assert_eq!(quantity(written).milli_value(), milli, "{written}");
        }
    }

    #[test]
    fn tolerances_are_read_as_mantissa_times_a_power_of_ten() {
        assert_eq!(quantity("0.7").approximate(), 0.700_000_000_000_000_1);
        assert_eq!(quantity("0.1").approximate(), 0.1);
        assert_eq!(quantity("1").approximate(), 1.0);
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_words() {
        for text in [
            "",
            "x",
            "5x",
            "1.2.3",
            "--1",
            "5 m",
            "1e",
            "Ki",
            "1e999",
            "9999999999999999999999999999999999999999",
            "10000000000000000000000000000000000000e30",
        ] {
            let error = text.parse::<Quantity>().expect_err(text).to_string();
            assert!(error.contains("is not a quantity"), "{text}: {error}");
        }
    }

    #[test]
    fn json_numbers_and_strings_read_alike() {
        for (json, canonical) in [("0.7", "700m"), ("\"0.7\"", "700m"), ("5", "5"), ("-1", "-1")] {
            let quantity: Quantity = serde_json::from_str(json).expect(json);
            assert_eq!(quantity.to_string(), canonical);
        }
    }

    #[test]
    fn numbers_beyond_int64_keep_their_digits_in_json_or_are_refused() {
        for text in ["9999999999999999999", "18446744073709551615", "99999999999999999999999", "1e30"] {
            let read = quantity(text);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), read, "{text}");
            match serde_json::from_str::<Quantity>(text) {
                Ok(number) => assert_eq!(number.whole(), read.whole(), "{text}"),
                Err(error) => assert!(error.to_string().contains("write the quantity in quotes"), "{error}"),
            }
        }
    }

    #[test]
    fn whole_numbers_are_exact() {
        for (written, whole) in [
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("4Gi", Some(4_294_967_296)),
            ("5000m", Some(5)),
            ("1.5", None),
            ("12e6", Some(12_000_000)),
            ("-3k", Some(-3_000)),
        ] {
            assert_eq!(quantity(written).whole(), whole, "{written}");
        }
    }
}
