//! How many tokens an answer says that it cost.

/// Bytes kept of the end of an answer: the usage stands there, in all engines with OpenAI's API.
const TAIL: usize = 1 << 10;

/// The end of an answer as it passes by.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Looks at the next bytes.
    pub(super) fn see(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(TAIL)..];
        let over = (self.0.len() + data.len()).saturating_sub(TAIL);
        self.0.drain(..over);
        self.0.extend_from_slice(data);
    }

    /// The number that follows a field's name the last time that it stands there. A name inside a text would have
    /// its quotes escaped, and is not taken for it.
    pub(super) fn number(&self, field: &str) -> Option<u64> {
        let name = format!("\"{field}\":");
        let at = self.0.windows(name.len()).rposition(|window| window == name.as_bytes())?;
        let rest = self.0[at + name.len()..].trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_found_however_the_answer_is_cut() {
        let text = format!(
            r#"{{"choices":[{{"text":"{} \"completion_tokens\": 9"}}],"usage": {{"prompt_tokens": 12,"completion_tokens":345}}}}"#,
            "x".repeat(5_000)
        );
        for size in [1, 7, 1_000, 10_000] {
            let mut tail = Tail::default();
            for piece in text.as_bytes().chunks(size) {
                tail.see(piece);
            }
            assert_eq!(tail.number("prompt_tokens"), Some(12), "{size}");
            assert_eq!(tail.number("completion_tokens"), Some(345), "{size}");
            assert_eq!(tail.number("total_tokens"), None, "{size}");
        }
        let mut said = Tail::default();
        said.see(br#"{"text":"\"completion_tokens\":9"}"#);
        assert_eq!(said.number("completion_tokens"), None, "that is a text");
        said.see(br#""completion_tokens":null"#);
        assert_eq!(said.number("completion_tokens"), None);
    }
}
