//! Other names of models: the body says another one, and every other byte stays.

use bytes::{Bytes, BytesMut};

use crate::shallow;

/// The body with `model` in the place of the one that it asks for; as it is where it asks for none. Of two the last one
/// counts, as with the engines.
pub(crate) fn renamed(body: Bytes, model: &str) -> Bytes {
    let mut old = None;
    let is_object = shallow::fields(&body, |name, value| {
        if name == b"model" {
            old = Some(value);
        }
    });
    let (Some(()), Some(old)) = (is_object, old) else { return body };
    // It is a part of the body.
    let at = old.as_ptr() as usize - body.as_ptr() as usize;
    let new = serde_json::Value::from(model).to_string();
    let mut renamed = BytesMut::with_capacity(body.len() - old.len() + new.len());
    renamed.extend_from_slice(&body[..at]);
    renamed.extend_from_slice(new.as_bytes());
    renamed.extend_from_slice(&body[at + old.len()..]);
    renamed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_changes() {
        let cases = [
            (r#"{"model":"gpt-4o","stream":true}"#, r#"{"model":"llama3","stream":true}"#),
            (r#" { "n" : 1.0 , "model" : "gpt-4o" } "#, r#" { "n" : 1.0 , "model" : "llama3" } "#),
            (r#"{"mod\u0065l":"gpt\u002d4o","x":"gpt-4o"}"#, r#"{"mod\u0065l":"llama3","x":"gpt-4o"}"#),
            (r#"{"model":"first","model":"gpt-4o"}"#, r#"{"model":"first","model":"llama3"}"#),
            (r#"{"messages":[{"model":"gpt-4o"}]}"#, r#"{"messages":[{"model":"gpt-4o"}]}"#),
            ("--boundary", "--boundary"),
        ];
        for (body, expected) in cases {
            assert_eq!(renamed(Bytes::from(body), "llama3"), expected, "{body}");
        }
        let quoted = renamed(Bytes::from(r#"{"model":"a"}"#), r#"with "quotes""#);
        assert_eq!(quoted, r#"{"model":"with \"quotes\""}"#);
    }
}
