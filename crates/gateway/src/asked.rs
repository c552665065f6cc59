//! What a client asks of the gateway itself, in headers: how urgent a request is, how long it may wait, and what it wants to
//! hear while it does.

use std::time::Duration;

use forewarm_core::pool::Priority;

use crate::headers::Headers;

/// How urgent a request is; the gateway says in it how urgent it took it to be.
pub(crate) const PRIORITY: &str = "x-forewarm-priority";
/// Highest value a client may ask for in `X-Request-Timeout` or `X-Scale-Up-Timeout`.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What one request asks for. Of a header that stands there twice the first one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) priority: Option<Priority>,
    /// Longest wait while replicas serve, in modelled time.
    pub(crate) warm: Option<Duration>,
    /// Longest wait while none does, in modelled time.
    pub(crate) cold: Option<Duration>,
    /// Time between two comments, on the client's clock.
    pub(crate) keepalive_seconds: Option<f64>,
}

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadAsk {
    #[error("`{name}` is `{value}`; it takes seconds, such as 30 or 0.5")]
    Timeout { name: &'static str, value: String },
    #[error("`{PRIORITY}` is `{0}`; it takes high, normal or low")]
    Priority(String),
}

impl BadAsk {
    /// The `code` of the error that a client gets.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            BadAsk::Timeout { .. } => "invalid_timeout",
            BadAsk::Priority(_) => "invalid_priority",
        }
    }
}

impl Asked {
    /// Reads it off a request. One look at all names costs less than a search for each.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub(crate) fn of(headers: &Headers) -> Result<Self, BadAsk> {
        let mut asked = Self::default();
        for (name, value) in headers.iter() {
            let Some(name) = name.strip_prefix(b"x-") else { continue };
            match name {
                b"forewarm-priority" if asked.priority.is_none() => asked.priority = Some(priority(value)?),
                b"request-timeout" if asked.warm.is_none() => {
                    asked.warm = Some(timeout("x-request-timeout", value)?);
                }
                b"scale-up-timeout" if asked.cold.is_none() => {
                    asked.cold = Some(timeout("x-scale-up-timeout", value)?);
                }
                b"forewarm-keepalive" if asked.keepalive_seconds.is_none() => {
                    asked.keepalive_seconds = number(value);
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn priority(value: &[u8]) -> Result<Priority, BadAsk> {
    let text = String::from_utf8_lossy(value);
    let found = Priority::ALL.into_iter().find(|priority| priority.label().eq_ignore_ascii_case(text.trim()));
    found.ok_or_else(|| BadAsk::Priority(text.into_owned()))
}

fn timeout(name: &'static str, value: &[u8]) -> Result<Duration, BadAsk> {
    match number(value).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(asked) => Ok(asked.min(MAX_TIMEOUT)),
        None => Err(BadAsk::Timeout { name, value: String::from_utf8_lossy(value).into_owned() }),
    }
}

fn number(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_or_said_to_make_no_sense() {
        type Lines = &'static [(&'static str, &'static str)];
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        let day = Some(MAX_TIMEOUT);
        let none = Asked::default();
        let cases: [(Lines, Result<Asked, &str>); 10] = [
            (&[("x-custom", "1"), ("accept", "*/*")], Ok(none)),
            (&[("x-request-timeout", " 0.5 ")], Ok(Asked { warm: seconds(0.5), ..none })),
            (&[("x-request-timeout", "1e9")], Ok(Asked { warm: day, ..none })),
            (&[("x-scale-up-timeout", "30")], Ok(Asked { cold: seconds(30.0), ..none })),
            (
                &[("x-scale-up-timeout", "1"), ("x-scale-up-timeout", "2")],
                Ok(Asked { cold: seconds(1.0), ..none }),
            ),
            (&[("x-forewarm-priority", "HIGH")], Ok(Asked { priority: Some(Priority::High), ..none })),
            (&[("x-forewarm-keepalive", "15")], Ok(Asked { keepalive_seconds: Some(15.0), ..none })),
            (&[("x-forewarm-keepalive", "often")], Ok(none)),
            (
                &[("x-request-timeout", "soon")],
                Err("`x-request-timeout` is `soon`; it takes seconds, such as 30 or 0.5"),
            ),
            (
                &[("x-forewarm-priority", "urgent")],
                Err("`x-forewarm-priority` is `urgent`; it takes high, normal or low"),
            ),
        ];
        for (lines, expected) in cases {
            let mut headers = Headers::default();
            for (name, value) in lines {
                headers.push(name, value.as_bytes());
            }
            let found = Asked::of(&headers).map_err(|bad| bad.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{lines:?}");
        }
    }
}
