//! Accounts with the rights of the chart, and with each of them taken away.

use std::path::PathBuf;

use forewarm_testbed::{control_plane::ControlPlane, helm::Chart};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::OWN;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A rule of a role, and whether the role is the cluster's.
pub(crate) type Rule = (bool, Value);

/// The rules of a part of the chart, with the value that switches it on.
pub(crate) fn rules(chart: &Chart, value: &str, component: &str) -> Vec<Rule> {
    let objects = chart.objects(&[value]).unwrap();
    let is_role = |object: &&Value| {
        matches!(object["kind"].as_str(), Some("ClusterRole" | "Role"))
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == component
    };
    let of = |role: &Value| {
        let of_cluster = role["kind"] == "ClusterRole";
        let rules = role["rules"].as_array().unwrap().clone();
        rules.into_iter().map(move |rule| (of_cluster, rule)).collect::<Vec<_>>()
    };
    objects.iter().filter(is_role).flat_map(of).collect()
}

/// Each verb on each resource of these rules, and the rules without it.
pub(crate) fn one_less(rules: &[Rule]) -> Vec<(String, Vec<Rule>)> {
    let rights = rules.iter().flat_map(|(of_cluster, rule)| {
        let texts = |field: &str| serde_json::from_value::<Vec<String>>(rule[field].clone()).unwrap();
        let (resources, verbs) = (texts("resources"), texts("verbs"));
        let pairs = resources
            .into_iter()
            .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)));
        pairs.map(|(resource, verb)| {
            let mut part = rule.clone();
            (part["resources"], part["verbs"]) = (json!([resource]), json!([verb]));
            (format!("{verb} {resource}"), (*of_cluster, part))
        })
    });
    let rights: Vec<(String, Rule)> = rights.collect();
    let without = |index: usize| {
        let others = rights.iter().enumerate().filter(|(other, _)| *other != index);
        (rights[index].0.clone(), others.map(|(_, (_, rule))| rule.clone()).collect())
    };
    (0..rights.len()).map(without).collect()
}

/// Applies a role or its binding.
async fn apply(plane: &ControlPlane, namespace: Option<&str>, kind: &str, name: &str, mut object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", kind));
    let client = plane.client().await.unwrap();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    object["metadata"] = json!({"name": name});
    (object["apiVersion"], object["kind"]) = (format!("{RBAC}/v1").into(), kind.into());
    api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(object)).await.unwrap();
}

/// Gives an account of [`OWN`] a role that there is.
pub(crate) async fn bind(plane: &ControlPlane, namespace: Option<&str>, role: (&str, &str), account: &str) {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": role.0, "name": role.1},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": OWN}],
    });
    apply(plane, namespace, kind, &format!("{account}.{}", role.1), binding).await;
}

/// An account with these rules: its kubeconfig file.
pub(crate) async fn account(plane: &ControlPlane, name: &str, rules: &[Rule]) -> PathBuf {
    for (kind, namespace) in [("ClusterRole", None), ("Role", Some(OWN))] {
        let is_own = |(of_cluster, _): &&Rule| *of_cluster == namespace.is_none();
        let own: Vec<&Value> = rules.iter().filter(is_own).map(|(_, rule)| rule).collect();
        apply(plane, namespace, kind, name, json!({"rules": own})).await;
        bind(plane, namespace, (kind, name), name).await;
    }
    plane.service_account(OWN, name).await.unwrap()
}
