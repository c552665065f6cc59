//! Keeps account of every field of a manifest, so that none is dropped without a word.

use super::Note;
use crate::{lint::world::Loc, yaml::Value};

/// The account of one manifest.
pub(super) struct Ledger<'a> {
    root: Loc<'a>,
    carried: Vec<String>,
    dropped: Vec<Note>,
    assumed: Vec<Note>,
}

impl<'a> Ledger<'a> {
    pub(super) fn of(root: &Loc<'a>) -> Self {
        // What a manifest is, is said by the new one in its own words.
        let carried = ["apiVersion", "kind"].map(|key| root.path_of(key)).into();
        Self { root: root.clone(), carried, dropped: Vec::new(), assumed: Vec::new() }
    }

    pub(super) fn root(&self) -> &Loc<'a> {
        &self.root
    }

    /// The field, whose meaning goes into the new manifest.
    pub(super) fn take(&mut self, keys: &[&str]) -> Option<Loc<'a>> {
        let loc = self.root.at(keys)?;
        self.carried.push(loc.path.clone());
        Some(loc)
    }

    /// Notes that the field's meaning goes into the new manifest.
    pub(super) fn carry(&mut self, loc: &Loc<'_>) {
        self.carried.push(loc.path.clone());
    }

    /// Notes that the field goes nowhere, and why.
    pub(super) fn drop(&mut self, loc: &Loc<'_>, why: impl Into<String>) {
        self.dropped.push(Note { path: loc.path.clone(), why: why.into() });
    }

    /// Drops the field when it is there.
    pub(super) fn drop_at(&mut self, keys: &[&str], why: &str) {
        if let Some(loc) = self.root.at(keys) {
            self.drop(&loc, why);
        }
    }

    /// Takes back that a field was carried: the form that is written has no place for it.
    pub(super) fn withdraw(&mut self, path: &str, why: &str) {
        let before = self.carried.len();
        self.carried.retain(|carried| carried != path);
        if self.carried.len() < before {
            self.dropped.push(Note { path: path.into(), why: why.into() });
        }
    }

    /// Notes that a field of the new manifest is our choice.
    pub(super) fn assume(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.assumed.push(Note { path: path.into(), why: why.into() });
    }

    /// Everything carried, dropped and assumed; every field of the manifest is in one of the first two.
    pub(super) fn finish(mut self, to: &str) -> (Vec<String>, Vec<Note>, Vec<Note>) {
        for leaf in leaves(&self.root) {
            let covers = |path: &str| {
                leaf.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let known = self.carried.iter().any(|path| covers(path))
                || self.dropped.iter().any(|note| covers(&note.path));
            if !known {
                self.dropped.push(Note { path: leaf, why: format!("{to} has no such field") });
            }
        }
        self.dropped.sort_by(|a, b| a.path.cmp(&b.path));
        self.carried.sort();
        self.carried.dedup();
        let leaves = leaves(&self.root);
        self.carried.retain(|path| leaves.iter().any(|leaf| leaf.starts_with(path)));
        (self.carried, self.dropped, self.assumed)
    }
}

/// The paths of everything below `loc` that holds no further fields.
pub(super) fn leaves(loc: &Loc<'_>) -> Vec<String> {
    match &loc.node.value {
        Value::Map(entries) if !entries.is_empty() => entries
            .iter()
            .flat_map(|entry| leaves(&Loc { node: &entry.value, path: loc.path_of(&entry.key) }))
            .collect(),
        Value::Seq(items) if !items.is_empty() => loc.items().iter().flat_map(leaves).collect(),
        Value::Map(_) | Value::Seq(_) | Value::Scalar(_) => vec![loc.path.clone()],
    }
}
