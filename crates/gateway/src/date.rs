//! The time as a header says it (RFC 9110, section 5.6.7), for the answers that come without.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Letters of a date: `Sun, 06 Nov 1994 08:49:37 GMT`.
const LETTERS: usize = 29;

thread_local! {
    /// The last one, and its second: it is written once a second and not for each answer.
    static LAST: Cell<(u64, [u8; LETTERS])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
}

/// Now.
pub(crate) fn now() -> [u8; LETTERS] {
    // Beyond the year 9999 there are more letters.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (last, text) = LAST.get();
    if last == seconds {
        return text;
    }
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let text = date.as_bytes().try_into().unwrap_or(text);
    LAST.set((seconds, text));
    text
}
