//! Nodes with GPUs, and what runs on them.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            Container, ContainerPort, Namespace, Node, NodeStatus, PodSpec, PodTemplateSpec,
            ResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use super::{ControlPlane, ControlPlaneError};

/// The prefix of the annotations that KWOK's stages read.
const ANNOTATION: &str = "testbed.forewarm.dev";
/// The resource that GPU nodes have and engines ask for.
const GPU: &str = "nvidia.com/gpu";

/// How a pod starts and ends. KWOK's clock is the wall's.
#[derive(Clone, Debug, Default)]
pub struct ColdStart {
    /// From the scheduler's choice of a node until the pod has an address.
    pub provision: Duration,
    /// From there until its container runs.
    pub pull: Duration,
    /// From there until it is ready.
    pub load: Duration,
    /// From its deletion until it is gone.
    pub drain: Duration,
    /// Why its container never runs, as the kubelet would say: `ImagePullBackOff`, `CrashLoopBackOff`.
    pub fail: Option<String>,
}

/// A Deployment of an engine, whose pods carry the label `app: NAME`.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// How many pods it starts with.
    pub replicas: i32,
    /// GPUs of each pod: with more than any node has, it is never scheduled.
    pub gpus: u32,
    /// The port of its container.
    pub port: u16,
    /// How its pods start and end.
    pub cold_start: ColdStart,
}

impl Workload {
    /// As many pods without a cold start, with a GPU each, on vLLM's port.
    pub fn new(name: &str, replicas: i32) -> Self {
        Self { name: name.to_owned(), replicas, gpus: 1, port: 8000, cold_start: ColdStart::default() }
    }

    /// The object.
    pub fn deployment(&self) -> Deployment {
        let labels = BTreeMap::from([("app".to_owned(), self.name.clone())]);
        let quantities = |count: u32| BTreeMap::from([(GPU.to_owned(), Quantity(count.to_string()))]);
        let container = Container {
            name: "engine".to_owned(),
            image: Some("engine".to_owned()),
            ports: Some(vec![ContainerPort { container_port: self.port.into(), ..ContainerPort::default() }]),
            resources: Some(ResourceRequirements {
                limits: Some(quantities(self.gpus)),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        };
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.clone()),
                annotations: Some(self.cold_start.annotations()),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        };
        Deployment {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(DeploymentSpec {
                replicas: Some(self.replicas),
                selector: LabelSelector { match_labels: Some(labels), ..LabelSelector::default() },
                template,
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }
}

impl ColdStart {
    /// The annotations of a pod that starts and ends like this.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let times =
            [("provision", self.provision), ("pull", self.pull), ("load", self.load), ("drain", self.drain)];
        let times = times.into_iter().filter(|(_, time)| !time.is_zero());
        let times = times.map(|(stage, time)| (stage, format!("{}ms", time.as_millis())));
        let fail = self.fail.clone().map(|reason| ("fail", reason));
        times.chain(fail).map(|(stage, value)| (format!("{ANNOTATION}/{stage}"), value)).collect()
    }
}

impl ControlPlane {
    /// Makes a namespace. Its name is the test's own.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn namespace(&self, name: &str) -> Result<(), ControlPlaneError> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(self.client().await?).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Makes a node with GPUs, which KWOK runs.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn gpu_node(&self, name: &str, gpus: u32) -> Result<(), ControlPlaneError> {
        let capacity = [("cpu", "256"), ("memory", "2Ti"), ("pods", "500"), (GPU, &gpus.to_string())];
        let capacity: BTreeMap<String, Quantity> =
            capacity.map(|(name, count)| (name.to_owned(), Quantity(count.to_owned()))).into();
        let status = NodeStatus {
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            ..NodeStatus::default()
        };
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let node = Node { metadata, status: Some(status), ..Node::default() };
        Api::all(self.client().await?).create(&PostParams::default(), &node).await?;
        Ok(())
    }

    /// Makes a workload.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn deploy(&self, namespace: &str, workload: &Workload) -> Result<(), ControlPlaneError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await?, namespace);
        deployments.create(&PostParams::default(), &workload.deployment()).await?;
        Ok(())
    }
}
