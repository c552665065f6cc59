//! `forewarm kube external-scaler` in a cluster: KEDA is told what the controller decided, while it decides.

use std::{path::Path, sync::Arc, time::Duration};

use forewarm_control::ports::Gateway;
use forewarm_core::ScalerId;
use forewarm_external_scaler::externalscaler::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::LeaseOptions,
    resource::InferenceScaler,
};
use forewarm_testbed::{
    control_plane::{ControlPlane, Workload},
    free_port,
};
use forewarm_testkit::FakeGateway;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt as _, ResourceExt as _,
    api::{DeleteParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Endpoint};

use crate::{
    LOOK_EVERY, OWN, PATIENCE, Program, SCALED,
    account::{account, one_less, rules},
    cluster, forewarm,
};

/// The gateway of every scaler.
struct Only(Arc<FakeGateway>);

impl Connect for Only {
    fn gateway(&self, _: &ScalerId, _: &str) -> Arc<dyn Gateway> {
        Arc::clone(&self.0) as Arc<dyn Gateway>
    }
}

/// A program, and who asks it.
struct Served {
    _program: Program,
    address: String,
    /// What it may not do.
    lacks: Option<String>,
}

impl Served {
    fn start(kubeconfig: &Path, lacks: Option<String>) -> Self {
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let mut command =
            forewarm(&["kube", "external-scaler", "--admin", "127.0.0.1:0", "--listen", &address]);
        command.env("KUBECONFIG", kubeconfig);
        Self { _program: Program::start(&mut command), address, lacks }
    }

    /// What KEDA gets for a scaler.
    async fn asked(&self, scaler: &str) -> Result<i64, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let question = GetMetricsRequest {
            scaled_object_ref: Some(asks(scaler)),
            metric_name: "forewarm-desired-replicas".to_owned(),
        };
        let answer = ExternalScalerClient::new(channel).get_metrics(question).await?;
        Ok(answer.into_inner().metric_values[0].metric_value)
    }

    /// Waits until it answers so.
    async fn until(&self, scaler: &str, what: &str, is_so: impl Fn(&Result<i64, Status>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.asked(scaler).await;
            if is_so(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "never {what} of `{scaler}`: {answer:?}");
            sleep(LOOK_EVERY).await;
        }
    }
}

fn asks(scaler: &str) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "anything".to_owned(),
        namespace: SCALED.to_owned(),
        scaler_metadata: [("scaler".to_owned(), scaler.to_owned())].into(),
    }
}

/// Makes a Deployment and a scaler that leaves it to KEDA.
async fn scaled(plane: &ControlPlane, client: &Client) -> Api<InferenceScaler> {
    plane.deploy(SCALED, &Workload::new("llama3", 1)).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = InferenceScaler::crd();
    definitions.create(&PostParams::default(), &crd).await.unwrap();
    await_condition(definitions, &crd.name_any(), is_crd_established()).await.unwrap();
    let scaler = json!({
        "metadata": {"name": "llama3"},
        "spec": {
            "target": {"kubernetes": {"kind": "Deployment", "name": "llama3"}},
            "mode": "Shadow",
            "replicas": {"min": 1, "max": 8},
            "policy": {"queueDepth": {"perReplica": 5}},
            "signals": [{"name": "unused", "engine": {"metric": "kv_usage"}}],
        },
    });
    let scalers: Api<InferenceScaler> = Api::namespaced(client.clone(), SCALED);
    scalers.create(&PostParams::default(), &serde_json::from_value(scaler).unwrap()).await.unwrap();
    scalers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_is_told_what_was_decided_as_long_as_somebody_decides() {
    let Some((plane, chart)) = cluster().await else { return };
    let client = plane.client().await.unwrap();
    let scalers = scaled(&plane, &client).await;
    let rules = rules(&chart, "externalScaler.enabled=true", "external-scaler");
    let served = Served::start(&account(&plane, "all", &rules).await, None);
    let mut others = Vec::new();
    for (index, (lacks, fewer)) in one_less(&rules).into_iter().enumerate() {
        let kubeconfig = account(&plane, &format!("lacks-{index}"), &fewer).await;
        others.push(Served::start(&kubeconfig, Some(lacks)));
    }
    assert_eq!(others.len(), 4, "list and watch of scalers and of the Lease");
    served
        .until("llama3", "a decision that is missing", |answer| {
            answer.as_ref().is_err_and(|status| {
                status.code() == Code::Unavailable && status.message().contains("llama3")
            })
        })
        .await;

    let gateway = Arc::new(FakeGateway::default());
    let options = Options {
        namespace: Some(SCALED.to_owned()),
        lease: LeaseOptions::new(OWN, "forewarm-controller", "test".to_owned()),
        gateways: GatewayOptions { addresses: vec!["in memory".to_owned()], ..GatewayOptions::none() },
        hold: Duration::ZERO,
    };
    let controller = Controller::new(options, client.clone(), Arc::new(Only(Arc::clone(&gateway))));
    let decides = tokio::spawn(controller.run(CancellationToken::new()));
    served.until("llama3", "one replica", |answer| matches!(answer, Ok(1))).await;
    gateway.set_report(|report| report.queued = 20);
    served.until("llama3", "four replicas", |answer| matches!(answer, Ok(4))).await;
    for wrong in ["llama4", ""] {
        let code = served.asked(wrong).await.unwrap_err().code();
        assert!(matches!(code, Code::NotFound | Code::InvalidArgument), "`{wrong}`: {code}");
    }
    // What every one of them has had the time for.
    for other in &others {
        let answer = other.asked("llama3").await;
        assert!(!matches!(answer, Ok(4)), "it works without the right to {:?}", other.lacks);
    }

    // Nobody decides any more: what was decided is not known to be right for longer than a minute.
    decides.abort();
    served
        .until("llama3", "a decision that is too old", |answer| {
            answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable)
        })
        .await;
    // The number of a scaler that is gone is not known either.
    scalers.delete("llama3", &DeleteParams::default()).await.unwrap();
    served
        .until("llama3", "no scaler", |answer| {
            answer.as_ref().is_err_and(|status| status.code() == Code::NotFound)
        })
        .await;
}
