//! What the cluster is told for one burst.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Most replicas: only the first step up is timed.
const MOST: u32 = 8;
/// Waiting requests that are worth a replica, for every kind of autoscaler.
const PER_REPLICA: u32 = 5;

/// How many replicas a burst finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Zero,
    One,
}

impl From {
    pub(crate) fn replicas(self) -> i32 {
        match self {
            From::Zero => 0,
            From::One => 1,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            From::Zero => "zero",
            From::One => "one",
        }
    }
}

/// Who writes to `/scale`, and by which numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// forewarm's controller, which sees the gateway's queue.
    Forewarm,
    /// An HPA, on the engines' queues as forewarm serves them.
    Hpa,
    /// KEDA, on what forewarm's controller decides from the gateway's queue.
    KedaOnForewarm {
        /// forewarm's external scaler.
        at: SocketAddr,
    },
    /// KEDA with a trigger of its own, on the engines' queues.
    Keda {
        /// Who says how many requests wait.
        at: SocketAddr,
    },
}

impl By {
    /// Unlike those of others.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            By::Forewarm => "forewarm",
            By::Hpa => "hpa",
            By::KedaOnForewarm { .. } => "keda-on-forewarm",
            By::Keda { .. } => "keda",
        }
    }

    /// Whether the burst comes to the gateway.
    pub(crate) fn is_at_the_gateway(self) -> bool {
        matches!(self, By::Forewarm | By::KedaOnForewarm { .. })
    }

    /// What scales the Deployment of this name.
    pub(crate) fn objects(self, name: &str, from: From) -> Vec<Value> {
        match self {
            By::Forewarm => vec![inference_scaler(name, from, "Act")],
            By::Hpa => vec![hpa(name)],
            By::KedaOnForewarm { at } => {
                let trigger = json!({
                    "type": "external-push",
                    "metadata": {"scalerAddress": at.to_string(), "scaler": name},
                });
                vec![inference_scaler(name, from, "Shadow"), scaled_object(name, from, &trigger)]
            }
            By::Keda { at } => {
                let trigger = json!({
                    "type": "metrics-api",
                    "metadata": {
                        "url": format!("http://{at}/{name}"),
                        "valueLocation": "waiting",
                        "targetValue": PER_REPLICA.to_string(),
                    },
                });
                vec![scaled_object(name, from, &trigger)]
            }
        }
    }
}

fn inference_scaler(name: &str, from: From, mode: &str) -> Value {
    json!({
        "apiVersion": "forewarm.dev/v1alpha1",
        "kind": "InferenceScaler",
        "metadata": {"name": name},
        "spec": {
            "mode": mode,
            "target": {"kubernetes": {"kind": "Deployment", "name": name}},
            "models": [name],
            "replicas": {"min": from.replicas(), "max": MOST},
            "allowScaleToZero": from == From::Zero,
            "engine": {"maxConcurrency": 2},
            "policy": {"queueDepth": {"perReplica": PER_REPLICA}},
        },
    })
}

fn hpa(name: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": MOST,
            "metrics": [{"type": "Pods", "pods": {
                "metric": {"name": "vllm_pending_requests"},
                "target": {"type": "AverageValue", "averageValue": PER_REPLICA.to_string()},
            }}],
        },
    })
}

/// At KEDA's own polling interval.
fn scaled_object(name: &str, from: From, trigger: &Value) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": from.replicas(),
            "maxReplicaCount": MOST,
            "triggers": [trigger],
        },
    })
}
