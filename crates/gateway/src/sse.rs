//! Watches an event stream pass by: counts its events and knows whether it said that it is done. Keeps no
//! more than some bytes, whatever the chunks are.

use memchr::memchr;

use crate::headers::Headers;

/// Whether these are the headers of an event stream.
pub(crate) fn is_event_stream(headers: &Headers) -> bool {
    let kind = headers.get("content-type");
    kind.is_some_and(|value| value.starts_with(b"text/event-stream"))
}

/// The line that ends an OpenAI stream.
const DONE: &[u8] = b"data: [DONE]";
/// The name of its field.
const DATA: &[u8] = b"data:";

/// What was seen of an event stream.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Bytes of the line that is being read which match [`DONE`] so far; `None` once one does not.
    matched: Line,
    events: bool,
    done: bool,
    /// The line before was not empty: an empty one ends an event.
    in_event: bool,
}

/// The line that is being read.
#[derive(Debug)]
enum Line {
    /// So many bytes of [`DONE`] and nothing else.
    Matches(usize),
    /// A comment, which is no part of an event.
    Comment,
    /// Something else.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Line::Matches(0)
    }
}

impl Watch {
    /// Looks at the next bytes; returns how many events ended in them, the one that says done not counted.
    pub(crate) fn see(&mut self, data: &[u8]) -> u64 {
        let mut ended = 0;
        let mut rest = data;
        while let Some(&byte) = rest.first() {
            match (byte, &mut self.matched) {
                (b'\n', _) => {
                    ended += u64::from(self.end_line());
                    rest = &rest[1..];
                }
                // Part of the line's end, or nothing that matters here.
                (b'\r', _) => rest = &rest[1..],
                (byte, Line::Matches(count)) if DONE.get(*count) == Some(&byte) => {
                    *count += 1;
                    rest = &rest[1..];
                }
                // The space is optional.
                (b'[', Line::Matches(count)) if *count == DATA.len() => *count += 1,
                (byte, line) => {
                    match line {
                        Line::Matches(0) if byte == b':' => *line = Line::Comment,
                        Line::Matches(_) => *line = Line::Other,
                        // Goes on from the chunk before.
                        Line::Comment | Line::Other => {}
                    }
                    let line = memchr(b'\n', rest).unwrap_or(rest.len());
                    rest = &rest[line..];
                }
            }
        }
        ended
    }

    /// Whether that ended an event that counts.
    fn end_line(&mut self) -> bool {
        match std::mem::take(&mut self.matched) {
            Line::Matches(0) => {
                return std::mem::take(&mut self.in_event) && std::mem::take(&mut self.events);
            }
            Line::Comment => return false,
            Line::Matches(count) if count == DONE.len() => self.done = true,
            Line::Matches(_) | Line::Other => self.events = true,
        }
        self.in_event = true;
        false
    }

    /// Whether the stream said that it is done, be the line ended or not.
    pub(crate) fn is_done(&self) -> bool {
        self.done || matches!(self.matched, Line::Matches(count) if count == DONE.len())
    }

    /// Whether an event could begin here without being read as a part of the one before.
    pub(crate) fn is_between_events(&self) -> bool {
        !self.in_event && matches!(self.matched, Line::Matches(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watch(text: &[u8], cuts: &[usize]) -> (Watch, u64) {
        let (mut watch, mut events, mut rest) = (Watch::default(), 0, text);
        for cut in cuts {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            events += watch.see(now);
            rest = later;
        }
        events += watch.see(rest);
        (watch, events)
    }

    #[test]
    fn the_end_and_the_events_of_a_stream_are_seen() {
        struct Case {
            text: &'static str,
            events: u64,
            done: bool,
            between: bool,
        }
        let cases = [
            Case { text: "", events: 0, done: false, between: true },
            Case { text: "data: {}\n\n", events: 1, done: false, between: true },
            Case { text: "data: {}\r\n\r\ndata: {}\r\n\r\n", events: 2, done: false, between: true },
            Case { text: "data: {}\n", events: 0, done: false, between: false },
            Case { text: "data: {\"half", events: 0, done: false, between: false },
            Case { text: "event: a\ndata: {}\n\n\n\n", events: 1, done: false, between: true },
            Case { text: "data: {}\n\ndata: [DONE]\n\n", events: 1, done: true, between: true },
            Case { text: "data: {}\n\ndata: [DONE]", events: 1, done: true, between: false },
            Case { text: "data:[DONE]\n\n", events: 0, done: true, between: true },
            Case { text: ": still here\n\n", events: 0, done: false, between: true },
            Case { text: ": still he", events: 0, done: false, between: false },
            Case { text: "data: [DONE]\r\n\r\n", events: 0, done: true, between: true },
            Case { text: "data: {\"say\":\"data: [DONE]\"}\n\n", events: 1, done: false, between: true },
            Case { text: "data: [DONE] not\n\n", events: 1, done: false, between: true },
        ];
        for Case { text, events, done, between } in cases {
            let (watch, counted) = watch(text.as_bytes(), &[]);
            assert_eq!(
                (counted, watch.is_done(), watch.is_between_events()),
                (events, done, between),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_is_seen(
            cuts in prop::collection::vec(0_usize..40, 0..60),
            lines in prop::collection::vec(prop::sample::select(vec!["data: {\"x\":1}", "data: [DONE]", "", "data: [DON", ": comment"]), 0..20),
            crlf in any::<bool>(),
        ) {
            let text = lines.join(if crlf { "\r\n" } else { "\n" });
            let (whole, events) = watch(text.as_bytes(), &[]);
            let (cut, events_cut) = watch(text.as_bytes(), &cuts);
            prop_assert_eq!(events, events_cut);
            prop_assert_eq!(whole.is_done(), cut.is_done());
            prop_assert_eq!(whole.is_between_events(), cut.is_between_events());
        }
    }
}
