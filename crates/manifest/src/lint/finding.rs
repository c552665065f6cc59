//! What a rule has to say, and where.

use serde::Serialize;

use super::{
    Source,
    registry::Rule,
    world::{Loc, Manifest},
};
use crate::yaml::{Entry, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works otherwise than it seems, or hurts under load.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it in every output.
    pub fn label(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule, such as `FW020`; [`super::explain`] tells more.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file's name.
    pub file: String,
    /// Where it is.
    pub span: Span,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The field, such as `spec.metrics[1].pods.metric.name`.
    pub path: String,
    /// What is wrong here.
    pub message: String,
    /// What to do.
    pub fix: Option<Fix>,
}

/// What to do about a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fix {
    /// In words.
    pub text: String,
    /// As edits of the file, when that is safe to do by machine; else empty.
    pub edits: Vec<Edit>,
}

/// Replaces a part of a file's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edit {
    /// Byte offset of the first byte replaced.
    pub start: usize,
    /// Byte offset behind the last.
    pub end: usize,
    /// What takes its place.
    pub replacement: String,
}

impl Fix {
    /// A fix that takes a person.
    pub(crate) fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), edits: Vec::new() }
    }

    /// A fix by machine.
    pub(crate) fn edit(text: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self { text: text.into(), edits }
    }
}

impl Edit {
    pub(crate) fn replace(span: Span, replacement: impl Into<String>) -> Self {
        Self { start: span.start, end: span.end, replacement: replacement.into() }
    }

    /// Removes the line of an entry, when it has that line to itself.
    pub(crate) fn remove_entry(text: &str, entry: &Entry) -> Option<Edit> {
        let (start, end) = lines_of(text, entry)?;
        let line = text.get(start..end)?;
        let in_json = text.trim_start().starts_with('{');
        // In JSON the entry before would keep a comma that nothing follows.
        let removable = !in_json || line.trim_end().ends_with(',');
        removable.then(|| Edit { start, end, replacement: String::new() })
    }

    /// Adds a line behind an entry of a block mapping, as deep as it.
    pub(crate) fn insert_after(text: &str, entry: &Entry, line: &str) -> Option<Edit> {
        let (_, end) = lines_of(text, entry)?;
        if text.trim_start().starts_with('{') {
            return None;
        }
        let indent = " ".repeat(entry.key_span.column - 1);
        let newline = if text.get(..end)?.ends_with('\n') { "" } else { "\n" };
        Some(Edit { start: end, end, replacement: format!("{newline}{indent}{line}\n") })
    }
}

/// The lines of an entry that has them to itself.
fn lines_of(text: &str, entry: &Entry) -> Option<(usize, usize)> {
    let key = entry.key_span.start;
    let start = text.get(..key)?.rfind('\n').map_or(0, |newline| newline + 1);
    let value_end = entry.value.span.end.max(entry.key_span.end);
    let rest = text.get(value_end..)?;
    let end = rest.find('\n').map_or(text.len(), |newline| value_end + newline + 1);
    let alone = text.get(start..key)?.trim().is_empty();
    let behind = text.get(value_end..end)?.trim().trim_start_matches(',').trim();
    (alone && (behind.is_empty() || behind.starts_with('#'))).then_some((start, end))
}

/// Takes findings for the rule that is running.
#[derive(Default)]
pub(crate) struct Sink {
    rule: Option<&'static Rule>,
    findings: Vec<Finding>,
}

impl Sink {
    pub(crate) fn rule(&mut self, rule: &'static Rule) {
        self.rule = Some(rule);
    }

    /// A finding about a place in a manifest.
    pub(crate) fn at(&mut self, manifest: &Manifest<'_>, loc: &Loc<'_>, message: String, fix: Fix) {
        self.span(manifest.source, loc.node.span, loc.path.clone(), message, Some(fix));
    }

    /// A finding about an entry; shown at its key.
    pub(crate) fn entry(
        &mut self,
        manifest: &Manifest<'_>,
        (parent, entry): (&Loc<'_>, &Entry),
        message: String,
        fix: Fix,
    ) {
        self.span(manifest.source, entry.key_span, parent.path_of(&entry.key), message, Some(fix));
    }

    /// A finding about a place in a text.
    pub(crate) fn span(
        &mut self,
        source: &Source,
        span: Span,
        path: String,
        message: String,
        fix: Option<Fix>,
    ) {
        let Some(rule) = self.rule else { return };
        self.findings.push(Finding {
            code: rule.code,
            severity: rule.severity,
            file: source.name.clone(),
            span,
            line: span.line.max(1),
            column: span.column.max(1),
            path,
            message,
            fix,
        });
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
