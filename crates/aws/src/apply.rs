//! What a placement means to a group.
//!
//! Each placement begins with a fresh look, and everything that AWS would refuse, or do otherwise than meant, is
//! refused here first, in words. A crash between two calls leaves a group that the next look shows as it is.

use std::time::Duration;

use aws_sdk_autoscaling::config::{Builder, retry::RetryConfig};
use forewarm_control::ports::FleetError;
use forewarm_core::Placement;
use tokio::time::Instant;

use crate::{
    CallError,
    fleet::Shared,
    group::{Group, Stage},
};

/// Attempts of a termination that is throttled, and the wait before the second; it doubles.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);

impl Shared {
    pub(crate) async fn apply(&self, placement: &Placement) -> Result<(), FleetError> {
        let _one_at_a_time = self.applying.lock().await;
        self.with_book(|book| {
            book.revive(&placement.revive);
            book.drain(&placement.drain);
        });
        if placement.start == 0 && placement.stop.is_empty() {
            return Ok(());
        }
        let shown = self.peek(|book| book.shown());
        let group = self.groups.fresh(&self.config.name).await?;
        let group = group.ok_or_else(|| self.unreachable("there is no such group"))?;
        if let Some(shown) = shown.filter(|shown| *shown != group.desired) {
            self.nudge.notify_one();
            return Err(FleetError::Refused {
                reason: format!(
                    "somebody else changed the desired capacity of group `{}` from {shown} to {}; it is decided anew",
                    group.name, group.desired
                ),
            });
        }
        let mut work = Work { group: (*group).clone(), start: placement.start, refused: None };
        for id in &placement.stop {
            self.stop(&mut work, id.as_str()).await?;
        }
        let cancelled = self.peek(|book| book.requested(&placement.stop));
        let outcome = self.set_desired(&mut work, cancelled).await;
        self.with_book(|book| book.acted(work.group, Instant::now()));
        self.groups.hurry();
        self.nudge.notify_one();
        outcome?;
        work.refused.map_or(Ok(()), Err)
    }

    /// Terminates one instance, and takes it off the desired capacity unless another is to start anyway.
    async fn stop(&self, work: &mut Work, id: &str) -> Result<(), FleetError> {
        let Some(instance) = work.group.instances.iter().position(|instance| instance.id == id) else {
            return Ok(());
        };
        match work.group.instances[instance].stage {
            Stage::Pending | Stage::PendingWait | Stage::PendingProceed | Stage::InService => {}
            // It goes already; its hook lets it go on.
            Stage::Terminating | Stage::TerminatingWait => {
                self.with_book(|book| book.stop(id));
                return Ok(());
            }
            Stage::Gone | Stage::Aside => return Ok(()),
        }
        let decrement = work.group.desired > work.group.min;
        if !decrement && work.start == 0 {
            let (name, min) = (&work.group.name, work.group.min);
            work.refuse(FleetError::Refused {
                reason: format!(
                    "instance {id} is not stopped: group `{name}` has MinSize {min}; `spec.replicas.min` has to be at \
                     least that, or `aws autoscaling update-auto-scaling-group --auto-scaling-group-name {name} \
                     --min-size …` lowers it"
                ),
            });
            return Ok(());
        }
        if let Some(why) = work.group.suspended("Terminate") {
            work.refuse(FleetError::Refused { reason: why });
            return Ok(());
        }
        self.with_book(|book| book.stop(id));
        if let Err(error) = self.terminate(id, decrement).await {
            // Without an answer it may go, and must not count as lost then.
            if !matches!(error, CallError::NoAnswer { .. }) {
                self.with_book(|book| book.unstop(id));
            }
            return Err(error.into());
        }
        work.group.instances[instance].stage = Stage::Terminating;
        if decrement {
            work.group.desired -= 1;
        } else {
            // The group replaces it by itself.
            work.start -= 1;
        }
        Ok(())
    }

    /// The SDK does not try this again: after a lost answer, twice would take two off the desired capacity.
    async fn terminate(&self, id: &str, decrement: bool) -> Result<(), CallError> {
        const ACTION: &str = "autoscaling:TerminateInstanceInAutoScalingGroup";
        let once = Builder::new().retry_config(RetryConfig::disabled());
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let call = self.groups.account().autoscaling.terminate_instance_in_auto_scaling_group();
            let call = call.instance_id(id).should_decrement_desired_capacity(decrement);
            let answer = call.customize().config_override(once.clone()).send().await;
            match answer.map_err(|error| CallError::of(ACTION, &error)) {
                Ok(_) => break,
                // Nothing was done.
                Err(CallError::Throttled { .. }) if attempt < ATTEMPTS => {
                    let jitter = 0.5 + fastrand::f64();
                    tokio::time::sleep(wait.mul_f64(jitter / self.groups.speed)).await;
                    wait *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sets the desired capacity: up for what is to start, down for what was asked for and is not there yet.
    async fn set_desired(&self, work: &mut Work, cancelled: u32) -> Result<(), FleetError> {
        const ACTION: &str = "autoscaling:SetDesiredCapacity";
        let group = &work.group;
        // Lower than what is there would let AWS choose who goes.
        let cancelled = cancelled.min(group.missing()).min(group.desired.saturating_sub(group.min));
        let without = group.desired - cancelled;
        let wanted = without.saturating_add(work.start);
        let allowed = wanted.min(group.max).max(without);
        if work.start > 0
            && let Some(reason) = group.suspended("Launch")
        {
            return Err(FleetError::CannotStart { reason });
        }
        let lacking = wanted - allowed;
        if lacking > 0 {
            let reason = format!(
                "group `{}` has MaxSize {}; `spec.replicas.max` has to be at most that, or `aws autoscaling \
                 update-auto-scaling-group --auto-scaling-group-name {} --max-size …` raises it",
                group.name, group.max, group.name
            );
            work.refuse(FleetError::OutOfCapacity { wanted: lacking, reason });
        }
        if allowed == work.group.desired {
            return Ok(());
        }
        let capacity = i32::try_from(allowed).unwrap_or(i32::MAX);
        let call = self.groups.account().autoscaling.set_desired_capacity();
        let call = call.auto_scaling_group_name(&work.group.name).desired_capacity(capacity);
        let answer = call.honor_cooldown(false).send().await;
        answer.map_err(|error| CallError::of(ACTION, &error))?;
        work.group.desired = allowed;
        Ok(())
    }
}

/// A placement on its way into a group.
struct Work {
    /// The group as it becomes.
    group: Group,
    start: u32,
    /// What was not done, and why.
    refused: Option<FleetError>,
}

impl Work {
    fn refuse(&mut self, error: FleetError) {
        self.refused.get_or_insert(error);
    }
}
