//! `forewarm kube external-scaler` in a cluster: KEDA is told what the controller decided, while it decides, by a program
//! with the rights of the chart and no other. Where there is no cluster, the test says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

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
    control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions, Workload},
    free_port,
    helm::Chart,
};
use forewarm_testkit::FakeGateway;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt as _, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Endpoint};

/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the chart is installed.
const OWN: &str = "forewarm";
const SCALED: &str = "ai-serving";
const COMPONENT: &str = "external-scaler";

#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
async fn cluster() -> Option<(ControlPlane, Chart)> {
    let chart = Chart::open().inspect_err(|why| println!("skipped: {why}")).ok()?;
    match ControlPlane::start(ControlPlaneOptions::default()).await {
        Ok(plane) => Some((plane, chart)),
        Err(ControlPlaneError::NotFetched(why)) => {
            println!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The gateway of every scaler.
struct Only(Arc<FakeGateway>);

impl Connect for Only {
    fn gateway(&self, _: &ScalerId, _: &str) -> Arc<dyn Gateway> {
        Arc::clone(&self.0) as Arc<dyn Gateway>
    }
}

/// A program, and who asks it. It ends with the test.
struct Served {
    program: Child,
    address: String,
    /// What it may not do.
    lacks: Option<String>,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

impl Served {
    fn start(kubeconfig: &Path, lacks: Option<String>) -> Self {
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_forewarm"));
        command.args(["kube", "external-scaler", "--admin", "127.0.0.1:0", "--listen", &address]);
        command.args(["--log", "error"]).env("KUBECONFIG", kubeconfig).env("POD_NAMESPACE", OWN);
        Self { program: command.spawn().unwrap(), address, lacks }
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
            sleep(Duration::from_millis(50)).await;
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

/// The rules of the chart's roles, and whether the role is the cluster's.
fn rules(chart: &Chart) -> Vec<(bool, Value)> {
    let objects = chart.objects(&["externalScaler.enabled=true"]).unwrap();
    let is_role = |object: &&Value| {
        matches!(object["kind"].as_str(), Some("ClusterRole" | "Role"))
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == COMPONENT
    };
    let of = |role: &Value| {
        let of_cluster = role["kind"] == "ClusterRole";
        let rules = role["rules"].as_array().unwrap().clone();
        rules.into_iter().map(move |rule| (of_cluster, rule)).collect::<Vec<_>>()
    };
    objects.iter().filter(is_role).flat_map(of).collect()
}

/// An account with these rules: its kubeconfig file.
async fn account(
    plane: &ControlPlane,
    client: &Client,
    name: &str,
    rules: &[(bool, Value)],
) -> std::path::PathBuf {
    let group = "rbac.authorization.k8s.io";
    let apply = PatchParams::apply("tests").force();
    for (of_cluster, kind) in [(true, "ClusterRole"), (false, "Role")] {
        let own: Vec<&Value> =
            rules.iter().filter(|(cluster, _)| *cluster == of_cluster).map(|(_, rule)| rule).collect();
        let parts = [
            (kind.to_owned(), json!({"rules": own})),
            (
                format!("{kind}Binding"),
                json!({
                    "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": OWN}],
                }),
            ),
        ];
        for (kind, mut object) in parts {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", &kind));
            object["metadata"] = json!({"name": name});
            (object["apiVersion"], object["kind"]) = (format!("{group}/v1").into(), kind.into());
            let api: Api<DynamicObject> = match of_cluster {
                true => Api::all_with(client.clone(), &resource),
                false => Api::namespaced_with(client.clone(), OWN, &resource),
            };
            api.patch(name, &apply, &Patch::Apply(object)).await.unwrap();
        }
    }
    plane.service_account(OWN, name).await.unwrap()
}

/// Makes a Deployment and a scaler that leaves it to KEDA.
async fn scaled(plane: &ControlPlane, client: &Client) -> Api<InferenceScaler> {
    for namespace in [OWN, SCALED] {
        plane.namespace(namespace).await.unwrap();
    }
    plane.gpu_node("gpu", 8).await.unwrap();
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
    let rules = rules(&chart);
    let kubeconfig = account(&plane, &client, "all", &rules).await;
    let served = Served::start(&kubeconfig, None);
    let mut others = Vec::new();
    for (index, (_, rule)) in rules.iter().enumerate() {
        for verb in rule["verbs"].as_array().unwrap() {
            let mut fewer = rules.clone();
            let verbs = fewer[index].1["verbs"].as_array_mut().unwrap();
            verbs.retain(|other| other != verb);
            let name = format!("lacks-{}", others.len());
            let kubeconfig = account(&plane, &client, &name, &fewer).await;
            let lacks = format!("{verb} {}", rule["resources"][0]);
            others.push(Served::start(&kubeconfig, Some(lacks)));
        }
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
