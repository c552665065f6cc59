//! Values on the command line that need more than a number.

use std::time::Duration;

use forewarm_manifest::quantity;

/// Reads a Go-style duration as manifests have it: `90s`, `5m`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text)
        .map_err(|_| format!("`{text}` is no duration: write it like `90s`, `5m` or `1h30m`"))
}

/// Reads a speed: how many modelled seconds pass in one on the wall.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no speed: it must be a number from 0.1 to 1000");
    let speed: f64 = text.parse().map_err(|_| wrong())?;
    if (0.1..=1_000.0).contains(&speed) { Ok(speed) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubectl_reads_them() {
        for (text, seconds) in
            [("90s", 90.0), ("5m", 300.0), ("1h30m", 5_400.0), ("500ms", 0.5), ("1.5s", 1.5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5s", "5x", "1h30", "99999999999999999999h"] {
            assert!(duration(text).is_err_and(|error| error.contains("write it like")), "{text}");
        }
    }
}
