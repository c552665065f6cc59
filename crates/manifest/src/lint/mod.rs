//! Finds the traps in autoscaling manifests, one file alone and several together.
//!
//! [`lint`] reads every text, works out by its content what each document is, and runs every rule of the
//! registry. Nothing in a file is fatal: what cannot be read is a finding, too.

mod finding;
mod fix;
mod known_fields;
mod lines;
mod registry;
mod render;
mod rules;
pub(crate) mod world;

pub use finding::{Edit, Finding, Fix, Severity};
pub use fix::apply_fixes;
pub use registry::{Code, codes, codes_table, explain};
pub use render::{to_json, to_sarif, to_text};

use crate::yaml::{self, Node};
use finding::Sink;
use world::World;

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, as findings show it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Every finding about these files, in the order of files and lines.
pub fn lint(sources: &[Source]) -> Vec<Finding> {
    let mut sink = Sink::default();
    let mut documents: Vec<(&Source, Node)> = Vec::new();
    for source in sources {
        match yaml::parse(&source.text) {
            Ok(nodes) => {
                for node in nodes {
                    let embedded = world::embedded_rules(&node);
                    documents.push((source, node));
                    documents.extend(embedded.into_iter().map(|node| (source, node)));
                }
            }
            Err(error) => rules::schema::unreadable(source, &error, &mut sink),
        }
    }
    let world = World::of(&documents);
    for rule in registry::RULES {
        sink.rule(rule);
        (rule.check)(&world, &mut sink);
    }
    let order = |finding: &Finding| sources.iter().position(|source| source.name == finding.file);
    let mut findings = sink.into_findings();
    findings.sort_by(|a, b| (order(a), a.line, a.column, a.code).cmp(&(order(b), b.line, b.column, b.code)));
    findings
}
