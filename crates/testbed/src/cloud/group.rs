//! Auto Scaling groups with start-up times, lifecycle hooks, bounds, warm pools and no capacity.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use axum::http::StatusCode;

use super::{
    Book, CloudError, Machine, Shared, age,
    http::{Answer, Call, answer, done, refused},
};

/// Seconds of a hook's timeout between two heartbeats: what the API allows at least.
const HEARTBEAT_SECONDS: &str = "30";
/// A warm pool as groups have it.
const POOL: &str =
    "<WarmPoolConfiguration><PoolState>Stopped</PoolState><MinSize>0</MinSize></WarmPoolConfiguration>";

/// What moto does not know about groups.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) no_capacity: bool,
    born: BTreeMap<String, Instant>,
    /// Groups whose instances wait at launch, and at their end.
    launching: BTreeSet<String>,
    terminating: BTreeSet<String>,
    /// Instances that passed their launching hook.
    launched: BTreeSet<String>,
    /// Instances that wait at their end: whether the desired capacity was decremented.
    leaving: BTreeMap<String, bool>,
    /// Instances that moto was not asked for, by group.
    unfilled: BTreeMap<String, u32>,
    /// Instances in warm pools, which moto counts as the group's.
    warm: BTreeSet<String>,
    /// While a warm pool is filled: every other instance.
    filling: Option<BTreeSet<String>>,
    /// Groups with a warm pool.
    pools: BTreeSet<String>,
    /// Instances that came out of a warm pool.
    warmed: BTreeSet<String>,
    /// Failed launches and changes by hand: group, and an XML member of a list of activities.
    activities: Vec<(String, String)>,
}

/// A group as moto has it.
struct Group {
    min: u32,
    max: u32,
    desired: u32,
    instances: Vec<String>,
}

impl Shared {
    pub(super) async fn serve(&self, call: Call) -> Answer {
        let outcome = match (call.service.as_str(), call.action.as_str()) {
            ("autoscaling", "SetDesiredCapacity") => self.set_desired_capacity(call).await,
            ("autoscaling", "TerminateInstanceInAutoScalingGroup") => self.terminate(call).await,
            ("autoscaling", "CompleteLifecycleAction") => self.complete(call).await,
            ("autoscaling", "RecordLifecycleActionHeartbeat") => {
                Ok(done("RecordLifecycleActionHeartbeat", ""))
            }
            ("autoscaling", "DescribeScalingActivities") => Ok(self.describe_activities(&call)),
            ("autoscaling", "DescribeWarmPool") => self.describe_warm_pool(&call).await,
            ("autoscaling", "DescribeAutoScalingGroups") | ("ec2", "DescribeInstances") => {
                self.rewritten(call).await
            }
            _ => Ok(self.pass(call).await),
        };
        outcome.unwrap_or_else(|error| answer(StatusCode::BAD_GATEWAY, "text/plain", error.0))
    }

    async fn set_desired_capacity(&self, call: Call) -> Result<Answer, CloudError> {
        let name = call.parameter("AutoScalingGroupName").to_owned();
        let Some(group) = self.group(&name).await? else { return Ok(no_group(&name)) };
        let Ok(wanted) = call.parameter("DesiredCapacity").parse::<u32>() else {
            return Ok(refused("ValidationError", "DesiredCapacity is no number"));
        };
        if wanted > group.max || wanted < group.min {
            let bound = if wanted > group.max { "above max value" } else { "below min value" };
            let limit = if wanted > group.max { group.max } else { group.min };
            return Ok(refused(
                "ValidationError",
                &format!(
                    "New SetDesiredCapacity value {wanted} is {bound} {limit} for the AutoScalingGroup."
                ),
            ));
        }
        let moto_wants = {
            let mut book = self.book();
            let groups = &mut book.groups;
            groups.take_from_pool(&group, wanted, &name);
            // Those that leave or stand by are moto's, but not counted.
            let whole = wanted + groups.uncounted(&group);
            let filled = if groups.no_capacity { whole.min(group.desired) } else { whole };
            let lacking = whole - filled;
            groups.unfilled.insert(name.clone(), lacking);
            if lacking > 0 {
                groups.fail_launch(&name);
            }
            filled
        };
        self.set_at_moto(&name, moto_wants).await?;
        Ok(done("SetDesiredCapacity", ""))
    }

