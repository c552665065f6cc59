//! Which scaler a request belongs to.

use serde::Deserialize;

/// What the gateway wants to know of a request's body. The prompt is skipped, not copied.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    model: Option<std::borrow::Cow<'a, str>>,
}

/// The `model` field of a JSON body; `None` when there is none or the body is something else, such as a
/// multipart upload.
pub(crate) fn model(body: &[u8]) -> Option<String> {
    let peek: Peek<'_> = serde_json::from_slice(body).ok()?;
    peek.model.map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_whatever_stands_around_it() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (br#"{"model":"llama3"}"#, Some("llama3")),
            (
                br#"{"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"m","stream":true}"#,
                Some("m"),
            ),
            (br#"{"model":"with \"quotes\""}"#, Some("with \"quotes\"")),
            (br#"{"messages":[]}"#, None),
            (br#"{"model":7}"#, None),
            (b"--boundary\r\n", None),
            (b"", None),
        ];
        for (body, expected) in cases {
            assert_eq!(model(body).as_deref(), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
