//! Scans a stream of server-sent events without building them: what matters is when they come, how many,
//! and how it ends.

/// Bytes kept of an event: enough for an error's JSON.
const MAX_KEPT: usize = 2_048;

/// What has been seen of a stream so far.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    line: Vec<u8>,
    /// Events with generated text, `[DONE]` and errors apart.
    pub(crate) events: u32,
    /// Whether `[DONE]` came.
    pub(crate) done: bool,
    /// The error that came, as its `code`.
    pub(crate) error: Option<String>,
}

impl Scanner {
    /// Takes in the next bytes, however they are cut; returns how many events with text were among them.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> u32 {
        let before = self.events;
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            if self.line.is_empty() {
                // As much as of a line that is cut.
                self.see(&head[..head.len().min(MAX_KEPT)]);
            } else {
                self.keep(head);
                let line = std::mem::take(&mut self.line);
                self.see(&line);
                self.line = line;
                self.line.clear();
            }
            bytes = &rest[1..];
        }
        self.keep(bytes);
        self.events - before
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn see(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
        } else if is_error(data) {
            self.error = Some(error_code(data));
        } else if has_text(data) {
            self.events += 1;
        }
    }
}

/// The `code` of an error in OpenAI's shape, empty when it has none.
pub(crate) fn error_code(json: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Outer {
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        #[serde(default)]
        code: serde_json::Value,
    }
    serde_json::from_slice::<Outer>(json)
        .map(|outer| outer.error.code.as_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

/// Whether an event is an error in OpenAI's shape, with or without spaces.
fn is_error(data: &[u8]) -> bool {
    data.strip_prefix(b"{").is_some_and(|inner| inner.trim_ascii_start().starts_with(b"\"error\""))
}

/// Keys of generated text: of a chat, of a completion, and of a model that thinks aloud first.
const TEXT_KEYS: [&[u8]; 4] = [b"\"content\":", b"\"text\":", b"\"reasoning_content\":", b"\"reasoning\":"];

/// Whether a chunk carries generated text: not the first one with the role alone, nor the one with usage.
fn has_text(data: &[u8]) -> bool {
    TEXT_KEYS.iter().any(|key| {
        let found = data.windows(key.len()).position(|window| window == *key);
        let value = found.map(|at| data[at + key.len()..].trim_ascii_start());
        value.is_some_and(|value| matches!(value, [b'"', next, ..] if *next != b'"'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        : a comment\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n\
        data: {\"choices\":[{\"text\":\" world\"}]}\r\n\r\n\
        data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n\
        data: [DONE]\n\n";

    proptest! {
        #[test]
        fn a_stream_is_read_however_it_is_cut(cuts in prop::collection::vec(1_usize..60, 0..40)) {
            let mut scanner = Scanner::default();
            let mut rest = STREAM.as_bytes();
            let mut counted = 0;
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                counted += scanner.push(now);
                rest = later;
            }
            counted += scanner.push(rest);
            prop_assert_eq!((counted, scanner.events, scanner.done, scanner.error), (2, 2, true, None));
        }
    }

    #[test]
    fn every_engine_s_way_to_write_a_chunk_is_read() {
        let cases = [
            (r#"data: {"choices": [{"delta": {"content": "a"}}]}"#, 1),
            (r#"data:{"choices":[{"delta":{"content":"a"}}]}"#, 1),
            (r#"data: {"choices":[{"delta":{"reasoning_content":"a","content":null}}]}"#, 1),
            (r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#, 0),
            (r#"data: {"choices": [], "usage": {"completion_tokens": 2}}"#, 0),
            (r#": {"content":"in a comment"}"#, 0),
        ];
        for (line, events) in cases {
            let mut scanner = Scanner::default();
            assert_eq!(scanner.push(format!("{line}\n\n").as_bytes()), events, "{line}");
        }
        let mut scanner = Scanner::default();
        scanner.push(b"data: { \"error\": {\"message\": \"x\", \"code\": 500}}\n\n");
        assert_eq!(scanner.error.as_deref(), Some(""), "an error with a number for its code is still one");
    }

    #[test]
    fn an_error_event_is_read_and_a_long_line_is_bounded() {
        let mut scanner = Scanner::default();
        scanner.push(b"data: {\"error\":{\"message\":\"x\",\"code\":\"replica_died_mid_stream\"}}\n\n");
        assert_eq!(scanner.error.as_deref(), Some("replica_died_mid_stream"));
        let mut scanner = Scanner::default();
        scanner.push(&[b'x'; 100_000]);
        assert_eq!(scanner.line.len(), MAX_KEPT);
        // What comes after that is not looked for, whether the line is cut or not.
        let late = format!("data: {{\"x\":\"{}\",\"text\":\"a\"}}\n\n", "x".repeat(MAX_KEPT));
        for size in [1, 1_000, late.len()] {
            let mut scanner = Scanner::default();
            let events: u32 = late.as_bytes().chunks(size).map(|piece| scanner.push(piece)).sum();
            assert_eq!(events, 0, "{size}");
        }
    }
}
