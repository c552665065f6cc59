//! JSON of which only the outermost fields are looked at: what is in them is stepped over, not read.
//!
//! A parser would check all of it, at ten times the price, and the engine checks it anyway. In JSON this finds what a parser
//! finds, as a test says; in what is none it may find something, and then it is the engine that refuses it.

use std::borrow::Cow;

use memchr::memchr2;

/// Words of eight bytes that are looked at before a search in larger steps, which takes longer to begin: most strings of a
/// request are over by then.
const WORDS: usize = 3;

/// Calls `field` with each field of an object, in their order: its name, and its value as it stands there. `None` when this
/// is no object, whatever was found before that was clear.
pub(crate) fn fields<'a>(object: &'a [u8], mut field: impl FnMut(&[u8], &'a [u8])) -> Option<()> {
    let mut rest = Rest(object);
    rest.token(b'{')?;
    if rest.token(b'}').is_none() {
        loop {
            rest.blanks();
            let (name, has_escapes) = rest.string()?;
            rest.token(b':')?;
            let value = rest.value()?;
            if has_escapes {
                field(unescaped(name)?.as_bytes(), value);
            } else {
                field(&name[1..name.len() - 1], value);
            }
            if rest.token(b',').is_none() {
                break rest.token(b'}')?;
            }
        }
    }
    rest.blanks();
    rest.0.is_empty().then_some(())
}

/// The elements of a list, as they stand there, up to where it is none any more; `None` when it does not even begin as one.
pub(crate) fn elements(list: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut rest = Rest(list);
    rest.token(b'[')?;
    let (mut is_first, mut is_over) = (true, rest.token(b']').is_some());
    Some(std::iter::from_fn(move || {
        is_over |= !std::mem::take(&mut is_first) && rest.token(b',').is_none();
        if is_over { None } else { rest.value() }
    }))
}

/// What a string says that stands there with its quotes; borrowed unless it has escapes.
pub(crate) fn text(string: &[u8]) -> Option<Cow<'_, str>> {
    let inner = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    match inner.contains(&b'\\') {
        true => unescaped(string).map(Cow::Owned),
        false => std::str::from_utf8(inner).ok().map(Cow::Borrowed),
    }
}

fn unescaped(string: &[u8]) -> Option<String> {
    serde_json::from_slice(string).ok()
}

/// What was not looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// This byte, after blanks.
    fn token(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// So many bytes.
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A string with its quotes, and whether it has escapes.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        let (length, has_escapes) = string_length(self.0)?;
        Some((self.take(length)?, has_escapes))
    }

    /// A value of any kind, after blanks.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        match self.0.first()? {
            b'"' => self.string().map(|(string, _)| string),
            b'{' | b'[' => self.nested(),
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let length = self.0.iter().position(is_end).unwrap_or(self.0.len());
                if length == 0 { None } else { self.take(length) }
            }
        }
    }

    /// An object or a list, to the end of what was opened in it.
    fn nested(&mut self) -> Option<&'a [u8]> {
        let (mut at, mut depth) = (0, 0_usize);
        loop {
            match self.0.get(at)? {
                b'"' => at += string_length(&self.0[at..])?.0,
                b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
                b'}' | b']' => {
                    (at, depth) = (at + 1, depth - 1);
                    if depth == 0 {
                        return self.take(at);
                    }
                }
                _ => at += 1,
            }
        }
    }
}

/// How long the string is that begins here, quotes included, and whether it has escapes.
fn string_length(bytes: &[u8]) -> Option<(usize, bool)> {
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let (mut at, mut has_escapes, mut words) = (1, false, 0);
    loop {
        let rest = bytes.get(at..)?;
        at += match rest.first_chunk() {
            Some(word) if words < WORDS => {
                let word = u64::from_le_bytes(*word);
                let found = zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
                if found == 0 {
                    (at, words) = (at + size_of_val(&word), words + 1);
                    continue;
                }
                found.trailing_zeros() as usize / 8
            }
            _ => memchr2(b'"', b'\\', rest)?,
        };
        if bytes[at] == b'"' {
            return Some((at + 1, has_escapes));
        }
        // Whatever is escaped, it is not the end.
        (at, has_escapes, words) = (at + 2, true, 0);
    }
}

