//! Where in a JSON document a number is: names and places divided by dots, as in GJSON's paths.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A path into a JSON document: `queue.depth`, `workers.0.load`, `workers.#` (how many), `some\.name.value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueLocation {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// A field's name, or the place of an item.
    Name(String),
    /// How many items.
    Count,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    /// Two dots in a row, or one at an end.
    #[error("there is nothing between two dots, or before or behind one")]
    EmptyName,
    /// What GJSON has beyond paths.
    #[error("`{0}`: wildcards, queries and modifiers are not understood")]
    Unsupported(char),
    /// `a.#.b` gives many values.
    #[error("`#` in the middle gives many values, and one is needed")]
    Many,
    /// Nothing behind the last backslash.
    #[error("`\\` escapes a character, and none follows")]
    Escape,
}

impl FromStr for ValueLocation {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let mut steps = Vec::new();
        let (mut name, mut is_escaped) = (String::new(), false);
        let mut finish = |name: &mut String, is_escaped: &mut bool| {
            let step = std::mem::take(name);
            if step.is_empty() {
                return Err(InvalidLocation::EmptyName);
            }
            if steps.last() == Some(&Step::Count) {
                return Err(InvalidLocation::Many);
            }
            steps.push(if step == "#" && !*is_escaped { Step::Count } else { Step::Name(step) });
            *is_escaped = false;
            Ok(())
        };
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '.' => finish(&mut name, &mut is_escaped)?,
                '\\' => {
                    name.push(characters.next().ok_or(InvalidLocation::Escape)?);
                    is_escaped = true;
                }
                '*' | '?' | '|' | '@' | '!' | '{' | '[' | '(' => {
                    return Err(InvalidLocation::Unsupported(character));
                }
                other => name.push(other),
            }
        }
        finish(&mut name, &mut is_escaped)?;
        Ok(Self { text: text.to_owned(), steps })
    }
}

impl ValueLocation {
    /// What is there, if anything.
    pub fn find(&self, document: &Value) -> Option<Value> {
        let (value, rest) = self.follow(document);
        match (rest, value) {
            ([], value) => Some(value.clone()),
            ([Step::Count], Value::Array(items)) => Some(items.len().into()),
            _ => None,
        }
    }

    /// Where the path ends too early, and what is there, for whoever mistook a name.
    pub fn end(&self, document: &Value) -> String {
        /// So many names, of so many characters at most, are shown.
        const SHOWN: (usize, usize) = (8, 40);
        let (value, rest) = self.follow(document);
        let names: Vec<&str> = self.steps[..self.steps.len() - rest.len()]
            .iter()
            .map(|step| if let Step::Name(name) = step { name } else { "#" })
            .collect();
        let place = if names.is_empty() { "it".to_owned() } else { format!("`{}`", names.join(".")) };
        if let Value::Array(items) = value {
            return format!("{place} is a list of {}", items.len());
        }
        let Some(fields) = value.as_object().filter(|fields| !fields.is_empty()) else {
            return format!("{place} has no parts");
        };
        let mut short: Vec<&String> = fields.keys().filter(|name| name.chars().count() <= SHOWN.1).collect();
        short.sort();
        let mut names: Vec<String> = short.iter().take(SHOWN.0).map(|name| format!("`{name}`")).collect();
        if names.len() < fields.len() {
            names.push("…".to_owned());
        }
        format!("{place} has {}", names.join(", "))
    }

    /// As far as the names lead: what is there, and the steps that are left.
    fn follow<'a>(&self, document: &'a Value) -> (&'a Value, &[Step]) {
        let (mut value, mut rest) = (document, &self.steps[..]);
        while let [Step::Name(name), behind @ ..] = rest {
            let item = || name.parse::<usize>().ok().and_then(|place| value.get(place));
            let Some(next) = value.get(name).or_else(item) else { break };
            (value, rest) = (next, behind);
        }
        (value, rest)
    }
}

impl fmt::Display for ValueLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ValueLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
