//! Reading a tree field by field, noting every problem and going on.

use std::{cell::RefCell, fmt::Display, time::Duration};

use forewarm_core::quantity::Quantity;

use crate::{
    problem::{Collector, UNKNOWN_FIELD},
    quantity::{self, InvalidQuantity},
    suggest::nearest,
    yaml::{Node, Scalar, Span, Value},
};

/// A node, the path that leads to it, and where its problems go.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    pub(crate) out: &'a Collector,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>, out: &'a Collector) -> Self {
        Self { node, path: path.into(), out }
    }

    /// Notes that something else is wanted here.
    pub(crate) fn wanted(&self, wanted: impl Into<String>) {
        self.out.add(&self.path, self.node.span, self.node.describe(), wanted);
    }

    /// Notes a problem here in words of the caller's.
    pub(crate) fn problem(&self, found: impl Into<String>, wanted: impl Into<String>) {
        self.out.add(&self.path, self.node.span, found, wanted);
    }

    /// Notes that something else is wanted at `path` below here, such as `triggers[0].type`.
    pub(crate) fn problem_at(&self, path: &str, wanted: impl Into<String>) {
        let (mut node, mut whole) = (self.node, true);
        for part in path.split('.') {
            let (name, index) = part.trim_end_matches(']').split_once('[').unwrap_or((part, ""));
            let next = node.get(name).and_then(|node| match index.parse::<usize>() {
                Ok(index) => node.items().get(index),
                Err(_) => Some(node),
            });
            whole &= next.is_some();
            node = next.unwrap_or(node);
        }
        let found = if whole { node.describe() } else { "nothing".to_owned() };
        self.out.add(&join(&self.path, path), node.span, found, wanted);
    }

    /// What stands at the end of `keys`, when it is there.
    pub(crate) fn down(&self, keys: &[&str]) -> Option<Cursor<'a>> {
        let node = self.node.at(keys)?;
        Some(Cursor::new(node, join(&self.path, keys.join(".")), self.out))
    }

    /// The fields of a mapping.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        match &self.node.value {
            Value::Map(_) => Some(Fields { at: self.clone(), known: RefCell::default() }),
            // `queue:` with nothing behind it is a mapping whose fields are all at their defaults.
            Value::Scalar(_) if self.node.is_null() => {
                Some(Fields { at: self.clone(), known: RefCell::default() })
            }
            Value::Scalar(_) | Value::Seq(_) => {
                self.wanted("a mapping");
                None
            }
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Vec<Cursor<'a>> {
        let Value::Seq(items) = &self.node.value else {
            self.wanted("a list");
            return Vec::new();
        };
        let cursor = |(index, node)| Cursor::new(node, format!("{}[{index}]", self.path), self.out);
        items.iter().enumerate().map(cursor).collect()
    }

    /// Text that is not empty. A plain number or boolean counts as its text.
    pub(crate) fn text(&self) -> Option<String> {
        match self.node.text() {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            Some(_) | None => {
                self.wanted("text");
                None
            }
        }
    }

    /// Text that begins so.
    pub(crate) fn starting_with(&self, start: &str, wanted: &str) -> Option<String> {
        let text = self.text()?;
        if text.starts_with(start) {
            return Some(text);
        }
        self.wanted(wanted);
        None
    }

    /// A list of texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Cursor::text).collect()
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        let value = self.node.bool();
        if value.is_none() {
            self.wanted("true or false");
        }
        value
    }

    /// A whole number of at least `min` and at most `max`.
    pub(crate) fn whole(&self, min: u32, max: u32) -> Option<u32> {
        let value = self.plain().and_then(|text| text.parse().ok()).filter(|v| (min..=max).contains(v));
        if value.is_none() {
            self.wanted(match (min, max) {
                (0, u32::MAX) => "a whole number".to_owned(),
                (_, u32::MAX) => format!("a whole number of at least {min}"),
                _ => format!("a whole number from {min} to {max}"),
            });
        }
        value
    }

    /// A number above `above` and at most `max`.
    pub(crate) fn number(&self, above: f64, max: f64) -> Option<f64> {
        let value = self.plain().and_then(|text| text.parse::<f64>().ok());
        let value = value.filter(|value| value.is_finite() && *value > above && *value <= max);
        if value.is_none() {
            self.wanted(if max.is_finite() {
                format!("a number above {above}, at most {max}")
            } else {
                format!("a number above {above}")
            });
        }
        value
    }

    /// A number of at least `min`.
    pub(crate) fn number_from(&self, min: f64) -> Option<f64> {
        let value = self.plain().and_then(|text| text.parse::<f64>().ok());
        let value = value.filter(|value| value.is_finite() && *value >= min);
        if value.is_none() {
            self.wanted(format!("a number of at least {min}"));
        }
        value
    }

    /// A whole number up to `max`, be it written as text as annotations are.
    pub(crate) fn written_whole(&self, max: u32) -> Option<u32> {
        let value = self.node.text().and_then(|text| text.parse().ok()).filter(|value| *value <= max);
        if value.is_none() {
            self.wanted(format!("a whole number up to {max}"));
        }
        value
    }

    /// A Kubernetes quantity that is not negative.
    pub(crate) fn quantity(&self) -> Option<Quantity> {
        let value = self.node.text().and_then(|text| text.parse::<Quantity>().ok());
        let value = value.filter(|value| !value.is_negative());
        if value.is_none() {
            self.wanted("a quantity such as `5`, `500m` or `0.1`");
        }
        value
    }

    /// A Kubernetes quantity above zero.
    pub(crate) fn positive_quantity(&self) -> Option<Quantity> {
        let value = self.quantity()?;
        if value.is_zero() {
            self.wanted("a quantity above zero");
            return None;
        }
        Some(value)
    }

    /// A Go-style duration.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.amount(quantity::duration)
    }

    /// A Go-style duration above zero.
    pub(crate) fn positive_duration(&self) -> Option<Duration> {
        let span = self.duration()?;
        if span.is_zero() {
            self.wanted("a duration above zero, such as `240s`");
            return None;
        }
        Some(span)
    }

    /// A size in bytes above zero.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let size = self.amount(quantity::bytes)?;
        if size == 0 {
            self.wanted("a size above zero, such as `256Mi`");
            return None;
        }
        Some(size)
    }

    /// One of a closed set of words.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.node.text().unwrap_or_default();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.wanted(format!("one of {}{}", names.join(", "), did_you_mean(text, &names)));
        None
    }

    fn amount<T>(&self, read: impl Fn(&str) -> Result<T, InvalidQuantity>) -> Option<T> {
        match self.node.text().map_or(Err(None), |text| read(text).map_err(Some)) {
            Ok(value) => Some(value),
            Err(error) => {
                let wanted = error.map_or_else(
                    || read("").err().map_or("an amount", |error| error.wanted),
                    |error| error.wanted,
                );
                self.wanted(wanted);
                None
            }
        }
    }

    /// The text of a plain scalar: numbers of ours are not quoted.
    fn plain(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(Scalar { text, plain: true }) => Some(text),
            Value::Scalar(_) | Value::Seq(_) | Value::Map(_) => None,
        }
    }
}

