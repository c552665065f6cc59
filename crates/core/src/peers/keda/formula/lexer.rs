//! Splits a formula into tokens.

use super::FormulaError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Int(i64),
    Float(f64),
    Name(String),
    /// An operator or a bracket.
    Symbol(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) position: usize,
}

/// Longer ones first, so that `**` is not two `*`.
const SYMBOLS: [&str; 28] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "??", "+", "-", "*", "/", "%", "^", "<", ">", "!", "?", ":",
    "(", ")", "[", "]", "{", "}", ",", "#", ".",
];

/// Words that are operators.
const WORDS: [(&str, &str); 3] = [("and", "&&"), ("or", "||"), ("not", "!")];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, FormulaError> {
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(first) = source[position..].chars().next() {
        let rest = &source[position..];
        if first.is_whitespace() {
            position += first.len_utf8();
            continue;
        }
        let after_dot = rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        let (kind, length) = if first.is_ascii_digit() || (first == '.' && after_dot) {
            number(rest, position)?
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..length];
            let kind = match WORDS.iter().find(|(name, _)| *name == word) {
                Some((_, symbol)) => Kind::Symbol(symbol),
                None => Kind::Name(word.to_owned()),
            };
            (kind, length)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (Kind::Symbol(symbol), symbol.len())
        } else {
            return Err(FormulaError::Syntax { position, message: format!("unexpected '{first}'") });
        };
        tokens.push(Token { kind, position });
        position += length;
    }
    Ok(tokens)
}

fn number(rest: &str, position: usize) -> Result<(Kind, usize), FormulaError> {
    let mut length = 0;
    let mut previous = ' ';
    for c in rest.chars() {
        let signs_exponent = (c == '+' || c == '-') && matches!(previous, 'e' | 'E');
        if !c.is_ascii_digit() && !matches!(c, '.' | '_' | 'e' | 'E') && !signs_exponent {
            break;
        }
        length += c.len_utf8();
        previous = c;
    }
    let digits: String = rest[..length].chars().filter(|c| *c != '_').collect();
    let kind = if digits.contains(['.', 'e', 'E']) {
        digits.parse().ok().map(Kind::Float)
    } else {
        digits.parse().ok().map(Kind::Int)
    };
    match kind {
        Some(kind) => Ok((kind, length)),
        None => {
            let message = format!("{:?} is not a number", &rest[..length]);
            Err(FormulaError::Syntax { position, message })
        }
    }
}
