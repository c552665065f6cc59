//! Deadlines of one connection that are set with each request and hardly ever reached: one place among the runtime's timers
//! does for all of them. To take a place and to give it up again takes the runtime's locks, for each request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep};

/// What rings for whichever deadline of a connection is waited for.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Returns at this time.
    pub(crate) fn poll(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if at < alarm.deadline() {
            alarm.as_mut().reset(at);
        }
        loop {
            ready!(alarm.as_mut().poll(context));
            if alarm.deadline() >= at {
                return Poll::Ready(());
            }
            // It rang for one before, which is not waited for any more.
            alarm.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whichever_was_waited_for_before() {
        let (mut alarm, began) = (Alarm::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut context = Context::from_waker(std::task::Waker::noop());
        // Given up, as by a request that came in time.
        assert!(alarm.poll(at(10), &mut context).is_pending());
        assert!(alarm.poll(at(20), &mut context).is_pending());
        for (deadline, expected) in [(30, 30), (31, 31), (25, 31)] {
            poll_fn(|context| alarm.poll(at(deadline), context)).await;
            assert_eq!(began.elapsed().as_secs(), expected, "{deadline}");
        }
        assert!(alarm.poll(at(60), &mut context).is_pending());
        poll_fn(|context| alarm.poll(at(40), context)).await;
        assert_eq!(began.elapsed().as_secs(), 40);
        poll_fn(|context| alarm.poll(at(60), context)).await;
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