/// The fields of one mapping. Each field asked for is known; [`Fields::finish`] reports the others.
pub(crate) struct Fields<'a> {
    pub(crate) at: Cursor<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The field, when it is there and not null.
    pub(crate) fn get(&self, name: &'static str) -> Option<Cursor<'a>> {
        self.known.borrow_mut().push(name);
        let node = self.at.node.get(name)?;
        Some(Cursor::new(node, self.path_of(name), self.at.out))
    }

    /// The field; its absence is a problem.
    pub(crate) fn require(&self, name: &'static str, wanted: &str) -> Option<Cursor<'a>> {
        let field = self.get(name);
        if field.is_none() {
            self.at.out.add(&self.path_of(name), self.at.node.span, "nothing", wanted);
        }
        field
    }

    /// Exactly one of these fields, by name.
    pub(crate) fn exactly_one(&self, names: &[&'static str]) -> Option<(&'static str, Cursor<'a>)> {
        let mut present = Vec::new();
        for name in names {
            self.known.borrow_mut().push(name);
            // `forewarm:` with nothing behind it is a choice, too.
            if let Some(entry) = self.at.node.entry(name) {
                present.push((*name, Cursor::new(&entry.value, self.path_of(name), self.at.out)));
            }
        }
        if present.len() == 1 {
            return present.pop();
        }
        let found: Vec<_> = present.iter().map(|(name, _)| *name).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
        self.at.problem(found, format!("exactly one of {}", names.join(", ")));
        None
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self) {
        if self.at.out.is_foreign() {
            return;
        }
        let known = self.known.into_inner();
        for entry in self.at.node.entries() {
            if !known.contains(&entry.key.as_str()) {
                let wanted = if known.is_empty() {
                    "none: there is nothing to set".to_owned()
                } else {
                    format!("one of {}{}", known.join(", "), did_you_mean(&entry.key, &known))
                };
                let path = join(&self.at.path, &entry.key);
                self.at.out.add(&path, entry.key_span, UNKNOWN_FIELD, wanted);
            }
        }
    }

    /// Where a problem with the mapping as a whole is shown.
    pub(crate) fn span(&self) -> Span {
        self.at.node.span
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.at.path, name)
    }
}

pub(crate) fn join(path: &str, name: impl Display) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

fn did_you_mean(name: &str, known: &[&str]) -> String {
    nearest(name, known.iter().copied()).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}
