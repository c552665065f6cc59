//! Findings for people, scripts and code-scanning services.

use std::collections::BTreeMap;

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Finding, Severity, Source, lines::Lines, registry::codes};

/// Lines of a source shown at most around a finding are the renderer's; its colours only on request.
pub fn to_text(findings: &[Finding], sources: &[Source], styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let lines: BTreeMap<&str, (&str, Lines<'_>)> = sources
        .iter()
        .map(|source| (source.name.as_str(), (source.text.as_str(), Lines::of(&source.text))))
        .collect();
    let nothing = ("", Lines::of(""));
    let mut text = String::new();
    for finding in findings {
        let (source, lines) = lines.get(finding.file.as_str()).unwrap_or(&nothing);
        text += &renderer.render(&report(finding, source, lines));
        text += "\n\n";
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = [Severity::Error, Severity::Warning, Severity::Info]
        .map(|severity| format!("{} {}", count(severity), severity.label()));
    text += &format!("{}\n", counts.join(", "));
    text
}

fn report<'a>(finding: &'a Finding, text: &'a str, lines: &Lines<'a>) -> Vec<Group<'a>> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let (start, end) = first_line(finding, text);
    let label = if finding.path.is_empty() { "here" } else { &finding.path };
    // The lines that matter, not the whole text: a renderer reads all that it is given.
    let (offset, line, shown) = lines.around(start, end);
    let snippet = Snippet::source(shown)
        .line_start(line)
        .path(&finding.file)
        .annotation(AnnotationKind::Primary.span(start - offset..end - offset).label(label));
    let title = level.primary_title(&finding.message).id(finding.code);
    let mut groups = vec![title.element(snippet)];
    if let Some(fix) = &finding.fix {
        if fix.edits.is_empty() {
            groups[0] = std::mem::replace(&mut groups[0], Group::with_title(Level::HELP.secondary_title("")))
                .element(Level::HELP.message(&fix.text));
        } else {
            let first = fix.edits.iter().map(|edit| edit.start).min().unwrap_or_default();
            let last = fix.edits.iter().map(|edit| edit.end).max().unwrap_or_default();
            let (offset, line, shown) = lines.around(first, last);
            let mut patched = Snippet::source(shown).line_start(line).path(&finding.file);
            for edit in &fix.edits {
                patched =
                    patched.patch(Patch::new(edit.start - offset..edit.end - offset, &edit.replacement));
            }
            groups.push(Level::HELP.secondary_title(&fix.text).element(patched));
        }
    }
    groups
}

/// The part of the finding's place that lies on its first line.
fn first_line(finding: &Finding, text: &str) -> (usize, usize) {
    let start = finding.span.start.min(text.len());
    let end = finding.span.end.clamp(start, text.len());
    let shown = text.get(start..end).unwrap_or_default();
    let line = shown.lines().next().unwrap_or_default().trim_end();
    (start, start + line.len())
}

/// `[{"code","severity","file","line","column","path","message","fix","edits"}]`.
pub fn to_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        json!({
            "code": finding.code,
            "severity": finding.severity,
            "file": finding.file,
            "line": finding.line,
            "column": finding.column,
            "path": finding.path,
            "message": finding.message,
            "fix": finding.fix.as_ref().map(|fix| &fix.text),
            "edits": finding.fix.as_ref().map(|fix| fix.edits.as_slice()).unwrap_or_default(),
        })
    };
    findings.iter().map(one).collect()
}

/// SARIF 2.1.0, as code-scanning services take it.
pub fn to_sarif(findings: &[Finding]) -> Value {
    let level = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    let rules: Vec<_> = codes()
        .map(|code| {
            json!({
                "id": code.code,
                "shortDescription": {"text": code.title},
                "help": {"text": code.page, "markdown": code.page},
                "defaultConfiguration": {"level": level(code.severity)},
            })
        })
        .collect();
    let results: Vec<_> = findings
        .iter()
        .map(|finding| {
            let fix = finding.fix.as_ref().map(|fix| format!(" Fix: {}.", fix.text)).unwrap_or_default();
            json!({
                "ruleId": finding.code,
                "ruleIndex": codes().position(|code| code.code == finding.code),
                "level": level(finding.severity),
                "message": {"text": format!("{}.{fix}", finding.message)},
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": {"uri": uri(&finding.file)},
                        "region": {"startLine": finding.line, "startColumn": finding.column},
                    },
                    "logicalLocations": [{"fullyQualifiedName": finding.path}],
                }],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "forewarm lint", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A file name as a relative URI: what may not stand in one is percent-encoded.
fn uri(file: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    file.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
