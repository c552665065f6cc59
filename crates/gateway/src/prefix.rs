//! How a request's prompt begins, as a number: requests that begin alike have the same one.
//!
//! A conversation grows at its end, so what counts of a list of messages ends with the first that the user wrote, and
//! in any case after so many bytes. Beside it stands what engines put in front of messages: instructions and tools.

use forewarm_core::affinity::{extended, hash};

use crate::shallow;

/// Fields that are taken note of; each has its place once in a request that makes sense.
const MOST_PARTS: usize = 8;

/// What of a request's body comes first for an engine, as it stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning<'a> {
    parts: [(Part, &'a [u8]); MOST_PARTS],
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Prompt,
    /// What engines put in front of it.
    Before,
}

impl<'a> Beginning<'a> {
    /// Takes note of a field of the body.
    pub(crate) fn see(&mut self, name: &[u8], value: &'a [u8]) {
        let part = match name {
            b"messages" | b"prompt" | b"input" => Part::Prompt,
            b"system" | b"instructions" | b"tools" => Part::Before,
            _ => return,
        };
        if let Some(place) = self.parts.get_mut(self.count) {
            *place = (part, value);
            self.count += 1;
        }
    }

    fn parts(&self) -> &[(Part, &'a [u8])] {
        &self.parts[..self.count]
    }

    /// The number of the prefix, of which so many bytes of each part are looked at; `None` where there is no prompt.
    /// Adapters share nothing with their base, nor with each other, so the model counts.
    pub(crate) fn number(&self, model: Option<&str>, bytes: u32) -> Option<u64> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let model = hash(model.unwrap_or_default().as_bytes());
        let number = self.parts().iter().fold(model, |prefix, (part, value)| match part {
            Part::Prompt => beginning(prefix, value, bytes),
            Part::Before => extended(prefix, &value[..value.len().min(bytes)]),
        });
        self.parts().iter().any(|(part, _)| *part == Part::Prompt).then_some(number)
    }
}

/// Adds the beginning of a prompt: of a list the elements up to the first of the user.
fn beginning(mut prefix: u64, prompt: &[u8], bytes: usize) -> u64 {
    let Some(elements) = shallow::elements(prompt) else {
        return extended(prefix, &prompt[..prompt.len().min(bytes)]);
    };
    let mut left = bytes;
    for element in elements {
        let taken = element.len().min(left);
        prefix = extended(prefix, &element[..taken]);
        left -= taken;
        if left == 0 || is_of_user(element) {
            break;
        }
    }
    prefix
}

fn is_of_user(message: &[u8]) -> bool {
    let mut is_of_user = false;
    let is_object = shallow::fields(message, |name, value| {
        if name == b"role" {
            is_of_user = value == b"\"user\"";
        }
    });
    is_object.is_some() && is_of_user
}

#[cfg(test)]
mod tests {
    use crate::ask::Ask;

    fn of(body: &[u8], bytes: u32) -> Option<u64> {
        let ask = Ask::of(body);
        ask.beginning.number(ask.model.as_deref(), bytes)
    }

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
