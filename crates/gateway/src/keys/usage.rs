//! How many tokens an answer says that it cost.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

/// What it stands in, in all engines with OpenAI's API. Inside a text the quotes would be escaped.
const NAME: &[u8] = b"\"usage\"";
/// To prepare the search takes longer than to search an answer.
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));
/// Bytes kept from there on.
const MOST: usize = 1 << 10;

/// The last usage of an answer that passes by. Nothing is kept before there is one: it comes at the end, and many answers
/// pass at a time.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// What follows its name.
    kept: Option<Vec<u8>>,
    /// Bytes of its name that the last bytes ended with.
    cut: usize,
}

impl Usage {
    /// Looks at the next bytes.
    pub(super) fn see(&mut self, data: &[u8]) {
        let rest = &NAME[self.cut..];
        // Forwards it goes by many bytes at a time, backwards by one.
        let begins = match FINDER.find_iter(data).last() {
            Some(at) => Some(&data[at + NAME.len()..]),
            None if self.cut > 0 => data.strip_prefix(rest),
            None => None,
        };
        if begins.is_some() {
            self.kept = Some(Vec::new());
        }
        if let Some(kept) = &mut self.kept {
            let more = begins.unwrap_or(data);
            kept.extend_from_slice(&more[..more.len().min(MOST - kept.len())]);
        }
        self.cut = match rest.starts_with(data) {
            true if data.len() < rest.len() => self.cut + data.len(),
            // There is one quote in it until its end, so that no other beginning can be in what did not match.
            _ => (1..NAME.len()).rev().find(|&count| data.ends_with(&NAME[..count])).unwrap_or(0),
        };
    }

    /// The number that follows a field's name the last time that it stands there.
    pub(super) fn number(&self, field: &str) -> Option<u64> {
        let kept = self.kept.as_deref()?;
        let follows = |at| {
            let is_name = kept[..at].ends_with(b"\"");
            kept[at + field.len()..].strip_prefix(b"\":").filter(|_| is_name)
        };
        let rest = memmem::find_iter(kept, field).filter_map(follows).last()?.trim_ascii_start();
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
        for size in [1, 2, 3, 7, 1_000, 10_000] {
            let mut usage = Usage::default();
            for piece in text.as_bytes().chunks(size) {
                usage.see(piece);
            }
            assert_eq!(usage.number("prompt_tokens"), Some(12), "{size}");
            assert_eq!(usage.number("completion_tokens"), Some(345), "{size}");
            assert_eq!(usage.number("total_tokens"), None, "{size}");
        }
        let mut said = Usage::default();
        said.see(br#"{"text":"\"usage\":{\"completion_tokens\":9"}"#);
        assert_eq!(said.number("completion_tokens"), None, "that is a text");
        said.see(br#""usage":{"completion_tokens":null"#);
        assert_eq!(said.number("completion_tokens"), None);
    }

    #[test]
    fn of_a_stream_that_says_it_with_each_event_the_last_one_counts() {
        let event = |tokens: u32| {
            format!(
                "data: {{\"choices\":[{{}}],\"usage\":{{\"completion_tokens\":{tokens},\"x\":\"{}\"}}}}\n\n",
                "y".repeat(400)
            )
        };
        let stream: String = (1..=20).map(event).collect::<String>() + "data: [DONE]\n\n";
        for size in [1, 5, 64, 450, 461, 20_000] {
            let mut usage = Usage::default();
            stream.as_bytes().chunks(size).for_each(|piece| usage.see(piece));
            assert_eq!(usage.number("completion_tokens"), Some(20), "{size}");
            assert!(usage.kept.is_some_and(|kept| kept.len() <= MOST));
        }
    }
}
