//! Step 2: one wish out of several, and nothing taken away on what is not known.

use crate::{
    Reason, Stage,
    pipeline::{Draft, propose::Proposals},
};

/// Takes the largest wish, as every peer does; holds the current number where a wish for fewer rests on
/// something unknown.
pub(super) fn combine(draft: &mut Draft<'_>, proposals: &Proposals) {
    let wish = proposals.largest.unwrap_or(draft.current);
    if (wish < draft.current || proposals.largest.is_none())
        && let Some(hold) = &proposals.hold
    {
        draft.set(Stage::Combine, draft.current, hold.clone());
        return;
    }
    if proposals.wishes > 1 {
        draft.set(Stage::Combine, wish, Reason::LargestWish);
    } else {
        draft.replicas = wish;
    }
}
