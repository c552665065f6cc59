//! How a request's prompt begins, as a number: requests that begin alike have the same one.
//!
//! A conversation grows at its end, so what counts of a list of messages ends with the first that the user wrote, and
//! in any case after so many bytes. Beside it stands what engines put in front of messages: instructions and tools.

use forewarm_core::affinity::{extended, hash};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The number of a request's prefix, of which so many bytes of each part are looked at; `None` where it has no prompt.
pub(crate) fn of(body: &[u8], bytes: u32) -> Option<u64> {
    let mut body = serde_json::Deserializer::from_slice(body);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    Fields(bytes).deserialize(&mut body).ok().flatten()
}

/// Reads the fields of a body.
struct Fields(usize);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, body: D) -> Result<Option<u64>, D::Error> {
        body.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<u64>, A::Error> {
        let (mut prefix, mut has_prompt) = (hash(&[]), false);
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "messages" | "prompt" | "input" => {
                    prefix = beginning(prefix, fields.next_value::<&RawValue>()?.get(), self.0);
                    has_prompt = true;
                }
                // Adapters share nothing with their base, nor with each other.
                "model" | "system" | "instructions" | "tools" => {
                    let value = fields.next_value::<&RawValue>()?.get().as_bytes();
                    prefix = extended(prefix, &value[..value.len().min(self.0)]);
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(has_prompt.then_some(prefix))
    }
}

/// Adds the beginning of a prompt: of a list the elements up to the first of the user.
fn beginning(prefix: u64, prompt: &str, bytes: usize) -> u64 {
    let mut prompt_as_list = serde_json::Deserializer::from_str(prompt);
    match (List { prefix, left: bytes }).deserialize(&mut prompt_as_list) {
        Ok(prefix) => prefix,
        Err(_) => extended(prefix, &prompt.as_bytes()[..prompt.len().min(bytes)]),
    }
}

struct List {
    prefix: u64,
    left: usize,
}

impl<'de> DeserializeSeed<'de> for List {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<u64, D::Error> {
        list.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<u64, A::Error> {
        while self.left > 0
            && let Some(element) = elements.next_element::<&RawValue>()?
        {
            let element = element.get();
            let taken = element.len().min(self.left);
            self.prefix = extended(self.prefix, &element.as_bytes()[..taken]);
            self.left -= taken;
            if is_of_user(element) {
                break;
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.prefix)
    }
}

fn is_of_user(message: &str) -> bool {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: &'a str,
    }
    serde_json::from_str::<Message<'_>>(message).is_ok_and(|message| message.role == "user")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str, bytes: u32) -> bool {
        let (a, b) = (of(a.as_bytes(), bytes), of(b.as_bytes(), bytes));
        assert!(a.is_some() && b.is_some());
        a == b
    }

    #[test]
    fn what_begins_alike_is_alike() {
        let chat = |messages: &str| format!(r#"{{"model":"m","messages":[{messages}],"stream":true}}"#);
        let first = r#"{"role":"system","content":"be kind"},{"role":"user","content":"hello"}"#;
        let later =
            format!(r#"{first},{{"role":"assistant","content":"hi"}},{{"role":"user","content":"x"}}"#);
        assert!(same(&chat(first), &chat(&later), 4_096), "a conversation stays where it was");
        let other = first.replace("hello", "help");
        assert!(!same(&chat(first), &chat(&other), 4_096), "another one need not be there");
        assert!(same(&chat(first), &chat(&other), 30), "but for what is beyond the bytes that count");
        assert!(!same(&chat(first), &chat(first).replace(r#""m""#, r#""adapter""#), 4_096));
        let text = |prompt: &str| format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
        assert!(same(&text("once upon a time"), &text("once upon a day"), 10));
        assert!(!same(&text("once upon a time"), &text("once upon a day"), 100));
        assert_ne!(of(br#"{"input":["a","b"]}"#, 9), of(br#"{"input":["c","b"]}"#, 9));
    }

    #[test]
    fn what_has_no_prompt_has_no_prefix() {
        for body in [r#"{"model":"m"}"#, "", "--boundary", "[]", r#"{"messages":"#] {
            assert_eq!(of(body.as_bytes(), 100), None, "{body}");
        }
        assert!(of(br#"{"messages":"not a list"}"#, 100).is_some());
    }
}
