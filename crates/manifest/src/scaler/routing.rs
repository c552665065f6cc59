//! `aliases` and `routing`: how the gateway tells requests apart, and what those that wait are told.

use std::collections::BTreeMap;

use forewarm_core::pool::{Affinity, Routing};

use super::target::texts_by_name;
use crate::cursor::{Cursor, Fields};

/// Bytes of a prompt that are looked at: some thousand tokens, which is beyond the system prompt that many share
/// (docs/research/routing.md).
const DEFAULT_PREFIX_BYTES: u32 = 4096;
/// Longest such prefix: hashing it takes some microseconds.
const MAX_PREFIX_BYTES: u32 = 64 << 10;
/// How far above its peers' mean load a replica may be preferred, as in Mirrokni, Thorup, Zadimoghaddam, "Consistent
/// Hashing with Bounded Loads" (2018).
const DEFAULT_LOAD_FACTOR: f64 = 1.25;
/// Beyond it the bound means nothing.
const MAX_LOAD_FACTOR: f64 = 100.0;

/// Reads both from `spec`.
pub(super) fn read(spec: &Fields<'_>, models: &[String]) -> Option<Routing> {
    let aliases = spec.get("aliases").map_or(Some(BTreeMap::new()), |at| aliases(&at, models));
    let rest = spec.get("routing").map_or(Some((None, None)), |at| {
        let fields = at.fields()?;
        let keepalive = fields.get("keepalive").map(|at| at.positive_duration());
        let affinity = fields.get("prefixAffinity").map(|at| affinity(&at));
        fields.finish();
        Some((transposed(keepalive)?, transposed(affinity)?))
    });
    let (keepalive, affinity) = rest?;
    Some(Routing { aliases: aliases?, keepalive, affinity })
}

/// Absent is no problem; wrong is `None`.
fn transposed<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

fn aliases(at: &Cursor<'_>, models: &[String]) -> Option<BTreeMap<String, String>> {
    let aliases = texts_by_name(at);
    for (alias, model) in &aliases {
        let wanted = if models.contains(alias) {
            "a name that is not one of `models`".to_owned()
        } else if !models.is_empty() && !models.contains(model) {
            format!("one of `models`: {}", models.join(", "))
        } else {
            continue;
        };
        at.out.add(&format!("{}.{alias}", at.path), at.node.span, format!("{alias}: {model}"), wanted);
        return None;
    }
    Some(aliases)
}

fn affinity(at: &Cursor<'_>) -> Option<Affinity> {
    let fields = at.fields()?;
    let bytes = fields.get("bytes").map(|at| at.whole(1, MAX_PREFIX_BYTES));
    let factor = fields.get("loadFactor").map(|at| {
        let factor = at.number(0.0, MAX_LOAD_FACTOR)?;
        if factor < 1.0 {
            at.wanted(format!("1 to {MAX_LOAD_FACTOR}: below 1 no replica could have its share"));
            return None;
        }
        Some(factor)
    });
    fields.finish();
    Some(Affinity {
        prefix_bytes: transposed(bytes)?.unwrap_or(DEFAULT_PREFIX_BYTES),
        load_factor: transposed(factor)?.unwrap_or(DEFAULT_LOAD_FACTOR),
    })
}