    async fn set_at_moto(&self, name: &str, desired: u32) -> Result<(), CloudError> {
        let desired = desired.to_string();
        let parameters = [("AutoScalingGroupName", name), ("DesiredCapacity", &desired)];
        self.ask("autoscaling", "SetDesiredCapacity", &parameters).await?;
        if let Some(group) = self.group(name).await? {
            let mut book = self.book();
            for instance in &group.instances {
                age(&mut book.groups.born, instance);
            }
        }
        Ok(())
    }

    async fn terminate(&self, call: Call) -> Result<Answer, CloudError> {
        let instance = call.parameter("InstanceId").to_owned();
        let decrement = call.parameter("ShouldDecrementDesiredCapacity") == "true";
        let Some((name, group)) = self.group_of(&instance).await? else {
            let message =
                format!("Instance Id not found - No managed instance found for instance ID: {instance}");
            return Ok(refused("ValidationError", &message));
        };
        let waits = {
            let mut book = self.book();
            let groups = &mut book.groups;
            if groups.leaving.contains_key(&instance) {
                let message = format!("Instance {instance} is already terminating.");
                return Ok(refused("ValidationError", &message));
            }
            let desired = group.desired + groups.unfilled_of(&name) - groups.uncounted(&group);
            if decrement && desired <= group.min {
                let message = format!(
                    "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will \
                     violate group's min size constraint.",
                    group.min
                );
                return Ok(refused("ValidationError", &message));
            }
            let waits = groups.terminating.contains(&name);
            if waits {
                groups.leaving.insert(instance.clone(), decrement);
            }
            waits
        };
        if !waits {
            self.terminate_at_moto(&instance, decrement).await?;
        }
        let activity = format!(
            "<Activity><ActivityId>a-{instance}</ActivityId><AutoScalingGroupName>{name}</AutoScalingGroupName>\
             <Cause>a user request</Cause><StartTime>2026-01-01T00:00:00Z</StartTime>\
             <StatusCode>InProgress</StatusCode></Activity>"
        );
        Ok(done("TerminateInstanceInAutoScalingGroup", &activity))
    }

    async fn terminate_at_moto(&self, instance: &str, decrement: bool) -> Result<(), CloudError> {
        let decrement = decrement.to_string();
        let parameters = [("InstanceId", instance), ("ShouldDecrementDesiredCapacity", decrement.as_str())];
        self.ask("autoscaling", "TerminateInstanceInAutoScalingGroup", &parameters).await.map(drop)
    }

    async fn complete(&self, call: Call) -> Result<Answer, CloudError> {
        let instance = call.parameter("InstanceId").to_owned();
        let group = self.group_of(&instance).await?;
        let leaving = {
            let mut book = self.book();
            let state = group.as_ref().map(|(name, _)| book.state(name, &instance));
            match state.as_deref() {
                Some("Terminating:Wait") => book.groups.leaving.get(&instance).copied(),
                Some("Pending:Wait") => {
                    book.groups.launched.insert(instance.clone());
                    None
                }
                _ => {
                    let message = format!("No active Lifecycle Action found with instance ID {instance}");
                    return Ok(refused("ValidationError", &message));
                }
            }
        };
        if let Some(decrement) = leaving {
            self.terminate_at_moto(&instance, decrement).await?;
            self.book().groups.leaving.remove(&instance);
        }
        Ok(done("CompleteLifecycleAction", ""))
    }

    fn describe_activities(&self, call: &Call) -> Answer {
        let name = call.parameter("AutoScalingGroupName");
        let book = self.book();
        let of_group = book.groups.activities.iter().rev().filter(|(group, _)| group == name);
        let members: String = of_group.map(|(_, member)| member.as_str()).collect();
        done("DescribeScalingActivities", &format!("<Activities>{members}</Activities>"))
    }

    async fn describe_warm_pool(&self, call: &Call) -> Result<Answer, CloudError> {
        let name = call.parameter("AutoScalingGroupName");
        let Some(group) = self.group(name).await? else { return Ok(no_group(name)) };
        let book = self.book();
        let member = |id: &String| {
            format!(
                "<member><InstanceId>{id}</InstanceId><LifecycleState>Warmed:Stopped</LifecycleState>\
                 <AvailabilityZone>us-east-1a</AvailabilityZone><HealthStatus>Healthy</HealthStatus></member>"
            )
        };
        let warm = group.instances.iter().filter(|id| book.groups.is_warm(id));
        let members: String = warm.map(member).collect();
        Ok(done("DescribeWarmPool", &format!("{POOL}<Instances>{members}</Instances>")))
    }

