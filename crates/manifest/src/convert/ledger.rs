//! Keeps account of every field of a manifest, so that none is dropped without a word.

use std::collections::BTreeSet;

use super::Note;
use crate::{lint::world::Loc, yaml::Value};

/// The account of one manifest.
#[derive(Clone)]
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

    /// Takes back that anything in the field was dropped: the form that is written has a place for it.
    pub(super) fn restore(&mut self, path: &str) {
        self.undrop(path);
        self.carried.push(path.to_owned());
    }

    /// Takes back that the field, or anything in it, was dropped as a whole: what becomes of its parts is told apart.
    pub(super) fn undrop(&mut self, path: &str) {
        self.dropped.retain(|note| !within(&note.path).any(|outer| outer == path));
    }

    /// Takes back that a field of the new manifest is our choice: it is not in it.
    pub(super) fn unassume(&mut self, path: &str) {
        self.assumed.retain(|note| note.path != path);
    }

    /// Notes that a field of the new manifest is our choice.
    pub(super) fn assume(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.assumed.push(Note { path: path.into(), why: why.into() });
    }

    /// Everything carried, dropped and assumed; every field of the manifest is in one of the first two.
    pub(super) fn finish(mut self, to: &str) -> (Vec<String>, Vec<Note>, Vec<Note>) {
        let leaves: BTreeSet<String> = leaves(&self.root).into_iter().collect();
        let accounted: BTreeSet<&str> = (self.carried.iter().map(String::as_str))
            .chain(self.dropped.iter().map(|note| note.path.as_str()))
            .collect();
        let why = format!("{to} has no such field");
        let forgotten = leaves.iter().filter(|leaf| !within(leaf).any(|path| accounted.contains(path)));
        let forgotten: Vec<_> = forgotten.map(|leaf| Note { path: leaf.clone(), why: why.clone() }).collect();
        self.dropped.extend(forgotten);
        self.dropped.sort_by(|a, b| a.path.cmp(&b.path));
        self.carried.sort();
        self.carried.dedup();
        // Only what the manifest has can have been carried.
        self.carried
            .retain(|path| leaves.range(path.clone()..).next().is_some_and(|leaf| leaf.starts_with(path)));
        (self.carried, self.dropped, self.assumed)
    }
}

/// The path, and those of everything that it is in.
fn within(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices(['.', '[']).map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
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
