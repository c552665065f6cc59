//! The tree.

/// Where something stands in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Byte offset of its first byte.
    pub start: usize,
    /// Byte offset behind its last byte.
    pub end: usize,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Column of its first character, from 1.
    pub column: usize,
}

/// A value and its place. A value reached through an alias has the place of its anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The place.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, a number, a boolean or nothing.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order of the text; keys are unique.
    Map(Vec<Entry>),
}

/// A scalar as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Its text, escapes resolved.
    pub text: String,
    /// Whether it is written without quotes, so that `5` is a number and `true` a boolean.
    pub plain: bool,
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The value of `key`, when this is a mapping that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// The entry of `key`, when this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The node at the end of `keys`.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none when this is something else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::Seq(_) => &[],
        }
    }

    /// The items of a list; none when this is something else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    /// The scalar's text, quoted or not; `None` for a list, a mapping or null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !self.is_null() => Some(&scalar.text),
            Value::Scalar(_) | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// The boolean, when this is one (YAML 1.1's `yes` and `on` too, as Kubernetes reads them).
    pub fn bool(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar(Scalar { text, plain: true }) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            Value::Scalar(_) | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// The number, when this is a plain one or a quoted one.
    pub fn number(&self) -> Option<f64> {
        self.text().and_then(|text| text.parse().ok()).filter(|number: &f64| number.is_finite())
    }

    /// The whole number, when this is one.
    pub fn integer(&self) -> Option<i64> {
        self.text().and_then(|text| text.parse().ok())
    }

    /// Whether this is null or nothing at all.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(Scalar { text, plain: true }) => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Value::Scalar(_) | Value::Seq(_) | Value::Map(_) => false,
        }
    }

    /// The value in a few words, for a message about it.
    pub fn describe(&self) -> String {
        /// Enough to recognise the value, short enough for one line.
        const MAX_SHOWN_CHARS: usize = 60;
        match &self.value {
            Value::Scalar(_) if self.is_null() => "nothing".into(),
            Value::Scalar(Scalar { text, plain }) => {
                let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
                let dots = if shown.len() < text.len() { "…" } else { "" };
                if *plain { format!("{shown}{dots}") } else { format!("\"{shown}{dots}\"") }
            }
            Value::Seq(items) if items.is_empty() => "an empty list".into(),
            Value::Seq(_) => "a list".into(),
            Value::Map(entries) if entries.is_empty() => "an empty mapping".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}
