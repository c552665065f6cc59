//! Number conversions as Go 1.26 does them on amd64, where most clusters' controllers run.
//!
//! Rust's `as` saturates; Go leaves an out-of-range conversion to the CPU, whose answer is the smallest
//! integer. Integer arithmetic wraps in Go: callers use `wrapping_*`.

/// Go's `int32(f)`: `CVTTSD2SL`, which answers `i32::MIN` to anything out of range and to NaN.
pub(crate) fn to_i32(f: f64) -> i32 {
    let truncated = f.trunc();
    if (-2_147_483_648.0..=2_147_483_647.0).contains(&truncated) { truncated as i32 } else { i32::MIN }
}

/// Go's `int64(f)`: `CVTTSD2SQ`, which answers `i64::MIN` to anything out of range and to NaN.
pub(crate) fn to_i64(f: f64) -> i64 {
    // 2^63 itself is out of range; -2^63 is not.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f) { f as i64 } else { i64::MIN }
}

/// Go's `math.Max`, which keeps a NaN where Rust's `max` drops it.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Go's `math.Min`, likewise.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_is_the_smallest_integer() {
        for f in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10, 2_147_483_648.0, -1e10] {
            assert_eq!(to_i32(f), i32::MIN, "{f}");
        }
        for f in [f64::NAN, f64::INFINITY, 1e19, 9_223_372_036_854_775_808.0] {
            assert_eq!(to_i64(f), i64::MIN, "{f}");
        }
        assert!(max(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
        assert_eq!(to_i32(2_147_483_647.9), i32::MAX);
        assert_eq!(to_i32(-1.9), -1);
        assert_eq!(to_i64(1e18), 1_000_000_000_000_000_000);
    }
}
