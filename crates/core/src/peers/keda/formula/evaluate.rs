//! Computes a formula's value.

use std::{collections::BTreeMap, fmt};

use super::{FormulaError, parser::Expression};
use crate::peers::go_arith;

/// What a formula, or a part of one, comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number, from literals and counts.
    Int(i64),
    /// A number, from triggers and divisions.
    Float(f64),
    /// A condition.
    Bool(bool),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Value>),
}

impl Value {
    /// The number that it is.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Bool(_) | Self::Nil | Self::Array(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Nil => f.write_str("nil"),
            Self::Array(items) => write!(f, "an array of {}", items.len()),
        }
    }
}

type Triggers = BTreeMap<String, Option<f64>>;

fn wrong<T>(message: String) -> Result<T, FormulaError> {
    Err(FormulaError::Type(message))
}

fn float(value: &Value, of: &str) -> Result<f64, FormulaError> {
    value.as_float().map_or_else(|| wrong(format!("{of} takes numbers, not {value}")), Ok)
}

fn bool(value: &Value, of: &str) -> Result<bool, FormulaError> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Int(_) | Value::Float(_) | Value::Nil | Value::Array(_) => {
            wrong(format!("{of} takes conditions, not {value}"))
        }
    }
}

impl Expression {
    pub(super) fn evaluate(
        &self,
        triggers: &Triggers,
        element: Option<&Value>,
    ) -> Result<Value, FormulaError> {
        match self {
            Self::Int(value) => Ok(Value::Int(*value)),
            Self::Float(value) => Ok(Value::Float(*value)),
            Self::Bool(value) => Ok(Value::Bool(*value)),
            Self::Nil => Ok(Value::Nil),
            Self::Name(name) => match triggers.get(name) {
                Some(value) => Ok(value.map_or(Value::Nil, Value::Float)),
                None => Err(FormulaError::UnknownName(name.clone())),
            },
            Self::Element => match element {
                Some(value) => Ok(value.clone()),
                None => wrong("# is only known inside of a predicate".to_owned()),
            },
            Self::Array(items) => items
                .iter()
                .map(|item| item.evaluate(triggers, element))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Self::Unary(operator, operand) => unary(operator, &operand.evaluate(triggers, element)?),
            Self::Binary(operator, left, right) => {
                let left = left.evaluate(triggers, element)?;
                // These three look at their right side only when they must.
                match *operator {
                    "??" if left != Value::Nil => return Ok(left),
                    "??" => return right.evaluate(triggers, element),
                    "&&" if !bool(&left, operator)? => return Ok(Value::Bool(false)),
                    "||" if bool(&left, operator)? => return Ok(Value::Bool(true)),
                    _ => {}
                }
                binary(operator, &left, &right.evaluate(triggers, element)?)
            }
            Self::Conditional(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let holds = bool(&condition.evaluate(triggers, element)?, "?:")?;
                (if holds { yes } else { no }).evaluate(triggers, element)
            }
            Self::Call(name, arguments) => call(name, arguments, triggers, element),
        }
    }
}

fn unary(operator: &str, operand: &Value) -> Result<Value, FormulaError> {
    match (operator, operand) {
        ("!", operand) => Ok(Value::Bool(!bool(operand, "!")?)),
        ("-", Value::Int(value)) => Ok(Value::Int(value.wrapping_neg())),
        ("-", operand) => Ok(Value::Float(-float(operand, "-")?)),
        (_, operand) => float(operand, operator).map(|_| operand.clone()),
    }
}

