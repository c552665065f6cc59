//! Lifecycle hooks: an instance joins the group when its engine serves, and ends when its work is done.
//!
//! Only hooks whose name begins with `forewarm-` are completed: others are somebody else's to complete.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_autoscaling::Client;
use tokio::time::Instant;

use crate::error::CallError;

/// What the names of our hooks begin with.
pub(crate) const PREFIX: &str = "forewarm-";
/// How long a list of hooks is believed.
const KEEP: Duration = Duration::from_secs(600);

/// A hook of ours.
#[derive(Clone, Debug)]
struct Hook {
    name: String,
    launching: bool,
    timeout: Duration,
}

/// The hooks of one group.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    hooks: Vec<Hook>,
    read_at: Option<Instant>,
    /// When the wait of an instance was last prolonged.
    beats: BTreeMap<String, Instant>,
}

/// What an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// At its start.
    Launching,
    /// At its end.
    Terminating,
}

impl Hooks {
    /// Reads the list unless it is young enough.
    pub(crate) async fn refresh(&mut self, client: &Client, group: &str) -> Result<(), CallError> {
        const ACTION: &str = "autoscaling:DescribeLifecycleHooks";
        if self.read_at.is_some_and(|at| at.elapsed() < KEEP) {
            return Ok(());
        }
        let answer = client.describe_lifecycle_hooks().auto_scaling_group_name(group).send().await;
        let answer = answer.map_err(|error| CallError::of(ACTION, &error))?;
        let ours = answer.lifecycle_hooks().iter().filter_map(|hook| {
            let name = hook.lifecycle_hook_name().filter(|name| name.starts_with(PREFIX))?;
            let seconds = u64::try_from(hook.heartbeat_timeout().unwrap_or(3600)).unwrap_or(3600);
            Some(Hook {
                name: name.to_owned(),
                launching: hook.lifecycle_transition()? == "autoscaling:EC2_INSTANCE_LAUNCHING",
                timeout: Duration::from_secs(seconds),
            })
        });
        self.hooks = ours.collect();
        self.read_at = Some(Instant::now());
        Ok(())
    }

    /// Lets an instance go on.
    pub(crate) async fn complete(
        &mut self,
        client: &Client,
        group: &str,
        instance: &str,
        wait: Wait,
    ) -> Result<(), CallError> {
        const ACTION: &str = "autoscaling:CompleteLifecycleAction";
        self.beats.remove(instance);
        for hook in self.hooks.iter().filter(|hook| hook.launching == (wait == Wait::Launching)) {
            let call = client.complete_lifecycle_action().auto_scaling_group_name(group);
            let call = call.lifecycle_hook_name(&hook.name).instance_id(instance);
            let answer = call.lifecycle_action_result("CONTINUE").send().await;
            match answer.map_err(|error| CallError::of(ACTION, &error)) {
                // It went on already, after a call whose answer was lost or because the wait was over.
                Err(CallError::Refused { code, .. }) if code == "ValidationError" => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// Prolongs the wait of an instance when half of it is over.
    pub(crate) async fn prolong(
        &mut self,
        client: &Client,
        group: &str,
        instance: &str,
        wait: Wait,
    ) -> Result<(), CallError> {
        const ACTION: &str = "autoscaling:RecordLifecycleActionHeartbeat";
        let hooks = self.hooks.iter().filter(|hook| hook.launching == (wait == Wait::Launching));
        let Some(shortest) = hooks.clone().map(|hook| hook.timeout).min() else { return Ok(()) };
        let now = Instant::now();
        // Seen for the first time: when the wait began is not known.
        let last = self.beats.get(instance).copied();
        if last.is_some_and(|at| now.duration_since(at) < shortest / 2) {
            return Ok(());
        }
        for hook in hooks {
            let call = client.record_lifecycle_action_heartbeat().auto_scaling_group_name(group);
            let answer = call.lifecycle_hook_name(&hook.name).instance_id(instance).send().await;
            match answer.map_err(|error| CallError::of(ACTION, &error)) {
                Err(CallError::Refused { code, .. }) if code == "ValidationError" => {}
                other => {
                    other?;
                }
            }
        }
        self.beats.insert(instance.to_owned(), now);
        Ok(())
    }

    /// Forgets instances that are gone.
    pub(crate) fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.beats.retain(|instance, _| there(instance));
    }
}