    pub(super) async fn fill_warm_pool(&self, name: &str, count: u32) -> Result<(), CloudError> {
        let gone = || CloudError(format!("no such group: {name}"));
        let before = self.group(name).await?.ok_or_else(gone)?;
        {
            let mut book = self.book();
            book.groups.pools.insert(name.to_owned());
            book.groups.filling = Some(before.instances.iter().cloned().collect());
        }
        // moto knows no instances in warm pools: they are the group's, and hidden.
        self.set_at_moto(name, before.desired + count).await?;
        let after = self.group(name).await?.ok_or_else(gone)?;
        let new = after.instances.into_iter().filter(|id| !before.instances.contains(id));
        let mut book = self.book();
        book.groups.warm.extend(new);
        book.groups.filling = None;
        Ok(())
    }

    pub(super) async fn set_by_hand(&self, name: &str, desired: u32) -> Result<(), CloudError> {
        let group = self.group(name).await?.ok_or_else(|| CloudError(format!("no such group: {name}")))?;
        let hidden = {
            let groups = &mut self.book().groups;
            let before = group.desired - groups.uncounted(&group);
            groups.tell_change_by_hand(name, before, desired);
            groups.take_from_pool(&group, desired, name);
            groups.uncounted(&group)
        };
        self.set_at_moto(name, desired + hidden).await
    }

    async fn rewritten(&self, call: Call) -> Result<Answer, CloudError> {
        let (status, kind, text) = self.send(call).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(answer(status, &kind, self.book().rewrite(&text)))
    }

    pub(super) async fn machines(&self, name: &str) -> Result<Vec<Machine>, CloudError> {
        let Some(group) = self.group(name).await? else { return Ok(Vec::new()) };
        let mut machines = Vec::new();
        for id in group.instances {
            let text = self.ask("ec2", "DescribeInstances", &[("InstanceId.1", &id)]).await?;
            let text = self.book().rewrite(&text);
            let address = between(&text, "<privateIpAddress>", "<").next().unwrap_or_default().to_owned();
            let state = self.book().state(name, &id);
            machines.push(Machine { id, address, state });
        }
        Ok(machines)
    }

    pub(super) async fn create_group(&self, name: &str, min: u32, max: u32) -> Result<(), CloudError> {
        let images = self.ask("ec2", "DescribeImages", &[]).await?;
        let image = between(&images, "<imageId>", "<").next().unwrap_or_default();
        let template = format!("{name}-template");
        let parameters = [
            ("LaunchTemplateName", template.as_str()),
            ("LaunchTemplateData.ImageId", image),
            ("LaunchTemplateData.InstanceType", "g5.xlarge"),
        ];
        self.ask("ec2", "CreateLaunchTemplate", &parameters).await?;
        let (min, max) = (min.to_string(), max.to_string());
        let mixed = "MixedInstancesPolicy.LaunchTemplate";
        let specification = format!("{mixed}.LaunchTemplateSpecification.LaunchTemplateName");
        let version = format!("{mixed}.LaunchTemplateSpecification.Version");
        let (first, second) = (
            format!("{mixed}.Overrides.member.1.InstanceType"),
            format!("{mixed}.Overrides.member.2.InstanceType"),
        );
        let distribution = "MixedInstancesPolicy.InstancesDistribution";
        let (base, share) = (
            format!("{distribution}.OnDemandBaseCapacity"),
            format!("{distribution}.OnDemandPercentageAboveBaseCapacity"),
        );
        let strategy = format!("{distribution}.SpotAllocationStrategy");
        let parameters = [
            ("AutoScalingGroupName", name),
            ("MinSize", &min),
            ("MaxSize", &max),
            ("DesiredCapacity", &min),
            ("AvailabilityZones.member.1", "us-east-1a"),
            (&specification, &template),
            (&version, "$Latest"),
            (&first, "g5.xlarge"),
            (&second, "g6.xlarge"),
            (&base, "1"),
            (&share, "0"),
            (&strategy, "price-capacity-optimized"),
        ];
        self.ask("autoscaling", "CreateAutoScalingGroup", &parameters).await.map(drop)
    }

