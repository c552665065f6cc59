//! Reads tokens into a tree, with expr-lang's precedences.

use super::{
    Formula, FormulaError,
    lexer::{Kind, Token},
};

/// A formula, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Int(i64),
    Float(f64),
    Bool(bool),
    Nil,
    Name(String),
    /// `#`, the element that a predicate looks at.
    Element,
    Array(Vec<Expression>),
    Unary(&'static str, Box<Expression>),
    Binary(&'static str, Box<Expression>, Box<Expression>),
    Conditional(Box<[Expression; 3]>),
    Call(String, Vec<Expression>),
}

impl Expression {
    /// All trigger names in it.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Name(name) => vec![name],
            Self::Array(items) | Self::Call(_, items) => items.iter().flat_map(Self::names).collect(),
            Self::Unary(_, operand) => operand.names(),
            Self::Binary(_, left, right) => [left.names(), right.names()].concat(),
            Self::Conditional(parts) => parts.iter().flat_map(Self::names).collect(),
            Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Nil | Self::Element => Vec::new(),
        }
    }
}

/// Binary operators: precedence, and whether they group to the right.
fn binary(symbol: &str) -> Option<(u8, bool)> {
    Some(match symbol {
        "||" => (10, false),
        "&&" => (15, false),
        "==" | "!=" | "<" | ">" | "<=" | ">=" => (20, false),
        "+" | "-" => (30, false),
        "*" | "/" | "%" => (60, false),
        "**" | "^" => (100, true),
        // Binds closer than anything, and may not be mixed with others without brackets.
        "??" => (200, false),
        _ => return None,
    })
}

const NOT_PRECEDENCE: u8 = 50;
const SIGN_PRECEDENCE: u8 = 90;

pub(super) fn parse(tokens: &[Token], end: usize) -> Result<Expression, FormulaError> {
    let mut parser = Parser { tokens, next: 0, end, depth: 0 };
    let root = parser.expression(0)?;
    match parser.tokens.get(parser.next) {
        None => Ok(root),
        Some(_) => Err(parser.error("expected an operator or the end")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, message: &str) -> FormulaError {
        let position = self.tokens.get(self.next).map_or(self.end, |token| token.position);
        FormulaError::Syntax { position, message: message.to_owned() }
    }

    fn symbol(&self) -> Option<&'static str> {
        match self.tokens.get(self.next) {
            Some(Token { kind: Kind::Symbol(symbol), .. }) => Some(symbol),
            _ => None,
        }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.symbol() == Some(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), FormulaError> {
        if self.take(symbol) { Ok(()) } else { Err(self.error(&format!("expected '{symbol}'"))) }
    }

    fn expression(&mut self, precedence: u8) -> Result<Expression, FormulaError> {
        self.depth += 1;
        if self.depth > Formula::MAX_DEPTH {
            return Err(FormulaError::TooLarge { limit: Formula::MAX_DEPTH, what: "levels of nesting" });
        }
        let mut left = self.primary()?;
        let mut previous = "";
        while let Some(symbol) = self.symbol() {
            let Some((strength, groups_right)) = binary(symbol) else { break };
            if strength < precedence {
                break;
            }
            if previous == "??" && symbol != "??" {
                return Err(self.error("?? beside another operator needs brackets"));
            }
            self.next += 1;
            let right = self.expression(if groups_right { strength } else { strength + 1 })?;
            left = Expression::Binary(symbol, Box::new(left), Box::new(right));
            previous = symbol;
        }
        if precedence == 0 && self.take("?") {
            let yes = self.expression(0)?;
            self.expect(":")?;
            let no = self.expression(0)?;
            left = Expression::Conditional(Box::new([left, yes, no]));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expression, FormulaError> {
        let Some(token) = self.tokens.get(self.next) else {
            return Err(self.error("expected a number, a name or a bracket"));
        };
        let kind = token.kind.clone();
        self.next += 1;
        Ok(match kind {
            Kind::Int(value) => Expression::Int(value),
            Kind::Float(value) => Expression::Float(value),
            Kind::Name(name) if self.take("(") => {
                let arguments = self.list(")")?;
                Expression::Call(name, arguments)
            }
            Kind::Name(name) => match name.as_str() {
                "true" => Expression::Bool(true),
                "false" => Expression::Bool(false),
                "nil" => Expression::Nil,
                _ => Expression::Name(name),
            },
            Kind::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                inner
            }
            Kind::Symbol("[") => Expression::Array(self.list("]")?),
            Kind::Symbol("{") => {
                let inner = self.expression(0)?;
                self.expect("}")?;
                inner
            }
            Kind::Symbol("#") => Expression::Element,
            Kind::Symbol("!") => Expression::Unary("!", Box::new(self.expression(NOT_PRECEDENCE)?)),
            Kind::Symbol(sign @ ("-" | "+")) => {
                Expression::Unary(sign, Box::new(self.expression(SIGN_PRECEDENCE)?))
            }
            Kind::Symbol(_) => {
                self.next -= 1;
                return Err(self.error("expected a number, a name or a bracket"));
            }
        })
    }

    fn list(&mut self, close: &str) -> Result<Vec<Expression>, FormulaError> {
        let mut items = Vec::new();
        while !self.take(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.expression(0)?);
        }
        Ok(items)
    }
}
