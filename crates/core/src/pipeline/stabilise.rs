//! Step 4: stabilization windows, with the meaning of `behavior` in `autoscaling/v2` (KEP-853): the
//! current number is clamped to [lowest wish of the window up, highest wish of the window down].

use crate::{Reason, Replicas, ScalerState, Stage, pipeline::Draft};

/// Holds the number against wishes that the windows do not bear out.
pub(super) fn stabilise(draft: &mut Draft<'_>, state: &mut ScalerState) {
    let now = draft.now;
    let up = draft.spec.behavior.scale_up.stabilization_window;
    let down = draft.spec.behavior.scale_down.stabilization_window;
    if state.target.is_none() {
        // What runs when we arrive was somebody's wish; without it a window could not hold anything.
        state.lowest_wishes.push(now, draft.current, |new, old| new <= old);
        state.highest_wishes.push(now, draft.current, |new, old| new >= old);
    }
    state.lowest_wishes.push(now, draft.replicas, |new, old| new <= old);
    state.highest_wishes.push(now, draft.replicas, |new, old| new >= old);
    let wish = draft.replicas;
    let Some((low_at, lowest)) = state.lowest_wishes.extreme(now - up) else { return };
    let Some((high_at, highest)) = state.highest_wishes.extreme(now - down) else { return };
    let stabilised = if draft.current < lowest {
        lowest
    } else if draft.current > highest {
        highest
    } else {
        draft.current
    };
    if stabilised == wish {
        return;
    }
    // Upwards the lowest wish holds, downwards the highest.
    let (window, held_since) = if wish > stabilised { (up, low_at) } else { (down, high_at) };
    draft.wake(held_since + window);
    let reason = Reason::Stabilised { wish: Replicas(wish), window_seconds: window.as_secs_f64() };
    draft.set(Stage::Stabilise, stabilised, reason);
}
