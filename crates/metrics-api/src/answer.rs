//! What is answered, in the words of the Kubernetes API.

use std::collections::BTreeMap;

use bytes::Bytes;
use forewarm_core::quantity::Quantity;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use jiff::{Timestamp, Unit};
use serde_json::{Value as Json, json};

use crate::{
    SERVED,
    engines::Value,
    metric_names,
    requests::{CustomVersion, EXTERNAL},
};

pub(crate) type Answer = Response<Full<Bytes>>;

/// Resources whose metrics are served.
const RESOURCES: [&str; 4] = ["pods", "services", "deployments.apps", "statefulsets.apps"];

pub(crate) fn json(code: StatusCode, body: &Json) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// An error, as every API server says it.
pub(crate) fn status(code: StatusCode, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
    });
    json(code, &body)
}

/// `ok`, for probes.
pub(crate) fn ok() -> Answer {
    Response::new(Full::new(Bytes::from_static(b"ok")))
}

/// The document at `/apis/GROUP`.
pub(crate) fn group(group: &str) -> Json {
    let mut body = described(group);
    body["kind"] = json!("APIGroup");
    body["apiVersion"] = json!("v1");
    body
}

/// The document at `/apis`.
pub(crate) fn groups() -> Json {
    let mut groups: Vec<&str> = SERVED.iter().map(|(group, _)| *group).collect();
    groups.dedup();
    let groups: Vec<Json> = groups.into_iter().map(described).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn described(group: &str) -> Json {
    let version = |version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Json> =
        SERVED.iter().filter(|(served, _)| *served == group).map(|(_, name)| version(name)).collect();
    // The newest is the one to prefer.
    json!({"name": group, "preferredVersion": versions.last(), "versions": versions})
}

/// The document at `/apis/custom.metrics.k8s.io/VERSION`.
pub(crate) fn custom_resources(version: CustomVersion) -> Json {
    let of = |resource: &'static str| {
        metric_names()
            .map(move |metric| described_resource(&format!("{resource}/{metric}"), "MetricValueList"))
    };
    resources(crate::requests::CUSTOM, version.name(), RESOURCES.into_iter().flat_map(of).collect())
}

/// The document at `/apis/external.metrics.k8s.io/v1beta1`.
pub(crate) fn external_resources() -> Json {
    let metrics = metric_names().map(|metric| described_resource(metric, "ExternalMetricValueList"));
    resources(EXTERNAL, "v1beta1", metrics.collect())
}

fn described_resource(name: &str, kind: &str) -> Json {
    json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
}

fn resources(group: &str, version: &str, resources: Vec<Json>) -> Json {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{group}/{version}"),
        "resources": resources,
    })
}

/// The aggregator asks for it, and nothing in it is needed to read metrics.
pub(crate) fn open_api(version: u8) -> Json {
    let info = json!({"title": "forewarm metrics", "version": env!("CARGO_PKG_VERSION")});
    match version {
        2 => json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}),
        _ => json!({"paths": {}}),
    }
}

/// An object that a value describes.
pub(crate) struct Described<'a> {
    pub(crate) namespace: &'a str,
    /// `pods`, `deployments.apps`.
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
}

impl Described<'_> {
    fn reference(&self) -> Json {
        let (kind, version) = match self.resource {
            "services" => ("Service", "v1"),
            "deployments.apps" => ("Deployment", "apps/v1"),
            "statefulsets.apps" => ("StatefulSet", "apps/v1"),
            _ => ("Pod", "v1"),
        };
        json!({"kind": kind, "namespace": self.namespace, "name": self.name, "apiVersion": version})
    }
}

/// Values of custom metrics.
pub(crate) fn custom_values(
    version: CustomVersion,
    metric: &str,
    values: &[(Described<'_>, Value)],
    now: Timestamp,
) -> Json {
    let item = |(described, value): &(Described<'_>, Value)| {
        let mut item = reading(*value, now, "windowSeconds");
        item["describedObject"] = described.reference();
        match version {
            CustomVersion::V1beta1 => item["metricName"] = json!(metric),
            CustomVersion::V1beta2 => item["metric"] = json!({"name": metric}),
        }
        item
    };
    json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{}/{}", crate::requests::CUSTOM, version.name()),
        "metadata": {},
        "items": values.iter().map(item).collect::<Vec<_>>(),
    })
}

/// The value of an external metric.
pub(crate) fn external_value(
    metric: &str,
    labels: &BTreeMap<String, String>,
    value: Value,
    now: Timestamp,
) -> Json {
    let mut item = reading(value, now, "window");
    item["metricName"] = json!(metric);
    item["metricLabels"] = json!(labels);
    json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": format!("{EXTERNAL}/v1beta1"),
        "metadata": {},
        "items": [item],
    })
}

/// A value with the moment that it is from, and the seconds that it is over where it is a rate.
fn reading(value: Value, now: Timestamp, window: &str) -> Json {
    let at = now.checked_sub(value.age).unwrap_or(now);
    let at = at.round(Unit::Second).unwrap_or(at);
    let mut item = json!({"timestamp": at.to_string(), "value": quantity(value.value).to_string()});
    if let Some(over) = value.window {
        item[window] = json!(over.as_secs().max(1));
    }
    item
}

/// To the thousandth, which is as fine as an HPA looks.
fn quantity(value: f64) -> Quantity {
    // Saturates, as a conversion of the language does.
    Quantity::from_milli((value * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn value(value: f64, window: Option<u64>) -> Value {
        Value { value, age: Duration::from_secs(5), window: window.map(Duration::from_secs) }
    }

    fn pod(name: &str) -> Described<'_> {
        Described { namespace: "ai", resource: "pods", name }
    }

    #[test]
    fn each_version_names_the_metric_in_its_own_way() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let list = |version| {
            custom_values(version, "waiting", &[(pod("a"), value(2.5, None))], now)["items"][0].clone()
        };
        let object = json!({"kind": "Pod", "namespace": "ai", "name": "a", "apiVersion": "v1"});
        assert_eq!(
            list(CustomVersion::V1beta1),
            json!({
                "timestamp": "2026-01-02T03:04:00Z",
                "value": "2500m",
                "describedObject": object,
                "metricName": "waiting",
            })
        );
        assert_eq!(list(CustomVersion::V1beta2)["metric"], json!({"name": "waiting"}));
        let external = external_value("waiting", &BTreeMap::new(), value(7.0, Some(15)), now);
        let item = &external["items"][0];
        assert_eq!((&item["value"], &item["window"]), (&json!("7"), &json!(15)));
    }

    #[test]
    fn the_newest_version_of_a_group_is_preferred() {
        assert_eq!(group("custom.metrics.k8s.io")["preferredVersion"]["version"], json!("v1beta2"));
        assert_eq!(groups()["groups"].as_array().map(Vec::len), Some(2));
        let resources = custom_resources(CustomVersion::V1beta2);
        let names: Vec<&str> =
            resources["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        for name in ["pods/vllm_pending_requests", "pods/nvidia_gpu_duty_cycle", "deployments.apps/kv_usage"]
        {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!names.contains(&"pods/http_requests_total"), "nobody counts arrivals for a pod");
    }
}
