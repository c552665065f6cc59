//! The time as a header says it (RFC 9110, section 5.6.7), for the answers that come without.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::clock;

/// Letters of a date: `Sun, 06 Nov 1994 08:49:37 GMT`.
const LETTERS: usize = 29;

/// Until when a date holds, and the date.
type Dated = (Option<Instant>, [u8; LETTERS]);

thread_local! {
    /// The last one: it is written once a second and not for each answer.
    static LAST: Cell<Dated> = const { Cell::new((None, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
}

/// Now.
pub(crate) fn now() -> [u8; LETTERS] {
    let (until, last) = LAST.get();
    let now = clock::now();
    if until.is_some_and(|until| now < until) {
        return last;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = Duration::from_secs(since.as_secs());
    let date = httpdate::fmt_http_date(UNIX_EPOCH + second);
    // Beyond the year 9999 there are more letters.
    let text = date.as_bytes().try_into().unwrap_or(last);
    LAST.set(((now + Duration::from_secs(1)).checked_sub(since - second), text));
    text
}