    pub(super) async fn put_hook(&self, group: &str, launching: bool) -> Result<(), CloudError> {
        let (name, transition) = match launching {
            true => ("forewarm-warm-up", "autoscaling:EC2_INSTANCE_LAUNCHING"),
            false => ("forewarm-drain", "autoscaling:EC2_INSTANCE_TERMINATING"),
        };
        let parameters = [
            ("AutoScalingGroupName", group),
            ("LifecycleHookName", name),
            ("LifecycleTransition", transition),
            ("HeartbeatTimeout", HEARTBEAT_SECONDS),
        ];
        self.ask("autoscaling", "PutLifecycleHook", &parameters).await?;
        let mut book = self.book();
        let groups = &mut book.groups;
        let hooks = if launching { &mut groups.launching } else { &mut groups.terminating };
        hooks.insert(group.to_owned());
        Ok(())
    }

    pub(super) async fn find_capacity(&self) -> Result<(), CloudError> {
        let lacking = {
            let mut book = self.book();
            book.groups.no_capacity = false;
            std::mem::take(&mut book.groups.unfilled)
        };
        for (name, count) in lacking {
            if let Some(group) = self.group(&name).await? {
                self.set_at_moto(&name, group.desired + count).await?;
            }
        }
        Ok(())
    }

    async fn group(&self, name: &str) -> Result<Option<Group>, CloudError> {
        let parameters = [("AutoScalingGroupNames.member.1", name)];
        let text = self.ask("autoscaling", "DescribeAutoScalingGroups", &parameters).await?;
        let number = |tag: &str| between(&text, tag, "<").next()?.parse().ok();
        let group = || {
            Some(Group {
                min: number("<MinSize>")?,
                max: number("<MaxSize>")?,
                desired: number("<DesiredCapacity>")?,
                instances: between(&text, "<InstanceId>", "<").map(str::to_owned).collect(),
            })
        };
        Ok(group())
    }

    async fn group_of(&self, instance: &str) -> Result<Option<(String, Group)>, CloudError> {
        let text = self.ask("autoscaling", "DescribeAutoScalingGroups", &[]).await?;
        let marker = format!("<InstanceId>{instance}<");
        let Some(at) = text.find(&marker) else { return Ok(None) };
        let Some(name) = between(&text[..at], "<AutoScalingGroupName>", "<").last() else { return Ok(None) };
        Ok(self.group(name).await?.map(|group| (name.to_owned(), group)))
    }
}

impl Groups {
    fn is_warm(&self, instance: &str) -> bool {
        let is_new = self.filling.as_ref().is_some_and(|others| !others.contains(instance));
        is_new || self.warm.contains(instance)
    }

    /// Instances of the group that stand by, or leave and were taken off its desired capacity.
    fn uncounted(&self, group: &Group) -> u32 {
        let uncounted =
            |instance: &&String| self.is_warm(instance) || self.leaving.get(*instance) == Some(&true);
        u32::try_from(group.instances.iter().filter(uncounted).count()).unwrap_or(u32::MAX)
    }

    /// A group takes what it lacks from its pool first.
    fn take_from_pool(&mut self, group: &Group, wanted: u32, name: &str) {
        let shown = group.desired + self.unfilled_of(name) - self.uncounted(group);
        let warm: Vec<String> =
            group.instances.iter().filter(|instance| self.warm.contains(*instance)).cloned().collect();
        for instance in warm.into_iter().take(wanted.saturating_sub(shown) as usize) {
            self.warm.remove(&instance);
            self.born.insert(instance.clone(), Instant::now());
            self.warmed.insert(instance);
        }
    }

    fn unfilled_of(&self, name: &str) -> u32 {
        self.unfilled.get(name).copied().unwrap_or(0)
    }

    fn tell_change_by_hand(&mut self, name: &str, before: u32, after: u32) {
        let id = self.activities.len();
        let member = format!(
            "<member><ActivityId>by-hand-{id}</ActivityId><AutoScalingGroupName>{name}</AutoScalingGroupName>\
             <Description>Launching a new EC2 instance</Description><Cause>At 2026-01-01T00:00:00Z a user request \
             explicitly set group desired capacity changing the desired capacity from {before} to {after}.</Cause>\
             <StartTime>2026-01-01T00:00:00Z</StartTime><StatusCode>InProgress</StatusCode></member>"
        );
        self.activities.push((name.to_owned(), member));
    }

