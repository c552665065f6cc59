//! Step 7: which replicas. Coming replicas count as capacity; who goes is chosen by the work it has.

use std::{cmp::Reverse, time::Duration};

use crate::{
    Mode, Phase, Placement, Reason, Replica, ScalerState, Stage, Tier, Timestamp, WarmStarts,
    cold_start::next_tiers, pipeline::Draft, pipeline::queue, state::StartFailures,
};

/// The first wait after a failed start: kubelet's CrashLoopBackOff starts at 10 s…
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// …and doubles up to 5 minutes.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A replica that is still there this long after it was told to stop is told again: the first time may have
/// been lost in a crash. Longer than the grace that processes and pods get by default.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// What is left for its requests when a replica that is taken away stops to get new ones: half of the warning that
/// the clouds give.
const LAST_REQUESTS: Duration = Duration::from_secs(60);

/// Works out what the fleet is to do, and when the next replica should be ready.
pub(super) fn allocate(draft: &mut Draft<'_>, state: &ScalerState) -> (Placement, Option<Timestamp>) {
    let mut placement = Placement::default();
    if let Some(contested) = draft.observation.contested.clone() {
        draft.step(Stage::Allocate, Reason::Contested { contested });
    }
    for failed in &draft.observation.failed_starts {
        let (replica, phase, error) = (failed.id.clone(), failed.phase, failed.error.clone());
        draft.step(Stage::Allocate, Reason::StartFailed { replica, phase, error });
    }
    if draft.spec.mode == Mode::Shadow {
        draft.step(Stage::Allocate, Reason::ShadowMode);
        return (placement, next_ready(draft, state, 0));
    }
    let (serving, going): (Vec<&Replica>, Vec<&Replica>) =
        give_up_late_starts(draft, &mut placement).into_iter().partition(|replica| replica.stays());
    let ready = serving.iter().filter(|replica| replica.phase == Phase::Ready).count();
    let wanted = draft.replicas as usize;
    revive(draft, state, &mut placement, wanted.saturating_sub(serving.len()));
    stop_drained(draft, state, &mut placement);
    let there = serving.len() + placement.revive.len();
    if there < wanted {
        start(draft, state, &mut placement, u32::try_from(wanted - there).unwrap_or(u32::MAX));
    } else if serving.len() > wanted {
        let surplus = serving.len() - wanted;
        take_away(draft, &mut placement, serving, surplus);
    }
    let ready = ready + placement.revive.len();
    replace_first(draft, &mut placement, going, wanted.saturating_sub(ready));
    let ready_at = next_ready(draft, state, placement.start);
    (placement, ready_at)
}

/// Takes draining replicas back: they are ready at once, and paid for. Those with the most work first, since the
/// others are done the sooner; never one that was told to stop, or that could not finish in time.
fn revive(draft: &mut Draft<'_>, state: &ScalerState, placement: &mut Placement, missing: usize) {
    if draft.spec.policy.queue().is_some() {
        // A worker that was told to take no more is on its way out.
        return;
    }
    let observation = draft.observation;
    let mut draining: Vec<&Replica> = observation
        .replicas
        .iter()
        .filter(|replica| replica.phase == Phase::Draining && !state.stopping.contains_key(&replica.id))
        .filter(|replica| drained_for(draft, state, replica) < draft.spec.drain_deadline)
        .collect();
    draining.sort_by_key(|replica| {
        let work = Reverse(replica.in_flight.unwrap_or(u32::MAX));
        (replica.ordinal, work, Reverse(replica.age), replica.id.clone())
    });
    for replica in draining.into_iter().take(missing) {
        placement.revive.push(replica.id.clone());
        let drained_seconds = drained_for(draft, state, replica).as_secs_f64();
        draft.step(Stage::Allocate, Reason::Revived { replica: replica.id.clone(), drained_seconds });
    }
}

fn drained_for(draft: &Draft<'_>, state: &ScalerState, replica: &Replica) -> Duration {
    state.draining.get(&replica.id).map_or(Duration::ZERO, |&since| draft.now.since(since))
}

/// Drained replicas stop; one that cannot finish is stopped after the deadline.
fn stop_drained(draft: &mut Draft<'_>, state: &ScalerState, placement: &mut Placement) {
    let observation = draft.observation;
    let Placement { revive, stop, .. } = placement;
    let drains = |replica: &&Replica| replica.phase.drains() && !revive.contains(&replica.id);
    let mut draining: Vec<&Replica> = observation.replicas.iter().filter(drains).collect();
    draining.sort_by_key(|replica| Reverse(replica.ordinal));
    for replica in draining {
        if let Some(&told) = state.stopping.get(&replica.id)
            && draft.now < told + TELL_AGAIN
        {
            draft.wake(told + TELL_AGAIN);
            continue;
        }
        let drained_for = drained_for(draft, state, replica);
        let released = match draft.spec.policy.queue() {
            Some(policy) => queue::released(draft, policy, replica, drained_for),
            None => (replica.in_flight == Some(0)).then(|| Reason::Drained { replica: replica.id.clone() }),
        };
        let reason = if let Some(reason) = released {
            reason
        } else if drained_for >= draft.spec.drain_deadline {
            let drained_seconds = drained_for.as_secs_f64();
            Reason::DrainDeadline { replica: replica.id.clone(), drained_seconds }
        } else {
            draft.wake(draft.now + draft.spec.drain_deadline.saturating_sub(drained_for));
            if replica.ordinal.is_some() {
                // Those before it cannot go before it.
                break;
            }
            continue;
        };
        stop.push(replica.id.clone());
        draft.step(Stage::Allocate, reason);
    }
}

