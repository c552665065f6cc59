//! What a request does, in the words of roles.

use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};

use crate::requests::{Ask, CUSTOM, EXTERNAL};

/// One or the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attributes {
    Resource(Box<ResourceAttributes>),
    Path(NonResourceAttributes),
}

impl Attributes {
    /// As an API server reads a request: a metric is a subresource of what it describes, and an external
    /// metric is a resource that is listed.
    pub(crate) fn of(ask: &Ask, path: &str) -> Self {
        let some = |text: &str| Some(text.to_owned());
        match ask {
            Ask::Custom(custom) => {
                // `deployments.apps` is a resource with its group; roles on metrics name it whole.
                Self::Resource(Box::new(ResourceAttributes {
                    verb: some("get"),
                    group: some(CUSTOM),
                    version: some(custom.version.name()),
                    namespace: some(&custom.namespace),
                    resource: some(&custom.resource),
                    subresource: some(&custom.metric),
                    name: some(&custom.name),
                    ..ResourceAttributes::default()
                }))
            }
            Ask::External(external) => Self::Resource(Box::new(ResourceAttributes {
                verb: some("list"),
                group: some(EXTERNAL),
                version: some("v1beta1"),
                namespace: some(&external.namespace),
                resource: some(&external.metric),
                ..ResourceAttributes::default()
            })),
            Ask::Health
            | Ask::Groups
            | Ask::Group(_)
            | Ask::CustomResources(_)
            | Ask::ExternalResources
            | Ask::OpenApi(_)
            | Ask::Unknown => Self::Path(NonResourceAttributes { verb: some("get"), path: some(path) }),
        }
    }
}
