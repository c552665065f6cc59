//! Deadlines of one connection that are set with each request and hardly ever reached: one place among the runtime's timers
//! does for all of them. To take a place and to give it up again takes the runtime's locks, for each request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// What rings for whichever deadline of a connection is waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm(Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

impl Timer for Alarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until((Instant::now() + duration).into())
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at: deadline.into(), alarm: self.clone() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct Deadline {
    at: Instant,
    alarm: Alarm,
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.at)));
        if self.at < alarm.deadline() {
            alarm.as_mut().reset(self.at);
        }
        loop {
            ready!(alarm.as_mut().poll(context));
            if alarm.deadline() >= self.at {
                return Poll::Ready(());
            }
            // It rang for one before, which is not waited for any more.
            alarm.as_mut().reset(self.at);
        }
    }
}

impl Sleep for Deadline {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whichever_was_waited_for_before() {
        let (alarm, began) = (Alarm::default(), Instant::now());
        let at = |seconds| alarm.sleep_until((began + Duration::from_secs(seconds)).into());
        let mut context = Context::from_waker(std::task::Waker::noop());
        // Given up, as by a request that came in time.
        assert!(at(10).as_mut().poll(&mut context).is_pending());
        assert!(at(20).as_mut().poll(&mut context).is_pending());
        for (deadline, expected) in [(30, 30), (31, 31), (25, 31)] {
            at(deadline).await;
            assert_eq!(began.elapsed().as_secs(), expected, "{deadline}");
        }
        let (mut late, early) = (at(60), at(40));
        assert!(late.as_mut().poll(&mut context).is_pending());
        early.await;
        assert_eq!(began.elapsed().as_secs(), 40);
        late.await;
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
