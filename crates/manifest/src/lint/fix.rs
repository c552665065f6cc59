//! Applies the fixes that are safe to do by machine, leaving everything else as it is, comments included.

use std::collections::BTreeSet;

use super::{Edit, Finding};

/// The text with the edits of all findings about `file` applied, and how many findings that settles.
/// Of edits that overlap, the first wins; run it again for the other.
pub fn apply_fixes(file: &str, text: &str, findings: &[Finding]) -> (String, usize) {
    let mut groups: Vec<&[Edit]> = findings
        .iter()
        .filter(|finding| finding.file == file)
        .filter_map(|finding| finding.fix.as_ref())
        .map(|fix| fix.edits.as_slice())
        .filter(|edits| !edits.is_empty())
        .collect();
    groups.sort();
    let mut chosen: BTreeSet<&Edit> = BTreeSet::new();
    let mut settled = 0;
    for group in groups {
        let free = group.iter().all(|edit| {
            // None of those chosen overlap: only the neighbours can.
            let before = chosen.range::<Edit, _>(..edit).next_back();
            let mut near = before.into_iter().chain(chosen.range::<Edit, _>(edit..).next());
            text.get(edit.start..edit.end).is_some() && near.all(|other| !overlap(edit, other))
        });
        if free || group.iter().all(|edit| chosen.contains(edit)) {
            settled += 1;
        }
        if free {
            chosen.extend(group);
        }
    }
    let mut fixed = String::with_capacity(text.len());
    let mut done = 0;
    for edit in chosen {
        fixed.push_str(text.get(done..edit.start).unwrap_or_default());
        fixed.push_str(&edit.replacement);
        done = edit.end;
    }
    fixed.push_str(text.get(done..).unwrap_or_default());
    (fixed, settled)
}

fn overlap(a: &Edit, b: &Edit) -> bool {
    // Two insertions at one place do not overlap unless they are the same.
    (a.start < b.end && b.start < a.end) || a == b
}
