//! What is wrong with a file, all of it at once.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use crate::yaml::{Span, YamlError};

/// One thing that is wrong: where, what stands there, what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `spec.replicas.max`; empty when it concerns the file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "found {}, wanted {}", self.found, self.wanted)
    }
}

/// Everything that is wrong with one file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name, as the reader was given it.
    pub file_name: String,
    /// The problems.
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(f, "{} has {count} problem{}:", self.file_name, if count == 1 { "" } else { "s" })?;
        for problem in &self.list {
            write!(f, "\n  {}:{}:{}: {problem}", self.file_name, problem.line, problem.column)?;
        }
        Ok(())
    }
}

impl Problems {
    pub(crate) fn of_yaml(file_name: &str, error: YamlError) -> Self {
        let problem = Problem {
            path: String::new(),
            line: error.line,
            column: error.column,
            found: error.message,
            wanted: "YAML".into(),
        };
        Self { file_name: file_name.into(), list: vec![problem] }
    }
}

/// What is found where a field has a name that nobody asks for.
pub(crate) const UNKNOWN_FIELD: &str = "an unknown field";

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    list: RefCell<Vec<Problem>>,
    foreign: Cell<bool>,
}

impl Collector {
    pub(crate) fn add(&self, path: &str, span: Span, found: impl Into<String>, wanted: impl Into<String>) {
        let (found, wanted) = (found.into(), wanted.into());
        let problem =
            Problem { path: path.into(), line: span.line.max(1), column: span.column.max(1), found, wanted };
        self.list.borrow_mut().push(problem);
    }

    /// Says whether what is read from here on is a manifest of another's, whose unknown fields are no
    /// problem of ours.
    pub(crate) fn set_foreign(&self, foreign: bool) {
        self.foreign.set(foreign);
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign.get()
    }

    /// Takes over those of another's problems that are about unknown fields.
    pub(crate) fn add_unknown_fields(&self, other: Collector) {
        let unknown = other.list.into_inner().into_iter().filter(|problem| problem.found == UNKNOWN_FIELD);
        self.list.borrow_mut().extend(unknown);
    }

    /// Notes a problem with the file as a whole, unless something is wrong already.
    pub(crate) fn add_if_empty(&self, span: Span, found: &str, wanted: &str) {
        if self.list.borrow().is_empty() {
            self.add("", span, found, wanted);
        }
    }

    /// `value` when nothing was wrong, else every problem.
    pub(crate) fn finish<T>(self, file_name: &str, value: T) -> Result<T, Problems> {
        let mut list = self.list.into_inner();
        if list.is_empty() {
            return Ok(value);
        }
        list.sort_by_key(|problem| (problem.line, problem.column));
        Err(Problems { file_name: file_name.into(), list })
    }
}