    fn fail_launch(&mut self, name: &str) {
        let id = self.activities.len();
        let message = "InsufficientInstanceCapacity: We currently do not have sufficient g5.xlarge capacity in the \
                       Availability Zone you requested (us-east-1a). Launching EC2 instance failed.";
        let member = format!(
            "<member><ActivityId>launch-{id}</ActivityId><AutoScalingGroupName>{name}</AutoScalingGroupName>\
             <Description>Launching a new EC2 instance</Description><Cause>a user request</Cause>\
             <StartTime>2026-01-01T00:00:00Z</StartTime><EndTime>2026-01-01T00:00:01Z</EndTime>\
             <StatusCode>Failed</StatusCode><StatusMessage>{message}</StatusMessage></member>"
        );
        self.activities.push((name.to_owned(), member));
    }
}

impl Book {
    fn state(&mut self, group: &str, instance: &str) -> String {
        let (cold, warm) = (self.faults.start_up, self.faults.warm_start_up);
        let groups = &mut self.groups;
        let start_up = if groups.warmed.contains(instance) { warm } else { cold };
        let age = age(&mut groups.born, instance);
        let state = if groups.is_warm(instance) {
            "Warmed:Stopped"
        } else if groups.leaving.contains_key(instance) {
            "Terminating:Wait"
        } else if age < start_up {
            "Pending"
        } else if groups.launching.contains(group) && !groups.launched.contains(instance) {
            "Pending:Wait"
        } else {
            "InService"
        };
        state.to_owned()
    }

    /// Puts our states and numbers into the place of moto's.
    fn rewrite(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for (index, part) in text.split("<AutoScalingGroupName>").enumerate() {
            if index == 0 {
                out.push_str(part);
                continue;
            }
            out.push_str("<AutoScalingGroupName>");
            let name = part.split('<').next().unwrap_or_default().to_owned();
            let mut group = self.rewrite_group(&name, part);
            if self.groups.pools.contains(&name) {
                let with_pool = format!("</AutoScalingGroupName>{POOL}");
                group = group.replacen("</AutoScalingGroupName>", &with_pool, 1);
            }
            out.push_str(&group);
        }
        out.replace("<privateIpAddress>10.", "<privateIpAddress>127.")
    }

    fn rewrite_group(&mut self, name: &str, part: &str) -> String {
        let mut out = String::with_capacity(part.len());
        for (index, piece) in part.split("<InstanceId>").enumerate() {
            if index == 0 {
                out.push_str(piece);
                continue;
            }
            let state = self.state(name, piece.split('<').next().unwrap_or_default());
            let state = format!("<LifecycleState>{state}<");
            out.push_str("<InstanceId>");
            out.push_str(&piece.replacen("<LifecycleState>InService<", &state, 1));
        }
        let instances = between(part, "<InstanceId>", "<").map(str::to_owned).collect();
        let Some(desired) = between(part, "<DesiredCapacity>", "<").next().and_then(|text| text.parse().ok())
        else {
            return out;
        };
        let group = Group { min: 0, max: 0, desired, instances };
        let warm: Vec<&String> =
            group.instances.iter().filter(|instance| self.groups.is_warm(instance)).collect();
        let shown = desired + self.groups.unfilled_of(name) - self.groups.uncounted(&group);
        let out = without(out, &warm);
        out.replacen(&format!("<DesiredCapacity>{desired}<"), &format!("<DesiredCapacity>{shown}<"), 1)
    }
}

/// Leaves out these instances of a list.
fn without(mut text: String, instances: &[&String]) -> String {
    for instance in instances {
        let Some(at) = text.find(&format!("<InstanceId>{instance}<")) else { continue };
        let (start, end) = (text[..at].rfind("<member>"), text[at..].find("</member>"));
        if let (Some(start), Some(end)) = (start, end) {
            text.replace_range(start..at + end + "</member>".len(), "");
        }
    }
    text
}

fn no_group(name: &str) -> Answer {
    refused("ValidationError", &format!("AutoScalingGroup name not found - no such group: {name}"))
}

/// Each text between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |part| part.split(end).next())
}