fn binary(operator: &str, left: &Value, right: &Value) -> Result<Value, FormulaError> {
    match operator {
        "&&" | "||" => return bool(right, operator).map(Value::Bool),
        "==" => return Ok(Value::Bool(equal(left, right))),
        "!=" => return Ok(Value::Bool(!equal(left, right))),
        _ => {}
    }
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        match operator {
            "+" => return Ok(Value::Int(left.wrapping_add(*right))),
            "-" => return Ok(Value::Int(left.wrapping_sub(*right))),
            "*" => return Ok(Value::Int(left.wrapping_mul(*right))),
            "%" if *right == 0 => return wrong("% by zero".to_owned()),
            "%" => return Ok(Value::Int(left.wrapping_rem(*right))),
            _ => {}
        }
    }
    let (a, b) = (float(left, operator)?, float(right, operator)?);
    Ok(match operator {
        "+" => Value::Float(a + b),
        "-" => Value::Float(a - b),
        "*" => Value::Float(a * b),
        "/" => Value::Float(a / b),
        "**" | "^" => Value::Float(a.powf(b)),
        "<" => Value::Bool(a < b),
        ">" => Value::Bool(a > b),
        "<=" => Value::Bool(a <= b),
        ">=" => Value::Bool(a >= b),
        "%" => return wrong("% takes whole numbers, and triggers are none: use int()".to_owned()),
        _ => return wrong(format!("unknown operator {operator}")),
    })
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_float(), right.as_float()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn call(
    name: &str,
    arguments: &[Expression],
    triggers: &Triggers,
    element: Option<&Value>,
) -> Result<Value, FormulaError> {
    let value = |index: usize| match arguments.get(index) {
        Some(argument) => argument.evaluate(triggers, element),
        None => wrong(format!("{name}() takes more arguments")),
    };
    let number = || float(&value(0)?, name);
    let one = |result: Value| match arguments.len() {
        1 => Ok(result),
        given => wrong(format!("{name}() takes one argument, not {given}")),
    };
    match name {
        "abs" => {
            let operand = value(0)?;
            one(if let Value::Int(whole) = operand {
                Value::Int(whole.wrapping_abs())
            } else {
                Value::Float(float(&operand, name)?.abs())
            })
        }
        "ceil" => one(Value::Float(number()?.ceil())),
        "floor" => one(Value::Float(number()?.floor())),
        "round" => one(Value::Float(number()?.round())),
        "float" => one(Value::Float(number()?)),
        "int" => one(Value::Int(go_arith::to_i64(number()?))),
        "len" => one(Value::Int(array(value(0)?, name)?.len() as i64)),
        "min" | "max" | "sum" | "mean" | "median" => {
            let mut numbers = Vec::new();
            for argument in arguments {
                flatten(argument.evaluate(triggers, element)?, &mut numbers);
            }
            reduce(name, &numbers)
        }
        "count" | "any" | "all" | "none" => {
            let items = array(value(0)?, name)?;
            let mut holding = 0;
            for item in &items {
                let holds = match arguments.get(1) {
                    Some(predicate) => bool(&predicate.evaluate(triggers, Some(item))?, name)?,
                    None => bool(item, name)?,
                };
                holding += usize::from(holds);
            }
            Ok(match name {
                "count" => Value::Int(holding as i64),
                "any" => Value::Bool(holding > 0),
                "all" => Value::Bool(holding == items.len()),
                _ => Value::Bool(holding == 0),
            })
        }
        _ => Err(FormulaError::Type(format!("unknown function {name}()"))),
    }
}

fn array(value: Value, of: &str) -> Result<Vec<Value>, FormulaError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Nil => {
            wrong(format!("{of}() takes an array such as [a, b], not {value}"))
        }
    }
}

fn flatten(value: Value, into: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.into_iter().for_each(|item| flatten(item, into)),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Nil => into.push(value),
    }
}

fn reduce(name: &str, values: &[Value]) -> Result<Value, FormulaError> {
    let mut numbers = values.iter().map(|value| float(value, name)).collect::<Result<Vec<_>, _>>()?;
    if numbers.is_empty() && name != "sum" {
        return wrong(format!("{name}() of nothing"));
    }
    let count = numbers.len() as f64;
    match name {
        "sum" if values.iter().all(|value| matches!(value, Value::Int(_))) => {
            Ok(Value::Int(numbers.iter().sum::<f64>() as i64))
        }
        "sum" => Ok(Value::Float(numbers.iter().sum())),
        "mean" => Ok(Value::Float(numbers.iter().sum::<f64>() / count)),
        "median" => {
            numbers.sort_by(f64::total_cmp);
            let middle = numbers.len() / 2;
            let upper = numbers[middle];
            Ok(Value::Float(if numbers.len() % 2 == 1 { upper } else { (numbers[middle - 1] + upper) / 2.0 }))
        }
        // The value itself, so that whole numbers stay whole.
        _ => {
            let larger = name == "max";
            let mut best = 0;
            for (index, number) in numbers.iter().enumerate() {
                if (larger && *number > numbers[best]) || (!larger && *number < numbers[best]) {
                    best = index;
                }
            }
            Ok(values[best].clone())
        }
    }
}
