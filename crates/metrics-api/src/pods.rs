//! Which pods a metric is about.

use std::{fmt, str::FromStr};

use forewarm_core::ScalerId;
use forewarm_signals::engine::EngineKind;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Api, Client, ResourceExt, api::ListParams, core::Selector};

use crate::{ENGINE_ANNOTATION, EngineOptions, SCALER_LABEL, selector};

/// The annotation with the port of a pod's metrics, as scrapers of Prometheus text have it.
const PORT_ANNOTATION: &str = "prometheus.io/port";

/// Pods of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Choice {
    pub(crate) namespace: String,
    pub(crate) by: By,
}

/// How pods are chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// By a label selector.
    Labels(String),
    /// One by its name.
    Name(String),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Labels(labels) => write!(f, "pods of {} with `{labels}`", self.namespace),
            By::Name(name) => write!(f, "pod {}/{name}", self.namespace),
        }
    }
}

/// A pod that serves.
#[derive(Clone, Debug)]
pub(crate) struct ReadyPod {
    pub(crate) name: String,
    /// Where its metrics are, `host:port`.
    pub(crate) address: Option<String>,
    pub(crate) kind: EngineKind,
    /// Whose queue at a gateway it serves.
    pub(crate) scaler: Option<ScalerId>,
}

/// The pods of the choice that are ready. A pod that starts has nothing to say, and one that ends is not
/// counted by an HPA.
pub(crate) async fn ready(
    client: &Client,
    choice: &Choice,
    options: &EngineOptions,
) -> Result<Vec<ReadyPod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &choice.namespace);
    // Out of the API server's cache: every autoscaler asks for the same.
    let list = ListParams::default().match_any();
    let list = match &choice.by {
        By::Labels(labels) => list.labels(labels),
        By::Name(name) => list.fields(&format!("metadata.name={name}")),
    };
    let pods = pods.list(&list).await?;
    Ok(pods.items.into_iter().filter(is_ready).map(|pod| ReadyPod::of(&pod, options)).collect())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

impl ReadyPod {
    fn of(pod: &Pod, options: &EngineOptions) -> Self {
        let kind = pod.annotations().get(ENGINE_ANNOTATION).map(|kind| EngineKind::from_str(kind));
        let kind = match kind {
            None => options.kind,
            Some(Ok(kind)) => kind,
            Some(Err(error)) => {
                tracing::warn!(pod = pod.name_any(), "annotation `{ENGINE_ANNOTATION}`: {error}");
                options.kind
            }
        };
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let address = ip.map(|ip| match ip.contains(':') {
            true => format!("[{ip}]:{}", port(pod, options.port)),
            false => format!("{ip}:{}", port(pod, options.port)),
        });
        let scaler = pod.labels().get(SCALER_LABEL).map(|name| ScalerId::from(name.as_str()));
        Self { name: pod.name_any(), address, kind, scaler }
    }
}

/// What the annotation says, else the first port of the first container that has one.
fn port(pod: &Pod, default: u16) -> u16 {
    let annotated = pod.annotations().get(PORT_ANNOTATION).and_then(|port| port.parse().ok());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers.flat_map(|container| container.ports.iter().flatten()).next();
    let declared = first.and_then(|port| u16::try_from(port.container_port).ok());
    annotated.or(declared).unwrap_or(default)
}

/// The pods behind an object, and whose queue they serve.
pub(crate) struct Behind {
    pub(crate) choice: Choice,
    pub(crate) scaler: Option<ScalerId>,
}

/// Looks up what is behind `resource/name`; `None` for resources that no pods are behind.
pub(crate) async fn behind(
    client: &Client,
    namespace: &str,
    resource: &str,
    name: &str,
) -> Result<Option<Behind>, kube::Error> {
    let of = |labels: Option<LabelSelector>, scaler: Option<String>| {
        let selector = Selector::try_from(labels.unwrap_or_default()).unwrap_or_default();
        let by = By::Labels(selector.to_string());
        let scaler = scaler.or_else(|| selector::wanted(&selector, SCALER_LABEL));
        Some(Behind {
            choice: Choice { namespace: namespace.to_owned(), by },
            scaler: scaler.map(|name| ScalerId::from(name.as_str())),
        })
    };
    Ok(match resource {
        "pods" => Some(Behind {
            choice: Choice { namespace: namespace.to_owned(), by: By::Name(name.to_owned()) },
            scaler: None,
        }),
        "deployments.apps" => {
            let spec = Api::<Deployment>::namespaced(client.clone(), namespace).get(name).await?.spec;
            let template = spec.as_ref().and_then(|spec| spec.template.metadata.clone());
            of(spec.map(|spec| spec.selector), scaler_of(template.and_then(|template| template.labels)))
        }
        "statefulsets.apps" => {
            let spec = Api::<StatefulSet>::namespaced(client.clone(), namespace).get(name).await?.spec;
            let template = spec.as_ref().and_then(|spec| spec.template.metadata.clone());
            of(spec.map(|spec| spec.selector), scaler_of(template.and_then(|template| template.labels)))
        }
        "services" => {
            let spec = Api::<Service>::namespaced(client.clone(), namespace).get(name).await?.spec;
            let match_labels = spec.and_then(|spec| spec.selector);
            of(Some(LabelSelector { match_labels, ..LabelSelector::default() }), None)
        }
        _ => None,
    })
}

fn scaler_of(labels: Option<std::collections::BTreeMap<String, String>>) -> Option<String> {
    labels.and_then(|mut labels| labels.remove(SCALER_LABEL))
}
