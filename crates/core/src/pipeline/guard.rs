//! Step 6: bounds, the production guard against zero, the fuse and the pause. The last word.

use crate::{
    Reason, Replicas, ScalerState, Stage,
    pipeline::{Draft, rate_limit::FUSE_PERIOD},
};

/// Applies the bounds and guards, weakest first, so that a pause overrides everything.
pub(super) fn guard(draft: &mut Draft<'_>, state: &ScalerState) {
    let bounds = draft.spec.replicas;
    if draft.replicas < bounds.min.0 {
        draft.set(Stage::Guard, bounds.min.0, Reason::RaisedToMin { min: bounds.min });
    }
    if let Some(until) = state.held_until
        && draft.now < until
        && draft.replicas < draft.current
    {
        draft.wake(until);
        let remaining_seconds = until.since(draft.now).as_secs_f64();
        let wish = Replicas(draft.replicas);
        draft.set(Stage::Guard, draft.current, Reason::HeldAfterRestart { wish, until, remaining_seconds });
    }
    calendar(draft);
    if draft.replicas > bounds.max.0 {
        draft.set(Stage::Guard, bounds.max.0, Reason::LoweredToMax { max: bounds.max });
    }
    if draft.replicas == 0 && !draft.spec.may_reach_zero() {
        draft.set(Stage::Guard, 1, Reason::ZeroGuard);
    }
    fuse(draft, state);
    if let Some(pause) = draft.spec.pause
        && draft.now < pause.until
    {
        draft.wake(pause.until);
        let remaining_seconds = pause.until.since(draft.now).as_secs_f64();
        draft.set(Stage::Guard, pause.replicas.0, Reason::Paused { until: pause.until, remaining_seconds });
    }
}

/// Keeps the highest of the floors that hold now.
fn calendar(draft: &mut Draft<'_>) {
    let now = draft.now;
    let mut highest = None;
    for floor in &draft.spec.floors {
        let Some(holds) = floor.holds(now) else { continue };
        draft.wake(holds.until);
        if holds.now && highest.is_none_or(|(replicas, _, _)| floor.replicas() > replicas) {
            highest = Some((floor.replicas(), floor, holds.until));
        }
    }
    if let Some((replicas, floor, until)) = highest.filter(|(replicas, _, _)| replicas.0 > draft.replicas) {
        let remaining_seconds = until.since(now).as_secs_f64();
        let (start, timezone) = (floor.start().to_owned(), floor.timezone().to_owned());
        let reason = Reason::CalendarFloor { replicas, start, timezone, until, remaining_seconds };
        draft.set(Stage::Guard, replicas.0, reason);
    }
}

/// Stops a loop that changes its mind on every event.
fn fuse(draft: &mut Draft<'_>, state: &ScalerState) {
    let since = draft.now - FUSE_PERIOD;
    let max_changes_per_minute = draft.spec.max_changes_per_minute;
    let mut recent = state.changes.iter().filter(|change| change.at > since);
    let oldest = recent.next();
    let count = oldest.map_or(0, |_| 1 + recent.count());
    if draft.replicas != draft.standing && count >= max_changes_per_minute as usize {
        if let Some(oldest) = oldest {
            draft.wake(oldest.at + FUSE_PERIOD);
        }
        draft.set(Stage::Guard, draft.standing, Reason::TooManyChanges { max_changes_per_minute });
    }
}
