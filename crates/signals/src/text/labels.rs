//! Labels of a sample, read where they lie.

use std::borrow::Cow;

use super::Problem;

/// The labels of one sample, already checked. They stay text until asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Labels<'a> {
    inner: &'a str,
}

impl<'a> Labels<'a> {
    /// Every label in the order of the line.
    pub fn iter(&self) -> LabelIter<'a> {
        LabelIter { rest: self.inner }
    }

    /// The value of one label, `None` when the sample does not have it.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Reads the labels at the start of `text`, which follows the opening brace, and what comes after
    /// the closing one.
    pub(super) fn read(text: &'a str) -> Result<(Self, &'a str), Problem> {
        let mut rest = text;
        while let Step::Label { rest: after, .. } = step(rest)? {
            rest = after;
        }
        let end = text.len() - trim(rest).len();
        let (inner, closed) = text.split_at(end);
        Ok((Self { inner }, closed.strip_prefix('}').ok_or(Problem::LabelsOpen)?))
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = (&'a str, Cow<'a, str>);
    type IntoIter = LabelIter<'a>;

    fn into_iter(self) -> LabelIter<'a> {
        self.iter()
    }
}

/// Iterates over the labels of a sample: name, and value without its escapes.
#[derive(Clone, Debug)]
pub struct LabelIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        match step(self.rest) {
            Ok(Step::Label { name, value, rest }) => {
                self.rest = rest;
                Some((name, unescape(value)))
            }
            // The text was checked when it was read: there is no other reason to stop than the end.
            Ok(Step::End) | Err(_) => None,
        }
    }
}

enum Step<'a> {
    Label { name: &'a str, value: &'a str, rest: &'a str },
    End,
}

/// One label, its value still escaped, or the end: a closing brace, or nothing more.
fn step(text: &str) -> Result<Step<'_>, Problem> {
    let text = trim(text);
    if text.is_empty() || text.starts_with('}') {
        return Ok(Step::End);
    }
    let bytes = text.as_bytes();
    if !(bytes[0].is_ascii_alphabetic() || bytes[0] == b'_') {
        return Err(Problem::LabelName);
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = bytes.iter().position(|byte| !is_name(byte)).unwrap_or(bytes.len());
    let (name, rest) = text.split_at(end);
    let rest = trim(rest).strip_prefix('=').ok_or(Problem::LabelValue)?;
    let rest = trim(rest).strip_prefix('"').ok_or(Problem::LabelValue)?;
    let quote = closing_quote(rest.as_bytes()).ok_or(Problem::LabelValue)?;
    let (value, rest) = (&rest[..quote], trim(&rest[quote + 1..]));
    match rest.as_bytes().first() {
        Some(b',') => Ok(Step::Label { name, value, rest: &rest[1..] }),
        Some(b'}') | None => Ok(Step::Label { name, value, rest }),
        Some(_) => Err(Problem::LabelsOpen),
    }
}

/// Where the first quote stands that no backslash escapes.
fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + memchr::memchr2(b'"', b'\\', &bytes[from..])?;
        if bytes[found] == b'"' {
            return Some(found);
        }
        from = found + 2;
        if from > bytes.len() {
            return None;
        }
    }
}

/// `\\`, `\"` and `\n`; any other escape stays as it is, as Prometheus leaves it.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some(escaped @ ('\\' | '"')) => text.push(escaped),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    Cow::Owned(text)
}

pub(super) fn trim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}
