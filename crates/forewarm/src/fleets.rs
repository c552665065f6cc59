//! The fleet of each target, from its manifest.

use std::{path::Path, sync::Arc};

use forewarm_aws::{GroupFleet, GroupFleets};
use forewarm_control::{
    Clock,
    ports::{Fleet, SignalSet},
};
use forewarm_core::{Policy, QueuePolicy};
use forewarm_hooks::HookFleet;
use forewarm_manifest::{CheckedScaler, Processes, Target};
use forewarm_processes::{Health, ProcessFleet, ProcessFleetConfig, Shutdown, Work};
use forewarm_signals::measure;

use crate::exit::Failure;

/// The fleet of one scaler.
pub(crate) enum OpenFleet {
    /// Replicas of this machine, which may have to be stopped with the controller.
    Processes(Arc<ProcessFleet>),
    /// Replicas of somebody else's, which run on.
    Hook(Arc<HookFleet>),
    /// Instances of AWS, which run on.
    Group(Arc<GroupFleet>),
}

impl OpenFleet {
    /// Opens what the manifest asks for.
    ///
    /// # Errors
    /// What of the target cannot work.
    pub(crate) async fn open(
        scaler: &CheckedScaler,
        state_dir: &Path,
        groups: &mut GroupFleets,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let name = &scaler.spec.scaler;
        let wrong = |field: &str, error: &dyn std::error::Error| {
            Failure::usage(anyhow::anyhow!("`{name}`: spec.target.{field}: {error}"))
        };
        match &scaler.target {
            Target::Processes(processes) => {
                let tls = measure::engine_tls(scaler)
                    .map_err(|error| Failure::usage(anyhow::anyhow!("`{name}`: {error}")))?;
                let health = Health { path: scaler.engine.health_path.clone(), tls, ..Health::default() };
                let config = process_config(processes, health, scaler, state_dir, clock);
                Ok(Self::Processes(Arc::new(ProcessFleet::open(config)?)))
            }
            Target::Webhook(target) => HookFleet::webhook(name.clone(), target, clock)
                .map(|fleet| Self::Hook(Arc::new(fleet)))
                .map_err(|error| wrong("webhook", &error)),
            Target::Exec(target) => Ok(Self::Hook(Arc::new(HookFleet::exec(name.clone(), target, clock)))),
            Target::AwsAutoScalingGroup(target) => {
                let fleet = groups.open(target, scaler, clock.speed()).await;
                fleet
                    .map(|fleet| Self::Group(Arc::new(fleet)))
                    .map_err(|error| wrong("awsAutoScalingGroup", &error))
            }
            Target::Kubernetes(_) => Err(Failure::usage(anyhow::anyhow!(
                "`{name}`: `spec.target.kubernetes` is not served by `forewarm run`: apply the manifest to the cluster, where `forewarm kube controller` scales it; or use `processes`, `awsAutoScalingGroup`, `webhook` or `exec`"
            ))),
        }
    }

    /// As the controller sees it.
    pub(crate) fn fleet(&self) -> Arc<dyn Fleet> {
        match self {
            Self::Processes(fleet) => Arc::clone(fleet) as Arc<dyn Fleet>,
            Self::Hook(fleet) => Arc::clone(fleet) as Arc<dyn Fleet>,
            Self::Group(fleet) => Arc::clone(fleet) as Arc<dyn Fleet>,
        }
    }

    /// What it measures itself.
    pub(crate) fn signals(&self) -> Option<Arc<dyn SignalSet>> {
        match self {
            Self::Processes(_) | Self::Group(_) => None,
            Self::Hook(fleet) => Some(Arc::clone(fleet) as Arc<dyn SignalSet>),
        }
    }

    /// Ends it with the controller.
    ///
    /// # Errors
    /// What could not be written down.
    pub(crate) async fn shutdown(&self, mode: Shutdown) -> Result<(), Failure> {
        match self {
            Self::Processes(fleet) => Ok(fleet.shutdown(mode).await?),
            Self::Hook(_) | Self::Group(_) => Ok(()),
        }
    }
}

fn process_config(
    processes: &Processes,
    health: Health,
    scaler: &CheckedScaler,
    state_dir: &Path,
    clock: Clock,
) -> ProcessFleetConfig {
    let directory = state_dir.join("fleets").join(scaler.spec.scaler.as_str());
    ProcessFleetConfig {
        env: processes.env.clone(),
        working_dir: processes.working_dir.clone(),
        port: processes.port,
        work: match &scaler.spec.policy {
            Policy::Queue(QueuePolicy { jobs: Some(_), .. }) => Work::Job,
            Policy::Queue(QueuePolicy { jobs: None, .. }) => Work::Taken,
            Policy::Forewarm(_)
            | Policy::QueueDepth(_)
            | Policy::Hpa(_)
            | Policy::Keda(_)
            | Policy::Kpa(_)
            | Policy::RayServe(_)
            | Policy::SkyServe(_)
            | Policy::Dynamo(_) => Work::Sent,
        },
        health,
        termination_grace: processes.termination_grace_period,
        speed: clock.speed(),
        ..ProcessFleetConfig::new(processes.command.clone(), directory)
    }
}
