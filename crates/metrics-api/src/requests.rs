//! What a request asks for, read from its method, path and query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The group of metrics that describe objects.
pub(crate) const CUSTOM: &str = "custom.metrics.k8s.io";
/// The group of metrics that describe nothing in the cluster.
pub(crate) const EXTERNAL: &str = "external.metrics.k8s.io";

/// A version of the custom metrics; they differ in how an item names its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CustomVersion {
    V1beta1,
    V1beta2,
}

impl CustomVersion {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1beta2 => "v1beta2",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::V1beta1, Self::V1beta2].into_iter().find(|version| version.name() == name)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Whether the server lives.
    Health,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(&'static str),
    /// `/apis/custom.metrics.k8s.io/VERSION`.
    CustomResources(CustomVersion),
    /// `/apis/external.metrics.k8s.io/v1beta1`.
    ExternalResources,
    /// `/openapi/v2` or `v3`.
    OpenApi(u8),
    /// Metrics of an object, or of all that a selector takes.
    Custom(CustomAsk),
    /// A metric that is nobody's.
    External(ExternalAsk),
    /// Nothing that is here.
    Unknown,
}

/// `namespaces/NAMESPACE/RESOURCE/NAME/METRIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CustomAsk {
    pub(crate) version: CustomVersion,
    pub(crate) namespace: String,
    /// `pods`, `deployments.apps`.
    pub(crate) resource: String,
    /// `*` for all that `labels` take.
    pub(crate) name: String,
    pub(crate) metric: String,
    /// Selects objects.
    pub(crate) labels: String,
    /// Selects series of the metric.
    pub(crate) metric_labels: String,
}

/// `namespaces/NAMESPACE/METRIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalAsk {
    pub(crate) namespace: String,
    pub(crate) metric: String,
    /// Selects series of the metric.
    pub(crate) labels: String,
}

impl Ask {
    /// Reads a path and its query.
    pub(crate) fn read(path: &str, query: Option<&str>) -> Self {
        // `*` comes as `%2A`.
        let segments: Vec<Cow<'_, str>> = path
            .trim_matches('/')
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8_lossy())
            .collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let parameter = |name: &str| {
            let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            let mut found = query.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
            found.next().unwrap_or_default()
        };
        match segments.as_slice() {
            ["healthz" | "livez" | "readyz"] => Self::Health,
            ["apis"] => Self::Groups,
            ["apis", group] if *group == CUSTOM => Self::Group(CUSTOM),
            ["apis", group] if *group == EXTERNAL => Self::Group(EXTERNAL),
            ["openapi", "v2"] => Self::OpenApi(2),
            ["openapi", "v3"] => Self::OpenApi(3),
            ["apis", group, version] if *group == CUSTOM => {
                CustomVersion::named(version).map_or(Self::Unknown, Self::CustomResources)
            }
            ["apis", group, "v1beta1"] if *group == EXTERNAL => Self::ExternalResources,
            ["apis", group, version, "namespaces", namespace, resource, name, metric] if *group == CUSTOM => {
                let Some(version) = CustomVersion::named(version) else { return Self::Unknown };
                Self::Custom(CustomAsk {
                    version,
                    namespace: (*namespace).to_owned(),
                    resource: (*resource).to_owned(),
                    name: (*name).to_owned(),
                    metric: (*metric).to_owned(),
                    labels: parameter("labelSelector"),
                    metric_labels: parameter("metricLabelSelector"),
                })
            }
            ["apis", group, "v1beta1", "namespaces", namespace, metric] if *group == EXTERNAL => {
                Self::External(ExternalAsk {
                    namespace: (*namespace).to_owned(),
                    metric: (*metric).to_owned(),
                    labels: parameter("labelSelector"),
                })
            }
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_an_hpa_writes_them() {
        let ask = Ask::read(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ai/pods/%2A/vllm:num_requests_waiting",
            Some("labelSelector=app%3Dllm%2Ctier+in+%28a%29&metricLabelSelector=x%3Dy"),
        );
        let expected = CustomAsk {
            version: CustomVersion::V1beta2,
            namespace: "ai".to_owned(),
            resource: "pods".to_owned(),
            name: "*".to_owned(),
            metric: "vllm:num_requests_waiting".to_owned(),
            labels: "app=llm,tier in (a)".to_owned(),
            metric_labels: "x=y".to_owned(),
        };
        assert_eq!(ask, Ask::Custom(expected));
        let ask = Ask::read("/apis/external.metrics.k8s.io/v1beta1/namespaces/ai/llm_queue_depth", None);
        let (namespace, metric) = ("ai".to_owned(), "llm_queue_depth".to_owned());
        assert_eq!(ask, Ask::External(ExternalAsk { namespace, metric, labels: String::new() }));
        for (path, expected) in [
            ("/readyz", Ask::Health),
            ("/apis/", Ask::Groups),
            ("/apis/custom.metrics.k8s.io/v1beta1", Ask::CustomResources(CustomVersion::V1beta1)),
            ("/apis/custom.metrics.k8s.io/v1", Ask::Unknown),
            ("/apis/external.metrics.k8s.io/v1beta2", Ask::Unknown),
            ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/load", Ask::Unknown),
            ("/openapi/v3", Ask::OpenApi(3)),
            ("/", Ask::Unknown),
        ] {
            assert_eq!(Ask::read(path, None), expected, "{path}");
        }
    }
}
