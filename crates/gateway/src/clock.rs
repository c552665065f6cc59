//! The time as a connection's task has it: no time passes within one of its turns, which takes microseconds. A request asks for the
//! time at a dozen places, and to ask the system costs as much as to parse a header.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::None) };
}

#[derive(Clone, Copy)]
enum Turn {
    /// Nobody's: time passes.
    None,
    /// Nobody has asked for the time yet.
    Begun,
    At(Instant),
}

/// Now, or when it was first asked in this turn.
pub(crate) fn now() -> Instant {
    match TURN.get() {
        Turn::None => Instant::now(),
        Turn::Begun => {
            let now = Instant::now();
            TURN.set(Turn::At(now));
            now
        }
        Turn::At(now) => now,
    }
}

/// A task in whose turns no time passes.
pub(crate) struct InTurns<F>(Pin<Box<F>>);

impl<F> InTurns<F> {
    pub(crate) fn new(task: F) -> Self {
        Self(Box::pin(task))
    }
}

impl<F: Future> Future for InTurns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        /// A task may panic.
        struct Ends;
        impl Drop for Ends {
            fn drop(&mut self) {
                TURN.set(Turn::None);
            }
        }
        TURN.set(Turn::Begun);
        let _ends = Ends;
        self.0.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_within_a_turn_and_all_of_it_between_two() {
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let mut turns = 0;
        let task = poll_fn(|context| {
            let first = now();
            let passes = std::pin::pin!(tokio::time::advance(second));
            // Its time passes when it is first polled.
            assert!(passes.poll(context).is_pending());
            assert_eq!(now(), first);
            assert_eq!(first - began, second * turns);
            turns += 1;
            if turns < 3 { Poll::Pending } else { Poll::Ready(()) }
        });
        InTurns::new(task).await;
        assert_eq!(now() - began, 3 * second, "nobody's turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_panics_is_over() {
        let panics = std::panic::AssertUnwindSafe(InTurns::new(async {
            now();
            panic!("on purpose");
        }));
        futures_util::FutureExt::catch_unwind(panics).await.unwrap_err();
        let before = now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now() - before, Duration::from_secs(1));
    }
}
