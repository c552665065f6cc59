//! What a request's body asks for, found in one pass over it. The prompt is skipped, not copied.

use std::borrow::Cow;

use crate::{prefix::Beginning, shallow};

/// Bytes of a body for each token of its prompt: what OpenAI tells its users to reckon with for English text
/// (four characters), which JSON's framing and other scripts move in opposite directions.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that a prompt counts as at most: a longer body is a picture or a recording, whose bytes say nothing about
/// tokens. 128 Ki is the longest context of most models.
const MAX_PROMPT_TOKENS: u64 = 128 << 10;

/// What the gateway wants to know of a request's body. All of it may be missing, and of a body that is no JSON, such
/// as a multipart upload, all of it is. Of a field that stands there twice the last one counts, as with the engines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    /// Which model.
    pub(crate) model: Option<Cow<'a, str>>,
    /// For whom, as the client says.
    pub(crate) user: Option<Cow<'a, str>>,
    /// Tokens that an answer may have at most.
    pub(crate) max_tokens: Option<u64>,
    /// How many answers.
    pub(crate) n: Option<u64>,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// How its prompt begins.
    pub(crate) beginning: Beginning<'a>,
}

impl<'a> Ask<'a> {
    /// Reads a body.
    pub(crate) fn of(body: &'a [u8]) -> Self {
        let mut ask = Ask::default();
        let (mut max_tokens, mut max_completion_tokens, mut max_output_tokens) = (None, None, None);
        let is_object = shallow::fields(body, |name, value| match name {
            b"model" => ask.model = shallow::text(value),
            b"user" => ask.user = shallow::text(value),
            b"n" => ask.n = count(value),
            b"stream" => ask.stream = value == b"true",
            b"max_tokens" => max_tokens = count(value),
            b"max_completion_tokens" => max_completion_tokens = count(value),
            b"max_output_tokens" => max_output_tokens = count(value),
            name => ask.beginning.see(name, value),
        });
        if is_object.is_none() {
            return Self::default();
        }
        // The first two are old and new name of one thing; the third is its name in `/v1/responses`.
        ask.max_tokens = max_completion_tokens.or(max_tokens).or(max_output_tokens);
        ask
    }
}

/// A number that counts something; whatever else a value is, it is the engine's to say.
fn count(value: &[u8]) -> Option<u64> {
    // `100.0` is 100 to the engines; the conversion ends at the largest number, and NaN is no JSON.
    let any = || {
        serde_json::from_slice(value).ok().filter(|number| *number >= 0.0).map(|number: f64| number as u64)
    };
    std::str::from_utf8(value).ok()?.parse().ok().or_else(any)
}

/// About how many tokens the prompt of a body of so many bytes has.
pub(crate) fn prompt_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN).min(MAX_PROMPT_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_whatever_stands_around_it() {
        let cases: [(&[u8], Option<&str>); 10] = [
            (br#"{"model":"llama3"}"#, Some("llama3")),
            (
                br#"{"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"m","stream":true}"#,
                Some("m"),
            ),
            (br#"{"model":"with \"quotes\""}"#, Some("with \"quotes\"")),
            (br#"{"\u006dodel":"m"}"#, Some("m")),
            (br#"{"model":"first","model":"last"}"#, Some("last")),
            (br#"{"max_tokens":{"not":["a number"]},"user":null,"n":-1,"model":"m"}"#, Some("m")),
            (br#"{"messages":[]}"#, None),
            (br#"{"model":7}"#, None),
            (b"--boundary\r\n", None),
            (b"", None),
        ];
        for (body, expected) in cases {
            assert_eq!(Ask::of(body).model.as_deref(), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_else_it_asks_for_is_found() {
        let ask = |body: &'static str| Ask::of(body.as_bytes());
        assert_eq!(
            ask(
                r#"{"model":"m","user":"u","max_tokens":100,"n":2,"stream":true,"temperature":[{"user":"x"}]}"#
            ),
            Ask {
                model: Some("m".into()),
                user: Some("u".into()),
                max_tokens: Some(100),
                n: Some(2),
                stream: true,
                ..Ask::default()
            }
        );
        let most: [(&str, Option<u64>); 7] = [
            (r#"{"max_tokens":9,"max_completion_tokens":7}"#, Some(7)),
            (r#"{"max_completion_tokens":null,"max_tokens":9}"#, Some(9)),
            (r#"{"max_output_tokens":5}"#, Some(5)),
            (r#"{"max_tokens":1e3}"#, Some(1000)),
            (r#"{"max_tokens":1e300}"#, Some(u64::MAX)),
            (r#"{"max_tokens":-5}"#, None),
            (r#"{"max_tokens":"5"}"#, None),
        ];
        for (body, expected) in most {
            assert_eq!(ask(body).max_tokens, expected, "{body}");
        }
        assert!(!ask(r#"{"stream":"true"}"#).stream);
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let body = br#"{"model":"m","user":"u"}"#;
        let Ask { model: Some(Cow::Borrowed(_)), user: Some(Cow::Borrowed(_)), .. } = Ask::of(body) else {
            panic!("copied")
        };
    }

    #[test]
    fn a_prompt_is_as_long_as_its_bytes_say_up_to_the_longest_context() {
        assert_eq!([0, 1, 4, 5, 4_000].map(prompt_tokens), [0, 1, 1, 2, 1_000]);
        assert_eq!(prompt_tokens(64 << 20), 128 << 10, "a picture");
    }
}