/// The replicas that count, less the starts that take too long.
fn give_up_late_starts<'a>(draft: &mut Draft<'a>, placement: &mut Placement) -> Vec<&'a Replica> {
    let deadline = draft.spec.cold_start.deadline;
    let mut serving = Vec::new();
    for replica in draft.observation.replicas.iter().filter(|replica| replica.phase.counts()) {
        if replica.phase.is_coming() && replica.age >= deadline {
            placement.stop.push(replica.id.clone());
            let age_seconds = replica.age.as_secs_f64();
            draft.step(Stage::Allocate, Reason::StartExpired { replica: replica.id.clone(), age_seconds });
        } else {
            if replica.phase.is_coming() {
                draft.wake(draft.now + deadline.saturating_sub(replica.age));
            }
            serving.push(replica);
        }
    }
    serving
}

fn start(draft: &mut Draft<'_>, state: &ScalerState, placement: &mut Placement, count: u32) {
    if let Some(failures) = state.start_failures {
        let until = failures.last_at + backoff(failures);
        if draft.now < until {
            draft.wake(until);
            let remaining_seconds = until.since(draft.now).as_secs_f64();
            draft.step(
                Stage::Allocate,
                Reason::StartBackoff { failures: failures.count, until, remaining_seconds },
            );
            return;
        }
    }
    placement.start = count;
    let coming = draft.observation.count_where(Phase::is_coming);
    let spec = &draft.spec.cold_start;
    let expected = |tier| state.cold_starts.expected_from(tier, spec).as_secs_f64();
    let warm = next_tiers(count, &draft.observation.standby)
        .filter(|(tier, _)| *tier != Tier::Cold)
        .map(|(tier, count)| WarmStarts { tier, count, start_seconds: expected(tier) })
        .collect();
    let reason = Reason::Starting { count, coming, cold_start_seconds: expected(Tier::Cold), warm };
    draft.step(Stage::Allocate, reason);
}

/// Those that somebody is going to take away serve until as many others do as are wanted, or until there is just time
/// to finish what they have. Who has the most time goes last.
fn replace_first(
    draft: &mut Draft<'_>,
    placement: &mut Placement,
    mut going: Vec<&Replica>,
    mut missing: usize,
) {
    let last_requests = LAST_REQUESTS.min(draft.spec.drain_deadline);
    going.retain(|replica| replica.phase == Phase::Ready);
    going.sort_by_key(|replica| {
        let left = replica.notice.as_ref().and_then(|notice| notice.left).unwrap_or(Duration::MAX);
        (Reverse(left), replica.id.clone())
    });
    for replica in going {
        let Some(notice) = replica.notice.clone() else { continue };
        let id = replica.id.clone();
        let replaced = missing == 0;
        if replaced || notice.left.is_some_and(|left| left <= last_requests) {
            placement.drain.push(id.clone());
            draft.step(Stage::Allocate, Reason::NoticeDrains { replica: id, notice, replaced });
            continue;
        }
        missing -= 1;
        if let Some(left) = notice.left {
            draft.wake(draft.now + (left - last_requests));
        }
        draft.step(Stage::Allocate, Reason::ReplacedFirst { replica: id, notice });
    }
}

fn backoff(failures: StartFailures) -> Duration {
    let doublings = failures.count.saturating_sub(1).min(5);
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF)
}

/// Takes replicas away: those that are starting first (nobody waits for what they do), the youngest
/// first; then those with the least work, the youngest first. Where places are fixed, the last.
fn take_away(draft: &mut Draft<'_>, placement: &mut Placement, mut serving: Vec<&Replica>, surplus: usize) {
    let policy = draft.spec.policy.queue();
    // A worker takes messages as soon as it runs, whether or not somebody has seen that it is ready.
    let works = |replica: &Replica| match policy {
        Some(_) => replica.phase != Phase::Requested,
        None => replica.phase == Phase::Ready,
    };
    let work_of = |draft: &Draft<'_>, replica: &Replica| match policy {
        Some(policy) => queue::held(draft, policy, &replica.id),
        None => replica.in_flight,
    };
    serving.sort_by_key(|replica| {
        let ready = replica.phase == Phase::Ready;
        let work = if ready { work_of(draft, replica).unwrap_or(u32::MAX) } else { 0 };
        (Reverse(replica.ordinal), ready, work, replica.age, Reverse(replica.id.clone()))
    });
    for replica in serving.into_iter().take(surplus) {
        let id = replica.id.clone();
        if works(replica) {
            placement.drain.push(id.clone());
            let in_flight = work_of(draft, replica);
            draft.step(Stage::Allocate, Reason::Draining { replica: id, in_flight });
        } else {
            placement.stop.push(id.clone());
            draft.step(Stage::Allocate, Reason::StartCancelled { replica: id });
        }
    }
}

/// When the next replica should be ready: what a client that has to wait is told.
fn next_ready(draft: &Draft<'_>, state: &ScalerState, starting: u32) -> Option<Timestamp> {
    let expected = |tier| state.cold_starts.expected_from(tier, &draft.spec.cold_start);
    let coming = draft
        .observation
        .replicas
        .iter()
        .filter(|replica| replica.phase.is_coming() && replica.age < draft.spec.cold_start.deadline)
        // A start that is late may be ready any moment: "now" is the best that can be said.
        .map(|replica| draft.now + expected(replica.tier).saturating_sub(replica.age))
        .min();
    let new =
        next_tiers(starting, &draft.observation.standby).map(|(tier, _)| draft.now + expected(tier)).min();
    coming.into_iter().chain(new).min()
}
