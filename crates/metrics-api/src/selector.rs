//! Label selectors as they stand in a query: `app=llm,tier in (a, b),!old`.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};

/// A selector that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{term}` is no term of a label selector; there are `a=b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a` and `!a`"
)]
pub(crate) struct BadSelector {
    term: String,
}

/// Reads a selector; an empty one selects everything.
pub(crate) fn parse(text: &str) -> Result<Selector, BadSelector> {
    terms(text).into_iter().filter(|term| !term.is_empty()).map(term).collect()
}

/// Whether a selector takes what has these labels.
pub(crate) fn matches(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(labels)
}

/// The value that a selector asks a label to have, where it names exactly one.
pub(crate) fn wanted(selector: &Selector, label: &str) -> Option<String> {
    selector.clone().into_iter().find_map(|expression| match expression {
        Expression::Equal(key, value) if key == label => Some(value),
        Expression::In(key, values) if key == label && values.len() == 1 => values.into_iter().next(),
        Expression::Equal(..)
        | Expression::In(..)
        | Expression::NotEqual(..)
        | Expression::NotIn(..)
        | Expression::Exists(_)
        | Expression::DoesNotExist(_) => None,
    })
}

/// Splits at commas that are not in parentheses.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

fn term(text: &str) -> Result<Expression, BadSelector> {
    let bad = || BadSelector { term: text.to_owned() };
    let key = |key: &str| {
        let key = key.trim();
        let valid = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
        if valid { Ok(key.to_owned()) } else { Err(bad()) }
    };
    if let Some((set, values)) = text.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(bad)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = set.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Expression::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(bad()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value.trim().to_owned()));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value.trim().to_owned()));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_take_what_their_terms_say() {
        let labels =
            BTreeMap::from([("app".to_owned(), "llm".to_owned()), ("a.b/c".to_owned(), String::new())]);
        for (text, taken) in [
            ("", true),
            ("app=llm", true),
            ("app==llm, a.b/c", true),
            ("app = other", false),
            ("app!=other,!old", true),
            ("app in (one, llm),a.b/c=", true),
            ("app notin (one,llm)", false),
            ("!app", false),
        ] {
            assert_eq!(matches(&parse(text).unwrap(), &labels), taken, "{text}");
        }
        for text in ["app in one", "app in (one", "=x", "a b", "app within (x)", "!"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_wanted_value_is_found() {
        let wanted = |text: &str| wanted(&parse(text).unwrap(), "app");
        assert_eq!(wanted("x=y,app=llm").as_deref(), Some("llm"));
        assert_eq!(wanted("app in (llm)").as_deref(), Some("llm"));
        assert_eq!(wanted("app in (llm,other)"), None);
        assert_eq!(wanted("app!=llm"), None);
    }
}
