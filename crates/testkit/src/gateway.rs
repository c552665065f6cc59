//! A gateway that reports what a test tells it.

use std::{pin::pin, sync::Mutex};

use forewarm_control::ports::{Gateway, GatewayError};
use forewarm_core::pool::{PoolPlan, PoolReport};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Notify;

/// A gateway in memory.
#[derive(Debug, Default)]
pub struct FakeGateway {
    inner: Mutex<Inner>,
    changed: Notify,
    planned: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    report: PoolReport,
    plans: Vec<PoolPlan>,
    unreachable: bool,
}

impl FakeGateway {
    /// Changes the report, as traffic would.
    pub fn set_report(&self, change: impl FnOnce(&mut PoolReport)) {
        change(&mut self.lock().report);
        self.changed.notify_one();
    }

    /// Makes the gateway answer with an error, or answer again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.lock().unreachable = unreachable;
        self.changed.notify_one();
    }

    /// The plans it was given so far.
    pub fn plans(&self) -> Vec<PoolPlan> {
        self.lock().plans.clone()
    }

    /// Returns when its plan is as it should be.
    pub async fn until_planned(&self, is_so: impl Fn(&PoolPlan) -> bool) {
        loop {
            let mut next = pin!(self.planned.notified());
            // A plan that comes after the look is not missed.
            next.as_mut().enable();
            if self.lock().plans.last().is_some_and(&is_so) {
                return;
            }
            next.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn answer<T>(&self, value: impl FnOnce(&mut Inner) -> T) -> Result<T, GatewayError> {
        let mut inner = self.lock();
        if inner.unreachable {
            return Err(GatewayError("the fake gateway is unreachable".to_owned()));
        }
        Ok(value(&mut inner))
    }
}

impl Gateway for FakeGateway {
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>> {
        let applied = self.answer(|inner| inner.plans.push(plan.clone()));
        self.planned.notify_waiters();
        std::future::ready(applied).boxed()
    }

    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>> {
        std::future::ready(self.answer(|inner| inner.report.clone())).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changed.notified().boxed()
    }
}
