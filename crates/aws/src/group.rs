//! An Auto Scaling group as the API shows it, as far as it matters here.

use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance as SdkInstance, LifecycleState};
use forewarm_core::Tier;

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) desired: u32,
    pub(crate) instances: Vec<Instance>,
    /// Processes that somebody suspended, such as `Launch`, and why.
    pub(crate) suspended: Vec<(String, String)>,
    /// Whether new instances are protected from the moment they are in service.
    pub(crate) protects_new: bool,
    /// Whether an instance may count for more than one.
    pub(crate) weighted: bool,
    /// Whether it has a warm pool.
    pub(crate) has_pool: bool,
    /// Instances of the warm pool that are prepared, and what a start with each begins with.
    pub(crate) pool: Vec<(String, Tier)>,
}

/// An instance of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) stage: Stage,
    pub(crate) healthy: bool,
    pub(crate) protected: bool,
}

/// Where an instance is in the group's life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// EC2 starts it.
    Pending,
    /// It runs, and waits for its launching hooks.
    PendingWait,
    /// Its hooks are done.
    PendingProceed,
    InService,
    /// It is going to be terminated.
    Terminating,
    /// It is going to be terminated, and waits for its terminating hooks.
    TerminatingWait,
    /// It is being terminated or detached, and serves nobody.
    Gone,
    /// Not a part of the desired capacity: standby, the warm pool, quarantine.
    Aside,
}

impl Stage {
    /// Whether the desired capacity includes it.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::PendingProceed | Self::InService)
    }
}

impl Group {
    /// What the API's answer says; `None` without a name.
    pub(crate) fn of(group: &AutoScalingGroup) -> Option<Self> {
        let number = |value: Option<i32>| u32::try_from(value.unwrap_or(0)).unwrap_or(0);
        let overrides = group
            .mixed_instances_policy()
            .and_then(|policy| policy.launch_template())
            .map(|template| template.overrides())
            .unwrap_or_default();
        let of_units = group.desired_capacity_type().is_none_or(|kind| kind == "units");
        Some(Self {
            name: group.auto_scaling_group_name()?.to_owned(),
            min: number(group.min_size()),
            max: number(group.max_size()),
            desired: number(group.desired_capacity()),
            instances: group.instances().iter().filter_map(Instance::of).collect(),
            suspended: group
                .suspended_processes()
                .iter()
                .filter_map(|process| {
                    let why = process.suspension_reason().unwrap_or_default().to_owned();
                    Some((process.process_name()?.to_owned(), why))
                })
                .collect(),
            protects_new: group.new_instances_protected_from_scale_in().unwrap_or(false),
            weighted: !of_units
                || overrides.iter().any(|kind| kind.weighted_capacity().is_some_and(|w| w != "1")),
            has_pool: group.warm_pool_configuration().is_some(),
            pool: Vec::new(),
        })
    }

    /// Instances that are wanted and not there.
    pub(crate) fn missing(&self) -> u32 {
        let there = self.instances.iter().filter(|instance| instance.stage.counts()).count();
        self.desired.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX))
    }

    /// Whether something is on its way in or out.
    pub(crate) fn is_moving(&self) -> bool {
        let moves = |instance: &Instance| !matches!(instance.stage, Stage::InService | Stage::Aside);
        self.missing() > 0 || self.instances.iter().any(moves)
    }

    /// What does not go together with a fleet of `min` to `max` replicas, in words.
    pub(crate) fn concerns(&self, min: u32, max: u32) -> Vec<String> {
        let Self { name, min: min_size, max: max_size, .. } = self;
        let mut concerns = Vec::new();
        if max > *max_size {
            concerns.push(format!(
                "`spec.replicas.max` is {max}, above MaxSize {max_size} of group `{name}`: {max_size} is the most"
            ));
        }
        if min < *min_size {
            concerns.push(format!(
                "`spec.replicas.min` is {min}, below MinSize {min_size} of group `{name}`: {min_size} is the least"
            ));
        }
        if self.weighted {
            concerns.push(format!(
                "instances of group `{name}` count by weight or by capacity; forewarm needs one for each unit"
            ));
        }
        concerns.extend(self.suspended.iter().filter_map(|(process, _)| self.suspended(process)));
        concerns
    }

    /// Why this process does not run, if it was suspended.
    pub(crate) fn suspended(&self, process: &str) -> Option<String> {
        let (_, why) = self.suspended.iter().find(|(name, _)| name == process)?;
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        Some(format!(
            "the process `{process}` of group `{}` is suspended{why}; `aws autoscaling resume-processes \
             --auto-scaling-group-name {} --scaling-processes {process}` resumes it",
            self.name, self.name
        ))
    }

    pub(crate) fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

impl Instance {
    fn of(instance: &SdkInstance) -> Option<Self> {
        Some(Self {
            id: instance.instance_id()?.to_owned(),
            stage: stage(instance.lifecycle_state()?),
            healthy: instance.health_status().is_none_or(|health| health.eq_ignore_ascii_case("healthy")),
            protected: instance.protected_from_scale_in().unwrap_or(false),
        })
    }
}

/// What a start with an instance of a warm pool begins with; `None` while it is not prepared.
pub(crate) fn prepared(instance: &SdkInstance) -> Option<(String, Tier)> {
    let id = instance.instance_id()?.to_owned();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the SDK's enum is open, and others are not prepared")]
    match instance.lifecycle_state()? {
        LifecycleState::WarmedRunning => Some((id, Tier::Running)),
        LifecycleState::WarmedHibernated => Some((id, Tier::Hibernated)),
        LifecycleState::WarmedStopped => Some((id, Tier::Stopped)),
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the SDK's enum is open: new states come with new versions"
)]
fn stage(state: &LifecycleState) -> Stage {
    match state {
        LifecycleState::Pending => Stage::Pending,
        LifecycleState::PendingWait => Stage::PendingWait,
        LifecycleState::PendingProceed => Stage::PendingProceed,
        LifecycleState::InService => Stage::InService,
        LifecycleState::Terminating => Stage::Terminating,
        LifecycleState::TerminatingWait => Stage::TerminatingWait,
        LifecycleState::TerminatingProceed
        | LifecycleState::Terminated
        | LifecycleState::Detaching
        | LifecycleState::Detached => Stage::Gone,
        // Whatever it is, it serves nobody.
        _ => Stage::Aside,
    }
}