/// A word of eight times this byte.
pub(crate) const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Marks the lowest byte that is zero, and perhaps some above it: the first step of a search for a byte, as in Sean
/// Anderson's "Bit Twiddling Hacks".
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(every(1)) & !word & every(0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json, value::RawValue};

    use super::*;

    fn found(object: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        fields(object.as_bytes(), |name, value| {
            found.push((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            ));
        })?;
        Some(found)
    }

    #[test]
    fn fields_are_found_as_they_stand_there() {
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("{}", &[]),
            (" { } ", &[]),
            (r#"{"a":1}"#, &[("a", "1")]),
            (r#"{ "a" : -1.5e3 , "a":null,"b" : true }"#, &[("a", "-1.5e3"), ("a", "null"), ("b", "true")]),
            (
                r#"{"\u0061\"":"]}\"","b":[{"c":"}"}, []]}"#,
                &[("a\"", r#""]}\"""#), ("b", r#"[{"c":"}"}, []]"#)],
            ),
            ("{\"ä\":\t\"\\\\\"\r\n}", &[("ä", r#""\\""#)]),
        ];
        for (object, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(found(object), Some(expected), "{object}");
        }
    }

    #[test]
    fn what_is_no_object_is_none() {
        let not = [
            "",
            " ",
            "{",
            "}",
            "[]",
            "1",
            "\"a\"",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1}}",
            "{\"a\":1} x",
            "{\"a\":\"}",
            "{\"a\":\"\\\"}",
            "{\"a\":[}",
            "{\"a\" 1}",
            "{,}",
            "{\"\\x\":1}",
            "--boundary",
        ];
        for text in not {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn elements_are_found_up_to_where_they_end() {
        let cases: [(&str, Option<&[&str]>); 6] = [
            ("[]", Some(&[])),
            (r#" [ 1 , "]" , [2, [3]], {"a": "b"} ]"#, Some(&["1", "\"]\"", "[2, [3]]", r#"{"a": "b"}"#])),
            ("[1, 2", Some(&["1", "2"])),
            ("[1 2]", Some(&["1"])),
            ("{}", None),
            ("\"[]\"", None),
        ];
        for (list, expected) in cases {
            let found: Option<Vec<_>> = elements(list.as_bytes())
                .map(|found| found.map(|it| std::str::from_utf8(it).unwrap()).collect());
            assert_eq!(found.as_deref(), expected, "{list}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\],:\n\u{e9}\u{1f600} ]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(r#"[a-z"\\{}]{0,5}"#, inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn in_json_is_found_what_a_parser_finds(value in any_json(), is_pretty in any::<bool>()) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            type Parsed<'a> = std::collections::BTreeMap<String, &'a RawValue>;
            let parsed = serde_json::from_str::<Parsed<'_>>(&text).ok();
            let parsed: Option<Vec<_>> = parsed.map(|fields| {
                fields.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
            });
            let found = found(&text).map(|mut fields| { fields.sort(); fields });
            prop_assert_eq!(found, parsed);
            let parsed = serde_json::from_str::<Vec<&RawValue>>(&text).ok();
            let parsed: Option<Vec<_>> = parsed.map(|list| list.into_iter().map(RawValue::get).collect());
            let found: Option<Vec<_>> =
                elements(text.as_bytes()).map(|list| list.map(|it| std::str::from_utf8(it).unwrap()).collect());
            prop_assert_eq!(found, parsed);
        }

        #[test]
        fn anything_is_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut object = b"{\"a\":[".to_vec();
            object.extend_from_slice(&bytes);
            fields(&object, |_, _| ());
            fields(&bytes, |_, _| ());
            if let Some(found) = elements(&bytes) {
                prop_assert!(found.count() <= bytes.len());
            }
        }
    }
}
