//! From text to trees, one for each document.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span as ParserSpan};

use super::{Entry, Node, Scalar, Span, Value};

/// Longest text that is read: far above any cluster's manifests, read in well under a second.
pub const MAX_TEXT_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting: Kubernetes' own types stay below 20, and the tree is walked recursively.
pub const MAX_DEPTH: usize = 64;
/// Most nodes of a text, aliases expanded, so that a few lines of aliases cannot fill the memory.
pub const MAX_NODES: usize = 300_000;
/// The key that merges another mapping in.
const MERGE_KEY: &str = "<<";

/// Text that is not YAML, or more than is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
}

impl YamlError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { line: span.line, column: span.column, message: message.into() }
    }
}

/// The documents of `text`; empty ones are left out.
///
/// # Errors
/// When the text is no YAML, has a key that is a list or a mapping, a key twice in one mapping, an alias
/// without or inside its anchor, or is larger than [`MAX_TEXT_BYTES`], [`MAX_DEPTH`] or [`MAX_NODES`].
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    let start = Span { start: 0, end: 0, line: 1, column: 1 };
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("{} bytes, at most {MAX_TEXT_BYTES} are read", text.len());
        return Err(YamlError::new(start, message));
    }
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let marker = error.marker();
            YamlError { line: marker.line().max(1), column: marker.col() + 1, message: error.info() }
        })?;
        builder.event(event, place(span))?;
    }
    Ok(builder.documents)
}

fn place(span: ParserSpan) -> Span {
    let start = span.start.byte_offset().unwrap_or_default();
    let end = span.end.byte_offset().unwrap_or(start);
    Span { start, end: end.max(start), line: span.start.line(), column: span.start.col() + 1 }
}

/// A finished node, with what a copy of it costs.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// A list or mapping that is still open.
struct Open {
    anchor: usize,
    span: Span,
    nodes: usize,
    depth: usize,
    kind: OpenKind,
}

enum OpenKind {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, names: HashSet<String>, key: Option<(String, Span)>, merges: Vec<Node> },
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix() != "str");
                let value = Value::Scalar(Scalar { text: text.into_owned(), plain });
                self.finished(Built { node: Node { span, value }, nodes: 1, depth: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(span, anchor, OpenKind::Seq(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    names: HashSet::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.start(span, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(nodes) = self.anchors.get(&anchor).map(|built| built.nodes) else {
                    return Err(YamlError::new(span, "an alias inside its own anchor"));
                };
                // Counted before it is copied: this is what stops an alias bomb.
                self.count(nodes, span)?;
                self.anchors.get(&anchor).cloned().map_or(Ok(()), |built| self.placed(built))
            }
            Event::UnresolvedAlias(name) => {
                Err(YamlError::new(span, format!("the alias `*{name}` has no anchor")))
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | Event::Comment(..) => Ok(()),
            // What a later version of the parser tells beside these is presentation, not data.
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(YamlError::new(span, format!("more than {MAX_NODES} nodes, aliases expanded")));
        }
        Ok(())
    }

    fn start(&mut self, span: Span, anchor: usize, kind: OpenKind) -> Result<(), YamlError> {
        self.open.push(Open { anchor, span, nodes: 1, depth: 1, kind });
        if self.open.len() > MAX_DEPTH {
            return Err(YamlError::new(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(Open { anchor, mut span, nodes, depth, kind }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            OpenKind::Seq(items) => {
                span.end = items.last().map_or(span.end, |item| item.span.end.max(span.end));
                Value::Seq(items)
            }
            OpenKind::Map { mut entries, mut names, merges, .. } => {
                span.end = entries.last().map_or(span.end, |entry| entry.value.span.end.max(span.end));
                for merge in merges {
                    merge_into(&mut entries, &mut names, merge)?;
                }
                Value::Map(entries)
            }
        };
        self.finished(Built { node: Node { span, value }, nodes, depth }, anchor)
    }

    /// A node that stands in the text here, perhaps with an anchor.
    fn finished(&mut self, built: Built, anchor: usize) -> Result<(), YamlError> {
        self.count(1, built.node.span)?;
        if anchor != 0 {
            // The copy that aliases are made of: anchors within anchors are a bomb without any alias.
            self.count(built.nodes, built.node.span)?;
            self.anchors.insert(anchor, built.clone());
        }
        self.placed(built)
    }

    /// Puts a node where it belongs: into the open list or mapping, or among the documents.
    fn placed(&mut self, built: Built) -> Result<(), YamlError> {
        let levels = self.open.len() + built.depth;
        if levels > MAX_DEPTH + 1 {
            let message = format!("nested deeper than {MAX_DEPTH} levels, aliases expanded");
            return Err(YamlError::new(built.node.span, message));
        }
        let Some(open) = self.open.last_mut() else {
            // Anchors do not reach into the next document.
            self.anchors.clear();
            if !built.node.is_null() {
                self.documents.push(built.node);
            }
            return Ok(());
        };
        open.nodes += built.nodes;
        open.depth = open.depth.max(built.depth + 1);
        match &mut open.kind {
            OpenKind::Seq(items) => items.push(built.node),
            OpenKind::Map { entries, names, key, merges } => match key.take() {
                None => *key = Some(key_of(built.node)?),
                Some((name, _)) if name == MERGE_KEY => merges.push(built.node),
                Some((name, key_span)) => {
                    if !names.insert(name.clone()) {
                        return Err(YamlError::new(key_span, format!("the key `{name}` stands here twice")));
                    }
                    entries.push(Entry { key: name, key_span, value: built.node });
                }
            },
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<(String, Span), YamlError> {
    let span = node.span;
    match node.value {
        Value::Scalar(scalar) => Ok((scalar.text, span)),
        Value::Seq(_) | Value::Map(_) => Err(YamlError::new(span, "a key must be a scalar")),
    }
}

/// `<<`: the mapping's own keys win, then those of the first merged mapping.
fn merge_into(entries: &mut Vec<Entry>, names: &mut HashSet<String>, merged: Node) -> Result<(), YamlError> {
    let span = merged.span;
    match merged.value {
        Value::Map(others) => {
            for other in others {
                if names.insert(other.key.clone()) {
                    entries.push(other);
                }
            }
            Ok(())
        }
        Value::Seq(items) => items.into_iter().try_for_each(|item| merge_into(entries, names, item)),
        Value::Scalar(_) => Err(YamlError::new(span, "`<<` merges a mapping or a list of mappings")),
    }
}
